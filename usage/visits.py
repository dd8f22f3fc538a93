"""One visit of the committer to the database: a batch in one transaction, the short way where it can."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from usage import rows
from usage.doors import LineDoor
from usage.items import Item, Result, Settled
from usage.known import Known, Recalled
from usage.lone import lone
from usage.metering import Decision, decide, wanted


async def visit(door: LineDoor, items: Sequence[Item], known: Known, *, flush: bool) -> list[Result]:
    """Decide over ``items`` and commit; one result each. With ``flush`` all of it is on the disk when this returns.

    Raises psycopg.Error; the outcome of a lost connection is unknown.
    """
    recalled = known.recall(items)
    if recalled is not None:
        results = await _over_remembered_rows(door, items, known, recalled, flush=flush)
        if results is not None:
            return results
    return await _over_locked_rows(door, items, known, flush=flush)


async def _over_remembered_rows(
    door: LineDoor, items: Sequence[Item], known: Known, recalled: Recalled, *, flush: bool
) -> list[Result] | None:
    """One round trip. None, with nothing changed, where what is remembered no longer stands."""
    try:
        decision = _decide_at_once(items, recalled)
        if decision is None:
            known.doubt(items)
            return None
        call = lone(items, recalled, decision)
        if call is not None:
            answer = await door.apply_lone(call.function, call.argument, flush=flush)
        else:
            answer = await door.apply(recalled.decided(decision.changes), flush=flush)
    except BaseException:  # whatever it was, what is remembered has been decided over and stands nowhere
        known.doubt(items)
        raise
    if answer is None:
        known.doubt(items)
        return None
    standing = rows.parse_standing(answer)
    known.confirm(items, decision, standing.version)
    return [
        replace(result, billed_at=standing.now) if isinstance(result, Settled) else result
        for result in decision.results
    ]


def _decide_at_once(items: Sequence[Item], recalled: Recalled) -> Decision | None:
    """None where the decision asks for the log, which is not remembered."""
    try:
        next(decide(items, recalled.rows))
    except StopIteration as end:
        decision: Decision = end.value
        return decision
    return None


async def _over_locked_rows(door: LineDoor, items: Sequence[Item], known: Known, *, flush: bool) -> list[Result]:
    """Two round trips: read and lock, then write."""
    locked = rows.parse(await door.read(wanted(items)))
    deciding = decide(items, locked)
    try:
        log_id = next(deciding)
        while True:
            log_id = deciding.send(await door.logged(log_id))
    except StopIteration as end:
        decision: Decision = end.value
    await door.commit(decision.changes, flush=flush)
    known.learn(items, locked, decision)
    return decision.results
