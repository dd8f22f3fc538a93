"""What a provider publishes is fetched with care: whoever enters an issuer decides where our servers call."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from core import egress
from orgs.models import Workspace
from sso import connections, proofs
from sso.models import SsoConnection
from sso.oidc import discovery
from sso.oidc.errors import ProviderProblem
from sso.saml import metadata
from tests import factories
from tests.fakes import oidc
from tests.fakes.oidc import CLIENT_ID, OidcProvider

pytestmark = pytest.mark.django_db

WELL_KNOWN = "/.well-known/openid-configuration"


def read(provider: OidcProvider, issuer: str | None = None) -> SsoConnection:
    """A connection that has just read what ``provider`` publishes. Raises ProviderProblem."""
    made = SsoConnection(kind=SsoConnection.Kind.OIDC, issuer=issuer or provider.issuer, client_id=CLIENT_ID)
    discovery.read(made)
    return made


def problem(provider: OidcProvider, issuer: str | None = None) -> str:
    with pytest.raises(ProviderProblem) as found:
        read(provider, issuer)
    return str(found.value)


def test_what_is_kept(provider: OidcProvider) -> None:
    made = read(provider)
    assert made.discovery["client_authentication"] == "client_secret_basic"
    assert set(made.discovery) == {
        "token_endpoint", "jwks_uri", "userinfo_endpoint", "authorization_endpoint", "client_authentication",
        "end_session_endpoint", "sends_issuer",
    }  # fmt: skip
    assert made.algorithms == ["RS256"], "never HS256, though it is offered"
    (key,) = made.jwks["keys"]
    assert set(key) == {"kty", "kid", "n", "e"}


def test_private_and_symmetric_keys_are_not_kept(provider: OidcProvider) -> None:
    from jwt.algorithms import RSAAlgorithm

    published: list[Any] = [
        {"kty": "oct", "kid": "a", "k": "c2VjcmV0"},
        RSAAlgorithm.to_jwk(oidc.key(), as_dict=True) | {"kid": "first"},
        {"kty": "RSA", "kid": "\x00", "n": "x", "e": "AQAB"},
        {"kty": "RSA", "kid": 7},
        "nonsense",
    ]
    provider.keys = published
    (key,) = read(provider).jwks["keys"]
    assert set(key) == {"kty", "kid", "n", "e"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"issuer": "https://other.example"}, "names another issuer: https://other.example"),
        ({"issuer": None}, "names another issuer"),
        ({"issuer": ["x"]}, "names another issuer"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"authorization_endpoint": None}, "authorization_endpoint"),
        ({"jwks_uri": None}, "jwks_uri"),
        ({"jwks_uri": 7}, "jwks_uri"),
        ({"token_endpoint": "https://127.0.0.1/token"}, "not on the public internet"),
        ({"token_endpoint": "https://169.254.169.254/latest/meta-data"}, "not on the public internet"),
        ({"userinfo_endpoint": "https://10.0.0.1/"}, "not on the public internet"),
        ({"jwks_uri": "http://127.0.0.1:1/jwks"}, "jwks_uri can't be used"),
        ({"jwks_uri": "https://[::1]/"}, "not on the public internet"),
        ({"jwks_uri": "https://2130706433/"}, "not valid"),
        ({"jwks_uri": "https://0x7f.1/"}, "not valid"),
        ({"token_endpoint": "file:///etc/passwd"}, "not an https:// address"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "not an https:// address"),
        ({"authorization_endpoint": "http://10.0.0.1/"}, "can't be used"),
        ({"authorization_endpoint": "https://a@b.example/"}, "not an https:// address"),
        ({"authorization_endpoint": "https://b.example/\r\nx: y"}, "authorization_endpoint"),
        ({"authorization_endpoint": "https://b.example/#x"}, "authorization_endpoint"),
        ({"id_token_signing_alg_values_supported": ["HS256", "none"]}, "only in ways that are not accepted"),
        ({"id_token_signing_alg_values_supported": "RS256"}, "only in ways that are not accepted"),
        ({"response_types_supported": ["id_token"]}, "does not offer code"),
        ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, "takes no client secret"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(f"{k}={str(v)[:30]!a}" for k, v in value.items()),
)
def test_documents_that_can_not_be_used(provider: OidcProvider, change: dict[str, Any], word: str) -> None:
    provider.discovery |= change
    assert word in problem(provider)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ((404, {}, b""), "status 404"),
        ((500, {}, b"boom"), "status 500"),
        ((302, {"location": "http://169.254.169.254/"}, b""), "status 302"),
        ((200, {}, b"<html>"), "not JSON"),
        ((200, {}, b"[1]"), "not JSON"),
        ((200, {}, b'{"a":' * 50_000), "not JSON"),
        ((200, {}, b"x" * 1_000_001), "larger than allowed"),
        ((200, {"content-encoding": "gzip"}, b"x"), "compressed"),
        ((200, {"content-length": "100"}, b"x"), "broke off"),
    ],
    ids=["404", "500", "redirect", "html", "list", "nested", "flood", "compressed", "cut"],
)
def test_answers_that_can_not_be_used(provider: OidcProvider, answer: oidc.Raw, word: str) -> None:
    seen = len(provider.seen)
    provider.instead[WELL_KNOWN] = lambda: answer
    assert word in problem(provider)
    assert len(provider.seen) == seen + 1, "nobody followed anything"


@pytest.mark.parametrize(
    "issuer",
    ["", "x", "ftp://a.example", "https://a.example?b", "https://a.example#b", "https://u:p@a.example",
     "https://a.example/\x00", "https:///x", "https://[::1"],
)  # fmt: skip
def test_what_is_no_issuer(issuer: str) -> None:
    with pytest.raises(ProviderProblem):
        discovery.check_issuer(issuer)


def test_no_keys_no_connection(provider: OidcProvider) -> None:
    for keys in ([], [{"kty": "oct"}], None):
        provider.instead["/jwks"] = lambda keys=keys: (200, {}, b'{"keys": []}' if keys != [] else b"{}")  # type: ignore[misc]
        assert "key" in problem(provider)


# ── Time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = egress.Limits(connect_seconds=0.5, total_seconds=0.8, body_bytes=1_000_000)
    monkeypatch.setattr("sso.oidc.discovery.LIMITS", quick)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    server = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def run() -> None:
        try:
            peer, _ = server.accept()
            with peer:
                serve(peer)
                done.wait(60)
        except OSError:
            pass  # the test is over

    threading.Thread(target=run, daemon=True).start()
    yield int(server.getsockname()[1])
    done.set()
    server.close()


def hang(peer: socket.socket) -> None:
    peer.recv(65536)


def drip(peer: socket.socket) -> None:
    peer.recv(65536)
    peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(600):  # a minute, if nobody leaves
        peer.sendall(b" ")
        time.sleep(0.1)


def drip_headers(peer: socket.socket) -> None:
    peer.recv(65536)
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    for at in range(600):
        peer.sendall(f"x-{at}: y\r\n".encode())
        time.sleep(0.1)


@pytest.mark.parametrize("serve", [hang, drip, drip_headers])
def test_slow_ones_are_left(in_a_hurry: None, settings: Any, serve: Callable[[socket.socket], None]) -> None:
    with listening(serve) as port:
        settings.EGRESS_ALLOW = [f"identity_provider=127.0.0.1:{port}"]
        made = SsoConnection(kind=SsoConnection.Kind.OIDC, issuer=f"http://127.0.0.1:{port}")
        started = time.monotonic()
        with pytest.raises(ProviderProblem, match="did not answer in time"):
            discovery.read(made)
        assert time.monotonic() - started < 20


# ── Where our servers may be sent ────────────────────────────────────────────────────────────────────────────────────
FORBIDDEN = {
    "loopback": "127.0.0.1", "loopback name": "localhost", "any": "0.0.0.0", "private": "10.0.0.1",
    "private 172": "172.16.0.1", "private 192": "192.168.1.1", "carrier": "100.64.0.1", "link-local": "169.254.169.254",
    "IPv6 loopback": "[::1]", "IPv6 private": "[fd00::1]", "IPv6 link-local": "[fe80::1]",
    "mapped": "[::ffff:127.0.0.1]", "6to4": "[2002:7f00:1::]", "NAT64": "[64:ff9b::7f00:1]",
    "decimal": "2130706433", "octal": "0177.0.0.1", "hexadecimal": "0x7f000001", "short": "127.1",
    "broadcast": "255.255.255.255", "a name that leads inside": "inner.example",
    "a name that leads both ways": "mixed.example", "user info": "good.example@127.0.0.1",
}  # fmt: skip


def names_lead(monkeypatch: pytest.MonkeyPatch, resolve: egress.Resolver) -> None:
    """Every guarded call looks names up with ``resolve``."""
    defaults = {**(egress.fetch.__kwdefaults__ or {}), "resolver": resolve}
    monkeypatch.setattr("core.egress.fetch.__kwdefaults__", defaults)


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names lead where the test says, and nothing is ever connected to."""
    table = {"inner.example": ["10.0.0.7"], "mixed.example": ["93.184.216.34", "127.0.0.1"], "localhost": ["127.0.0.1"]}

    def resolve(host: str, port: int, seconds: float) -> Sequence[str]:
        return table[host]

    def connect(*_: object) -> None:
        raise AssertionError("connected")

    names_lead(monkeypatch, resolve)
    monkeypatch.setattr("core.egress._connect", connect)


