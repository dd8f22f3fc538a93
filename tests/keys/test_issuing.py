"""Keys are made, changed and ended: what is stored, what is recorded, what the database tells the gateway."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import connection, transaction

from core import errors
from events import audit
from events.models import AuditEvent
from keys import auth, issuing, lookup, rules, secret
from keys.issuing import Terms
from keys.models import ApiKey
from orgs.access import Access
from orgs.permissions import Role
from tests import factories

pytestmark = pytest.mark.django_db

LATER = datetime(2040, 1, 1, tzinfo=UTC)


@pytest.fixture
def owner() -> Access:
    person = factories.user("sana@people.example")
    return Access(person, person.personal_workspace, Role.OWNER)


@pytest.fixture
def issued(owner: Access) -> issuing.Issued:
    terms = Terms(name="prod", spending_limit_microcredits=2_500_500_000, auto_disable=True, expires_at=LATER)
    return issuing.create(owner.workspace, terms, actor=actor(owner), created_by=owner.user)


def actor(access: Access) -> audit.Actor:
    return audit.Actor(access.user.pk, access.user.email, "203.0.113.7", uuid4())


def trail() -> list[tuple[str, dict[str, object]]]:
    return list(AuditEvent.objects.order_by("id").values_list("action", "details"))


def test_the_secret_is_nowhere_but_in_the_answer(issued: issuing.Issued) -> None:
    assert re.fullmatch(r"ck_[0-9A-Za-z]{38}", issued.secret)
    assert secret.checksum_ok(issued.secret)
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE %s', [f"%{issued.secret}%"])
            assert cursor.fetchone() == (0,), table


def test_what_is_shown_is_far_from_the_secret(issued: issuing.Issued) -> None:
    shown = issued.key.prefix
    assert shown == f"{issued.secret[:7]}…{issued.secret[-4:]}"
    assert len(issued.secret) - len(shown) > 26


def test_it_is_found_by_its_secret(issued: issuing.Issued) -> None:
    assert lookup.by_secret(issued.secret, address=None).pk == issued.key.pk
    assert bytes(issued.key.secret_hash) == auth.hash_of(issued.secret)


def test_making_one_is_recorded_without_secrets(issued: issuing.Issued, owner: Access) -> None:
    row = AuditEvent.objects.get()
    assert (row.action, row.actor_id, row.actor_label) == ("api_key.create", owner.user.pk, "sana@people.example")
    assert (row.workspace_id, row.target_type, row.target_id) == (owner.workspace.pk, "api_key", str(issued.key.pk))
    assert (row.target_label, row.address) == ("prod", "203.0.113.7")
    assert row.details == {
        "name": "prod",
        "spending_limit": "2500.5",
        "auto_disable": True,
        "expires_at": "2040-01-01T00:00:00+00:00",
        "allowed_models": [],
        "allowed_networks": [],
        "enabled": True,
    }


def test_the_same_form_makes_one_key(owner: Access) -> None:
    token = uuid4()
    issuing.create(owner.workspace, Terms(name="a"), actor=actor(owner), created_by=owner.user, form_token=token)
    with pytest.raises(errors.Conflict) as caught:
        issuing.create(owner.workspace, Terms(name="a"), actor=actor(owner), created_by=owner.user, form_token=token)
    assert caught.value.code == "already_made"
    assert ApiKey.objects.count() == AuditEvent.objects.count() == 1


def test_a_token_counts_in_its_own_workspace_only(owner: Access) -> None:
    token = uuid4()
    other = factories.user().personal_workspace
    for workspace in (owner.workspace, other):
        issuing.create(workspace, Terms(name="a"), actor=actor(owner), created_by=None, form_token=token)
    assert ApiKey.objects.count() == 2


def test_there_is_a_most(owner: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_KEYS", 2)
    made = [factories.api_key(owner.workspace) for _ in range(2)]
    with pytest.raises(errors.Conflict) as caught:
        factories.api_key(owner.workspace)
    assert caught.value.code == "too_many_keys"
    issuing.delete(made[0].key, actor=actor(owner))
    factories.api_key(owner.workspace)


def test_a_change_records_only_what_changed(issued: issuing.Issued, owner: Access) -> None:
    issuing.change(
        issued.key, actor=actor(owner), name="prod-eu", auto_disable=True, spending_limit_microcredits=1_000_000
    )
    issued.key.refresh_from_db()
    assert (issued.key.name, issued.key.spending_limit_microcredits) == ("prod-eu", 1_000_000)
    assert trail()[1:] == [
        (
            "api_key.change",
            {"name": {"from": "prod", "to": "prod-eu"}, "spending_limit": {"from": "2500.5", "to": "1"}},
        )
    ]


def test_nothing_new_is_not_written(issued: issuing.Issued, owner: Access) -> None:
    issuing.change(issued.key, actor=actor(owner), name="prod", enabled=True)
    assert len(trail()) == 1


def test_a_change_leaves_the_rest_alone(issued: issuing.Issued, owner: Access) -> None:
    stale = ApiKey.objects.get(pk=issued.key.pk)
    ApiKey.objects.filter(pk=issued.key.pk).update(last_used_at=LATER, enabled=False)
    issuing.change(stale, actor=actor(owner), name="new")
    issued.key.refresh_from_db()
    assert (issued.key.name, issued.key.last_used_at, issued.key.enabled) == ("new", LATER, False)


def test_disabling_and_enabling(issued: issuing.Issued, owner: Access) -> None:
    issuing.change(issued.key, actor=actor(owner), enabled=False)
    with pytest.raises(errors.AuthenticationFailed, match="disabled"):
        lookup.by_secret(issued.secret, address=None)
    issued.key.refresh_from_db()
    assert issued.key.disabled_reason == ApiKey.DisabledReason.BY_HAND
    issuing.change(issued.key, actor=actor(owner), enabled=True)
    issued.key.refresh_from_db()
    assert issued.key.disabled_reason == ""
    assert lookup.by_secret(issued.secret, address=None).pk == issued.key.pk
    assert [action for action, _ in trail()] == ["api_key.create", "api_key.disable", "api_key.enable"]


def test_a_deleted_key_is_gone_for_everybody_but_the_books(issued: issuing.Issued, owner: Access) -> None:
    issuing.delete(issued.key, actor=actor(owner))
    with pytest.raises(errors.AuthenticationFailed, match="deleted"):
        lookup.by_secret(issued.secret, address=None)
    with pytest.raises(errors.NotFound):
        lookup.api_key(owner, issued.key.pk)
    with pytest.raises(errors.NotFound):
        issuing.change(issued.key, actor=actor(owner), enabled=True)
    with pytest.raises(errors.NotFound):
        issuing.delete(issued.key, actor=actor(owner))
    assert list(lookup.of_workspace(owner)) == []
    assert ApiKey.objects.filter(pk=issued.key.pk).exists()


def test_a_failed_write_leaves_no_trace(owner: Access) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        factories.api_key(owner.workspace)
        raise RuntimeError
    assert not ApiKey.objects.exists()
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("spoil", ["expired", "suspended", "left", "deactivated", "elsewhere"])
def test_who_may_not_use_it_any_more(issued: issuing.Issued, owner: Access, spoil: str) -> None:
    key, address = issued.key, "203.0.113.7"
    expected: type[errors.ProductError] = errors.AuthenticationFailed
    match spoil:
        case "expired":
            ApiKey.objects.filter(pk=key.pk).update(expires_at=datetime(2020, 1, 1, tzinfo=UTC))
        case "suspended":
            key.workspace.active = False
            key.workspace.save()
        case "left":
            key.workspace.memberships.all().delete()
        case "deactivated":
            owner.user.is_active = False
            owner.user.save()
        case "elsewhere":
            ApiKey.objects.filter(pk=key.pk).update(allowed_networks=["10.0.0.0/8"])
            expected = errors.PermissionDenied
    with pytest.raises(expected):
        lookup.by_secret(issued.secret, address=address)


def test_unknown_and_mistyped_secrets_are_told_apart() -> None:
    with pytest.raises(errors.AuthenticationFailed, match="not known"):
        lookup.by_secret(secret.new_secret(), address=None)
    with pytest.raises(errors.AuthenticationFailed, match="mistyped"):
        lookup.by_secret(secret.new_secret()[:-1] + "~", address=None)


def test_keys_of_others_are_not_there(issued: issuing.Issued) -> None:
    stranger = factories.user()
    access = Access(stranger, stranger.personal_workspace, Role.OWNER)
    for key_id in (issued.key.pk, str(issued.key.pk), uuid4(), "not-an-id", ""):
        with pytest.raises(errors.NotFound) as caught:
            lookup.api_key(access, key_id)
        assert caught.value.message == "There is no such key."
        with pytest.raises(errors.NotFound):
            lookup.anywhere(stranger, key_id)
