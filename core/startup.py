"""What a process looks at before it serves: the checks that are registered with `TAG`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.core import checks

#: A check with this tag stops a start. It must be cheap and need no network; a database only with Tags.database.
TAG: Final = "startup"


def complaints(databases: Sequence[str] = ()) -> str:
    """The errors of this configuration, each with its id and hint, "" where it may serve.

    ``databases`` are the aliases that may be asked; none are by default. Warnings stop nobody.
    """
    found = checks.run_checks(tags=[TAG], databases=list(databases))
    serious = [message for message in found if message.is_serious() and not message.is_silenced()]
    return "\n".join(str(message) for message in serious)