def by_discovery(host: str) -> str:
    return connections_error({"issuer": f"https://{host}", "client_id": "x", "client_secret": "y"}, "oidc")


def by_metadata_url(host: str) -> str:
    return connections_error({"metadata_url": f"https://{host}/metadata"}, "saml")


def connections_error(wanted: dict[str, str], kind: str) -> str:
    from core import errors
    from events import audit

    try:
        made = connections.create(factories.organization(), kind, wanted, by=audit.SYSTEM)
    except errors.InvalidRequest as error:
        return error.message
    assert made.last_check_ok is False
    return made.last_check_error


def by_file(host: str) -> str:
    try:
        proofs._lines(f"https://{host}{proofs.FILE_PATH}")
    except egress.EgressRefused as error:
        return str(error)
    return ""


def by_saml_fetch(host: str) -> str:
    from core import errors

    with pytest.raises(errors.InvalidRequest) as found:
        metadata.fetch(f"https://{host}/")
    return found.value.message


@pytest.mark.parametrize("host", FORBIDDEN)
@pytest.mark.parametrize("way", [by_discovery, by_metadata_url, by_file, by_saml_fetch])
def test_nobody_sends_us_inside(no_connection: None, settings: Any, way: Callable[[str], str], host: str) -> None:
    settings.EGRESS_ALLOW = ["webhook=0.0.0.0/0"]  # what is allowed for another purpose counts for nothing here
    assert way(FORBIDDEN[host])


