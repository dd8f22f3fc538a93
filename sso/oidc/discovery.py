"""What a provider publishes about itself: its discovery document and its keys, fetched over the guarded way out."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from core import clock, outbound
from core.egress import EgressError, Limits, Purpose, check_url
from sso.models import SsoConnection
from sso.oidc.errors import ProviderProblem

#: What ID tokens may be signed with; the first that a provider offers too. None of them shares a secret.
ALGORITHMS: Final[tuple[str, ...]] = (
    "RS256",
    "PS256",
    "ES256",
    "RS384",
    "RS512",
    "PS384",
    "PS512",
    "ES384",
    "ES512",
    "EdDSA",
)
#: Ways of proving to be the client; a provider that lists none means the first.
CLIENT_AUTHENTICATION: Final = ("client_secret_basic", "client_secret_post")
LIMITS: Final = Limits(connect_seconds=5.0, total_seconds=8.0, body_bytes=1_000_000)
_URL_LENGTH: Final = 1000
_MOST_KEYS: Final = 100
_PUBLIC_MEMBERS: Final = frozenset({"kty", "kid", "use", "alg", "n", "e", "crv", "x", "y"})


def check_issuer(issuer: str) -> str:
    """The issuer as it was typed, without white space around. Raises ProviderProblem for what none can be."""
    issuer = issuer.strip()
    parts = _split(issuer)
    if parts.query or parts.fragment or len(issuer) > _URL_LENGTH or not _is_plain(issuer):
        raise ProviderProblem(_("The issuer is an https:// address without a query."))
    return issuer


def read(connection: SsoConnection) -> None:
    """Fetch the discovery document and the keys into ``connection`` (unsaved). Raises ProviderProblem."""
    document = _fetch_json(connection.issuer.rstrip("/") + "/.well-known/openid-configuration")
    connection.discovery = checked(document, connection.issuer)
    connection.algorithms = _algorithms(document)
    read_keys(connection)


def read_keys(connection: SsoConnection) -> None:
    """Fetch the provider's keys into ``connection`` (unsaved). Raises ProviderProblem."""
    connection.jwks = {"keys": _public_keys(_fetch_json(connection.discovery["jwks_uri"]))}
    connection.jwks_fetched_at = clock.now()


def checked(document: dict[str, Any], issuer: str) -> dict[str, Any]:
    """What is used of a discovery document. Raises ProviderProblem where it is not the issuer's or lacks something."""
    if document.get("issuer") != issuer:
        named = str(document.get("issuer"))[:200]
        raise ProviderProblem(
            _("The document there names another issuer: %(issuer)s. Enter exactly that one.") % {"issuer": named}
        )
    found: dict[str, Any] = {}
    for name in ("token_endpoint", "jwks_uri", "userinfo_endpoint"):
        if name in document or name != "userinfo_endpoint":
            found[name] = _called(document, name)
    found["authorization_endpoint"] = _visited(document, "authorization_endpoint")
    found |= _sign_out(document)
    found["client_authentication"] = _client_authentication(document)
    found["sends_issuer"] = document.get("authorization_response_iss_parameter_supported") is True
    _require(document, "response_types_supported", "code")
    return found


def _require(document: dict[str, Any], name: str, value: str) -> None:
    if value not in _texts(document, name, [value]):
        raise ProviderProblem(_("The provider does not offer %(value)s (%(name)s).") % {"value": value, "name": name})


def _texts(document: dict[str, Any], name: str, default: list[str]) -> list[str]:
    value = document.get(name, default)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _algorithms(document: dict[str, Any]) -> list[str]:
    offered = _texts(document, "id_token_signing_alg_values_supported", ["RS256"])
    common = [name for name in ALGORITHMS if name in offered]
    if not common:
        raise ProviderProblem(_("The provider signs ID tokens only in ways that are not accepted here."))
    return common


def _client_authentication(document: dict[str, Any]) -> str:
    """Basic unless only POST is offered: some list POST and refuse a client that is registered for basic."""
    offered = _texts(document, "token_endpoint_auth_methods_supported", ["client_secret_basic"])
    chosen = next((method for method in CLIENT_AUTHENTICATION if method in offered), None)
    if chosen is None:
        raise ProviderProblem(_("The provider's token endpoint takes no client secret."))
    return chosen


def _called(document: dict[str, Any], name: str) -> str:
    """An endpoint that we call ourselves: it passes the guard now, and again at every call."""
    url = _url(document, name)
    try:
        check_url(url, Purpose.IDENTITY_PROVIDER, allow=outbound.allowed(), seconds=LIMITS.connect_seconds)
    except EgressError as error:
        raise ProviderProblem(_("%(name)s can't be used: %(why)s") % {"name": name, "why": error}) from None
    return url


def _visited(document: dict[str, Any], name: str) -> str:
    """An endpoint that only browsers visit: https, or where the operator allows it. It need not be public."""
    url = _url(document, name)
    if _split(url).scheme != "https":
        _called(document, name)
    return url


def _sign_out(document: dict[str, Any]) -> dict[str, str]:
    """Where browsers sign out over there. Nobody needs it to sign in: one that can't be used is as good as none."""
    try:
        return {"end_session_endpoint": _visited(document, "end_session_endpoint")}
    except ProviderProblem:
        return {}


def _url(document: dict[str, Any], name: str) -> str:
    url = document.get(name)
    if not isinstance(url, str) or not url or len(url) > _URL_LENGTH or not _is_plain(url):
        raise ProviderProblem(_("The provider's document has no valid %(name)s.") % {"name": name})
    if _split(url).fragment or " " in url:
        raise ProviderProblem(_("The provider's document has no valid %(name)s.") % {"name": name})
    return url


def _split(url: str) -> Any:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("https", "http") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        fine = False
    if not fine:
        raise ProviderProblem(_("%(url)s is not an https:// address.") % {"url": url[:200]})
    return parts


def _public_keys(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The public parts of asymmetric keys; a symmetric one could never be published."""
    keys = document.get("keys")
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise ProviderProblem(_("The provider's keys (jwks_uri) can't be read."))
    usable = [key for key in keys if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP")]
    public = [{name: value for name, value in key.items() if name in _PUBLIC_MEMBERS} for key in usable]
    readable = [key for key in public if all(isinstance(value, str) and _is_plain(value) for value in key.values())]
    if not readable:
        raise ProviderProblem(_("The provider publishes no key (jwks_uri)."))
    return readable


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _fetch_json(url: str) -> dict[str, Any]:
    headers = {"accept": "application/json"}
    try:
        answer = outbound.call(url, Purpose.IDENTITY_PROVIDER, headers=headers, limits=LIMITS)
    except EgressError as error:
        raise ProviderProblem(str(error)) from None
    if answer.status != 200:
        raise ProviderProblem(
            _("%(url)s answered with status %(status)d.") % {"url": url[:200], "status": answer.status}
        )
    return read_json(answer.body)


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises ProviderProblem for anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProviderProblem(_("The provider's answer is not JSON."))
    return found
