"""The audit trail: who, what, from where; and nobody takes a row back."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError, connection, transaction
from django.test import RequestFactory

from events import audit
from events.models import AuditEvent
from tests import factories

pytestmark = pytest.mark.django_db

TARGET = audit.Target("thing", "t1", "a thing")


def test_a_request_s_person_address_and_id_are_told() -> None:
    person = factories.user("sana@people.example")
    request = RequestFactory().get("/", REMOTE_ADDR="203.0.113.7")
    request.user = person
    request.request_id = uuid4()  # type: ignore[attr-defined]
    row = audit.record("thing.make", actor=audit.actor_of(request), target=TARGET, details={"n": 1})
    row.refresh_from_db()
    assert (row.actor_id, row.actor_label, row.address) == (person.pk, "sana@people.example", "203.0.113.7")
    assert (row.action, row.target_type, row.target_id, row.target_label) == ("thing.make", "thing", "t1", "a thing")
    assert (row.details, row.request_id) == ({"n": 1}, request.request_id)  # type: ignore[attr-defined]


def test_nobody_has_no_name() -> None:
    request = RequestFactory().get("/", REMOTE_ADDR="")
    request.user = AnonymousUser()
    actor = audit.actor_of(request)
    assert (actor.user_id, actor.label, actor.address) == (None, "anonymous", None)


def test_long_labels_are_cut() -> None:
    row = audit.record("thing.make", actor=audit.SYSTEM, target=audit.Target("thing", "t1", "x" * 999))
    assert len(row.target_label) == 254


@pytest.mark.parametrize("statement", ["UPDATE events_auditevent SET action = 'x'", "DELETE FROM events_auditevent"])
def test_rows_stay_as_they_are(statement: str) -> None:
    audit.record("thing.make", actor=audit.SYSTEM, target=TARGET)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEvent.objects.get().action == "thing.make"
