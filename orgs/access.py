"""The one door to what belongs to a workspace: who is asking, as a member of what, and may they.

Pages say ``@requires(Permission.KEYS_READ)``, management endpoints ``auth=member(Permission.KEYS_READ)``; both leave
an `Access` behind. Whatever is not the asker's is not there: a foreign id and an invented one answer alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit
from uuid import UUID

from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from ninja.security import APIKeyCookie
from ninja.utils import check_csrf

from accounts.models import User
from core import errors, ids
from orgs.models import Membership, Workspace
from orgs.permissions import ROLE_PERMISSIONS, Permission

#: A page's view. Its request is a `MemberRequest`; the URLconf hands it an ordinary one.
View = Callable[..., HttpResponse]

SESSION_KEY: Final = "workspace"
#: The id (as text) of the organization through whose own identity provider this session signed in. Who may come in, and
#: with what second factor, is then that provider's business: it counts as one where the organization asks for one.
SSO_SESSION_KEY: Final = "sso_workspace"
#: What counts as a second factor; recovery codes alone do not.
SECOND_FACTORS: Final = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
_KEY_HEADERS: Final = ("authorization", "x-api-key", "x-goog-api-key")


class SecondFactorRequired(errors.PermissionDenied):
    """The organization is for people with a second factor, and this one has none yet."""

    code = "second_factor_required"

    def __init__(self) -> None:
        super().__init__(_("This organization asks for a second factor. Set one up in your account settings first."))


@dataclass(frozen=True, slots=True)
class Access:
    """A signed-in person in one of their workspaces."""

    user: User
    workspace: Workspace
    role: str
    #: The organization asks for a second factor that the person has not set up: nothing of it is shown.
    locked: bool = False

    @property
    def permissions(self) -> frozenset[Permission]:
        """Everything that the role allows here; nothing while it is locked."""
        return frozenset() if self.locked else ROLE_PERMISSIONS.get(self.role, frozenset())

    def require(self, permission: Permission | None) -> None:
        """Raise PermissionDenied unless the role has ``permission``; None asks for membership alone."""
        if self.locked:
            raise SecondFactorRequired
        if permission is not None and permission not in self.permissions:
            raise errors.PermissionDenied(_("Your role in this workspace does not allow this."))


class MemberRequest(HttpRequest):
    """A request that `requires` let through."""

    user: User
    access: Access


# ── Who is asking, and where ─────────────────────────────────────────────────────────────────────────────────────────
def memberships(user: User) -> list[Membership]:
    """The person's memberships in active workspaces, the personal one first, then by name."""
    rows = Membership.objects.filter(user=user, workspace__active=True).select_related("workspace")
    return sorted(rows, key=lambda m: (m.workspace.kind != Workspace.Kind.PERSONAL, m.workspace.name.lower()))


def current(request: HttpRequest) -> Access:
    """The access of this request: the workspace chosen in the session, the personal one by default.

    Raises AuthenticationFailed for anonymous requests, PermissionDenied where no workspace is left.
    """
    access: Access | None = getattr(request, "_access", None)
    if access is None:
        user = signed_in(request)
        access = _choose(user, memberships(user), request.session.get(SESSION_KEY))
        request._access = access  # type: ignore[attr-defined]
    return access


def signed_in(request: HttpRequest) -> User:
    """The person of this session. Raises AuthenticationFailed where there is none."""
    user = request.user
    if not isinstance(user, User):
        raise errors.AuthenticationFailed(_("Sign in first."), code="not_signed_in")
    user.sso_workspace = request.session.get(SSO_SESSION_KEY, "")
    return user


def _choose(user: User, rows: list[Membership], chosen: str | None) -> Access:
    if not rows:
        raise errors.PermissionDenied(_("Your account has no active workspace."))
    row = next((row for row in rows if str(row.workspace_id) == chosen), rows[0])
    return _access(user, row)


def _access(user: User, row: Membership) -> Access:
    return Access(user, row.workspace, row.role, _is_locked(user, row.workspace))


def _is_locked(user: User, workspace: Workspace) -> bool:
    if not workspace.require_second_factor or user.sso_workspace == str(workspace.pk):
        return False
    return not is_mfa_enabled(user, types=SECOND_FACTORS)


