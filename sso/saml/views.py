"""Where identity providers post their answers to, and our metadata.

The post comes from another site, so the browser shows none of our cookies with it. The answer is checked here and kept
for one use; the browser then fetches its end with a GET of ours, where its cookie says whether it had asked.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from sso import addresses, flows, sign_in
from sso.doors import step
from sso.flows import Answer
from sso.models import SsoConnection, SsoFlow
from sso.saml import response, sides
from sso.saml.refusals import Refused
from sso.saml.response import Asserted


@step(SsoConnection.Kind.SAML)
def answer(request: HttpRequest, connection: SsoConnection) -> HttpResponse:
    """The assertion consumer service."""
    message = _one(request, "SAMLResponse")
    if response.in_response_to(message):
        token = _asked(request, connection, message)
    else:
        token = _unasked(request, connection, message)
    return HttpResponse(status=303, headers={"Location": addresses.finish_path(connection, token)})


def _asked(request: HttpRequest, connection: SsoConnection, message: str) -> str:
    """An answer to a question of ours, which its RelayState names."""
    flow = flows.answered(connection, _one(request, "RelayState"))
    if not connection.is_active and flow.tester_id is None:
        raise Refused("off")
    if not flow.request_id:
        raise Refused("in_response_to", "the sign-in was not started over SAML")
    asserted = _read(connection, message, request_id=flow.request_id)
    return _park(connection, flow, asserted)


def _unasked(request: HttpRequest, connection: SsoConnection, message: str) -> str:
    """An answer that the provider sent by itself: where the organization wants that, and only to a page that asks."""
    if not connection.idp_initiated or not connection.is_active:
        raise Refused("unsolicited")
    asserted = _read(connection, message, request_id="")
    flow = flows.start_unasked(request, connection, next_path=_one(request, "RelayState"))
    return _park(connection, flow, asserted)


def _read(connection: SsoConnection, message: str, *, request_id: str) -> Asserted:
    """A checked answer, taken once."""
    asserted = response.read(
        message,
        sides.their(connection),
        sides.our(connection),
        request_id=request_id,
        attribute_map=connection.attribute_map,
    )
    flows.consume(connection, asserted.assertion_id, asserted.expires_at)
    return asserted


def _park(connection: SsoConnection, flow: SsoFlow, asserted: Asserted) -> str:
    name = connection.attribute_map.get("name") or "name"
    claims = {**asserted.attributes, name: asserted.name}
    return flows.park(flow, Answer(asserted.subject, asserted.email, claims, asserted.session_ends_at))


def _one(request: HttpRequest, name: str) -> str:
    values = request.POST.getlist(name)
    if len(values) > 1:
        raise Refused("malformed", f"{name} stands several times")
    return values[0] if values else ""


@step()
def finish(request: HttpRequest, connection: SsoConnection) -> HttpResponse:
    """The end of a sign-in whose answer was posted. Nobody asked for it? Then the person is asked first."""
    token = request.POST.get("token") or request.GET.get("token", "")
    flow, kept = flows.parked(request, connection, token)
    if not flow.browser_hash and request.method != "POST":
        return render(request, "sso/confirm.html", {"connection": connection, "email": kept.email, "token": token})
    flows.finish(flow)
    return sign_in.complete(
        request, connection, kept.subject, kept.email, kept.claims, flow=flow, session_ends_at=kept.session_ends_at
    )


@step(SsoConnection.Kind.SAML, any_status=True)
def metadata(request: HttpRequest, connection: SsoConnection) -> HttpResponse:
    """Our metadata for this connection; a draft has it too, to be registered first."""
    return HttpResponse(
        sides.own_metadata(connection),
        content_type="application/samlmetadata+xml",
        headers={"Content-Disposition": f'inline; filename="hypereal-{connection.provider_id}.xml"'},
    )
