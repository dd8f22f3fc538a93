"""Sign-up to the first page: mail, confirmation, workspace, wallet."""

from __future__ import annotations

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.mail import EmailMultiAlternatives

from accounts.models import User
from billing.models import Account, Wallet
from events.models import AuditEvent
from orgs.models import Membership, Workspace
from orgs.permissions import Role
from tests import factories
from tests.accounts.front_door import Browser, is_signed_in, last_link, sign_in, sign_up

pytestmark = pytest.mark.django_db


def confirm(browser: Browser) -> None:
    link = last_link()
    page = browser.get(link)
    assert page.status_code == 200
    answer = browser.post(link)
    assert answer.status_code == 302


def test_from_nothing_to_the_overview(browser: Browser) -> None:
    answer = sign_up(browser, "Sana@People.example")
    assert answer.status_code == 302
    assert answer["Location"] == "/accounts/confirm-email/"
    assert not is_signed_in(browser)

    confirm(browser)

    assert is_signed_in(browser)
    assert browser.get("/").status_code == 200
    assert User.objects.get().email == "sana@people.example"
    assert EmailAddress.objects.get().verified


def test_an_account_that_is_not_confirmed_can_not_sign_in(browser: Browser) -> None:
    sign_up(browser, "sana@people.example")
    answer = sign_in(Browser(), "sana@people.example")
    assert answer["Location"] == "/accounts/confirm-email/"
    assert not is_signed_in(browser)


def test_confirming_elsewhere_opens_the_account_but_signs_nobody_in(browser: Browser) -> None:
    sign_up(browser, "sana@people.example")
    phone = Browser()
    confirm(phone)
    assert not is_signed_in(phone)
    sign_in(phone, "sana@people.example")
    assert is_signed_in(phone)


def test_looking_at_the_link_confirms_nothing(browser: Browser) -> None:
    # Mail scanners fetch every link.
    sign_up(browser, "sana@people.example")
    browser.get(last_link())
    assert not EmailAddress.objects.get().verified


def test_workspace_and_wallet_are_born_with_the_person() -> None:
    person = factories.user("sana@people.example")
    workspace = Workspace.objects.get(personal_user=person)
    assert workspace.kind == Workspace.Kind.PERSONAL
    assert workspace.slug.startswith("sana-")
    assert Membership.objects.get(user=person, workspace=workspace).role == Role.OWNER
    wallet = Wallet.objects.get(pk=workspace.pk)
    assert (wallet.balance_microcredits, wallet.held_microcredits) == (0, 0)
    assert Account.objects.get(pk=workspace.pk).kind == Account.Kind.WALLET


def test_saving_a_person_again_makes_no_second_workspace() -> None:
    person = factories.user()
    person.save()
    assert Workspace.objects.filter(personal_user=person).count() == 1


def test_the_mail_is_ours_in_text_and_html(browser: Browser) -> None:
    sign_up(browser, "sana@people.example")
    (message,) = mail.outbox
    assert isinstance(message, EmailMultiAlternatives)
    assert message.to == ["sana@people.example"]
    assert message.subject == "Confirm your address for Hypereal"
    assert message.extra_headers["Auto-Submitted"] == "auto-generated"
    link = f"http://testserver{last_link()}"
    assert link in str(message.body)
    html, kind = message.alternatives[0]
    assert kind == "text/html"
    assert f'href="{link}"' in str(html)
    assert "example.com" not in str(message.body) + str(html)


@pytest.mark.parametrize(
    ("password", "complaint"),
    [("short", "too short"), ("password1234", "too common"), ("1029384756102", "entirely numeric")],
)
def test_weak_passwords_are_refused(browser: Browser, password: str, complaint: str) -> None:
    answer = sign_up(browser, "sana@people.example", password)
    assert answer.status_code == 200
    assert complaint in answer.content.decode()
    assert not User.objects.exists()


def test_next_survives_sign_up(browser: Browser) -> None:
    sign_up(browser, "sana@people.example", next="/manage-api-keys")
    answer = browser.post(last_link())
    assert answer["Location"] == "/manage-api-keys"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:x", "/\\evil.example"])
def test_next_leads_nowhere_else(browser: Browser, target: str) -> None:
    factories.user("sana@people.example")
    answer = sign_in(browser, "sana@people.example", next=target)
    assert answer["Location"] == "/"


def test_sign_up_and_sign_in_stand_in_the_audit_trail(browser: Browser) -> None:
    sign_up(browser, "sana@people.example")
    confirm(browser)
    rows = AuditEvent.objects.order_by("id").values_list("action", "actor_label", "address")
    assert list(rows) == [
        ("user.sign_up", "sana@people.example", "127.0.0.1"),
        ("user.email_confirm", "sana@people.example", "127.0.0.1"),
        ("user.sign_in", "sana@people.example", "127.0.0.1"),
    ]
