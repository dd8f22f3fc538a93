"""The paths of the local engine as an ASGI application."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from infra.local_engine.queue import Job, Queue, Settings
from infra.local_engine.workers import image_of
from upstreams import loose_json, runpod
from upstreams.client import Pool

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Answer = tuple[int, Any]

DEFAULT_EXECUTION_MS: Final = 600_000
DEFAULT_TTL_MS: Final = 86_400_000
DEFAULT_WAIT_MS: Final = 90_000
SYNC_KEPT_SECONDS: Final = 60.0
LOG_LINES: Final = 200
_MOST_BODY_BYTES: Final = runpod.MOST_RUNSYNC_BYTES

_REST = re.compile(r"/v1/(templates|endpoints)(?:/([\w-]+))?(/logs)?")
_QUEUE = re.compile(r"/v2/([\w-]+)/(run|runsync|health|status|cancel)(?:/([\w-]+))?")


class Refused(Exception):
    """What the caller did wrong, with the status of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """Templates, endpoints and their queues, in memory. ``secret`` is what callers have to present."""

    def __init__(self, folder: Path, secret: str, *, result_seconds: float = runpod.RESULT_KEPT_SECONDS) -> None:
        self._folder, self._secret, self._result_seconds = folder, secret, result_seconds
        self._templates: dict[str, dict[str, Any]] = {}
        self._endpoints: dict[str, dict[str, Any]] = {}
        self._queues: dict[str, Queue] = {}
        self._pool = Pool()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            status, value = await self._answer(scope, receive)
            body = b"" if value is None else loose_json.encode(value)
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def close(self) -> None:
        """End every worker."""
        await asyncio.gather(*(queue.close() for queue in self._queues.values()))
        await self._pool.aclose()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> Answer:
        headers = dict(scope["headers"])
        presented = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        if not hmac.compare_digest(presented, self._secret.encode()):
            return 401, {"error": "unauthorized"}
        try:
            body = await _body(receive)
            if found := _REST.fullmatch(scope["path"]):
                return await self._manage(scope["method"], *found.groups(), body=body)
            if found := _QUEUE.fullmatch(scope["path"]):
                query = scope["query_string"].decode("latin-1")
                return await self._work(scope["method"], *found.groups(), query=query, body=body)
            raise Refused(404, "There is nothing at this address.")
        except Refused as refusal:
            return refusal.status, {"error": str(refusal)}

    # ── Templates and endpoints ──────────────────────────────────────────────────────────────────────────────────────
    async def _manage(self, method: str, kind: str, key: str | None, logs: str | None, *, body: Any) -> Answer:
        table = self._templates if kind == "templates" else self._endpoints
        if key is None:
            if method == "GET":
                return 200, list(table.values())
            if method == "POST":
                return 200, await (self._new_template(body) if kind == "templates" else self._new_endpoint(body))
            raise Refused(405, "Use GET or POST.")
        if key not in table:
            raise Refused(404, f"{kind[:-1]} not found")
        if logs:
            return 200, {"lines": _last_lines(self._queues[key].log)}
        if method == "PATCH":
            table[key].update(body)
            await self._renew(kind, key)
        elif method == "DELETE":
            await self._delete(kind, key)
            return 204, None
        elif method != "GET":
            raise Refused(405, "Use GET, PATCH or DELETE.")
        return 200, table[key]

    async def _new_template(self, body: Mapping[str, Any]) -> dict[str, Any]:
        image, name = str(body.get("imageName", "")), str(body.get("name", ""))
        if image_of(image) is None:
            raise Refused(400, f"The local engine runs the image hypereal/sample only, not {image[:200]}.")
        if not name or any(row["name"] == name for row in self._templates.values()):
            raise Refused(400, "A template's name must be set and unique.")
        row = {**body, "id": secrets.token_hex(5)}
        self._templates[row["id"]] = row
        return row

    async def _new_endpoint(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if body.get("templateId") not in self._templates:
            raise Refused(400, "templateId names no template.")
        row = {**body, "id": secrets.token_hex(7)}
        self._endpoints[row["id"]] = row
        self._queues[row["id"]] = Queue(self._folder / row["id"], self._settings(row), self._pool)
        self._queues[row["id"]].keep_warm()
        return row

    async def _renew(self, kind: str, key: str) -> None:
        """Bring what changed to the queues that it concerns. Raises Refused for an image that is not here."""
        rows = [self._endpoints[key]] if kind == "endpoints" else self._endpoints.values()
        for row in rows:
            if kind == "endpoints" or row["templateId"] == key:
                await self._queues[row["id"]].change(self._settings(row))

    async def _delete(self, kind: str, key: str) -> None:
        if kind == "templates":
            if any(row["templateId"] == key for row in self._endpoints.values()):
                raise Refused(400, "An endpoint uses this template.")
            del self._templates[key]
            return
        if self._endpoints[key].get("workersMax") or self._endpoints[key].get("workersMin"):
            raise Refused(400, "Set the endpoint's least and most workers to zero first.")
        queue = self._queues.pop(key)
        del self._endpoints[key]
        await queue.close()
        shutil.rmtree(queue.log.parent, ignore_errors=True)

    def _settings(self, row: Mapping[str, Any]) -> Settings:
        template = self._templates[row["templateId"]]
        handler = image_of(str(template["imageName"]))
        if handler is None:
            raise Refused(400, "The local engine runs the image hypereal/sample only.")
        return Settings(
            handler=handler,
            env={str(name): str(value) for name, value in template.get("env", {}).items()},
            workers_min=int(row.get("workersMin", 0)),
            workers_max=int(row.get("workersMax", 3)),
            idle_seconds=float(row.get("idleTimeout", 5)),
            execution_seconds=int(row.get("executionTimeoutMs", DEFAULT_EXECUTION_MS)) / 1000,
        )

    # ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _work(self, method: str, endpoint: str, op: str, job_id: str | None, *, query: str, body: Any) -> Answer:
        queue = self._queues.get(endpoint)
        if queue is None:
            raise Refused(404, "endpoint not found")
        if method != ("GET" if op in ("health", "status") else "POST"):
            raise Refused(405, "This operation has another method.")
        if op == "health":
            return 200, queue.health()
        if op in ("run", "runsync"):
            return await self._run(queue, body, sync=op == "runsync", query=query)
        job = queue.find(job_id or "")
        if job is None:
            raise Refused(404, "job not found")
        if op == "cancel":
            await queue.cancel(job)
        return 200, job.shown()

    async def _run(self, queue: Queue, body: Any, *, sync: bool, query: str) -> Answer:
        if not isinstance(body, dict) or not isinstance(body.get("input"), dict):
            raise Refused(400, "input must be an object.")
        policy = body.get("policy") or {}
        job = queue.submit(
            Job(
                input=body["input"],
                execution_seconds=int(policy.get("executionTimeout", DEFAULT_EXECUTION_MS)) / 1000,
                ttl_seconds=int(policy.get("ttl", DEFAULT_TTL_MS)) / 1000,
                kept_seconds=min(SYNC_KEPT_SECONDS, self._result_seconds) if sync else self._result_seconds,
            )
        )
        if sync:
            named = re.search(r"(?:^|&)wait=(\d{1,6})(?:&|$)", query)
            wait_ms = min(int(named[1]) if named else DEFAULT_WAIT_MS, runpod.MOST_WAIT_MS)
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await job.ended.wait()
            except TimeoutError:
                pass
        return 200, job.shown()


async def _body(receive: Receive) -> Any:
    parts, size = [], 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _MOST_BODY_BYTES:
            raise Refused(413, "The request is too large.")
        if not message.get("more_body"):
            break
    joined = b"".join(parts)
    if not joined:
        return {}
    try:
        return loose_json.decode(joined)
    except ValueError:
        raise Refused(400, "The body is no JSON.") from None


def _last_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64 * 1024))
        return file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
