"""Processes that start in no time: forks of one that has loaded everything and has done nothing yet.

Loading the product takes seconds of a processor, so tests that start it many times have it loaded once. What is forked
is a process like any other: with a group, a log and a connection of its own, and it can be killed.

Run as a script it is that one process: a command a line on its standard input, as JSON, and a line back for each.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

ROOT: Final = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG: Final = 1
_POLL_SECONDS: Final = 0.02


class Forked:
    """A process of a nursery, with what `subprocess.Popen` has of the same names."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None:
            self._code = self._nursery.exit_code(self.pid)
        return self._code

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises TimeoutExpired."""
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), seconds)
            time.sleep(_POLL_SECONDS)
        return code

    def kill(self) -> None:
        """kill -9, with all of its group; its exit is collected."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait(20)


class Nursery:
    """The process that forks, and the way to ask it."""

    def __init__(self, *modules: str, env: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.nursery", *modules],
                cwd=ROOT, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self._lock = threading.Lock()

    def start(self, module: str, arguments: Sequence[str], *, log: Path, env: Mapping[str, str]) -> Forked:
        """``module``'s ``main`` with these arguments, in a process of its own."""
        asked = {"module": module, "arguments": list(arguments), "log": str(log), "env": dict(env)}
        return Forked(self, int(self._ask(asked)))

    def exit_code(self, pid: int) -> int | None:
        """How the process ended; None while it runs. May be told once."""
        code = self._ask({"pid": pid})
        return None if code is None else int(code)

    def close(self) -> None:
        """End it; what it forked dies with it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def _ask(self, command: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


# ── The process itself ───────────────────────────────────────────────────────────────────────────────────────────────
def main(modules: Sequence[str]) -> None:
    """Load ``modules``, then do as it is told until nobody tells any more."""
    loaded = {name: importlib.import_module(name) for name in modules}
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    for line in sys.stdin:
        told = json.loads(line)
        answer = _exit_code(told["pid"]) if "pid" in told else _fork(loaded, told)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _exit_code(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _fork(loaded: Mapping[str, Any], told: Mapping[str, Any]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(parent, loaded[told["module"]], told)
    return pid


def _become(parent: int, module: Any, told: Mapping[str, Any]) -> NoReturn:
    """In the fork: what a process has that was started by itself. It dies with the nursery."""
    code = 1
    try:
        os.setsid()
        if sys.platform.startswith("linux"):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(told["env"])
        code = module.main(told["arguments"]) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
