"""Brings database, catalogue and demo account up to date in one process: each start of Django takes a second or more.

Writes the demo's credentials as JSON on the last line of its output, for the supervisor.
"""

from __future__ import annotations

import os
import sys

import django
from django.conf import settings
from django.core.management import call_command

from core import startup


def main() -> None:
    """Migrate, load the catalogue, seed the demo account where this is a demo; none of it where settings are broken."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hypereal_site.settings")
    django.setup()
    if wrong := startup.complaints(["default"]):
        sys.exit(wrong)
    call_command("migrate", verbosity=0, interactive=False)
    call_command("load_catalog", verbosity=0)
    if settings.DEMO:
        call_command("seed_demo")


if __name__ == "__main__":
    main()
