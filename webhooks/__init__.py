"""Tells customers' servers what happened: endpoints, signed deliveries, retries."""
