"""Batches as the committer applies them, from any thread."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import psycopg
from django.db import connection
from psycopg.conninfo import make_conninfo

from usage.doors import CursorDoor
from usage.items import Item, Result
from usage.metering import apply


def apply_batch(items: Sequence[Item]) -> list[Result]:
    """`apply` as the committer does it: one transaction on a connection of its own, with copies of the items.

    Each thread keeps its connection. No deadlock and no lost race is excused: nothing is tried again.
    """
    conn = _connection()
    with conn.transaction():
        return apply(CursorDoor(conn), copy.deepcopy(list(items)))


_local = threading.local()
_opened: list[psycopg.Connection[Any]] = []


def _connection() -> psycopg.Connection[Any]:
    s = connection.settings_dict
    dsn = make_conninfo(host=s["HOST"], port=s["PORT"], user=s["USER"], password=s["PASSWORD"], dbname=s["NAME"])
    conn: psycopg.Connection[Any] | None = getattr(_local, "connection", None)
    if conn is None or conn.closed or _local.dsn != dsn:
        conn = _local.connection = psycopg.connect(dsn, autocommit=True, options="-c timezone=UTC")
        _local.dsn = dsn
        _opened.append(conn)
    return conn


def close_connections() -> None:
    """Hang all threads' connections up."""
    while _opened:
        _opened.pop().close()
