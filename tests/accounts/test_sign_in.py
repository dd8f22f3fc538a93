"""Signing in and out, the limits on trying, and what strangers can find out."""

from __future__ import annotations

import re

import pytest
from django.core import mail

from accounts.models import User
from events import audit
from events.models import AuditEvent
from keys import issuing
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in, sign_in, sign_up

pytestmark = pytest.mark.django_db


def plain(answer: object) -> str:
    """The page without what differs each time: tokens and the request's own id."""
    text = answer.content.decode()  # type: ignore[attr-defined]
    return re.sub(r'(value|content|hx-headers)=[\'"][^>]*[\'"]', "", text)


def test_it_works(browser: Browser) -> None:
    factories.user("sana@people.example")
    answer = sign_in(browser, "SANA@people.example")
    assert answer["Location"] == "/"
    assert is_signed_in(browser)


def test_a_wrong_password_and_a_wrong_address_answer_alike(browser: Browser) -> None:
    factories.user("sana@people.example")
    known = sign_in(browser, "sana@people.example", "not her password at all")
    unknown = sign_in(browser, "nobody@people.example", "not her password at all")
    assert known.status_code == unknown.status_code == 200
    assert plain(known).replace("sana@", "nobody@") == plain(unknown)
    assert not is_signed_in(browser)


def test_signing_up_twice_answers_alike_and_tells_only_the_owner(browser: Browser) -> None:
    factories.user("sana@people.example")
    known = sign_up(browser, "sana@people.example")
    unknown = sign_up(Browser(), "nobody@people.example")
    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])
    assert [message.subject for message in mail.outbox] == [
        "You already have a Hypereal account",
        "Confirm your address for Hypereal",
    ]
    assert User.objects.filter(email="sana@people.example").count() == 1


def test_a_deactivated_person_is_out_at_once(browser: Browser) -> None:
    person = factories.user("sana@people.example")
    sign_in(browser, "sana@people.example")
    person.is_active = False
    person.save()
    assert not is_signed_in(browser)
    assert sign_in(browser, "sana@people.example")["Location"] == "/accounts/inactive/"
    assert not is_signed_in(browser)


def test_the_session_changes_its_key_at_sign_in(browser: Browser) -> None:
    factories.user("sana@people.example")
    browser.get("/accounts/login/?next=/usage")
    session = browser.session
    session["before"] = "x"
    session.save()
    before = session.session_key
    sign_in(browser, "sana@people.example")
    assert browser.session.session_key != before


def test_signing_out_takes_a_post(browser: Browser) -> None:
    factories.user("sana@people.example")
    sign_in(browser, "sana@people.example")
    browser.get("/accounts/logout/")
    assert is_signed_in(browser)
    browser.post("/accounts/logout/")
    assert not is_signed_in(browser)


def test_five_wrong_passwords_close_the_door_even_for_the_right_one(browser: Browser) -> None:
    factories.user("sana@people.example")
    for _ in range(5):
        sign_in(browser, "sana@people.example", "not her password at all")
    answer = sign_in(browser, "sana@people.example")
    assert "Too many failed login attempts" in answer.content.decode()
    assert not is_signed_in(browser)


def test_too_many_attempts_from_one_address_get_the_page_for_it(browser: Browser) -> None:
    for at in range(30):
        sign_in(browser, f"person{at}@people.example", "x" * 12)
    answer = sign_in(browser, "other@people.example", "x" * 12)
    assert answer.status_code == 429
    assert "Hypereal" in answer.content.decode()


def test_limits_go_by_the_address_that_our_proxy_saw(browser: Browser, settings: object) -> None:
    settings.TRUSTED_PROXY_COUNT = 1  # type: ignore[attr-defined]
    factories.user("sana@people.example")

    def attempt(claimed: str, seen: str) -> int:
        headers = {"X-Forwarded-For": f"{claimed}, {seen}"}
        data = {"login": "x@people.example", "password": "x" * 12}
        return int(browser.post("/accounts/login/", data, headers=headers).status_code)

    for at in range(30):
        attempt(f"198.51.100.{at}", "203.0.113.7")
    assert attempt("198.51.100.200", "203.0.113.7") == 429
    assert attempt("198.51.100.200", "203.0.113.8") == 200


