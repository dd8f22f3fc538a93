"""Responses that their provider keeps: only the workspace they were made for goes on from one, reads it or deletes it.

All workspaces share the operator's accounts, so a provider would tell anybody who knows an id. The log of calls has the
id of each response that was to be kept, beside who made it and for whom: another workspace's does not exist for the
caller. One that nobody was given here is the provider's to know or not. Only calls that name one ask the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from urllib.parse import quote, urlencode

from catalog import endpoints as kinds
from catalog.entries import Snapshot, TargetEntry
from core.errors import InvalidRequest, NotFound, Overloaded
from gateway.failover import Trail
from gateway.request import Answer, GatewayRequest
from upstreams import classify, responses_kept
from upstreams.errors import TargetUnusable
from upstreams.wire import Timeouts
from usage import kept
from usage.kept import Made

#: What of a caller's query goes on to the provider.
_QUERY = ("include", "include[]", "starting_after", "after", "before", "limit", "order")
_NONE = "There is no response of that id."


async def of_previous(request: GatewayRequest, response_id: str, chain: Sequence[TargetEntry]) -> list[TargetEntry]:
    """The chain with who made the response in front, as nobody else knows it; as it is where that can't be told.

    Raises InvalidRequest for a response that another workspace was given.
    """
    made = await _made_by(request, response_id)
    if made is None:
        return list(chain)
    if made.workspace_id != request.key.workspace_id:
        raise InvalidRequest(
            f"Previous response with id '{response_id[:200]}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return sorted(chain, key=lambda entry: (entry.target.label != made.target, entry.target.provider != made.provider))


async def known(request: GatewayRequest, response_id: str) -> Made:
    """Who made the response. Raises NotFound where this workspace was never given one of that id."""
    made = await _made_by(request, response_id)
    if made is None or made.workspace_id != request.key.workspace_id:
        raise NotFound(_NONE)
    request.key.check_model(made.model)
    return made


async def ask(request: GatewayRequest, response_id: str, below: str = "") -> Answer:
    """What the provider of the response answers to this request. Raises the ProductError that the caller gets."""
    made = await known(request, response_id)
    target = _target_of(request.runtime.catalog.snapshot, made)
    query = urlencode([(name, value) for name in _QUERY for value in request.GET.getlist(name)])
    path = f"/responses/{quote(response_id, safe='')}{below}"

    async def attempt(entry: TargetEntry, timeouts: Timeouts) -> bytes:
        try:
            asked = responses_kept.request_for(entry.target, request.method or "GET", path, query)
            answer = await request.runtime.pool.send(asked, timeouts)
        except ValueError:
            raise TargetUnusable("the target's settings make no request") from None
        with answer:
            body = await answer.read(request.runtime.limits.max_answer_bytes)
        if answer.status == 404:
            raise NotFound(_NONE)
        if answer.status != 200:
            raise classify.refuse(answer.status, answer.headers, body, secret=entry.target.secret)
        responses_kept.check(body, secret=entry.target.secret)
        return body

    body = await request.runtime.failover.serve([target], attempt, Trail(), request.caller_is_gone)
    return Answer(200, body)


async def _made_by(request: GatewayRequest, response_id: str) -> Made | None:
    if not responses_kept.is_id(response_id):
        return None
    return await request.runtime.work(partial(kept.made_by, request.key.workspace_id, response_id))


def _target_of(snapshot: Snapshot, made: Made) -> TargetEntry:
    """Where the response lies: at the target that made it, or at another of the same provider's."""
    found = [
        entry
        for model in snapshot.models.values()
        for entry in model.targets
        if entry.target.provider == made.provider and kinds.RESPONSES in entry.kinds
    ]
    if not found:
        raise Overloaded("The provider that keeps this response is not served at this moment.")
    return min(found, key=lambda entry: entry.target.label != made.target)
