"""Who is asking, where, and may they: the door itself. The table of all URLs is in tests/site/test_permissions.py."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from core import errors
from orgs import access
from orgs.access import MemberRequest, requires
from orgs.models import Membership
from orgs.permissions import ROLE_PERMISSIONS, Permission, Role, allows
from tests import cast, factories

pytestmark = pytest.mark.django_db


@requires(Permission.KEYS_WRITE)
def page(request: MemberRequest, word: str = "in") -> HttpResponse:
    return HttpResponse(f"{word} {request.access.role} {request.access.workspace.name}")


@pytest.fixture
def company() -> cast.Cast:
    return cast.assemble()


def request_of(user: Any, path: str = "/here?x=1", session: dict[str, str] | None = None, **more: Any) -> HttpRequest:
    request = RequestFactory().generic(more.pop("method", "GET"), path, **more)
    request.user = user
    request.session = session or {}  # type: ignore[assignment]
    return request


# ── Roles ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_owner_may_everything_and_a_stranger_s_role_nothing() -> None:
    assert ROLE_PERMISSIONS[Role.OWNER] == frozenset(Permission)
    assert not any(allows("guest", permission) for permission in Permission)
    assert set(ROLE_PERMISSIONS) == set(Role)


@pytest.mark.parametrize("role", Role)
def test_an_access_has_its_role_s_permissions(company: cast.Cast, role: str) -> None:
    held = access.in_workspace(company[role], company.organization.pk)
    assert held.permissions == ROLE_PERMISSIONS[role]
    for permission in Permission:
        if permission in held.permissions:
            held.require(permission)
        else:
            with pytest.raises(errors.PermissionDenied):
                held.require(permission)


# ── Which workspace ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_personal_by_default_chosen_by_session(company: cast.Cast) -> None:
    person = company["admin"]
    assert access.current(request_of(person)).workspace == person.personal_workspace
    chosen = access.current(request_of(person, session={access.SESSION_KEY: str(company.organization.pk)}))
    assert (chosen.workspace, chosen.role) == (company.organization, "admin")


def test_a_choice_that_no_membership_backs_does_not_count(company: cast.Cast) -> None:
    session = {access.SESSION_KEY: str(company.organization.pk)}
    stranger = company["stranger"]
    assert access.current(request_of(stranger, session=session)).workspace == stranger.personal_workspace
    admin = company["admin"]
    Membership.objects.filter(user=admin, workspace=company.organization).delete()
    assert access.current(request_of(admin, session=session)).workspace == admin.personal_workspace


def test_memberships_come_personal_first_then_by_name() -> None:
    person = factories.user("zoe@people.example")
    for name in ("beta", "Alpha"):
        factories.member(factories.organization(name), "viewer", person)
    assert [row.workspace.name for row in access.memberships(person)] == ["zoe", "Alpha", "beta"]


def test_it_is_asked_once_a_request(company: cast.Cast, django_assert_num_queries: Any) -> None:
    request = request_of(company["admin"])
    with django_assert_num_queries(1):
        assert access.current(request) is access.current(request)


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_member_comes_in(company: cast.Cast) -> None:
    request = request_of(company["developer"], session={access.SESSION_KEY: str(company.organization.pk)})
    assert page(request, word="inside").content == b"inside developer Acme"


def test_a_member_without_the_permission_stays_out(company: cast.Cast) -> None:
    request = request_of(company["viewer"], session={access.SESSION_KEY: str(company.organization.pk)})
    with pytest.raises(errors.PermissionDenied):
        page(request)


@pytest.mark.parametrize(
    ("more", "target"),
    [
        ({}, "/here%3Fx%3D1"),
        ({"method": "POST", "HTTP_REFERER": "http://testserver/from?y=2"}, "/from%3Fy%3D2"),
        ({"method": "POST", "HTTP_REFERER": "https://evil.example/from"}, "/"),
        ({"method": "POST"}, "/"),
    ],
)
def test_anonymous_people_sign_in_first_and_come_back(more: dict[str, Any], target: str) -> None:
    answer = page(request_of(AnonymousUser(), **more))
    assert answer.status_code == 302
    assert answer["Location"] == f"/accounts/login/?next={target}"


def test_htmx_is_led_to_the_sign_in_page_whole() -> None:
    headers: dict[str, Any] = {"HTTP_HX_REQUEST": "true", "HTTP_HX_CURRENT_URL": "http://testserver/usage?days=7"}
    answer = page(request_of(AnonymousUser(), **headers))
    assert answer.status_code == 401
    assert answer["HX-Redirect"] == "/accounts/login/?next=/usage%3Fdays%3D7"


# ── Endpoints ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("headers", "carries"),
    [
        ({}, False),
        ({"Authorization": "Bearer ck_abc"}, True),
        ({"Authorization": "bearer  ck_abc"}, True),
        ({"Authorization": "ck_abc"}, True),
        ({"Authorization": "Basic Y2tfYWJj"}, False),
        ({"Authorization": ""}, False),
        ({"X-Api-Key": "ck_abc"}, True),
        ({"X-Goog-Api-Key": " ck_abc "}, True),
        ({"X-Api-Key": "sk_abc"}, False),
        ({"Cookie": "x=ck_abc"}, False),
    ],
)
def test_where_a_key_is_seen(headers: dict[str, str], carries: bool) -> None:
    assert access.carries_key(RequestFactory().get("/", headers=headers)) is carries


def test_an_endpoint_that_says_nothing_is_closed() -> None:
    with pytest.raises(errors.PermissionDenied):
        access.undeclared(RequestFactory().get("/"))
