"""A process beside the machine's own: one order a line on standard input, one answer a line on standard output."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hypereal_site.settings")
django.setup()

# What follows needs what the lines above made.
from billing import auto, expiry, reversals, stripe_events, topups  # noqa: E402
from billing.models import TopUp  # noqa: E402
from core import errors, ids  # noqa: E402
from events import audit  # noqa: E402
from usage.items import Admit, LogRow, Settle  # noqa: E402
from usage.metering import apply_now  # noqa: E402


def events(now: str) -> None:
    """Handle the webhooks that are stored."""
    stripe_events.sweep(datetime.fromisoformat(now))


def everything(now: str) -> None:
    """All that runs by itself."""
    moment = datetime.fromisoformat(now)
    stripe_events.sweep(moment)
    topups.sweep(moment)
    topups.heal(moment, since=timedelta(days=60))
    reversals.sweep(moment)
    auto.sweep(moment)
    expiry.sweep(moment)


def refund(topup: str, cents: int | None) -> None:
    """An operator's refund."""
    reversals.refund(TopUp.objects.get(pk=topup), cents, "asked for", audit.operator("machine"))


def spend(workspace: str, key: str, microcredits: int) -> None:
    """A call that costs so much."""
    hold, wallet, key_id = ids.uuid7(), UUID(workspace), UUID(key)
    apply_now(Admit(hold, wallet, key_id, 0, None, "chat", "gpt-test", None))
    row = LogRow(
        request_id=hold, workspace_id=wallet, key_id=key_id, endpoint="chat", model="gpt-test", status=200, latency_ms=1
    )
    apply_now(Settle(hold, wallet, key_id, microcredits, row))


ORDERS: Final[dict[str, Callable[..., None]]] = {
    "events": events,
    "everything": everything,
    "refund": refund,
    "spend": spend,
}


def main() -> None:
    """Do what the lines say, until there are no more."""
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {"done": True}
        try:
            ORDERS[order.pop("do")](**order)
        except errors.ProductError:
            answer = {"done": False}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
