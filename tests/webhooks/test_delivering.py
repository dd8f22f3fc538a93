"""What reaches a customer's server, signed so that an independent library believes it; and what an answer leads to."""

from __future__ import annotations

import base64
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import Settings
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from accounts import emails
from core import clock
from events import audit, outbox
from events.models import AuditEvent, Outbox
from orgs.models import Workspace
from tests import factories
from tests.webhooks.conftest import MovedClock, endpoint, send_all
from tests.webhooks.receivers import Answer, Receiver, drip, endless, hang, receiver, status
from webhooks import default_secret, deliveries, endpoints, fanout, schedule, signing, upkeep
from webhooks.models import Attempt, Delivery, Endpoint, WorkspaceSecret
from webhooks.sending import Sender

pytestmark = pytest.mark.django_db


def only() -> Delivery:
    return Delivery.objects.select_related("message", "endpoint").get()


# ── Who is told ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_event_reaches_those_who_chose_it_with_a_signature_that_another_library_verifies(
    workspace: Workspace, hook: Receiver
) -> None:
    made = endpoint(workspace, hook.url, "balance.low", "key.disabled")
    outbox.tell(workspace.pk, "balance.low", {"balance": 12.5, "name": "Zürich “7” 😀"})
    outbox.tell(workspace.pk, "member.joined", {})
    send_all()
    [request] = hook.requests
    body = request.verified(made.secret)
    assert body["type"] == "balance.low"
    assert body["data"] == {"balance": 12.5, "name": "Zürich “7” 😀"}
    assert body["timestamp"].endswith("Z")
    assert request.path == "/hook?a=1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == signing.message_id(only().message_id)
    with pytest.raises(WebhookVerificationError):
        request.verified(signing.new_secret())
    assert only().state == Delivery.State.DELIVERED
    attempt = Attempt.objects.get()
    assert (attempt.status, attempt.answer, attempt.error) == (200, "thanks", "")


def test_nobody_hears_of_another_workspace_and_disabled_endpoints_hear_nothing(
    workspace: Workspace, hook: Receiver
) -> None:
    endpoint(factories.organization("Other"), hook.url)
    silent = endpoint(workspace, hook.url).endpoint
    endpoints.change(silent, actor=audit.SYSTEM, enabled=False, fields={})
    outbox.tell(workspace.pk, "balance.low", {})
    assert send_all() == 0
    assert not Outbox.objects.exists()  # nobody wants it: it is not kept


def test_a_deleted_organization_is_told_of_nothing(workspace: Workspace, hook: Receiver) -> None:
    endpoint(workspace, hook.url)
    Workspace.objects.filter(pk=workspace.pk).update(active=False)
    outbox.tell(workspace.pk, "job.succeeded", {}, url=hook.url)
    assert send_all() == 0


def test_a_message_s_own_address_is_told_under_the_workspace_s_secret(workspace: Workspace, hook: Receiver) -> None:
    outbox.tell(workspace.pk, "job.succeeded", {"jobId": "1"}, url=hook.url)
    send_all()
    [request] = hook.requests
    secret = default_secret.reveal(workspace, actor=audit.SYSTEM)
    assert request.verified(secret)["data"] == {"jobId": "1"}
    assert WorkspaceSecret.objects.filter(workspace=workspace).count() == 1
    assert AuditEvent.objects.filter(action="webhook_secret.reveal", workspace_id=workspace.pk).count() == 1


def test_an_endpoint_and_the_message_s_own_address_are_both_told_under_one_id(
    workspace: Workspace, hook: Receiver
) -> None:
    with receiver() as own:
        endpoint(workspace, hook.url)
        outbox.tell(workspace.pk, "job.failed", {}, url=own.url)
        send_all()
        assert hook.ids() == own.ids()
        assert len(hook.ids()) == 1


def test_a_message_is_fanned_out_once(workspace: Workspace, hook: Receiver) -> None:
    endpoint(workspace, hook.url)
    outbox.tell(workspace.pk, "balance.low", {}, url=hook.url)
    assert fanout.fan_out(clock.now()) == 1
    assert fanout.fan_out(clock.now()) == 0
    Outbox.objects.update(fanned_out_at=None)  # as if the first had died before it could say so
    fanout.fan_out(clock.now())
    assert Delivery.objects.count() == 2


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_secrets_have_the_standard_s_form_and_are_sealed(workspace: Workspace, hook: Receiver) -> None:
    made = endpoint(workspace, hook.url)
    assert made.secret.startswith("whsec_")
    assert len(base64.b64decode(made.secret.removeprefix("whsec_"))) == 32
    stored = bytes(Endpoint.objects.get().sealed_secret)
    assert made.secret.encode() not in stored
    assert base64.b64decode(made.secret.removeprefix("whsec_")) not in stored


