"""``seed_demo``: makes what is missing, leaves what works, tells its owner alone."""

from __future__ import annotations

import json
import stat
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import User
from billing.models import CreditLot, Transfer, Wallet
from events import audit
from keys import issuing, lookup
from keys.models import ApiKey

pytestmark = pytest.mark.django_db


@pytest.fixture
def file(tmp_path: Path, settings: Any) -> Path:
    settings.DEMO = True
    settings.DEMO_FILE = str(tmp_path / "sub" / "demo.json")
    settings.SITE_URL = "http://127.0.0.1:8123"
    return Path(settings.DEMO_FILE)


def seed() -> dict[str, str]:
    output = StringIO()
    call_command("seed_demo", stdout=output)
    return dict(json.loads(output.getvalue().strip().splitlines()[-1]))


def test_everything_that_is_needed_for_a_first_call(file: Path) -> None:
    told = seed()
    assert json.loads(file.read_text()) == told
    assert set(told) == {"url", "api_key", "email", "password"}
    assert told["url"] == "http://127.0.0.1:8123"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    workspace = User.objects.get(email=told["email"]).personal_workspace
    assert lookup.by_secret(told["api_key"], address=None).workspace == workspace
    assert Wallet.objects.get(pk=workspace.pk).balance_microcredits == 5_000_000_000
    assert CreditLot.objects.get().kind == CreditLot.Kind.DEMO
    client = Client()
    client.post("/accounts/login/", {"login": told["email"], "password": told["password"]})
    assert client.get("/api/me").json()["user"]["email"] == told["email"]


def test_the_second_time_changes_nothing(file: Path) -> None:
    first = seed()
    assert seed() == first
    assert (User.objects.count(), ApiKey.objects.count(), Transfer.objects.count()) == (1, 1, 1)


@pytest.mark.parametrize("lost", ["file", "nonsense", "list"])
def test_a_lost_file_brings_new_credentials_for_the_same_account(file: Path, lost: str) -> None:
    first = seed()
    match lost:
        case "file":
            file.unlink()
        case "nonsense":
            file.write_text("{")
        case "list":
            file.write_text("[1]")
    second = seed()
    assert second["email"] == first["email"]
    assert second["api_key"] != first["api_key"]
    assert second["password"] != first["password"]
    assert User.objects.get().check_password(second["password"])
    assert Transfer.objects.count() == 1


def test_what_no_longer_works_is_replaced_alone(file: Path) -> None:
    first = seed()
    key = lookup.by_secret(first["api_key"], address=None)
    issuing.delete(key, actor=audit.SYSTEM)
    second = seed()
    assert second["password"] == first["password"]
    assert second["api_key"] != first["api_key"]
    user = User.objects.get()
    user.set_password("changed by hand, since")
    user.save()
    third = seed()
    assert third["api_key"] == second["api_key"]
    assert user.check_password("changed by hand, since")
    assert User.objects.get().check_password(third["password"])


def test_another_installation_s_file_opens_nothing(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"api_key": "ck_" + "x" * 38, "password": "of another database"}))
    told = seed()
    assert told["password"] != "of another database"
    assert lookup.by_secret(told["api_key"], address=None)


def test_only_a_demo_gets_a_demo_account(file: Path, settings: Any) -> None:
    settings.DEMO = False
    with pytest.raises(CommandError, match="no demo"):
        seed()
    assert not User.objects.exists()
    assert not file.exists()
