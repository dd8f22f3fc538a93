"""A provider of long tasks on loopback: begin, ask, stop; with the ways in which real ones go wrong.

A task's ``plan`` says how it behaves, one word each: ``ok`` · ``quick`` (done when asked to begin) · ``fails`` ·
``flaky`` (5xx now and then) · ``forgets`` (404 when asked) · ``never`` (runs for ever) · ``late`` (done once it is
told to stop) · ``cut`` (accepts, then hangs up before it answers) · ``refuses`` (400).
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Task:
    id: str
    key: str
    plan: str
    asked: int = 0
    stopped: bool = False


@dataclass
class TaskProvider:
    """What it was asked, and what it has. Tasks are known by the caller's key, as at providers that know such keys."""

    base_url: str = ""
    polls_until_done: int = 1
    tasks: dict[str, Task] = field(default_factory=dict)
    by_key: dict[str, Task] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    begun: Counter[str] = field(default_factory=Counter)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any] | None:
        """Status and JSON, or None for a connection that is cut."""
        with self._lock:
            self.calls[f"{method} {path.partition('?')[0].split('/')[-1] if method == 'POST' else 'task'}"] += 1
            if path == "/tasks":
                return self._begin(body)
            task = self.tasks.get(path.split("/")[2])
            if task is None:
                return 404, {"error": {"message": "There is no such task."}}
            if path.endswith("/cancel"):
                return self._stop(task)
            return self._ask(task)

    def _begin(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        key, plan = body["key"], body["plan"]
        self.begun[key] += 1
        if plan == "refuses":
            return 400, {"error": {"message": "Not this prompt.", "code": "content_policy"}}
        if plan == "flaky" and self.begun[key] == 1:
            return 503, {"error": {"message": "overloaded"}}
        task = self.by_key.get(key)
        if task is None:
            task = self.by_key[key] = Task(f"t{next(self._numbers)}", key, plan)
            self.tasks[task.id] = task
            if plan == "cut":
                return None
        return 200, {"id": task.id, **(self._done(task) if plan == "quick" else {"status": "running"})}

    def _ask(self, task: Task) -> tuple[int, Any]:
        task.asked += 1
        if task.plan == "forgets":
            return 404, {"error": {"message": "There is no such task."}}
        if task.plan == "flaky" and task.asked % 2:
            return 500, {"error": {"message": "try again"}}
        if task.plan == "fails":
            return 200, {"id": task.id, "status": "failed", "reason": "It broke."}
        if task.plan in ("never", "late") or task.asked < self.polls_until_done:
            return 200, {"id": task.id, "status": "running", "progress": min(99, 10 * task.asked)}
        return 200, {"id": task.id, **self._done(task)}

    def _stop(self, task: Task) -> tuple[int, Any]:
        task.stopped = True
        if task.plan == "late":
            return 200, {"id": task.id, **self._done(task)}
        return 200, {"id": task.id, "status": "cancelled"}

    def _done(self, task: Task) -> dict[str, Any]:
        return {"status": "done", "url": f"https://pictures.example/{task.id}.png", "seconds": 5}


@contextmanager
def running() -> Iterator[TaskProvider]:
    """The provider on a port of its own."""
    provider = TaskProvider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            answer = provider.answer(self.command, self.path, json.loads(body) if body else {})
            if answer is None:
                self.close_connection = True
                return
            data = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