def test_both_secrets_sign_for_a_day_after_a_rotation(workspace: Workspace, hook: Receiver, moved: MovedClock) -> None:
    made = endpoint(workspace, hook.url)
    moved.move(minutes=1)
    rotated = endpoints.rotate(made.endpoint, actor=audit.SYSTEM)
    assert rotated.secret != made.secret
    outbox.tell(workspace.pk, "balance.low", {})
    send_all()
    assert len(hook.requests[0].headers["webhook-signature"].split()) == 2
    for secret in (made.secret, rotated.secret):
        assert signed(hook.requests[0].headers, hook.requests[0].body, secret)
    moved.move(hours=24)
    outbox.tell(workspace.pk, "balance.low", {})
    send_all()
    assert signed(hook.requests[1].headers, hook.requests[1].body, rotated.secret)
    assert not signed(hook.requests[1].headers, hook.requests[1].body, made.secret)


def signed(headers: object, body: bytes, secret: str) -> bool:
    """Whether the independent library finds the secret's signature (it does not know of our moved clock)."""
    assert isinstance(headers, dict)
    moment = int(headers["webhook-timestamp"])
    wanted = Webhook(secret).sign(headers["webhook-id"], datetime.fromtimestamp(moment, UTC), body.decode())
    return wanted in headers["webhook-signature"].split()


def test_a_secret_that_no_key_opens_is_said_in_the_log(workspace: Workspace, hook: Receiver) -> None:
    endpoint(workspace, hook.url)
    Endpoint.objects.update(sealed_secret=b"nonsense")
    outbox.tell(workspace.pk, "balance.low", {})
    assert send_all() == 0
    assert Attempt.objects.get().error == "secret"
    assert only().state == Delivery.State.WAITING


# ── What an answer leads to ──────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (status(500, b"oh no"), 500),
        (status(404), 404),
        (status(302, b"", Location="http://127.0.0.1:1/elsewhere"), 302),
        (status(429, b"", Retry_After="120"), 429),
    ],
    ids=["500", "404", "redirect", "429"],
)
def test_anything_but_2xx_is_tried_again_under_the_same_id(
    workspace: Workspace, hook: Receiver, moved: MovedClock, answer: Answer, seen: int
) -> None:
    endpoint(workspace, hook.url)
    hook.answer = answer
    outbox.tell(workspace.pk, "balance.low", {})
    assert send_all() == 1
    row = only()
    assert (row.state, row.tries, row.lease) == (Delivery.State.WAITING, 1, None)
    assert Attempt.objects.get().status == seen
    pause = row.run_after - moved.moment
    assert pause == timedelta(seconds=120) if seen == 429 else timedelta(seconds=4) < pause < timedelta(seconds=6)
    assert send_all() == 0
    moved.move(seconds=121)
    hook.answer = status(204)
    assert send_all() == 1
    assert only().state == Delivery.State.DELIVERED
    assert len(set(hook.ids())) == 1
    assert hook.requests[0].body == hook.requests[1].body
    first, second = (int(request.headers["webhook-timestamp"]) for request in hook.requests)
    assert second - first == 121


@pytest.mark.parametrize("answer", [endless, drip], ids=["endless", "drip"])
def test_only_the_beginning_of_an_answer_is_read(
    workspace: Workspace, hook: Receiver, settings: Settings, answer: Answer
) -> None:
    if answer is drip:
        settings.WEBHOOK_SECONDS = 1.0
    endpoint(workspace, hook.url)
    hook.answer = answer
    outbox.tell(workspace.pk, "balance.low", {})
    send_all()
    attempt = Attempt.objects.get()
    if answer is endless:
        assert (attempt.status, attempt.answer) == (200, "x" * deliveries.ANSWER_BYTES)
    else:
        assert (attempt.status, attempt.error) == (None, "timeout")
        assert attempt.duration_ms < 30_000


