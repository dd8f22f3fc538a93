"""SAML 2.0 as a service provider: python3-saml does the protocol, this package what it leaves open."""
