"""Runs one program to its end, with nothing of this machine's own settings around it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from clients.packages import FOLDER, NODE
from clients.turns import TurnFailed

TURN_SECONDS: Final = 150.0
_PATH: Final = f"{NODE.parent}{os.pathsep}/usr/local/bin{os.pathsep}/usr/bin{os.pathsep}/bin"


def run(name: str, command: Sequence[str | Path], folder: Path, env: Mapping[str, str], said: str = "") -> str:
    """What ``command`` wrote to its output, run in ``folder`` with ``said`` as its input.

    All it wrote is kept as var/clients/logs/``name``. Raises TurnFailed with its last words where it failed or did not
    end; its children end with it.
    """
    logs = FOLDER / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": _PATH, "LANG": "C.UTF-8", **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        output, errors = process.communicate(said, timeout=TURN_SECONDS)
    except subprocess.TimeoutExpired:
        raise TurnFailed(f"it did not end within {TURN_SECONDS:.0f} s") from None
    finally:
        _end(process)
    (logs / name).write_text(f"{output}\n── errors ──\n{errors}")
    if process.returncode != 0:
        lines = [line.strip() for line in (errors or output).splitlines() if line.strip()]
        told = next((line for line in lines if "rror:" in line), lines[-1] if lines else "")
        raise TurnFailed(f"exit {process.returncode}: {told[:300]}")
    return output


def _end(process: subprocess.Popen[str]) -> None:
    """It leads a group of its own, whose number nobody else can get while a member lives."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
