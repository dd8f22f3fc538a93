"""Notices about limits and low balances: once each, to those whom they concern, and keys that stop at theirs."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPRecipientsRefused
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.core.mail.backends.locmem import EmailBackend

from core import clock
from events import audit, outbox
from events.models import AuditEvent
from keys import issuing
from keys.models import ApiKey
from limits import setting
from limits import watch as watching
from limits.models import LimitNotice
from limits.watch import watch
from orgs.permissions import Role
from tests import factories
from tests.limits.test_neck import limit_all, limit_member, member, refusal
from tests.support.money import Payer, new_payer
from usage import verify
from usage.items import Admitted
from usage.metering import apply_now

pytestmark = pytest.mark.django_db


def spend(payer: Payer, amount: int) -> None:
    admit = payer.admit(amount)
    assert isinstance(apply_now(admit), Admitted)
    apply_now(payer.settle(admit, amount))


def mails() -> list[tuple[str, list[str]]]:
    """Subjects and addresses since the last look."""
    seen = [(str(sent.subject), sent.to) for sent in mail.outbox]
    mail.outbox.clear()
    return sorted(seen)


def test_eighty_and_a_hundred_percent_are_told_once_each() -> None:
    payer = new_payer(1_000)
    payer.limit(100)
    spend(payer, 79)
    assert watch() == 0
    spend(payer, 1)
    assert (watch(), watch()) == (1, 0)
    assert mails() == [("80 % of the monthly limit of “test” is used", [payer.user.email])]
    spend(payer, 20)
    assert (watch(), watch()) == (1, 0)
    assert mails() == [("The monthly limit of “test” is reached", [payer.user.email])]
    payer.key.refresh_from_db()
    assert payer.key.enabled


def test_past_both_marks_at_once_only_the_last_is_told() -> None:
    payer = new_payer(1_000)
    payer.limit(100)
    spend(payer, 100)
    assert (watch(), watch()) == (1, 0)
    assert [subject for subject, _ in mails()] == ["The monthly limit of “test” is reached"]


def test_a_refusal_with_nothing_in_flight_is_a_hundred_percent() -> None:
    payer = new_payer(1_000)
    payer.limit(100)
    spend(payer, 10)
    refusal(apply_now(payer.admit(95)))
    assert watch() == 1
    assert [subject for subject, _ in mails()] == ["The monthly limit of “test” is reached"]


def test_a_key_that_is_to_stop_is_disabled_and_stays_so() -> None:
    payer = new_payer(1_000)
    ApiKey.objects.filter(pk=payer.key.pk).update(spending_limit_microcredits=100, auto_disable=True)
    spend(payer, 100)
    watch()
    payer.key.refresh_from_db()
    assert (payer.key.enabled, payer.key.disabled_reason) == (False, "spending_limit")
    assert AuditEvent.objects.filter(action="api_key.disable", target_id=str(payer.key.pk)).count() == 1
    assert "disabled" in mail.outbox[0].body
    next_month = (clock.now().replace(day=1) + timedelta(days=32)).replace(day=1)
    assert watch(next_month) == 0
    payer.key.refresh_from_db()
    assert not payer.key.enabled
    issuing.change(payer.key, actor=audit.SYSTEM, enabled=True)
    assert watch() == 0, "told this month already, and enabled by hand since"
    payer.key.refresh_from_db()
    assert payer.key.enabled


def test_a_notice_that_breaks_keeps_no_other_key_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    payers = [new_payer(1_000) for _ in range(3)]
    for payer in payers:
        ApiKey.objects.filter(pk=payer.key.pk).update(spending_limit_microcredits=100, auto_disable=True)
        spend(payer, 100)
    really, broken = outbox.tell, {payer.workspace.pk for payer in payers}

    def tell(workspace_id: Any, *rest: Any, **named: Any) -> None:
        if workspace_id in broken:
            raise RuntimeError("a bug")
        really(workspace_id, *rest, **named)

    monkeypatch.setattr(outbox, "tell", tell)

    def enabled() -> set[Any]:
        keys = ApiKey.objects.filter(pk__in=[payer.key.pk for payer in payers], enabled=True)
        return set(keys.values_list("workspace_id", flat=True))

    for payer in reversed(payers):
        watch()
        assert enabled() == broken, "neither half of a notice without the other"
        broken.discard(payer.workspace.pk)
    watch()
    assert enabled() == set()


def test_a_key_stops_at_a_raised_limit_too() -> None:
    payer = new_payer(10_000)
    issuing.change(payer.key, actor=audit.SYSTEM, spending_limit_microcredits=100, auto_disable=True)
    spend(payer, 100)
    assert (watch(), len(mails())) == (1, 1)
    issuing.change(payer.key, actor=audit.SYSTEM, spending_limit_microcredits=1_000, enabled=True)
    spend(payer, 850)
    assert (watch(), mails()) == (0, []), "a hundred percent was told this month"
    spend(payer, 50)
    assert (watch(), watch()) == (1, 0)
    payer.key.refresh_from_db()
    assert (payer.key.enabled, payer.key.disabled_reason) == (False, "spending_limit")
    assert "disabled" in mail.outbox[-1].body
    assert LimitNotice.objects.filter(scope_id=payer.key.pk, percent=100).count() == 1
    issuing.change(payer.key, actor=audit.SYSTEM, enabled=True)
    assert watch() == 0, "the limit is as it was when people were told"


def test_a_refusal_under_an_older_limit_says_nothing_of_the_new_one() -> None:
    payer = new_payer(10_000)
    issuing.change(payer.key, actor=audit.SYSTEM, spending_limit_microcredits=100, auto_disable=True)
    spend(payer, 10)
    refusal(apply_now(payer.admit(95)))
    issuing.change(payer.key, actor=audit.SYSTEM, spending_limit_microcredits=1_000)
    assert watch() == 0, "raised before anybody looked"
    payer.key.refresh_from_db()
    assert payer.key.enabled
    spend(payer, 95)
    refusal(apply_now(payer.admit(901)))
    assert watch() == 1, "and this one is about the new limit"
    payer.key.refresh_from_db()
    assert not payer.key.enabled
    assert verify.verify().clean


def test_a_limit_that_moves_while_it_is_being_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    payer = new_payer(10_000)
    issuing.change(payer.key, actor=audit.SYSTEM, spending_limit_microcredits=100, auto_disable=True)
    spend(payer, 100)
    note = watching._note

    def raised_just_before(due: watching.Due) -> None:
        issuing.change(payer.key, actor=audit.SYSTEM, spending_limit_microcredits=1_000)
        note(due)

    monkeypatch.setattr(watching, "_note", raised_just_before)
    assert (watch(), mails()) == (0, [])
    payer.key.refresh_from_db()
    assert payer.key.enabled


def test_switching_auto_disable_on_at_the_limit_stops_the_key() -> None:
    payer = new_payer(1_000)
    payer.limit(100)
    spend(payer, 100)
    assert watch() == 1
    issuing.change(payer.key, actor=audit.SYSTEM, auto_disable=True)
    assert watch() == 1
    payer.key.refresh_from_db()
    assert not payer.key.enabled


def test_a_new_month_begins_at_zero_by_itself() -> None:
    payer = new_payer(1_000)
    payer.limit(100)
    spend(payer, 100)
    assert refusal(apply_now(payer.admit(1))).type == "spending_limit_exceeded"
    next_month = (clock.now().replace(day=1) + timedelta(days=32)).replace(day=1, hour=12)
    assert isinstance(apply_now(payer.admit(1), now=next_month), Admitted)


def test_a_members_limit_is_told_to_the_member_and_to_who_may_change_it() -> None:
    payer = member()
    owner = factories.member(payer.workspace, Role.OWNER)
    factories.member(payer.workspace, Role.VIEWER)
    limit_member(payer, 100)
    limit_all(payer, 110)
    spend(payer, 100)
    assert watch() == 2
    reached = f"The monthly limit of “{payer.user.email}” is reached"
    almost = f"80 % of the monthly limit of “{payer.workspace.name}” is used"
    assert mails() == sorted([(almost, [owner.email]), (reached, [owner.email]), (reached, [payer.user.email])])


def test_a_mail_server_that_is_down_leaves_it_to_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    payer = new_payer(1_000)
    ApiKey.objects.filter(pk=payer.key.pk).update(spending_limit_microcredits=100, auto_disable=True)
    spend(payer, 100)

    def down(*_: Any, **__: Any) -> int:
        raise ConnectionRefusedError

    monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", down)
    assert (watch(), watch()) == (0, 0)
    payer.key.refresh_from_db()
    assert not payer.key.enabled, "a key stops without any mail"
    issuing.change(payer.key, actor=audit.SYSTEM, enabled=True)
    monkeypatch.undo()
    assert (watch(), len(mails())) == (1, 1)
    assert (watch(), len(mails())) == (0, 0)
    payer.key.refresh_from_db()
    assert payer.key.enabled, "what a person did since is not undone"


def test_an_address_that_is_refused_keeps_nobody_elses_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    payer = member()
    bad, good = (factories.member(payer.workspace, Role.OWNER).email for _ in range(2))
    limit_member(payer, 100)
    spend(payer, 100)
    honest = EmailBackend.send_messages

    def picky(self: Any, messages: list[EmailMessage]) -> int:
        if messages[0].to == [bad]:
            raise SMTPRecipientsRefused({bad: (550, b"no such user")})
        return honest(self, messages)

    monkeypatch.setattr(EmailBackend, "send_messages", picky)
    assert (watch(), watch()) == (1, 0)
    assert sorted(to for _, [to] in mails()) == sorted([good, payer.user.email])


def test_a_low_balance_is_told_once_until_it_is_up_again() -> None:
    payer = new_payer(1_000)
    setting.set_low_balance(payer.workspace, 500, actor=audit.SYSTEM)
    assert watch() == 0
    spend(payer, 600)
    assert (watch(), watch()) == (1, 0)
    assert [to for _, to in mails()] == [[payer.user.email]]
    payer.give(1_000)
    assert watch() == 0
    spend(payer, 1_000)
    assert (watch(), watch()) == (1, 0)
