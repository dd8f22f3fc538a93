"""Handles on processes beside the machine's own, as a second web server or cron would be (`payments_worker`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).resolve().parents[2]


class Worker:
    """The handle on one such process, for any thread."""

    def __init__(self, database: str, log: Path, **settings: str) -> None:
        address = urlsplit(os.environ["DATABASE_URL"])
        env = {**os.environ, **settings, "DATABASE_URL": address._replace(path=f"/{database}").geturl()}
        self._log = log
        self._lock = threading.Lock()
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.payments_worker"],
                cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, **given: Any) -> bool:
        """Have it done there. False where the product refused it; what failed otherwise fails here."""
        assert self._process.stdin and self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps({"do": do, **given}, default=str) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, f"the worker is gone: {self._log.read_text()[-3000:]}"
        answer = json.loads(line)
        assert "failed" not in answer, answer["failed"]
        return bool(answer["done"])

    def stop(self) -> None:
        """Let it end by itself."""
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(30) == 0, self._log.read_text()[-3000:]
