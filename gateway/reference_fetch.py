"""Reference pictures are looked up and fetched in threads of their own, a few at a time for each workspace.

Somebody's slow server must hold up neither the threads that read large bodies nor another workspace's pictures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

T = TypeVar("T")

_THREADS: Final = 16
_EACH: Final = 4

_gates: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()


async def fetch(workspace_id: UUID, work: Callable[[], T]) -> T:
    """What ``work`` returns, which blocks on the network within bounds of its own. Raises what it raises."""
    gate = _gates.get(workspace_id)
    if gate is None:
        gate = _gates[workspace_id] = asyncio.Semaphore(_EACH)
    async with gate:
        return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="gateway-references")
