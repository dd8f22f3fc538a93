"""Two people have the same form open: the second one to save does not undo what the first one changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from django import forms
from django.test import Client

from core.stale_forms import StateForm
from events import audit
from orgs.models import Membership
from statements import profiles
from tests import cast
from tests.webhooks.conftest import endpoint
from webhooks import rules as webhook_rules
from webhooks.models import Endpoint

pytestmark = pytest.mark.django_db

TOLD = "Somebody changed this while you had it open"


@dataclass(frozen=True)
class Case:
    """A page: what one person changes, what the other one wanted, and how it stands."""

    path: str
    first: dict[str, Any]
    second: dict[str, Any]
    stands: Callable[[], object]


def webhook(company: cast.Cast) -> Case:
    row = endpoint(company.organization, "https://hooks.example/one", "job.failed").endpoint
    shown = {"url": row.url, "description": "", "events": ["job.failed"]}
    return Case(
        f"/settings/webhooks/{row.pk}/edit",
        shown | {"events": ["job.failed", "balance.low"]},
        shown | {"description": "ours"},
        lambda: (lambda now: (now.events, now.description))(Endpoint.objects.get(pk=row.pk)),
    )


def member(company: cast.Cast) -> Case:
    row = Membership.objects.get(workspace=company.organization, user=company["developer"])
    return Case(
        f"/settings/organization/members/{row.pk}",
        {"role": "viewer"},
        {"role": "admin"},
        lambda: Membership.objects.get(pk=row.pk).role,
    )


def profile(company: cast.Cast) -> Case:
    profiles.change(company.organization, actor=audit.SYSTEM, legal_name="Acme", address="Street 1\nBerlin")
    shown = {"legal_name": "Acme", "email": "", "address": "Street 1\r\nBerlin", "tax_id": ""}
    return Case(
        "/billing/profile",
        shown | {"tax_id": "DE1"},
        shown | {"legal_name": "Acme GmbH"},
        lambda: (lambda now: (now.tax_id, now.legal_name))(profiles.newest(company.organization.pk)),
    )


@pytest.mark.parametrize("made", [webhook, member, profile])
def test_a_form_of_before_undoes_nothing(made: Callable[[cast.Cast], Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_rules, "url", lambda text: text)  # no name of this test is looked up
    company = cast.assemble()
    case, browsers = made(company), [company.client("owner"), company.client("owner")]

    def seen(browser: Client) -> str:
        return browser.get(case.path).content.decode().split('name="seen" value="')[1].split('"')[0]

    before = [seen(browser) for browser in browsers]
    for _click in range(2):
        assert TOLD not in browsers[0].post(case.path, case.first | {"seen": before[0]}, follow=True).content.decode()
    now = case.stands()
    answer = browsers[1].post(case.path, case.second | {"seen": before[1]}, follow=True)
    assert TOLD in answer.content.decode()
    assert case.stands() == now
    # Who looked again may change it.
    browsers[1].post(case.path, case.second | {"seen": seen(browsers[1])})
    assert case.stands() != now


class _Form(StateForm):
    amount = forms.DecimalField()
    text = forms.CharField()


def test_the_same_however_it_is_written_is_no_change() -> None:
    def sent(amount: str, text: str, seen: str | None) -> _Form:
        data = {"amount": amount, "text": text} | ({} if seen is None else {"seen": seen})
        return _Form(data, now={"amount": Decimal(100), "text": "a\nb"})

    seen = _Form(now={"amount": Decimal("100.00"), "text": "a\nb"}).seen
    assert not sent("7", "else", seen).is_outdated()
    assert not sent("7", "else", None).is_outdated()  # of a program, or a page of before this was asked
    assert not sent("100.0", " a\r\nb", "of before").is_outdated()
    assert sent("7", "a\nb", "of before").is_outdated()
    assert sent("nonsense", "a\nb", "of before").is_outdated()
