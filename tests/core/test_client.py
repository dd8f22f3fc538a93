"""Where a request came from: rows of what stood in the request and whose address it is."""

from __future__ import annotations

import pytest

from core import client


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "expected"),
    [
        ("203.0.113.7", "", 0, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", 0, "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", 1, "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", 1, "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", 2, "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1", 2, "10.0.0.1"),  # not by way of our proxies
        ("10.0.0.1", "", 1, "10.0.0.1"),
        ("10.0.0.1", "nonsense", 1, None),
        ("10.0.0.1", " , 198.51.100.1 ,", 1, "198.51.100.1"),
        ("::ffff:203.0.113.7", "", 0, "203.0.113.7"),
        ("2001:db8::1", "", 0, "2001:db8::1"),
        ("", "", 0, None),
        ("unix:", "", 0, None),
    ],
)
def test_addresses(peer: str, forwarded: str, proxies: int, expected: str | None) -> None:
    found = client.address_of(peer, forwarded, trusted_proxies=proxies)
    assert (None if found is None else str(found)) == expected
