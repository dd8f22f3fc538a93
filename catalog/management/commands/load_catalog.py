"""``manage.py load_catalog``: bring models, prices, providers and targets up to what the catalog files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog import loading, source


class Command(BaseCommand):
    help = "Load the catalog files. Safe to repeat; what an operator edited stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only check the files, write nothing")
        parser.add_argument("--folder", type=Path, default=source.DATA, help="another folder of *.toml files")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            catalog = source.read(options["folder"])
            if options["check"]:
                self.stdout.write(f"{len(catalog.models)} models, {len(catalog.aliases)} aliases: no problems.")
                return
            done = loading.load(catalog)
        except source.CatalogInvalid as error:
            raise CommandError("The catalog files can't be loaded:\n" + "\n".join(error.problems)) from None
        changes = [
            f"{count} × {deed}" for deed, count in sorted(done.items()) if not deed.endswith("unchanged") and count
        ]
        self.stdout.write(", ".join(changes) or "Nothing to change.")
