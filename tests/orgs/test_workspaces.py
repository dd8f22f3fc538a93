"""Workspaces come into being with their person and their wallet, in one transaction or not at all."""

from __future__ import annotations

import re

import pytest
from django.db import IntegrityError

from accounts.models import User
from billing import wallets
from billing.models import Account, Wallet
from events import audit
from events.models import AuditEvent
from orgs import workspaces
from orgs.models import Membership, Workspace
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("name", "head"),
    [("Sana Khan", "sana-khan"), ("  ", "workspace"), ("ثنا", "workspace"), ("x" * 100, "x" * 40), ("a--b", "a-b")],
)
def test_slugs(name: str, head: str) -> None:
    assert re.fullmatch(f"{head}-[a-z2-9]{{6}}", workspaces.new_slug(name))


def test_slugs_differ() -> None:
    assert len({workspaces.new_slug("sana") for _ in range(200)}) == 200


def test_a_slug_that_is_taken_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(["same-slug", "same-slug", "other-slug"])
    monkeypatch.setattr(workspaces, "new_slug", lambda name: next(made))
    first, second = factories.user(), factories.user()
    assert (first.personal_workspace.slug, second.personal_workspace.slug) == ("same-slug", "other-slug")


def test_no_person_without_a_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(workspace: Workspace) -> Wallet:
        raise RuntimeError("no wallet today")

    monkeypatch.setattr(wallets, "open_wallet", fail)
    with pytest.raises(RuntimeError):
        factories.user("sana@people.example")
    assert not User.objects.exists()
    assert not Workspace.objects.exists()


def test_one_wallet_a_workspace() -> None:
    workspace = factories.organization()
    assert Wallet.objects.get(pk=workspace.pk).balance_microcredits == 0
    assert Account.objects.get(pk=workspace.pk).kind == Account.Kind.WALLET
    with pytest.raises(IntegrityError):
        wallets.open_wallet(workspace)


def test_suspending_is_recorded_once() -> None:
    workspace = factories.organization()
    actor = audit.operator("test")
    assert workspaces.set_active(workspace, False, actor=actor)
    assert not workspaces.set_active(workspace, False, actor=actor)
    assert workspaces.set_active(workspace, True, actor=actor)
    rows = AuditEvent.objects.order_by("id").values_list("action", "actor_label", "workspace_id")
    assert list(rows) == [
        ("workspace.suspend", "operator: test", workspace.pk),
        ("workspace.resume", "operator: test", workspace.pk),
    ]


def test_a_workspace_s_people_and_their_roles_are_kept_apart() -> None:
    person = factories.user()
    organization = factories.organization()
    factories.member(organization, "viewer", person)
    assert set(Membership.objects.filter(user=person).values_list("role", flat=True)) == {"owner", "viewer"}
    with pytest.raises(IntegrityError):
        factories.member(organization, "admin", person)
