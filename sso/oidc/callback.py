"""The way back from an OpenID provider: which sign-in is answered, by whom, and what it says."""

from __future__ import annotations

import re
from typing import Final

from django.http import HttpRequest

from sso import flows
from sso.flows import Answer
from sso.models import SsoConnection, SsoFlow
from sso.oidc.backend import ConnectionBackend
from sso.oidc.errors import Refused

_CODE_LENGTH: Final = 4096
_ERROR_CODE: Final = re.compile(r"[a-z0-9_]{1,64}")


def read(request: HttpRequest, connection: SsoConnection) -> tuple[SsoFlow, Answer]:
    """The answered flow and what the provider says of the person. Raises SignInRefused.

    The state is used up by whatever comes with it.
    """
    flow = flows.answered(connection, _one(request, "state"))
    flows.check_browser(request, flow)
    if not connection.is_active and flow.tester_id is None:
        raise Refused("provider_error", "the connection was switched off meanwhile")
    _check_issuer(request, connection)
    error = _one(request, "error")
    if error:
        raise Refused("provider_error", f"error {error if _ERROR_CODE.fullmatch(error) else 'unreadable'}")
    code = _one(request, "code")
    if not code or len(code) > _CODE_LENGTH:
        raise Refused("malformed", "the answer has neither code nor error")
    claims, id_token = ConnectionBackend(connection).claims_of(code, flow)
    if claims.get("email_verified") in (False, "false"):
        raise Refused("email_unverified")
    email = claims.get(connection.attribute_map.get("email") or "email")
    return flow, Answer(str(claims["sub"]), email if isinstance(email, str) else "", claims, id_token=id_token)


def _check_issuer(request: HttpRequest, connection: SsoConnection) -> None:
    """RFC 9207: an issuer beside the code is ours wherever it stands, and it stands where it was announced."""
    issuer = _one(request, "iss")
    if issuer and issuer != connection.issuer:
        raise Refused("issuer", "the answer's iss names another issuer")
    if not issuer and connection.discovery.get("sends_issuer"):
        raise Refused("issuer", "the provider announces iss in its answers, and this one has none")


def _one(request: HttpRequest, name: str) -> str:
    values = request.GET.getlist(name)
    if len(values) > 1:
        raise Refused("malformed", f"{name} stands several times")
    return values[0] if values else ""
