"""Keys in memory: found, kept, forgotten when the database says so, and refused politely without a database."""

from __future__ import annotations

import asyncio
import os

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from psycopg.conninfo import make_conninfo

from core.errors import Overloaded
from keys.directory import Directory
from keys.models import ApiKey
from tests.support.money import new_payer


def dsn() -> str:
    s = connection.settings_dict
    return make_conninfo(host=s["HOST"], port=s["PORT"], user=s["USER"], password=s["PASSWORD"], dbname=s["NAME"])


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_key_is_read_once_and_forgotten_by_name_or_altogether(committed: None) -> None:
    payer = await sync_to_async(new_payer)()
    secret_hash = bytes(payer.key.secret_hash)
    clock = Clock()
    directory = Directory(await sync_to_async(dsn)(), ttl_seconds=5, monotonic=clock)
    assert directory.known(secret_hash) is None
    found = await asyncio.gather(*(directory.find(secret_hash) for _ in range(20)))
    assert {facts.id for facts in found if facts} == {payer.key.pk}
    assert directory.known(secret_hash) == found[0]
    await sync_to_async(ApiKey.objects.filter(pk=payer.key.pk).update)(
        enabled=False, allowed_networks=["10.1.0.0/16", "broken"], allowed_models=["a"]
    )
    assert directory.known(secret_hash) == found[0]
    directory.forget(os.urandom(32).hex())
    assert directory.known(secret_hash) == found[0]
    directory.forget(secret_hash.hex())
    changed = await directory.find(secret_hash)
    assert changed is not None
    assert (changed.enabled, changed.allowed_models) == (False, frozenset({"a"}))
    assert [str(network) for network in changed.allowed_networks] == ["10.1.0.0/16", "255.255.255.255/32"]
    clock.now += 5.1
    assert directory.known(secret_hash) is None
    await directory.find(secret_hash)
    directory.forget("")
    assert directory.known(secret_hash) is None
    await directory.close()


async def test_unknown_keys_are_remembered_for_a_moment_only(committed: None) -> None:
    clock = Clock()
    directory = Directory(await sync_to_async(dsn)(), ttl_seconds=5, monotonic=clock)
    secret_hash = os.urandom(32)
    assert await directory.find(secret_hash) is None
    payer = await sync_to_async(new_payer)()
    await sync_to_async(ApiKey.objects.filter(pk=payer.key.pk).update)(secret_hash=secret_hash)
    assert await directory.find(secret_hash) is None
    clock.now += 2.1
    assert await directory.find(secret_hash) is not None
    await directory.close()


async def test_a_lost_connection_is_replaced(committed: None) -> None:
    payer = await sync_to_async(new_payer)()
    directory = Directory(await sync_to_async(dsn)(), ttl_seconds=5)
    assert await directory.find(bytes(payer.key.secret_hash)) is not None
    assert directory._connection is not None
    backend = directory._connection.info.backend_pid
    with_cursor = sync_to_async(lambda: connection.cursor().execute("SELECT pg_terminate_backend(%s)", [backend]))
    await with_cursor()
    directory.forget()
    assert await directory.find(bytes(payer.key.secret_hash)) is not None
    await directory.close()


async def test_without_a_database_the_answer_is_try_again() -> None:
    directory = Directory("host=127.0.0.1 port=1 dbname=x user=x", ttl_seconds=5)
    with pytest.raises(Overloaded):
        await directory.find(os.urandom(32))
    await directory.close()
