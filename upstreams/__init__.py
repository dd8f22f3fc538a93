"""The way out to providers: plain values, one pooled HTTP client, one adapter for each wire format. No Django here."""
