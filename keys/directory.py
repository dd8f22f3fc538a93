"""Keys in memory: hash → facts, for an event loop that may not wait for the database on each call.

Entries live a few seconds and are dropped at once when the database says that a key changed (`forget`). The facts only
refuse early and say who calls; admission asks the database again in the transaction that takes the money.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import psycopg

from core import clock
from core.errors import Overloaded
from keys.auth import KeyFacts, Network

logger = logging.getLogger(__name__)

#: Channel on which the database's triggers name the changed key's hash in hex; an empty text means any key.
CHANNEL: Final = "hypereal_keys"

UNKNOWN_SECONDS: Final = 2.0
MOST_ENTRIES: Final = 100_000
MOST_IN_ONE_QUERY: Final = 500
_QUERY_SECONDS: Final = 5.0

_FACTS = """
SELECT k.secret_hash, k.id, k.name, k.workspace_id, k.created_by_id, k.spending_limit_microcredits, k.auto_disable,
       k.allowed_models, k.allowed_networks, extract(epoch FROM k.expires_at)::float8, k.enabled, k.disabled_reason,
       k.deleted_at IS NOT NULL, w.active,
       k.created_by_id IS NULL OR EXISTS (
         SELECT 1 FROM orgs_membership m JOIN accounts_user u ON u.id = m.user_id AND u.is_active
         WHERE m.workspace_id = k.workspace_id AND m.user_id = k.created_by_id)
FROM keys_apikey k JOIN orgs_workspace w ON w.id = k.workspace_id
WHERE k.secret_hash = ANY(%s)"""


class _Entry:
    __slots__ = ("facts", "good_until")

    def __init__(self, facts: KeyFacts | None, good_until: float) -> None:
        self.facts = facts
        self.good_until = good_until


class Directory:
    """Belongs to one event loop. Misses that come together share one query on one connection of its own."""

    def __init__(self, dsn: str, *, ttl_seconds: float, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self._dsn = dsn
        self._ttl_seconds = ttl_seconds
        self._monotonic = monotonic
        self._entries: dict[bytes, _Entry] = {}
        self._asked: dict[bytes, asyncio.Future[KeyFacts | None]] = {}
        self._loader: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._version = 0

    def known(self, secret_hash: bytes) -> KeyFacts | None:
        """The facts if they are in memory and fresh; None says nothing about the key."""
        entry = self._entries.get(secret_hash)
        return entry.facts if entry is not None and self._monotonic() < entry.good_until else None

    async def find(self, secret_hash: bytes) -> KeyFacts | None:
        """The facts of the key with this hash, None if there is no such key. Raises Overloaded without a database."""
        entry = self._entries.get(secret_hash)
        if entry is not None and self._monotonic() < entry.good_until:
            return entry.facts
        asked = self._asked.get(secret_hash)
        if asked is None:
            asked = self._asked[secret_hash] = asyncio.get_running_loop().create_future()
            if self._loader is None or self._loader.done():
                self._loader = asyncio.create_task(self._load_asked())
        return await asyncio.shield(asked)

    def forget(self, payload: str = "") -> None:
        """Drop one key (its hash in hex, as the notification brings it) or, for an empty text, all of them."""
        self._version += 1
        try:
            secret_hash = bytes.fromhex(payload)
        except ValueError:
            secret_hash = b""
        if secret_hash:
            self._entries.pop(secret_hash, None)
        else:
            self._entries.clear()

    async def close(self) -> None:
        """Give up what is being loaded and close the connection."""
        if self._loader is not None:
            self._loader.cancel()
            await asyncio.gather(self._loader, return_exceptions=True)
        await self._disconnect()

    async def _load_asked(self) -> None:
        while self._asked:
            batch = dict(list(self._asked.items())[:MOST_IN_ONE_QUERY])
            version = self._version
            try:
                facts = await self._query(list(batch))
            except asyncio.CancelledError:
                self._fail(batch)
                raise
            except (psycopg.Error, OSError, TimeoutError) as error:
                logger.warning("keys can't be read: %s", type(error).__name__)
                await self._disconnect()
                self._fail(batch)
                continue
            # A key that changed while it was read may be stale here already: answered, but not kept.
            keep = version == self._version
            for secret_hash, waiter in batch.items():
                found = facts.get(secret_hash)
                if keep:
                    self._keep(secret_hash, found)
                self._asked.pop(secret_hash, None)
                if not waiter.done():
                    waiter.set_result(found)

    def _fail(self, batch: dict[bytes, asyncio.Future[KeyFacts | None]]) -> None:
        for secret_hash, waiter in batch.items():
            self._asked.pop(secret_hash, None)
            if not waiter.done():
                waiter.set_exception(Overloaded("Keys can't be checked at this moment. Try again shortly."))
                waiter.exception()  # its asker may have left: nobody else needs to hear of it

    def _keep(self, secret_hash: bytes, facts: KeyFacts | None) -> None:
        if len(self._entries) >= MOST_ENTRIES:
            self._entries.clear()
        seconds = self._ttl_seconds if facts is not None else min(UNKNOWN_SECONDS, self._ttl_seconds)
        self._entries[secret_hash] = _Entry(facts, self._monotonic() + seconds)

    async def _query(self, hashes: list[bytes]) -> dict[bytes, KeyFacts]:
        """Once more on a new connection where the kept one turns out to be dead."""
        for last_try in (False, True):
            try:
                async with asyncio.timeout(_QUERY_SECONDS):
                    connection = await self._connected()
                    cursor = await connection.execute(_FACTS, [hashes])
                    return {bytes(row[0]): _facts(row) for row in await cursor.fetchall()}
            except psycopg.OperationalError:
                await self._disconnect()
                if last_try:
                    raise
        raise AssertionError("the loop above returns or raises")

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _facts(row: tuple[Any, ...]) -> KeyFacts:
    return KeyFacts(
        id=row[1],
        name=row[2],
        workspace_id=row[3],
        user_id=row[4],
        limit_microcredits=row[5],
        auto_disable=row[6],
        allowed_models=frozenset(str(model) for model in row[7] or ()),
        allowed_networks=_networks(row[8] or ()),
        expires_at=row[9],
        enabled=row[10],
        disabled_reason=row[11],
        deleted=row[12],
        workspace_active=row[13],
        member=row[14],
    )


def _networks(texts: Iterable[Any]) -> tuple[Network, ...]:
    """Networks of a key. One that can't be read matches nobody, so that a broken rule never opens a key."""
    networks: list[Network] = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(str(text), strict=False))
        except ValueError:
            networks.append(ipaddress.ip_network("255.255.255.255/32"))
    return tuple(networks)
