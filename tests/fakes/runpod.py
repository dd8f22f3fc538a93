"""RunPod as its documentation describes it, small: templates and endpoints over REST, and a queue that a test moves.

Facts, each with its page: names of templates are unique and a template is made of ``name`` and ``imageName``
(docs.runpod.io/api-reference/templates/POST/templates); an endpoint needs ``templateId``
(…/endpoints/POST/endpoints); it may be deleted once its workers are zero
(docs.runpod.io/sdks/graphql/manage-endpoints); ``/run``
answers id and IN_QUEUE, ``/status`` tells FAILED and TIMED_OUT with 200, a result that is gone is
404 (docs.runpod.io/serverless/endpoints/operations and …/job-states); keys are bearer tokens.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "rpa_test_key_of_the_engine"


@dataclass
class RunPod:
    """What the server holds, and how it misbehaves."""

    port: int = 0
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Every request that came: method and path.
    asked: list[tuple[str, str]] = field(default_factory=list)
    #: Method and a part of the path → what to answer instead: a status, or "drop" (do it, and break off); or what
    #: happens once it is done and not answered yet.
    faults: dict[tuple[str, str], int | str | Callable[[], None]] = field(default_factory=dict)
    #: What an image is refused with.
    refused_images: dict[str, str] = field(default_factory=dict)
    #: What the next jobs become at once when their state is asked for.
    script: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def finish(self, job_id: str, status: str = "COMPLETED", **members: Any) -> None:
        """Bring a job to a state, as a worker would."""
        self.jobs[job_id].update({"status": status, **members})

    def only_job(self) -> str:
        (job_id,) = self.jobs
        return job_id

    def times(self, method: str, part: str) -> int:
        """How often something was asked."""
        return sum(each == method and part in path for each, path in self.asked)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if found := re.fullmatch(r"/v1/(templates|endpoints)(?:/([\w-]+))?", path):
            return self._manage(method, found[1], found[2], body)
        if found := re.fullmatch(r"/v2/([\w-]+)/(run|status|cancel|health)(?:/([\w-]+))?", path):
            return self._queue(found[1], found[2], found[3], body)
        return 404, {"error": "not found"}

    def _manage(self, method: str, kind: str, key: str | None, body: Any) -> tuple[int, Any]:
        table = self.templates if kind == "templates" else self.endpoints
        if key is None:
            if method == "GET":
                return 200, list(table.values())
            if kind == "templates" and body["imageName"] in self.refused_images:
                return 400, {"error": self.refused_images[body["imageName"]]}
            if kind == "templates" and any(row["name"] == body["name"] for row in table.values()):
                return 400, {"error": "Template name must be unique."}
            if kind == "endpoints" and body["templateId"] not in self.templates:
                return 400, {"error": "templateId is not valid."}
            row = {**body, "id": f"{kind[:2]}{len(self.asked)}"}
            table[row["id"]] = row
            return 200, row
        if key not in table:
            return 404, {"error": f"{kind} not found"}
        if method == "PATCH":
            table[key].update(body)
        if method == "DELETE":
            if kind == "endpoints" and table[key]["workersMax"]:
                return 400, {"error": "Workers must be 0 before the endpoint is deleted."}
            del table[key]
            return 204, None
        return 200, table[key]

    def _queue(self, endpoint: str, op: str, job_id: str | None, body: Any) -> tuple[int, Any]:
        if endpoint not in self.endpoints:
            return 404, {"error": "endpoint not found"}
        if op == "health":
            jobs = {"completed": 0, "failed": 0, "inProgress": 0, "inQueue": len(self.jobs), "retried": 0}
            return 200, {"jobs": jobs, "workers": {"idle": 1, "running": 0}}
        if op == "run":
            made = f"job-{len(self.jobs) + 1}-u1"
            self.jobs[made] = {"id": made, "status": "IN_QUEUE", "asked": body}
            return 200, {"id": made, "status": "IN_QUEUE"}
        if job_id not in self.jobs:
            return 404, {"error": "job not found"}
        job = self.jobs[job_id]
        if op == "cancel":
            if job["status"] in ("IN_QUEUE", "IN_PROGRESS"):
                job["status"] = "CANCELLED"
            return 200, {"id": job_id, "status": job["status"]}
        if self.script and job["status"] in ("IN_QUEUE", "IN_PROGRESS"):
            job.update(self.script.pop(0))
        return 200, {name: value for name, value in job.items() if name != "asked"}


@contextmanager
def running() -> Iterator[RunPod]:
    """A RunPod on loopback."""
    fake = RunPod()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _serve(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            fake.asked.append((self.command, self.path))
            fault = next(
                (what for (method, part), what in fake.faults.items() if method == self.command and part in self.path),
                None,
            )
            if self.headers.get("authorization") != f"Bearer {KEY}":
                status, value = 401, {"error": "unauthorized"}
            elif isinstance(fault, int):
                status, value = fault, {"error": "the engine is in trouble"}
            else:
                status, value = fake.answer(self.command, self.path, body)
            if callable(fault):
                fault()
            if fault == "drop":
                self.close_connection = True
                return
            sent = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
