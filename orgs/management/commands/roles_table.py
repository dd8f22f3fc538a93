"""``manage.py roles_table``: write the table of roles into the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.translation import override

from orgs import permissions

START: Final = "<!-- roles: written by manage.py roles_table -->\n"
END: Final = "\n<!-- /roles -->"


def document() -> Path:
    """The page that holds the table."""
    return Path(settings.BASE_DIR) / "docs" / "organizations.md"


def with_table(text: str) -> str:
    """``text`` with the table of the code between its marks. Raises ValueError where a mark is missing."""
    before, _start, rest = text.partition(START)
    _old, end, after = rest.partition(END)
    if not end:
        raise ValueError("the page has no place for the table of roles")
    with override("en"):
        return f"{before}{START}{permissions.as_markdown()}{END}{after}"


class Command(BaseCommand):
    help = "Writes the table of roles into docs/organizations.md."

    def handle(self, *args: Any, **options: Any) -> None:
        page = document()
        page.write_text(with_table(page.read_text("utf-8")), "utf-8")
        self.stdout.write(f"wrote {page}")