def test_a_receiver_that_is_down_is_an_outcome_like_others(workspace: Workspace, hook: Receiver) -> None:
    with receiver() as gone:
        url = gone.url
    endpoint(workspace, hook.url)
    Endpoint.objects.update(url=url)
    outbox.tell(workspace.pk, "balance.low", {})
    send_all()
    assert Attempt.objects.get().error == "connect"
    assert only().state == Delivery.State.WAITING


def test_an_answer_that_the_database_cannot_hold_is_kept_in_part(workspace: Workspace, hook: Receiver) -> None:
    endpoint(workspace, hook.url)
    hook.answer = status(200, b"a\0b\xff")
    outbox.tell(workspace.pk, "balance.low", {})
    send_all()
    assert Attempt.objects.get().answer == "a\ufffdb\ufffd"


def test_410_disables_the_endpoint_at_once_and_its_people_get_a_mail(
    workspace: Workspace, hook: Receiver, mailoutbox: list[object]
) -> None:
    owner = factories.member(workspace, "owner")
    factories.member(workspace, "developer")
    made = endpoint(workspace, hook.url)
    hook.answer = status(410)
    for _ in range(8):
        outbox.tell(workspace.pk, "balance.low", {})
    send_all()
    row = Endpoint.objects.get()
    assert (row.enabled, row.disabled_reason) == (False, Endpoint.DisabledReason.GONE)
    assert set(Delivery.objects.values_list("state", flat=True)) == {Delivery.State.FAILED, Delivery.State.CANCELLED}
    assert len(hook.requests) <= deliveries.PLACE_MOST
    assert AuditEvent.objects.get(action="webhook.disable").details == {"reason": "gone"}
    assert upkeep.notify() == 1
    assert upkeep.notify() == 0
    [mail] = mailoutbox
    assert mail.to == [owner.email]  # type: ignore[attr-defined]
    assert hook.url in mail.body  # type: ignore[attr-defined]
    assert f"/settings/webhooks/{made.endpoint.pk}" in mail.body  # type: ignore[attr-defined]


def test_410_from_a_message_s_own_address_ends_that_message(workspace: Workspace, hook: Receiver) -> None:
    hook.answer = status(410)
    outbox.tell(workspace.pk, "job.succeeded", {}, url=hook.url)
    send_all()
    assert only().state == Delivery.State.FAILED


# ── Three days ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_delivery_is_tried_for_three_days_and_then_given_up(
    workspace: Workspace, hook: Receiver, moved: MovedClock
) -> None:
    endpoint(workspace, hook.url)
    hook.answer = status(503)
    outbox.tell(workspace.pk, "balance.low", {})
    began, attempts = moved.moment, 0
    while only_state() in ("", Delivery.State.WAITING):
        attempts += send_all()
        if only_state() == Delivery.State.WAITING:
            moved.moment = only().run_after
    assert only().state == Delivery.State.FAILED
    assert attempts == len(schedule.PAUSES) + 1 == len(hook.requests)
    assert timedelta(hours=64) < moved.moment - began < timedelta(hours=80)
    assert len(set(hook.ids())) == 1
    moved.move(days=30)
    assert send_all() == 0


def only_state() -> str:
    return Delivery.objects.values_list("state", flat=True).first() or ""


def test_pauses_grow_and_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now()
    assert sum(schedule.PAUSES, timedelta()) == pytest.approx(timedelta(days=3), abs=timedelta(minutes=30))
    assert list(schedule.PAUSES) == sorted(schedule.PAUSES)
    pauses = {schedule.next_try(4, now) for _ in range(20)}
    assert len(pauses) > 10
    assert all(pause and timedelta(minutes=9) <= pause - now <= timedelta(minutes=11) for pause in pauses)
    assert schedule.next_try(len(schedule.PAUSES) + 1, now) is None
    patient = schedule.next_try(1, now, asked_seconds=10**8)
    assert patient == now + schedule.MOST_ASKED