def in_workspace(user: User, workspace_id: UUID | str) -> Access:
    """The person's access to the workspace of that id. Raises NotFound unless they are a member and it is active."""
    identifier = workspace_id if isinstance(workspace_id, UUID) else ids.parse(workspace_id)
    rows = Membership.objects.filter(user=user, workspace__active=True).select_related("workspace")
    row = rows.filter(workspace_id=identifier).first() if identifier else None
    if row is None:
        not_found()
    return _access(user, row)


def switch(request: HttpRequest, workspace_id: str) -> Access:
    """Make that workspace the session's current one. Raises NotFound unless the person is a member."""
    access = in_workspace(signed_in(request), workspace_id)
    request.session[SESSION_KEY] = str(access.workspace.pk)
    request._access = access  # type: ignore[attr-defined]
    return access


def not_found() -> NoReturn:
    """What is not there and what is not yours answer alike."""
    raise errors.NotFound(_("There is nothing at this address."))


# ── Doors ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def requires(permission: Permission | None = None, *, even_locked: bool = False) -> Callable[[View], View]:
    """Opens a page to members with ``permission`` (None: any member) and to nobody else.

    Anonymous people are sent to sign in and come back, members without the second factor that their organization asks
    for to the page that says so (``even_locked``: the page is no part of the organization); others get 403. The view
    finds ``request.access``.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return _sign_in_first(request)
            access = current(request)
            if access.locked and not even_locked:
                return _redirect(request, reverse("second_factor"))
            if permission is not None or not even_locked:
                access.require(permission)
            request.access = access  # type: ignore[attr-defined]
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def _sign_in_first(request: HttpRequest) -> HttpResponse:
    """To the sign-in page, and back to where the person was: for what only a POST reaches, the page it came from."""
    if request.headers.get("HX-Request"):
        came_from = request.headers.get("HX-Current-URL", "")
        return _redirect(request, redirect_to_login(_path_of(request, came_from), reverse("account_login")).url, 401)
    reading = request.method in ("GET", "HEAD")
    target = request.get_full_path() if reading else _path_of(request, request.META.get("HTTP_REFERER", ""))
    return redirect_to_login(target, reverse("account_login"))


def _redirect(request: HttpRequest, address: str, status: int = 403) -> HttpResponse:
    """There goes the browser, also from under htmx, whose answer bears ``status``."""
    if not request.headers.get("HX-Request"):
        return HttpResponseRedirect(address)
    return HttpResponse(status=status, headers={"HX-Redirect": address})


def _path_of(request: HttpRequest, address: str) -> str:
    if not url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure()):
        return "/"
    return urlsplit(address)._replace(scheme="", netloc="", fragment="").geturl() or "/"


class member(APIKeyCookie):
    """Opens a management endpoint to members with ``permission`` (None: any member); ``request.auth`` is the Access.

    Session cookie only, and CSRF-checked on writes. A ``ck_`` key is refused even beside a session: whoever sends one
    here took this for a gateway path.
    """

    param_name = "hypereal_session"

    def __init__(self, permission: Permission | None = None, *, locked_too: bool = False) -> None:
        """``locked_too``: the endpoint names its workspace itself, so that the one in use may be locked."""
        self.permission = permission
        self.locked_too = locked_too
        super().__init__()

    def __call__(self, request: HttpRequest) -> Access:
        if carries_key(request):
            raise errors.AuthenticationFailed(
                _("This path takes the session of a signed-in person, not an API key."), code="session_required"
            )
        access = current(request)
        check_form(request)
        if not (access.locked and self.locked_too):
            access.require(self.permission)
        return access

    def authenticate(self, request: HttpRequest, key: str | None) -> Access:
        return self(request)


def check_form(request: HttpRequest) -> None:
    """Raise PermissionDenied for a write whose CSRF token is missing or wrong."""
    if check_csrf(request) is not None:
        raise errors.PermissionDenied(
            _("The X-CSRFToken header is missing or wrong: take the token from the page or the cookie."),
            code="csrf_failed",
        )


def carries_key(request: HttpRequest) -> bool:
    """Whether a header of the request holds one of our API keys."""
    values = (request.headers.get(name, "").split() for name in _KEY_HEADERS)
    return any(words[-1].startswith("ck_") for words in values if words)


def undeclared(request: HttpRequest) -> NoReturn:
    """The default of every management endpoint: closed until it says who may come in."""
    raise errors.PermissionDenied("This endpoint does not say who may use it.")


def public(request: HttpRequest) -> bool:
    """For the few endpoints that anybody may read."""
    return True
