"""A process that looks at deployments once, to be forked and killed on its way (`tests.support.nursery`)."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import django

django.setup()

from infra import reconciling, warm  # noqa: E402  (need the settings)


def main(arguments: Sequence[str]) -> int:
    """Each argument is a deployment to look at, or ``warm`` for the sweep of warm workers."""
    for argument in arguments:
        if argument == "warm":
            warm.sweep()
        else:
            reconciling.step(UUID(argument))
    return 0
