"""A month's statement is mailed once, when it is final, to whom the workspace named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from smtplib import SMTPRecipientsRefused
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage

from core import clock
from events import audit
from orgs.models import Workspace
from statements import mailing, pdf, profiles
from statements.models import BillingProfile, SentStatement
from statements.months import Month
from tests.support.money import Payer, new_payer
from tests.usage import rows
from usage.models import Rollup

CREDIT = 1_000_000
MAY = Month(2026, 5)
DUE = MAY.end + timedelta(hours=2)

pytestmark = pytest.mark.django_db


@pytest.fixture
def payer(monkeypatch: pytest.MonkeyPatch) -> Payer:
    """A workspace that made a call in May and named an address."""
    made = new_payer(100 * CREDIT)
    Workspace.objects.filter(pk=made.workspace.pk).update(created_at=MAY.start)
    profiles.change(made.workspace, actor=audit.SYSTEM, email="books@acme.example", legal_name="Acme")
    rows.call(made, 7 * CREDIT, at=datetime(2026, 5, 10, tzinfo=UTC))
    monkeypatch.setattr(clock, "now", lambda: DUE)
    return made


def test_it_is_sent_once_with_the_pdf(payer: Payer) -> None:
    assert [mailing.sweep(DUE), mailing.sweep(DUE), mailing.sweep(DUE + timedelta(days=3))] == [1, 0, 0]
    [sent] = mail.outbox
    assert sent.to == ["books@acme.example"]
    assert "2026-05" in sent.subject
    assert "7.00 credits" in sent.body
    assert "/billing/statements/2026-05" in sent.body
    [(name, content, kind)] = sent.attachments
    assert name.startswith("statement-202605-")
    assert (content[:5], kind) == (b"%PDF-", "application/pdf")
    assert SentStatement.objects.get().email == "books@acme.example"


@pytest.mark.parametrize(
    "moment",
    [MAY.end - timedelta(days=1), MAY.end + timedelta(minutes=59), MAY.end + mailing.MAIL_FOR + timedelta(minutes=1)],
    ids=["not-over", "not-final", "too-late"],
)
def test_it_is_not_sent_at_another_time(payer: Payer, moment: datetime) -> None:
    mailing.sweep(moment)
    assert mail.outbox == []
    assert not SentStatement.objects.filter(month=MAY.first_day).exists()


@pytest.mark.parametrize("change", ["no-address", "suspended", "born-later", "disagrees"])
def test_who_gets_none(payer: Payer, change: str) -> None:
    mine = Workspace.objects.filter(pk=payer.workspace.pk)
    if change == "no-address":
        BillingProfile.objects.update(email="")
    elif change == "suspended":
        mine.update(active=False)
    elif change == "born-later":
        mine.update(created_at=MAY.end)
    else:
        Rollup.objects.update(charged_microcredits=1)
    assert mailing.sweep(DUE) == 0
    assert mail.outbox == []


def test_a_month_of_nothing_is_not_mailed(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = new_payer()
    Workspace.objects.filter(pk=idle.workspace.pk).update(created_at=MAY.start)
    profiles.change(idle.workspace, actor=audit.SYSTEM, email="books@acme.example")
    monkeypatch.setattr(clock, "now", lambda: DUE)
    assert mailing.sweep(DUE) == 0
    assert mail.outbox == []
    assert SentStatement.objects.get().email == ""


def test_a_mail_server_that_is_down_leaves_it_due(payer: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise ConnectionRefusedError

    with monkeypatch.context() as down:
        down.setattr("django.core.mail.EmailMessage.send", refuse)
        assert mailing.sweep(DUE) == 0
    assert not SentStatement.objects.exists()
    assert mailing.sweep(DUE) == 1
    assert len(mail.outbox) == 1


def test_an_address_that_is_refused_keeps_nobody_elses_statement(payer: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_payer(100 * CREDIT)
    Workspace.objects.filter(pk=other.workspace.pk).update(created_at=MAY.start)
    profiles.change(other.workspace, actor=audit.SYSTEM, email="later@acme.example", legal_name="Acme")
    rows.call(other, CREDIT, at=datetime(2026, 5, 10, tzinfo=UTC))
    taken, wrong = EmailMessage.send, {"books@acme.example"}

    def send(self: EmailMessage, *_: Any, **__: Any) -> int:
        if refused := wrong.intersection(self.to):
            raise SMTPRecipientsRefused(dict.fromkeys(refused, (450, b"unknown domain")))
        return taken(self)

    monkeypatch.setattr(EmailMessage, "send", send)
    mailing.sweep(DUE)
    assert [sent.to for sent in mail.outbox] == [["later@acme.example"]]
    wrong.clear()
    assert mailing.sweep(DUE) == 1, "only that one was left"
    SentStatement.objects.all().delete()
    mail.outbox.clear()
    wrong.add("later@acme.example")
    mailing.sweep(DUE)
    assert [sent.to for sent in mail.outbox] == [["books@acme.example"]], "whoever comes first"


def test_a_statement_that_can_not_be_written_keeps_nobody_elses(payer: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_payer(100 * CREDIT)
    Workspace.objects.filter(pk=other.workspace.pk).update(created_at=MAY.start)
    profiles.change(other.workspace, actor=audit.SYSTEM, email="later@acme.example", legal_name="Acme")
    rows.call(other, CREDIT, at=datetime(2026, 5, 10, tzinfo=UTC))
    really, broken = pdf.render, {payer.workspace.pk, other.workspace.pk}

    def render(made: Any, workspace: Workspace, profile: Any) -> bytes:
        if workspace.pk in broken:
            raise RuntimeError("a letter that no font has")
        return really(made, workspace, profile)

    monkeypatch.setattr(pdf, "render", render)
    assert (mailing.sweep(DUE), mail.outbox) == (0, [])
    for mended, address in ((other, "later@acme.example"), (payer, "books@acme.example")):
        broken.discard(mended.workspace.pk)
        assert mailing.sweep(DUE) == 1
        assert mail.outbox[-1].to == [address]


def test_the_newest_address_counts(payer: Payer) -> None:
    profiles.change(payer.workspace, actor=audit.SYSTEM, email="new@acme.example")
    mailing.sweep(DUE)
    assert [sent.to for sent in mail.outbox] == [["new@acme.example"]]
