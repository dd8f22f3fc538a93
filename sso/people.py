"""Local accounts of people whom an identity provider vouches for: found, made, linked. Used by sign-in and by SCIM."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.translation import gettext as _

from accounts import emails, sessions
from accounts.models import User
from events import audit
from orgs.models import Workspace
from sso import domains, identifiers
from sso.models import OrgDomain, SsoConnection, SsoIdentity
from sso.refusals import SignInRefused

EMAIL_LENGTH = 254
NAME_LENGTH = 120


def address(connection: SsoConnection, email: object) -> str:
    """The e-mail address in lower case, if this connection may speak for it. Raises SignInRefused.

    It may where its organization has proven the address's very domain: a sub-domain takes a proof of its own.
    """
    text = email.strip() if isinstance(email, str) else ""
    local, _at, domain = text.rpartition("@")
    try:
        ascii_domain = domains.normalize(domain)
        text = f"{local}@{ascii_domain}".lower()
        validate_email(text)
    except (ValueError, ValidationError):
        text = ""
    if not text or len(text) > EMAIL_LENGTH:
        raise SignInRefused(
            "no_email",
            _("Your identity provider did not send a valid e-mail address. Your administrator can add it there."),
        )
    if not OrgDomain.objects.filter(
        workspace_id=connection.workspace_id, domain=ascii_domain, verified_at__isnull=False
    ).exists():
        raise SignInRefused(
            "foreign_domain",
            _("%(organization)s may not sign in addresses at %(domain)s: it has not proven that the domain is its own.")
            % {"organization": connection.workspace.name, "domain": ascii_domain},
            email=text,
        )
    return text


def with_address(email: str) -> User | None:
    """Whose account has this address: one that was confirmed first, else the one that signs in with it."""
    confirmed = EmailAddress.objects.filter(email__iexact=email, verified=True).select_related("user").first()
    if confirmed is not None:
        user: User = confirmed.user
        return user
    return User.objects.filter(email__iexact=email).first()


def create(email: str, name: str, *, by: audit.Actor, workspace: Workspace) -> User:
    """A new account without a password. Its address counts as confirmed: the owner of its domain vouches for it."""
    with transaction.atomic():
        user = User.objects.create_user(email, None, name=identifiers.printable(name.strip(), NAME_LENGTH))
        EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
        target = audit.Target("user", user.pk, user.email)
        audit.record("user.provision", actor=by, target=target, workspace_id=workspace.pk)
    return user


def take_over(user: User, email: str, *, by: audit.Actor, workspace: Workspace) -> None:
    """Give an account that nobody ever confirmed, and so nobody ever used, to the owner of its address.

    Its password may be a stranger's, who signed up with an address that was not theirs: it stops working.
    """
    with transaction.atomic():
        user.set_unusable_password()
        user.save(update_fields=["password"])
        EmailAddress.objects.filter(user=user).delete()
        EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
        target = audit.Target("user", user.pk, user.email)
        audit.record("user.take_over", actor=by, target=target, workspace_id=workspace.pk, details={"email": email})


def is_unused(user: User) -> bool:
    """Whether the account was never confirmed by anybody and has never been signed in to."""
    confirmed = EmailAddress.objects.filter(user=user, verified=True).exists()
    return not confirmed and user.last_login is None and not user.is_staff


def confirmed_addresses(user: User) -> list[str]:
    """All addresses whose mail the account's owner proved to read."""
    return list(EmailAddress.objects.filter(user=user, verified=True).values_list("email", flat=True))


def is_confirmed(user: User, email: str) -> bool:
    """Whether the account's owner once proved to read the mail of this address."""
    return bool(EmailAddress.objects.filter(user=user, email__iexact=email, verified=True).exists())


def link(connection: SsoConnection, subject: str, user: User, email: str, *, by: audit.Actor) -> SsoIdentity:
    """Let ``subject`` of the connection sign in as ``user``. Whoever is signed in there is signed out.

    Raises SignInRefused where the connection knows this person under another subject: an address that was given to
    somebody new must not open the account of whoever had it before.
    """
    if SsoIdentity.objects.filter(connection=connection, user=user).exists():
        raise SignInRefused(
            "address_reused",
            _("This address belongs to another account of your identity provider. Ask your administrator."),
            detail="a new subject came with the address of one that is already linked",
            email=email,
        )
    identity = SsoIdentity.objects.create(connection=connection, subject=subject, user=user, email=email)
    sessions.end_all(user)
    audit.record(
        "sso.link",
        actor=by,
        target=audit.Target("user", user.pk, user.email),
        workspace_id=connection.workspace_id,
        details={"connection": str(connection.pk), "email": email},
    )
    return identity


def tell_linked(connection: SsoConnection, user: User) -> None:
    """Mail the person that their account can now be entered over the organization's provider."""
    emails.send(emails.message("sso_linked", {"organization": connection.workspace.name}, to=user.email))
