"""Which adapter speaks to a target's tasks, and a task run to its end on an event loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from upstreams.errors import ServerFailed, TargetUnusable, TotalTimedOut, UpstreamRefusal
from upstreams.openai_videos import OpenAIVideos
from upstreams.tasks import MODERATED, Ask, Output, Standing, TaskAdapter
from upstreams.tasks_described import DescribedTasks
from upstreams.veo import Veo
from upstreams.veo_omni import Omni
from upstreams.wire import Target, UpstreamRequest

_OMNI: Final = re.compile(r"\bomni\b")
_MOST_POLL_SECONDS: Final = 30.0
_GROWTH: Final = 1.3


class Reply(NamedTuple):
    """A provider's whole answer, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


#: Sends one request and reads its whole answer. Raises UpstreamError.
Send = Callable[[UpstreamRequest], Awaitable[Reply]]


def adapter_for(target: Target) -> TaskAdapter:
    """How the target's tasks are spoken to. Raises TargetUnusable for one that has none, or no description."""
    if target.adapter == "openai":
        return OpenAIVideos()
    if target.adapter == "gemini":
        return Omni() if _OMNI.search(target.upstream_model) else Veo()
    if target.adapter == "task" and target.options.task is not None:
        return DescribedTasks(target.options.task)
    raise TargetUnusable("the catalog does not say how this provider's tasks are spoken to")


def next_wait(adapter: TaskAdapter, looks: int) -> float:
    """Seconds until the next look: the adapter's own at first, growing to half a minute."""
    return float(min(adapter.poll_seconds * _GROWTH ** max(looks, 0), max(_MOST_POLL_SECONDS, adapter.poll_seconds)))


async def run(target: Target, ask: Ask, send: Send, *, seconds: float) -> Standing:
    """Begin a task and wait for its end, at most ``seconds``; what it made has its addresses in ``outputs``.

    Raises UpstreamRefusal where the provider refused or its content rules did, other UpstreamErrors for what another
    target may do better. A wait that is cancelled or too long has the task cancelled where the provider can.
    """
    adapter = adapter_for(target)
    notes = adapter.accepted(target, ask, *await send(adapter.submit(target, ask)))
    state = "queued"
    try:
        async with asyncio.timeout(seconds):
            for looks in range(1, 1_000_000):
                await asyncio.sleep(next_wait(adapter, looks - 1))
                standing = adapter.standing(target, notes, *await send(adapter.look(target, notes)))
                state = standing.state
                if state not in ("queued", "running"):
                    return await _ended(adapter, target, standing, send)
    except TimeoutError:
        await _stop(adapter, target, notes, state, send)
        raise TotalTimedOut("the upstream's task was not ready in time") from None
    except asyncio.CancelledError:
        await asyncio.shield(_stop(adapter, target, notes, state, send))
        raise
    raise AssertionError("unreachable")


async def _ended(adapter: TaskAdapter, target: Target, standing: Standing, send: Send) -> Standing:
    if standing.state == "succeeded" and standing.outputs:
        outputs = [await _linked(adapter, target, output, send) for output in standing.outputs]
        return Standing("succeeded", 100, tuple(outputs), standing.seconds)
    if standing.moderated:
        message = standing.message or "The provider's content rules refused this."
        raise UpstreamRefusal(message, status=400, code=MODERATED)
    raise ServerFailed(f"the upstream's task ended as {standing.state}")


async def _linked(adapter: TaskAdapter, target: Target, output: Output, send: Send) -> Output:
    request = adapter.link(target, output)
    return output if request is None else adapter.linked(target, *await send(request))


async def _stop(adapter: TaskAdapter, target: Target, notes: Mapping[str, object], state: str, send: Send) -> None:
    request = adapter.stop(target, notes, state)
    if request is not None:
        try:
            async with asyncio.timeout(10):
                await send(request)
        except Exception:  # noqa: S110  (the provider's task ends by itself; nobody waits for it any more)
            pass
