"""``Idempotency-Key`` on management writes: the same person's same key with the same request runs once.

The claim, what the endpoint writes, and its answer are one transaction: either all of it stands or nothing does, and
who comes second at the same time waits for the first and gets its answer. An answer with an error keeps nothing, so it
may be tried again. Endpoints whose work is durable step by step (a payment) say `own_steps`: they are made for being
asked again, and get a name for it from `token`.

What a person was when they got an answer is kept with it: it is not given again to somebody who has lost a role since.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar
from uuid import UUID, uuid5

from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from accounts.models import User
from core import clock, errors, ids
from core.views import error_json
from idempotency import replay
from idempotency.models import StoredAnswer
from orgs import access
from orgs.models import Membership

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
KEPT_FOR: Final = timedelta(hours=24)
#: A request with steps of its own that has not answered after this is taken for dead.
LEASE: Final = timedelta(minutes=2)
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_OWN_STEPS: Final = "has_own_steps"
_TOKENS: Final = UUID("5b1a4a35-6a86-5e0c-9d0e-9f1f5f6a7c11")

Run = Callable[..., HttpResponse]
View = TypeVar("View", bound=Callable[..., Any])


def own_steps(view: View) -> View:
    """Marks an endpoint that may be asked again at any time: no transaction is laid around it."""
    setattr(view, _OWN_STEPS, True)
    return view


def token(request: HttpRequest) -> UUID | None:
    """A name for what the request's key stands for, of this person alone; None without a key."""
    key = _presented(request)
    return uuid5(_TOKENS, f"{access.signed_in(request).pk} {key}") if key is not None else None


def once(run: Run) -> Run:
    """Wraps an operation of the management API (django-ninja's decorator mode "view"); reads pass through."""
    operation = getattr(run, "__self__", None)
    if getattr(operation, "is_async", False):
        return run
    in_steps = getattr(getattr(operation, "view_func", None), _OWN_STEPS, False)

    @functools.wraps(run)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        asked = isinstance(request.user, User) and request.method in _WRITES and HEADER in request.headers
        if not asked or access.carries_key(request):
            return run(request, *args, **kwargs)
        work = functools.partial(run, request, *args, **kwargs)
        try:
            access.check_form(request)
            claim = _claim_of(request)
            return _in_steps(claim, work) if in_steps else _at_once(claim, work)
        except errors.ProductError as error:
            return error_json(error)

    return wrapped


def _presented(request: HttpRequest) -> str | None:
    value = request.headers.get(HEADER)
    return None if value is None else replay.presented({replay.HEADER: value.encode("latin-1", "replace")})


def _claim_of(request: HttpRequest) -> StoredAnswer:
    """The row that this request would like to make. Raises InvalidRequest for a bad key."""
    key, user = _presented(request), access.signed_in(request)
    assert key is not None
    try:
        body = request.body
    except RequestDataTooBig:
        raise errors.RequestTooLarge(_("The body is too large.")) from None
    # The same words in another workspace are another request.
    address = f"{request.get_full_path()} {request.session.get(access.SESSION_KEY, '')}"
    hashes = replay.hashes(key, request.method or "", address, body)
    identifier, now = ids.uuid7(), clock.now()
    return StoredAnswer(
        id=identifier,
        scope_id=user.pk,
        key_hash=hashes.key,
        request_hash=hashes.request,
        request_id=getattr(request, "request_id", None) or identifier,
        created_at=now,
        expires_at=now + KEPT_FOR,
    )


def _roles(user_id: UUID) -> set[str]:
    """What the person is, anywhere."""
    rows = Membership.objects.filter(user_id=user_id, workspace__active=True)
    return {f"{workspace}={role}" for workspace, role in rows.values_list("workspace_id", "role")}


def _at_once(claim: StoredAnswer, work: Callable[[], HttpResponse]) -> HttpResponse:
    with transaction.atomic():
        earlier = _earlier(claim)
        if earlier is not None:
            return _again(claim, earlier)
        response = work()
        if _failed(response):
            transaction.set_rollback(True)
        else:
            _keep(claim, response)
    return response


def _in_steps(claim: StoredAnswer, work: Callable[[], HttpResponse]) -> HttpResponse:
    earlier = _earlier(claim)
    if earlier is not None:
        stale = earlier.status is None and claim.created_at - earlier.created_at >= LEASE
        if not stale or bytes(earlier.request_hash) != claim.request_hash:
            return _again(claim, earlier)
        claim.pk = earlier.pk
        taken = StoredAnswer.objects.filter(pk=earlier.pk, created_at=earlier.created_at)
        if not taken.update(created_at=claim.created_at):
            return _again(claim, earlier)
    try:
        response = work()
    except BaseException:
        StoredAnswer.objects.filter(pk=claim.pk).delete()
        raise
    if _failed(response):
        StoredAnswer.objects.filter(pk=claim.pk).delete()
    else:
        _keep(claim, response)
    return response


def _earlier(claim: StoredAnswer) -> StoredAnswer | None:
    """What stands in the claim's place, or None: then it has been made. Waits for who is just making it."""
    place = StoredAnswer.objects.filter(scope_id=claim.scope_id, key_hash=claim.key_hash)
    place.filter(expires_at__lte=claim.created_at).delete()
    StoredAnswer.objects.bulk_create([claim], ignore_conflicts=True)
    found = place.get()
    return None if found.pk == claim.pk else found


def _again(claim: StoredAnswer, earlier: StoredAnswer) -> HttpResponse:
    if bytes(earlier.request_hash) != claim.request_hash:
        raise errors.Conflict(
            _("This Idempotency-Key was used before with another request."), param=HEADER, code="idempotency_key_reused"
        )
    if earlier.status is None or earlier.sealed_body is None:
        raise errors.Conflict(
            _("This Idempotency-Key belongs to a request that is still running."), param=HEADER, code="still_running"
        )
    roles, _separator, body = replay.unseal(bytes(earlier.sealed_body)).partition(b"\n")
    if body and not set(roles.decode().split()) <= _roles(claim.scope_id):
        raise errors.Conflict(
            _("Your roles have changed since this Idempotency-Key was used."), param=HEADER, code="roles_changed"
        )
    response = HttpResponse(body, status=earlier.status, content_type=earlier.content_type)
    response[REPLAYED] = "true"
    response["Cache-Control"] = "no-store"
    return response


def _failed(response: HttpResponse) -> bool:
    return response.status_code >= 400 or response.streaming


def _keep(claim: StoredAnswer, response: HttpResponse) -> None:
    StoredAnswer.objects.filter(pk=claim.pk).update(
        status=response.status_code,
        content_type=response.get("Content-Type", "application/json")[:80],
        sealed_body=replay.seal(" ".join(sorted(_roles(claim.scope_id))).encode() + b"\n" + response.content),
    )
