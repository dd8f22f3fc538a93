"""``manage.py`` for a process that `tests.support.nursery` forks: what its commands need is loaded with this module."""

from __future__ import annotations

from collections.abc import Sequence

import django
from django.core.management import execute_from_command_line

django.setup()

import rq.worker  # noqa: E402, F401  (ready for forks)

import jobs.tasks  # noqa: E402, F401
from hypereal_site import cron  # noqa: E402, F401


def main(arguments: Sequence[str]) -> None:
    """Run a command of ours."""
    execute_from_command_line(["manage.py", *arguments])
