"""Providers of clips as small real servers that behave like their documented APIs, and that tests can make misbehave.

What is written here is each API's own contract: paths, the header that bears the key, members that must be there, words
for states. A request that breaks it is answered as that provider would.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from upstreams.sandbox.clips import clip

SECRET = "sk-upstream-video-0123456789"
CLIP = clip("a test", 1, 320, 180)


@dataclass
class Answer:
    """What a server says. ``cut`` hangs up instead; ``seconds`` is how long it takes."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    seconds: float = 0.0


@dataclass
class Task:
    id: str
    body: dict[str, Any]
    path: str
    polls: int = 0
    cancelled: bool = False


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


class VideoApi:
    """One provider. A subclass answers ``submit``, ``look`` and ``cancel`` in its own words."""

    provider: ClassVar[str] = ""
    adapter: ClassVar[str] = "task"
    prefix: ClassVar[str] = ""
    secret: ClassVar[str] = SECRET

    def __init__(self) -> None:
        self.base_url = ""
        #: How often a task is asked after before it is done; what becomes of it then: made, failed or moderated.
        self.polls_until_done = 1
        self.outcome = "made"
        #: Said once each, in order, instead of the answer to the next submission, look, cancel or download.
        self.submit_faults: deque[Answer] = deque()
        self.look_faults: deque[Answer] = deque()
        self.cancel_faults: deque[Answer] = deque()
        self.file_faults: deque[Answer] = deque()
        #: How long the clip turned out to be, where the API says so.
        self.seconds: float | None = None
        self.tasks: dict[str, Task] = {}
        self.asked: list[Asked] = []
        self.lock = threading.Lock()

    # What tests look at.
    @property
    def submissions(self) -> list[Task]:
        return list(self.tasks.values())

    def forget(self) -> None:
        """The provider knows none of its tasks any more."""
        self.tasks.clear()

    def downloads(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.path.startswith("/files/")]

    # What the server does.
    def handle(self, asked: Asked) -> Answer:
        with self.lock:
            self.asked.append(asked)
            if asked.path.startswith("/files/"):
                return self._fault(self.file_faults) or Answer(CLIP, headers={"content-type": "video/mp4"})
            if not self.knows(asked.headers):
                return self.unauthorized()
            faults = {"submit": self.submit_faults, "look": self.look_faults, "cancel": self.cancel_faults}
            word, act = self.route(asked)
            fault = self._fault(faults[word]) if word in faults else None
            if fault is not None and not fault.cut:
                return fault
            answer = act()
            return fault or answer

    def _fault(self, faults: deque[Answer]) -> Answer | None:
        return faults.popleft() if faults else None

    def knows(self, headers: dict[str, str]) -> bool:
        return headers.get("authorization") == f"Bearer {self.secret}"

    def unauthorized(self) -> Answer:
        return Answer({"error": {"message": "invalid key", "code": "invalid_api_key"}}, 401)

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        raise NotImplementedError

    def begin(self, asked: Asked, task_id: str = "") -> Task:
        task = Task(task_id or f"task-{len(self.tasks) + 1}-{time.monotonic_ns()}", asked.body, asked.path)
        self.tasks[task.id] = task
        return task

    def word(self, task: Task) -> str:
        """queued, running, made, failed, moderated or cancelled; one look older."""
        task.polls += 1
        if task.cancelled:
            return "cancelled"
        if task.polls > self.polls_until_done:
            return self.outcome
        return "queued" if task.polls == 1 and self.polls_until_done > 1 else "running"

    def file(self, task: Task) -> str:
        return f"{self.base_url}/files/{task.id}.mp4"

    def length(self, task: Task) -> float:
        return self.seconds if self.seconds is not None else 5


def needs(body: Any, *names: str) -> str:
    """The first of the names that a body lacks, empty where it has all."""
    return next((name for name in names if not isinstance(body, dict) or body.get(name) in (None, "", [])), "")


class OpenAI(VideoApi):
    provider, adapter, prefix = "openai", "openai", "/v1"

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        if (asked.method, asked.path) == ("POST", "/v1/videos"):
            return "submit", lambda: self.submit(asked)
        match = re.fullmatch(r"/v1/videos/([\w-]+)(/content)?", asked.path)
        if match and match[2]:
            return (
                "content",
                lambda: self._fault(self.file_faults) or Answer(CLIP, headers={"content-type": "video/mp4"}),
            )
        if match and asked.method == "GET":
            return "look", lambda: self.look(match[1])
        if match and asked.method == "DELETE":
            return "cancel", lambda: self.cancel(match[1])
        return "nowhere", lambda: Answer({"error": {"message": "Not found"}}, 404)

    def submit(self, asked: Asked) -> Answer:
        if lacking := needs(asked.body, "model", "prompt"):
            return Answer({"error": {"message": f"missing {lacking}", "type": "invalid_request_error"}}, 400)
        return Answer(self._video(self.begin(asked), "queued"))

    def look(self, task_id: str) -> Answer:
        task = self.tasks.get(task_id)
        if task is None:
            return Answer({"error": {"message": "Video not found", "type": "invalid_request_error"}}, 404)
        states = {"running": "in_progress", "made": "completed", "moderated": "failed"}
        word = self.word(task)
        return Answer(self._video(task, states.get(word, word), word == "moderated"))

    def cancel(self, task_id: str) -> Answer:
        if self.tasks.pop(task_id, None) is None:
            return Answer({"error": {"message": "Video not found"}}, 404)
        return Answer({"id": task_id, "object": "video.deleted", "deleted": True})

    def _video(self, task: Task, state: str, moderated: bool = False) -> dict[str, Any]:
        error = None
        if state == "failed":
            error = {"code": "generation_failed", "message": "The render farm broke."}
        if moderated:
            error = {"code": "moderation_blocked", "message": "The prompt was blocked by our moderation system."}
        seconds = str(self.seconds if self.seconds is not None else task.body.get("seconds", "4"))
        progress = 100 if state == "completed" else 33 if state == "in_progress" else 0
        return {
            "id": task.id, "object": "video", "model": task.body["model"], "status": state, "progress": progress,
            "created_at": 1, "seconds": seconds, "size": task.body.get("size", "720x1280"), "error": error,
        }  # fmt: skip


