"""What people do with their accounts goes into the audit trail: it belongs to no workspace, only to the person."""

from __future__ import annotations

from typing import Any

from allauth.account import signals as account
from allauth.account.models import EmailAddress
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from django.contrib.auth.signals import user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.models import User
from events import audit


def note(request: HttpRequest, user: User, action: str, **details: Any) -> None:
    """One audit row about ``user``, who acts alone here even where the session is not theirs yet."""
    seen = audit.actor_of(request)
    audit.record(
        action,
        actor=audit.Actor(user.pk, user.email, seen.address, seen.request_id),
        target=audit.Target("user", user.pk, user.email),
        details=details,
    )


@receiver(account.user_signed_up)
def signed_up(request: HttpRequest, user: User, **_: Any) -> None:
    note(request, user, "user.sign_up")


@receiver(account.user_logged_in)
def signed_in(request: HttpRequest, user: User, **_: Any) -> None:
    note(request, user, "user.sign_in")


@receiver(account.user_logged_out)
def signed_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:  # somebody's session that had ended already
        note(request, user, "user.sign_out")


@receiver(user_login_failed)
def sign_in_failed(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """A wrong password. Tries at addresses without an account leave a row that names none: an answer that took no
    longer for them would tell which addresses have one.
    """
    if request is None:
        return
    user = User.objects.filter(email__iexact=str(credentials.get("email", ""))).first()
    seen = audit.actor_of(request)
    nobody = audit.Actor(None, "anonymous", seen.address, seen.request_id)
    target = audit.Target("user", user.pk, user.email) if user else audit.Target("user", "")
    audit.record("user.sign_in_failed", actor=nobody, target=target)


@receiver(account.password_set)
@receiver(account.password_changed)
def password_changed(request: HttpRequest, user: User, **_: Any) -> None:
    note(request, user, "user.password_change")


@receiver(account.password_reset)
def password_reset(request: HttpRequest, user: User, **_: Any) -> None:
    note(request, user, "user.password_reset")


@receiver(account.email_confirmed)
def email_confirmed(request: HttpRequest, email_address: EmailAddress, **_: Any) -> None:
    note(request, email_address.user, "user.email_confirm", email=email_address.email)


@receiver(account.email_added)
def email_added(request: HttpRequest, user: User, email_address: EmailAddress, **_: Any) -> None:
    note(request, user, "user.email_add", email=email_address.email)


@receiver(account.email_removed)
def email_removed(request: HttpRequest, user: User, email_address: EmailAddress, **_: Any) -> None:
    note(request, user, "user.email_remove", email=email_address.email)


@receiver(account.email_changed)
def email_changed(
    request: HttpRequest,
    user: User,
    from_email_address: EmailAddress | None,
    to_email_address: EmailAddress,
    **_: Any,
) -> None:
    before = from_email_address.email if from_email_address else None
    note(request, user, "user.email_primary", before=before, after=to_email_address.email)


@receiver(mfa.authenticator_added)
def authenticator_added(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    note(request, user, "user.second_factor_add", type=authenticator.type)


@receiver(mfa.authenticator_removed)
def authenticator_removed(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    note(request, user, "user.second_factor_remove", type=authenticator.type)


@receiver(mfa.authenticator_reset)
def authenticator_reset(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    note(request, user, "user.recovery_codes_reset", type=authenticator.type)