def test_csrf_is_asked_for() -> None:
    factories.user("sana@people.example")
    browser = Browser(enforce_csrf_checks=True)
    assert sign_in(browser, "sana@people.example").status_code == 403
    assert not is_signed_in(browser)


def test_the_admin_takes_the_same_door(browser: Browser) -> None:
    factories.user("sana@people.example")
    assert browser.get("/admin/login/?next=/admin/")["Location"] == "/accounts/login/?next=%2Fadmin%2F"
    sign_in(browser, "sana@people.example")
    assert browser.get("/admin/", follow=True).status_code == 403
    assert browser.get("/admin/accounts/user/", follow=True).status_code == 403


def test_operators_get_in_and_see_no_secrets(browser: Browser) -> None:
    person = factories.user("op@people.example", is_staff=True, is_superuser=True)
    issued = factories.api_key(person.personal_workspace, created_by=person)
    sign_in(browser, "op@people.example")
    for path in ("", "accounts/user/", "orgs/workspace/", "orgs/membership/", "keys/apikey/", "events/auditevent/"):
        answer = browser.get(f"/admin/{path}")
        assert answer.status_code == 200, path
    page = browser.get(f"/admin/keys/apikey/{issued.key.pk}/change/").content.decode()
    assert issued.key.prefix in page
    assert issued.secret not in page
    assert issued.key.secret_hash.hex() not in page
    assert browser.get("/admin/mfa/authenticator/").status_code == 404
    assert browser.get("/admin/usersessions/usersession/").status_code == 404


def test_operators_change_people_and_leave_a_trace(browser: Browser) -> None:
    operator = factories.user("op@people.example", is_staff=True, is_superuser=True)
    person = factories.user("sana@people.example")
    browser.force_login(operator)
    browser.post(f"/admin/accounts/user/{person.pk}/change/", {"name": "Sana", "is_staff": "", "is_superuser": ""})
    person.refresh_from_db()
    assert (person.name, person.is_active) == ("Sana", False)
    row = AuditEvent.objects.get(action="user.change_by_operator")
    assert row.actor_id == operator.pk
    assert row.details == {"name": "Sana", "is_active": False}


def test_the_audit_trail_can_not_be_changed_in_the_admin(browser: Browser) -> None:
    operator = factories.user("op@people.example", is_staff=True, is_superuser=True)
    sign_in(browser, "op@people.example")
    row = AuditEvent.objects.get(action="user.sign_in", actor_id=operator.pk)
    assert browser.post(f"/admin/events/auditevent/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert browser.post(f"/admin/events/auditevent/{row.pk}/change/", {"action": "x"}).status_code == 403
    assert browser.get("/admin/events/auditevent/add/").status_code == 403


def test_operators_stop_keys_and_suspend_workspaces(browser: Browser) -> None:
    operator = factories.user("op@people.example", is_staff=True, is_superuser=True)
    workspace = factories.organization()
    issued, gone = factories.api_key(workspace), factories.api_key(workspace)
    issuing.delete(gone.key, actor=audit.SYSTEM)
    browser.force_login(operator)
    chosen = {"action": "disable", "_selected_action": [str(issued.key.pk), str(gone.key.pk)]}
    assert browser.post("/admin/keys/apikey/", chosen).status_code == 302
    issued.key.refresh_from_db()
    assert not issued.key.enabled
    assert AuditEvent.objects.get(action="api_key.disable").actor_id == operator.pk
    for action, active in (("suspend", False), ("resume", True)):
        browser.post("/admin/orgs/workspace/", {"action": action, "_selected_action": [str(workspace.pk)]})
        workspace.refresh_from_db()
        assert workspace.active is active


def test_deleting_is_no_choice_in_the_admin(browser: Browser) -> None:
    browser.force_login(factories.user("op@people.example", is_staff=True, is_superuser=True))
    for path in ("accounts/user/", "orgs/workspace/", "keys/apikey/", "events/auditevent/"):
        assert "delete_selected" not in browser.get(f"/admin/{path}").content.decode()
