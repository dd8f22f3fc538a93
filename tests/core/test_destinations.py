"""Which URLs may be called, and which only seem harmless."""

from __future__ import annotations

import threading
from ipaddress import ip_address

import pytest

from core.egress import AllowList, EgressError, EgressTimedOut, Purpose, check_url, read_allowed, resolve
from tests.core.resolvers import names

PUBLIC = "93.184.216.34"


RESOLVER = names(
    example_org=[PUBLIC, "2606:2800:220::1"],
    inner_example_org=["10.1.2.3"],
    mixed_example_org=[PUBLIC, "127.0.0.1"],
    mapped_example_org=["::ffff:169.254.169.254"],
    linklocal_example_org=["fe80::1%eth0"],
    localhost=["127.0.0.1", "::1"],
    empty_example_org=[],
    keycloak=["172.18.0.5"],
)


def reason_of(url: str, allow: AllowList | None = None, purpose: Purpose = Purpose.WEBHOOK) -> str:
    try:
        check_url(url, purpose, allow=allow or {}, resolver=RESOLVER)
    except EgressError as error:
        return error.reason
    return "ok"


#: What becomes of an address, whoever gave it. Every use of the guarded way out is held against it.
TABLE = [
    ("https://example.org", "ok"),
    ("https://example.org/hook?x=1", "ok"),
    ("HTTPS://EXAMPLE.org./", "ok"),
    ("https://example.org:443/", "ok"),
    (f"https://{PUBLIC}/", "ok"),
    ("https://[2606:4700::1111]/", "ok"),
    ("https://example.org/a#fragment", "ok"),
    # schemes
    ("http://example.org/", "scheme"),
    ("file:///etc/passwd", "scheme"),
    ("gopher://example.org/", "scheme"),
    ("ftp://example.org/", "scheme"),
    ("//example.org/", "scheme"),
    ("example.org", "scheme"),
    ("javascript:alert(1)", "scheme"),
    # ports
    ("https://example.org:8443/", "port"),
    ("https://example.org:80/", "port"),
    ("https://example.org:22/", "port"),
    ("https://example.org:0/", "port"),
    ("https://example.org:99999/", "url"),
    ("https://example.org:x/", "url"),
    # user names
    ("https://user@example.org/", "userinfo"),
    ("https://user:pass@example.org/", "userinfo"),
    ("https://@example.org/", "userinfo"),
    ("https://example.org@127.0.0.1/", "userinfo"),
    ("https://example.org%40127.0.0.1/", "host"),
    # addresses in plain sight
    ("https://127.0.0.1/", "address"),
    ("https://10.0.0.1/", "address"),
    ("https://169.254.169.254/latest/meta-data/", "address"),
    ("https://100.100.100.200/", "address"),
    ("https://0.0.0.0/", "address"),
    ("https://255.255.255.255/", "address"),
    ("https://[::1]/", "address"),
    ("https://[::]/", "address"),
    ("https://[fd00:ec2::254]/", "address"),
    ("https://[fe80::1]/", "address"),
    ("https://[::ffff:127.0.0.1]/", "address"),
    ("https://[::ffff:7f00:1]/", "address"),
    ("https://[64:ff9b::7f00:1]/", "address"),
    ("https://[2002:7f00:1::]/", "address"),
    # addresses in disguise
    ("https://2130706433/", "host"),
    ("https://0x7f000001/", "host"),
    ("https://0x7f.1/", "host"),
    ("https://0177.0.0.1/", "host"),
    ("https://127.1/", "host"),
    ("https://127.0.0.1.1/", "host"),
    ("https://127.0.0.01/", "host"),
    ("https://１２７.０.０.１/", "address"),
    ("https://①②⑦.⓪.⓪.①/", "address"),
    ("https://127。0。0。1/", "address"),
    ("https://127%2e0%2e0%2e1/", "host"),
    ("https://[fe80::1%25eth0]/", "host"),
    # names
    ("https://localhost/", "address"),
    ("https://inner.example.org/", "address"),
    ("https://mixed.example.org/", "address"),
    ("https://mapped.example.org/", "address"),
    ("https://linklocal.example.org/", "address"),
    ("https://keycloak/", "address"),
    ("https://unknown.example.org/", "dns"),
    ("https://empty.example.org/", "dns"),
    ("https:///path", "host"),
    ("https://.../", "host"),
    ("https://a..b/", "host"),
    ("https://-a.example.org/", "host"),
    (f"https://{'a' * 64}.org/", "host"),
    ("https://*.example.org/", "host"),
    # characters
    ("https://example.org/a b", "url"),
    ("https://example.org/\r\nx: y", "url"),
    ("https://exam\tple.org/", "url"),
    ("https://example.org\\@127.0.0.1/", "url"),
    ("https://example.org/\x00", "url"),
    ("https://[::1/", "url"),
    ("https://example.org/" + "a" * 2048, "url"),
    ("", "scheme"),
]