def test_an_endpoint_that_fails_for_five_days_is_disabled_and_one_success_begins_anew(
    workspace: Workspace, hook: Receiver, moved: MovedClock, settings: Settings
) -> None:
    factories.member(workspace, "admin")
    endpoint(workspace, hook.url)
    hook.answer = status(500)
    tell_and_send(workspace, moved)
    moved.move(days=4)
    hook.answer = status(200)
    tell_and_send(workspace, moved)
    assert Endpoint.objects.get().failing_since is None
    hook.answer = status(500)
    tell_and_send(workspace, moved)
    moved.move(days=4, hours=23)
    tell_and_send(workspace, moved)
    assert Endpoint.objects.get().enabled
    moved.move(hours=2)
    tell_and_send(workspace, moved)
    row = Endpoint.objects.get()
    assert (row.enabled, row.disabled_reason, row.notice_due) == (False, Endpoint.DisabledReason.FAILING, True)
    asked = len(hook.requests)
    outbox.tell(workspace.pk, "balance.low", {})
    moved.move(days=1)
    assert send_all() == 0
    assert len(hook.requests) == asked
    assert upkeep.notify() == 1
    endpoints.change(row, actor=audit.SYSTEM, enabled=True, fields={})
    row = Endpoint.objects.get()
    assert (row.enabled, row.disabled_reason, row.failing_since) == (True, "", None)


def tell_and_send(workspace: Workspace, moved: MovedClock) -> None:
    outbox.tell(workspace.pk, "balance.low", {})
    send_all()
    Delivery.objects.filter(state=Delivery.State.WAITING).update(run_after=moved.moment + timedelta(days=30))


# ── Again, by hand ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_replay_is_a_new_attempt_under_the_same_id(workspace: Workspace, hook: Receiver) -> None:
    endpoint(workspace, hook.url)
    outbox.tell(workspace.pk, "balance.low", {"balance": 3})
    send_all()
    deliveries.replay(only(), actor=audit.SYSTEM)
    assert only().state == Delivery.State.WAITING
    send_all()
    assert len(hook.requests) == 2
    assert len(set(hook.ids())) == 1
    assert hook.requests[0].body == hook.requests[1].body
    assert Attempt.objects.filter(delivery=only()).count() == 2
    assert AuditEvent.objects.filter(action="webhook.replay").count() == 1


def test_a_test_event_goes_to_one_endpoint_alone(workspace: Workspace, hook: Receiver) -> None:
    made = endpoint(workspace, hook.url, "job.failed")
    with receiver() as other:
        endpoint(workspace, other.url)
        endpoints.send_test(made.endpoint, actor=audit.SYSTEM)
        send_all()
        assert other.requests == []
    [request] = hook.requests
    assert request.verified(made.secret)["type"] == "webhook.test"


# ── Many at once ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_receiver_that_hangs_holds_up_nobody_else(workspace: Workspace, hook: Receiver) -> None:
    released = threading.Event()
    with receiver(hang(released)) as slow:
        endpoint(workspace, slow.url, "job.failed")
        endpoint(workspace, hook.url, "job.succeeded")
        for _ in range(20):
            outbox.tell(workspace.pk, "job.failed", {})
        for _ in range(10):
            outbox.tell(workspace.pk, "job.succeeded", {})
        sender = Sender(8)
        while len(hook.requests) < 10 or Delivery.objects.filter(state=Delivery.State.DELIVERED).count() < 10:
            sender.round()
            assert sender.collect(60)
        assert len(slow.requests) <= deliveries.PLACE_MOST
        assert sender.on_wire <= deliveries.PLACE_MOST
        released.set()
        sender.finish(60)
        assert sender.on_wire == 0


def test_a_workspace_with_many_slow_addresses_leaves_room_for_others(workspace: Workspace, hook: Receiver) -> None:
    other = factories.organization("Other")
    endpoint(other, hook.url)
    for number in range(20):
        outbox.tell(workspace.pk, "job.failed", {}, url=f"http://127.0.0.1:{number + 1}/")
    outbox.tell(other.pk, "job.failed", {})
    fanout.fan_out(clock.now())
    taken = deliveries.claim(16)
    assert len(taken) == deliveries.WORKSPACE_MOST + 1
    assert hook.url in [parcel.url for parcel in taken[:2]] + [parcel.url for parcel in taken]
    assert deliveries.claim(16) == []


