"""Where a request came from. Pure."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> Address | None:
    """The IP address in ``text``, or None. An IPv4 address in IPv6 clothes counts as the IPv4 address it is."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def address_of(peer: str, forwarded_for: str, *, trusted_proxies: int) -> Address | None:
    """The client's address: the socket's ``peer``, or what our own proxies wrote into X-Forwarded-For.

    Each trusted proxy appends the address it saw, so the client is that many entries from the end; everything before
    was written by the client and proves nothing. A header shorter than that did not come through our proxies.
    """
    if trusted_proxies < 1:
        return parse_address(peer)
    entries = [entry for entry in forwarded_for.split(",") if entry.strip()]
    if len(entries) < trusted_proxies:
        return parse_address(peer)
    return parse_address(entries[-trusted_proxies])
