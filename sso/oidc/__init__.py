"""OpenID Connect as a relying party of many providers, one a connection."""