@pytest.mark.parametrize(("url", "reason"), TABLE)
def test_where_a_url_may_lead(url: str, reason: str) -> None:
    """The same for every purpose; what an operator allows for one is the only difference."""
    assert {purpose: reason_of(url, purpose=purpose) for purpose in Purpose} == dict.fromkeys(Purpose, reason)


def test_what_a_good_url_becomes() -> None:
    destination = check_url("https://EXAMPLE.org/ä/b?q=ü&x=[1]#f", Purpose.WEBHOOK, resolver=RESOLVER)
    assert (destination.host, destination.port, destination.authority) == ("example.org", 443, "example.org")
    assert destination.target == "/%C3%A4/b?q=%C3%BC&x=[1]"
    assert destination.addresses == (ip_address(PUBLIC), ip_address("2606:2800:220::1"))


def test_international_names() -> None:
    resolver = names(**{"xn--bcher-kva_example": [PUBLIC]})
    assert check_url("https://Bücher.example/", Purpose.WEBHOOK, resolver=resolver).host == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("entry", "url", "reason"),
    [
        ("10.0.0.0/8", "https://inner.example.org/", "ok"),
        ("10.0.0.0/8", "http://inner.example.org:8080/", "ok"),
        ("10.0.0.0/8:8080", "http://inner.example.org:8080/", "ok"),
        ("10.0.0.0/8:8080", "https://inner.example.org/", "address"),
        ("10.1.2.3", "http://10.1.2.3/", "ok"),
        ("inner.example.org", "https://inner.example.org/", "ok"),
        ("INNER.example.org:443", "https://inner.example.org/", "ok"),
        ("inner.example.org", "https://10.1.2.3/", "address"),
        ("keycloak:8080", "http://keycloak:8080/realms/a", "ok"),
        ("keycloak:8080", "http://keycloak:8081/", "scheme"),
        ("localhost", "http://localhost:3000/", "ok"),
        ("127.0.0.0/8", "http://localhost:3000/", "scheme"),  # ::1 is not in that network
        ("127.0.0.0/8, ::1", "http://localhost:3000/", "ok"),
        ("[::1]:3000 127.0.0.1:3000", "http://localhost:3000/", "ok"),
        ("[fd00::/8]:443", "https://[fd00::7]/", "ok"),
        ("[fd00::/8]:443", "https://[fd00::7]:8443/", "port"),
        ("127.0.0.0/8", "https://mixed.example.org/", "ok"),
        ("127.0.0.0/8", "https://2130706433/", "host"),
        ("127.0.0.0/8", "https://user@127.0.0.1/", "userinfo"),
        ("example.org:8443", "https://example.org:8443/", "ok"),
    ],
)
def test_what_the_operator_allows(entry: str, url: str, reason: str) -> None:
    allow = {Purpose.WEBHOOK: read_allowed(entry)}
    assert reason_of(url, allow) == reason
    if reason == "ok":
        assert reason_of(url, allow, Purpose.REFERENCE_IMAGE) != "ok", "each purpose has a list of its own"


@pytest.mark.parametrize(
    "entry", ["http://x", "x:y", "10.0.0.0/99", "10.0.0.1/8", "x:0", "x:70000", "a b/c", "[::1", "*"]
)
def test_allow_lists_are_checked(entry: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_allowed(entry)


def test_an_empty_allow_list() -> None:
    assert read_allowed(" , ") == ()


def test_the_resolver_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("core.destinations.socket.getaddrinfo", lambda *_, **__: release.wait(120) and [])
    with pytest.raises(EgressTimedOut):
        check_url("https://slow.test/", Purpose.WEBHOOK, seconds=0.1)
    release.set()


def test_the_systems_resolver() -> None:
    assert "127.0.0.1" in resolve("localhost", 80, 5)
    with pytest.raises(OSError, match=r".+"):
        resolve("nothing.invalid", 80, 5)
