"""Named places between two steps, where a test may let this process die as if somebody had killed it.

``FAULT_POINT=topup.opened`` in the environment kills the process (SIGKILL) when it comes by that place. Unset, which
is always so outside tests, nothing happens.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "FAULT_POINT"


def point(name: str) -> None:
    """Die here if the environment says so."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