def test_a_sender_that_died_leaves_its_deliveries_to_the_next(
    workspace: Workspace, hook: Receiver, moved: MovedClock
) -> None:
    endpoint(workspace, hook.url)
    outbox.tell(workspace.pk, "balance.low", {})
    dead = Sender()
    dead.round()
    wait_for_request(hook)
    assert send_all() == 0  # its lease is believed
    moved.move(minutes=2)
    assert send_all() == 1
    assert len(set(hook.ids())) == 1
    assert len(hook.ids()) == 2
    assert only().state == Delivery.State.DELIVERED
    assert dead.collect(60)  # it was only slow, and its late word changes nothing
    assert only().state == Delivery.State.DELIVERED


def test_a_late_failure_does_not_undo_a_success(workspace: Workspace, hook: Receiver, moved: MovedClock) -> None:
    endpoint(workspace, hook.url)
    outbox.tell(workspace.pk, "balance.low", {})
    fanout.fan_out(clock.now())
    [late] = deliveries.claim(1)
    moved.move(minutes=2)
    send_all()
    deliveries.record(late, deliveries.Outcome(clock.now(), 1, error="timeout"))
    assert only().state == Delivery.State.DELIVERED
    assert Attempt.objects.count() == 2


def wait_for_request(hook: Receiver) -> None:
    for _ in range(2_000):
        if hook.requests:
            return
        threading.Event().wait(0.01)
    raise AssertionError("nothing came")


# ── Where it may go ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/", "https://127.0.0.1/", "https://10.0.0.1/", "https://192.168.1.1/", "https://[::1]/",
        "https://169.254.169.254/latest/meta-data/", "https://[fd00::1]/", "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/", "https://2130706433/", "https://0177.0.0.1/", "https://0x7f.1/", "https://1.1.1.1:8443/",
        "http://1.1.1.1/", "ftp://1.1.1.1/", "file:///etc/passwd", "https://user:pass@1.1.1.1/", "gopher://1.1.1.1/",
        "https://exa mple.com/", "nonsense", "",
    ],
)  # fmt: skip
def test_nothing_is_sent_to_what_is_not_public(workspace: Workspace, settings: Settings, url: str) -> None:
    settings.EGRESS_ALLOW = []
    endpoint(workspace, url)
    outbox.tell(workspace.pk, "balance.low", {}, url=url)
    send_all()
    assert all(Attempt.objects.values_list("error", flat=True))
    assert not Attempt.objects.exclude(status=None).exists()
    assert Attempt.objects.count() == (2 if url else 1)


# ── Upkeep ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_old_messages_go_with_their_log(workspace: Workspace, hook: Receiver, settings: Settings) -> None:
    endpoint(workspace, hook.url)
    outbox.tell(workspace.pk, "balance.low", {})
    send_all()
    now = clock.now()
    assert upkeep.forget(now + timedelta(days=settings.WEBHOOK_LOG_DAYS - 1)) == 0
    assert upkeep.forget(now + timedelta(days=settings.WEBHOOK_LOG_DAYS + 1)) == 1
    assert not Delivery.objects.exists()
    assert not Attempt.objects.exists()


def test_the_body_is_one_line_of_json(workspace: Workspace) -> None:
    message = Outbox.objects.create(workspace_id=uuid4(), event="balance.low", data={"b": 1, "a": [1, "ü"]})
    body = deliveries.body_of(Outbox.objects.get(pk=message.pk))
    assert b"\n" not in body
    assert body == deliveries.body_of(Outbox.objects.get(pk=message.pk))
    assert set(json.loads(body)) == {"type", "timestamp", "data"}


def test_a_notice_that_can_not_be_written_keeps_nobody_elses(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, mailoutbox: list[object], hook: Receiver
) -> None:
    both = [workspace, factories.organization("Other")]
    owners = [factories.member(each, "owner") for each in both]
    made = [endpoint(each, hook.url).endpoint for each in both]
    Endpoint.objects.update(enabled=False, disabled_reason=Endpoint.DisabledReason.GONE, notice_due=True)
    really, broken = emails.message, {each.pk for each in made}

    def message(name: str, context: dict[str, Any], *, to: str) -> Any:
        if context["endpoint"].pk in broken:
            raise RuntimeError("a word that no template knows")
        return really(name, context, to=to)

    monkeypatch.setattr(emails, "message", message)
    assert (upkeep.notify(), mailoutbox) == (0, [])
    for mended in reversed(made):
        broken.discard(mended.pk)
        assert upkeep.notify() == 1
    assert [mail.to for mail in mailoutbox] == [[owner.email] for owner in reversed(owners)]  # type: ignore[attr-defined]
