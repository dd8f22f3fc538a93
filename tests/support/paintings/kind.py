"""Paintings, made by `tests.fakes.task_provider`."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from typing import Any

from jobs import http
from jobs.kinds import Done, Failed, Step, Stop, Stopped, Waiting
from jobs.models import Job
from upstreams import classify
from upstreams.wire import Timeouts, UpstreamRequest, split_base_url

#: Where the provider is.
VARIABLE = "PAINTINGS_URL"
PRICE = 5_000_000
_TIMEOUTS = Timeouts(connect_seconds=20, first_byte_seconds=20, idle_seconds=20, total_seconds=30)


class Paintings:
    """Looks into ``job.notes`` for its task first, so that a step may run twice."""

    name = "paintings"
    queue = "media"

    def start(self, job: Job) -> Step:
        job.provider, job.target = "acme", "acme//painter-1"
        return self._read(self._ask("POST", "/tasks", {"key": str(job.pk), "plan": job.input["plan"]}))

    def poll(self, job: Job) -> Step:
        return self._read(self._ask("GET", f"/tasks/{job.notes['task']}"))

    def stop(self, job: Job) -> Stop:
        if "task" not in job.notes:
            return Stopped()
        answer = self._ask("POST", f"/tasks/{job.notes['task']}/cancel", {})
        return Stopped() if answer["status"] == "cancelled" else self._read(answer)

    def shown(self, job: Job) -> dict[str, Any]:
        return {"data": [{"url": job.result["url"]}]} if job.result else {}

    def _read(self, answer: dict[str, Any]) -> Waiting | Done | Failed:
        if answer["status"] == "done":
            return Done(result={"url": answer["url"]}, charge_microcredits=PRICE, units=Decimal(answer["seconds"]))
        if answer["status"] == "failed":
            return Failed(error_type="upstream_error", message=answer["reason"])
        return Waiting(seconds=0.2, progress=answer.get("progress"), notes={"task": answer["id"]})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        origin, _path = split_base_url(os.environ[VARIABLE])
        data = json.dumps(body).encode() if body is not None else b""
        reply = http.send(
            UpstreamRequest(method, origin, path, (("content-type", "application/json"),), data), _TIMEOUTS
        )
        if reply.status >= 400:
            raise classify.refuse(reply.status, reply.headers, reply.body)
        answer: dict[str, Any] = json.loads(reply.body)
        return answer