@pytest.mark.parametrize("path", ["token", "userinfo", "jwks"])
def test_an_endpoint_whose_name_is_bound_anew(
    path: str, provider: OidcProvider, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call checks where it goes, not only the one when the connection was saved."""
    from tests.accounts.front_door import Browser, is_signed_in
    from tests.sso import company

    made = company.oidc(provider)
    name = "jwks_uri" if path == "jwks" else f"{path}_endpoint"
    made.discovery[name] = "https://rebound.example/x"
    made.jwks_fetched_at = None if path == "jwks" else made.jwks_fetched_at
    made.save()
    asked: list[str] = []

    def resolve(host: str, port: int, seconds: float) -> Sequence[str]:
        asked.append(host)
        return ["10.0.0.7"]

    names_lead(monkeypatch, resolve)
    browser = Browser()
    answer = company.sign_in(browser, made, provider)
    assert answer.status_code == 403
    assert "<code>unreachable</code>" in answer.content.decode()
    assert asked == ["rebound.example"]
    assert not is_signed_in(browser)


def test_the_operator_may_allow_a_private_provider(provider: OidcProvider, settings: Any) -> None:
    assert read(provider).discovery
    settings.EGRESS_ALLOW = []
    assert "https" in problem(provider)
    settings.EGRESS_ALLOW = [f"domain_proof=127.0.0.1:{provider.port}"]
    assert "https" in problem(provider)


def test_a_failed_check_keeps_what_was_known(provider: OidcProvider, db: None) -> None:
    from events import audit
    from tests.sso import company

    made = company.oidc(provider, Workspace.objects.get(pk=factories.organization().pk))
    provider.discovery["issuer"] = "https://other.example/\x00"
    checked = connections.check(made, by=audit.SYSTEM)
    assert checked.last_check_ok is False
    assert checked.last_check_error.endswith("https://other.example/?. Enter exactly that one.")
    assert checked.discovery == made.discovery
    assert checked.is_active