def google_error(code: int, message: str, status: str) -> Answer:
    return Answer({"error": {"code": code, "message": message, "status": status}}, code)


class Veo(VideoApi):
    provider, adapter, prefix = "google", "gemini", "/v1beta"

    def knows(self, headers: dict[str, str]) -> bool:
        return headers.get("x-goog-api-key") == self.secret

    def unauthorized(self) -> Answer:
        error = {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
        }
        return Answer({"error": error}, 400)

    def handle(self, asked: Asked) -> Answer:
        if asked.path.startswith("/files/"):  # Google's files want the key as well, and lead on once
            self.asked.append(asked)
            if not self.knows(asked.headers):
                return self.unauthorized()
            if "alt" in asked.query:
                return Answer(b"", 302, {"location": f"{self.base_url}{asked.path}"})
            return self._fault(self.file_faults) or Answer(CLIP, headers={"content-type": "video/mp4"})
        return super().handle(asked)

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        match = re.fullmatch(r"/v1beta/models/([\w.-]+):predictLongRunning", asked.path)
        if match and asked.method == "POST":
            return "submit", lambda: self.submit(asked, match[1])
        match = re.fullmatch(r"/v1beta/(models/[\w.-]+/operations/[\w-]+)", asked.path)
        if match and asked.method == "GET":
            return "look", lambda: self.look(match[1])
        return "nowhere", lambda: Answer(
            {"error": {"code": 404, "message": "no such path", "status": "NOT_FOUND"}}, 404
        )

    def submit(self, asked: Asked, model: str) -> Answer:
        instance = (asked.body.get("instances") or [{}])[0]
        if not instance.get("prompt"):
            error = {"code": 400, "message": "prompt is required", "status": "INVALID_ARGUMENT"}
            return Answer({"error": error}, 400)
        for picture in filter(None, [instance.get("image"), instance.get("lastFrame")]):
            base64.b64decode(picture["bytesBase64Encoded"], validate=True)
        task = self.begin(asked, f"models/{model}/operations/op{len(self.tasks) + 1}")
        return Answer({"name": task.id})

    def look(self, name: str) -> Answer:
        task = self.tasks.get(name)
        if task is None:
            return Answer({"error": {"code": 404, "message": "Operation not found", "status": "NOT_FOUND"}}, 404)
        word = self.word(task)
        if word in ("queued", "running"):
            return Answer({"name": name})
        if word == "failed":
            return Answer({"name": name, "done": True, "error": {"code": 13, "message": "Internal error."}})
        made: dict[str, Any] = {"generatedSamples": [{"video": {"uri": f"{self.file(task)}:download?alt=media"}}]}
        if word == "moderated":
            made = {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": ["The prompt was against our rules."]}
        return Answer({"name": name, "done": True, "response": {"generateVideoResponse": made}})

    def file(self, task: Task) -> str:
        return f"{self.base_url}/files/{task.id.rpartition('/')[2]}"


class Omni(Veo):
    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        if (asked.method, asked.path) == ("POST", "/v1beta/interactions"):
            return "submit", lambda: self.submit(asked, "")
        match = re.fullmatch(r"/v1beta/interactions/([\w-]+)(/cancel)?", asked.path)
        if match and match[2]:
            return "cancel", lambda: self.cancel(match[1])
        if match:
            return "look", lambda: self.look(match[1])
        return "nowhere", lambda: Answer(
            {"error": {"code": 404, "message": "no such path", "status": "NOT_FOUND"}}, 404
        )

    def submit(self, asked: Asked, model: str) -> Answer:
        if needs(asked.body, "model", "input") or asked.body.get("background") is not True:
            return Answer({"error": {"code": 400, "message": "bad request", "status": "INVALID_ARGUMENT"}}, 400)
        task = self.begin(asked)
        return Answer({"id": task.id, "object": "interaction", "status": "in_progress", "model": asked.body["model"]})

    def look(self, name: str) -> Answer:
        task = self.tasks.get(name)
        if task is None:
            return Answer({"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}}, 404)
        word = self.word(task)
        states = {"queued": "in_progress", "running": "in_progress", "made": "completed", "moderated": "failed"}
        answer: dict[str, Any] = {"id": name, "object": "interaction", "status": states.get(word, word)}
        if word == "made":
            part = {"type": "video", "mime_type": "video/mp4", "data": base64.b64encode(CLIP).decode()}
            answer["steps"] = [{"type": "user_input", "content": []}, {"type": "model_output", "content": [part]}]
        if word == "moderated":
            answer["error"] = {"code": 400, "message": "The prompt was blocked for safety reasons."}
        if word == "failed":
            answer["error"] = {"code": 500, "message": "Internal error."}
        return Answer(answer)

    def cancel(self, name: str) -> Answer:
        task = self.tasks[name]
        task.cancelled = True
        return Answer({"id": name, "status": "cancelled"})


@contextmanager
def serving(api: VideoApi) -> Iterator[VideoApi]:
    """``api`` answers at its ``base_url`` for as long as this lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(raw) if raw else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = api.handle(Asked(self.command, parts.path, parse_qs(parts.query), headers, body))
            time.sleep(answer.seconds)
            if answer.cut:
                self.close_connection = True
                return
            data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    api.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
