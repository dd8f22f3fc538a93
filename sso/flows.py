"""Sign-ins under way: bound to the browser that started them, kept in the database, good for one use and ten minutes.

What travels (``state``, RelayState, the token of ``/finish``, the cookie) is random; the table has keyed hashes of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from accounts.models import User
from core import clock, secrets
from sso import identifiers
from sso.models import SsoConnection, SsoConsumed, SsoFlow
from sso.refusals import SignInRefused

LIFETIME: Final = timedelta(minutes=10)
COOKIE: Final = "hypereal_sso"
COOKIE_PATH: Final = "/api/auth/sso/"
_TOKEN_CHARACTERS: Final = 43  # 256 bits
_NEXT_LENGTH: Final = 2048


@dataclass(frozen=True, slots=True)
class Started:
    """A flow and what of it travels; none of the secrets can be read back from the table."""

    flow: SsoFlow
    state: str
    nonce: str
    verifier: str
    browser: str

    @property
    def challenge(self) -> str:
        """The S256 challenge of the PKCE verifier (RFC 7636)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said of a person, after every check."""

    subject: str
    email: str
    claims: Mapping[str, Any]
    session_ends_at: datetime | None = None
    #: OpenID Connect: the ID token itself, which the provider wants to see again at the sign-out.
    id_token: str = ""


def start(
    request: HttpRequest,
    connection: SsoConnection,
    *,
    next_path: str = "",
    tester: User | None = None,
    request_id: str = "",
) -> Started:
    """A new flow of this browser. Hand its answer to `remember`, or the browser can't finish.

    ``next_path`` that leads off this site is dropped. ``request_id`` is the id of a SAML AuthnRequest.
    """
    state, nonce, verifier = (identifiers.base62(_TOKEN_CHARACTERS) for _part in range(3))
    browser = _browser(request) or identifiers.base62(_TOKEN_CHARACTERS)
    flow = SsoFlow.objects.create(
        connection=connection,
        state_hash=_hash("state", state),
        browser_hash=_hash("browser", browser),
        request_id=request_id,
        nonce_hash=_hash("nonce", nonce),
        verifier_sealed=secrets.encrypt(verifier),
        next_path=safe_path(request, next_path),
        tester=tester,
        expires_at=clock.now() + LIFETIME,
    )
    return Started(flow, state, nonce, verifier, browser)


def remember(response: HttpResponse, started: Started) -> None:
    """Give the browser the cookie that lets it finish. One browser keeps one for all its flows."""
    response.set_cookie(
        COOKIE,
        started.browser,
        max_age=int(LIFETIME.total_seconds()),
        path=COOKIE_PATH,
        secure=settings.SECURE_SITE,
        httponly=True,
        samesite="Lax",
    )


def answered(connection: SsoConnection, state: str) -> SsoFlow:
    """The flow that ``state`` names, marked as answered. Raises SignInRefused unless it is open and of this connection.

    The mark stays whatever becomes of the answer: a state counts once. Call it outside any other transaction.
    """
    with transaction.atomic():
        rows = SsoFlow.objects.select_for_update(of=("self",)).select_related("tester")
        flow = rows.filter(state_hash=_hash("state", state)).first() if state else None
        if flow is None or flow.connection_id != connection.pk:
            raise SignInRefused(
                "unknown_state",
                _("This sign-in was not started here, or its time is over. Start again from the sign-in page."),
                detail="the state belongs to no open sign-in of this connection",
            )
        if flow.answered_at is not None:
            raise SignInRefused(
                "state_used", _("This sign-in was already used. Start again from the sign-in page."),
                detail="the state came a second time",
            )  # fmt: skip
        if flow.expires_at <= clock.now():
            raise SignInRefused("expired_state", _("This sign-in took too long. Start again from the sign-in page."))
        flow.answered_at = clock.now()
        flow.save(update_fields=["answered_at"])
    flow.connection = connection
    return flow


def check_browser(request: HttpRequest, flow: SsoFlow) -> None:
    """Raise SignInRefused unless the request comes from the browser that started the flow."""
    if bytes(flow.browser_hash) != _hash("browser", _browser(request)):
        raise SignInRefused(
            "other_browser",
            _("This sign-in was started in another browser. Start again from the sign-in page."),
            detail="the answer came from a browser that did not start the sign-in",
        )


def check_nonce(flow: SsoFlow, nonce: object) -> bool:
    """Whether ``nonce`` is the one that this flow sent."""
    return isinstance(nonce, str) and bytes(flow.nonce_hash or b"") == _hash("nonce", nonce)


def verifier(flow: SsoFlow) -> str:
    """The PKCE verifier of the flow."""
    return secrets.decrypt(bytes(flow.verifier_sealed or b""))


# ── Between a provider's cross-site POST and the browser's own GET ───────────────────────────────────────────────────
def park(flow: SsoFlow, answer: Answer) -> str:
    """Keep a checked answer until the browser fetches it; returns the token for ``/finish``."""
    token = identifiers.base62(_TOKEN_CHARACTERS)
    ends_at = answer.session_ends_at.isoformat() if answer.session_ends_at else None
    content = {"subject": answer.subject, "email": answer.email, "claims": dict(answer.claims), "ends_at": ends_at}
    flow.parked_sealed = secrets.encrypt(json.dumps(content))
    flow.finish_hash = _hash("finish", token)
    flow.save(update_fields=["parked_sealed", "finish_hash"])
    return token


def start_unasked(request: HttpRequest, connection: SsoConnection, *, next_path: str = "") -> SsoFlow:
    """A flow for an answer that the provider sent by itself: already answered, and of no browser yet."""
    return SsoFlow.objects.create(
        connection=connection,
        state_hash=_hash("state", identifiers.base62(_TOKEN_CHARACTERS)),
        browser_hash=b"",
        next_path=safe_path(request, next_path),
        answered_at=clock.now(),
        expires_at=clock.now() + LIFETIME,
    )


def parked(request: HttpRequest, connection: SsoConnection, token: str) -> tuple[SsoFlow, Answer]:
    """What `park` kept under ``token``; it stays there until `finish`. Raises SignInRefused.

    Only the browser that started may have it; of an answer that nobody asked for, the first that comes.
    """
    rows = SsoFlow.objects.select_related("tester").filter(connection=connection, finished_at=None)
    flow = rows.filter(finish_hash=_hash("finish", token)).first() if token else None
    if flow is None or flow.expires_at <= clock.now() or flow.parked_sealed is None:
        raise SignInRefused(
            "unknown_state",
            _("This sign-in was already used, or its time is over. Start again from the sign-in page."),
        )
    if flow.browser_hash:
        check_browser(request, flow)
    flow.connection = connection
    content = json.loads(secrets.decrypt(bytes(flow.parked_sealed)))
    ends_at = datetime.fromisoformat(content["ends_at"]) if content["ends_at"] else None
    return flow, Answer(content["subject"], content["email"], content["claims"], ends_at)


def finish(flow: SsoFlow) -> None:
    """Use a parked answer up. Raises SignInRefused where another request was quicker."""
    changed = SsoFlow.objects.filter(pk=flow.pk, finished_at=None).update(
        finished_at=clock.now(), parked_sealed=None, finish_hash=None
    )
    if not changed:
        raise SignInRefused("state_used", _("This sign-in was already used. Start again from the sign-in page."))


# ── Once only ────────────────────────────────────────────────────────────────────────────────────────────────────────
def consume(connection: SsoConnection, token_id: str, expires_at: datetime) -> None:
    """Take an assertion or token by its id. Raises SignInRefused where it was taken before.

    ``expires_at``: from when on the token is refused for its age anyway, with the allowed skew.
    """
    try:
        with transaction.atomic():
            SsoConsumed.objects.create(
                connection=connection, token_hash=_hash("token", token_id), expires_at=expires_at
            )
    except IntegrityError:
        raise SignInRefused(
            "replayed",
            _("This sign-in was already used. Start again from the sign-in page."),
            detail="the same assertion or token came a second time",
        ) from None


def forget() -> int:
    """Delete what is over; how many rows."""
    now = clock.now()
    flows, _by_model = SsoFlow.objects.filter(expires_at__lt=now - timedelta(hours=1)).delete()
    consumed, _by_model = SsoConsumed.objects.filter(expires_at__lt=now - timedelta(hours=1)).delete()
    return flows + consumed


def safe_path(request: HttpRequest, target: str) -> str:
    """``target`` if it is a path of this site, else ""."""
    if not target.startswith("/") or len(target) > _NEXT_LENGTH or not target.isprintable():
        return ""
    safe = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return target if safe else ""


def _browser(request: HttpRequest) -> str:
    value = request.COOKIES.get(COOKIE, "")
    return value if len(value) == _TOKEN_CHARACTERS and value.isalnum() else ""


def _hash(kind: str, value: str) -> bytes:
    return secrets.keyed_hash(f"sso.{kind}", value)
