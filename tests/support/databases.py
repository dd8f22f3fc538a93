"""Clones of the test database that tests may commit to, so that it stays pristine itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest_django
from django.db import connection

from usage import verify


@contextmanager
def on_database(name: str) -> Iterator[None]:
    """Django's default connection on another database of the same server; new threads' connections too."""
    connection.close()
    before, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def clone(template: str, name: str) -> None:
    """A database like ``template``, on which nobody may be at that moment."""
    with on_database("postgres"), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [template])
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


def drop(name: str) -> None:
    """End whoever is on it, and drop it."""
    with on_database("postgres"), connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def proven(suffix: str, blocker: pytest_django.DjangoDbBlocker) -> Iterator[str]:
    """A clone for processes of a session, which have ended when the block does; then its books must agree."""
    name = f"{connection.settings_dict['NAME']}_{suffix}"
    with blocker.unblock():
        clone(connection.settings_dict["NAME"], name)
    try:
        yield name
    finally:
        with blocker.unblock():
            with on_database(name):
                report = verify.verify()
            drop(name)
    assert report.clean, f"the books of {name} do not agree: {report.findings}"


@contextmanager
def cloned(suffix: str) -> Iterator[str]:
    """A clone of the current database for the time of the block; gives its name."""
    template = connection.settings_dict["NAME"]
    name = f"{template}_{suffix}"
    clone(template, name)
    try:
        yield name
    finally:
        drop(name)
