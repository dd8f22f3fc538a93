"""The documentation's table of roles is the code's."""

from __future__ import annotations

from django.core.management import call_command

from orgs.management.commands import roles_table
from orgs.permissions import PERMISSION_TEXTS, Permission


def test_every_permission_has_words() -> None:
    assert set(PERMISSION_TEXTS) == set(Permission)


def test_the_page_is_up_to_date() -> None:
    text = roles_table.document().read_text("utf-8")
    assert roles_table.with_table(text) == text, "run manage.py roles_table"
    assert "| Manage webhooks | yes | yes | – | – | – |" in text


def test_the_command_changes_nothing_else() -> None:
    before = roles_table.document().read_text("utf-8")
    call_command("roles_table", verbosity=0)
    assert roles_table.document().read_text("utf-8") == before
