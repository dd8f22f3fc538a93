"""The wire of RunPod's serverless engine: requests as values, answers read into values. Pure: no I/O, no Django.

Two addresses: the REST API that manages templates and endpoints (https://docs.runpod.io/api-reference/overview, base
https://rest.runpod.io/v1), and the queue of each endpoint (https://docs.runpod.io/serverless/endpoints/operations,
base https://api.runpod.ai/v2). Both take ``Authorization: Bearer KEY``. Whatever speaks the same wire is reached by
other addresses: the local engine, and the development server of the vendor's own worker SDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import msgspec

from upstreams import classify, loose_json
from upstreams.errors import BadAnswer, UpstreamRefusal
from upstreams.redact import clean
from upstreams.wire import Headers, UpstreamRequest, split_base_url

__all__ = [
    "Account",
    "Endpoint",
    "Health",
    "Policy",
    "Seen",
    "Template",
    "cancel",
    "health",
    "run",
    "runsync",
    "status",
]

QUEUED: Final = "IN_QUEUE"
RUNNING: Final = frozenset({"IN_PROGRESS", "RUNNING"})
COMPLETED: Final = "COMPLETED"
CANCELLED: Final = "CANCELLED"
#: States that nothing follows (https://docs.runpod.io/serverless/endpoints/job-states). They come with HTTP 200.
FINAL: Final = frozenset({COMPLETED, "FAILED", CANCELLED, "TIMED_OUT"})
#: Longest that /runsync keeps a caller waiting: its ``wait`` takes 1,000 to 300,000 ms.
MOST_WAIT_MS: Final = 300_000
#: What ``policy`` takes: executionTimeout of 5 s to 7 days, ttl of 10 s to 7 days from submission.
LEAST_EXECUTION_MS: Final = 5_000
MOST_POLICY_MS: Final = 7 * 86_400_000
#: Body limits of /run and /runsync.
MOST_RUN_BYTES: Final = 10 * 1024 * 1024
MOST_RUNSYNC_BYTES: Final = 20 * 1024 * 1024
#: /run results are kept half an hour, those of /runsync a minute.
RESULT_KEPT_SECONDS: Final = 1_800.0

#: What a pool of the serverless page is in the REST API's ``gpuTypeIds``
#: (https://docs.runpod.io/references/gpu-types: "GPU types" and "GPU pools").
POOLS: Final[Mapping[str, tuple[str, ...]]] = {
    "AMPERE_16": ("NVIDIA RTX A4000", "NVIDIA RTX A4500", "NVIDIA RTX 4000 Ada Generation"),
    "AMPERE_24": ("NVIDIA L4", "NVIDIA RTX A5000", "NVIDIA GeForce RTX 3090"),
    "ADA_24": ("NVIDIA GeForce RTX 4090",),
    "AMPERE_48": ("NVIDIA RTX A6000", "NVIDIA A40"),
    "ADA_48_PRO": ("NVIDIA L40", "NVIDIA L40S", "NVIDIA RTX 6000 Ada Generation"),
    "AMPERE_80": ("NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB"),
    "ADA_80_PRO": ("NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3", "NVIDIA H100 NVL"),
    "HOPPER_141": ("NVIDIA H200",),
    "BLACKWELL_180": ("NVIDIA B200",),
}

_COMMON: Headers = (("content-type", "application/json"), ("accept-encoding", "identity"), ("user-agent", "hypereal"))


@dataclass(frozen=True, slots=True)
class Account:
    """Where an engine is and the key it is spoken to with. ``status_method``: the SDK's own server wants POST."""

    queue_url: str
    rest_url: str = ""
    secret: str = field(default="", repr=False)
    status_method: str = "GET"


@dataclass(frozen=True, slots=True)
class Template:
    """What runs: the image and the environment of its workers (a template of kind "serverless")."""

    name: str
    image: str
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    disk_gb: int = 50
    volume_path: str = ""

    def body(self) -> dict[str, Any]:
        """Members of ``POST /templates``: name and imageName are required, isServerless makes it no Pod's."""
        members: dict[str, Any] = {
            "name": self.name,
            "imageName": self.image,
            "env": dict(self.env),
            "containerDiskInGb": self.disk_gb,
        }
        return {**members, "volumeMountPath": self.volume_path} if self.volume_path else members


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where it runs: GPU pools in the order of preference, and how many workers."""

    name: str
    template_id: str
    pools: Sequence[str]
    workers_min: int
    workers_max: int
    idle_timeout_seconds: int
    execution_timeout_ms: int
    network_volume_id: str = ""

    def body(self) -> dict[str, Any]:
        """Members of ``POST /endpoints``; ``idleTimeout`` is in seconds, ``executionTimeoutMs`` in milliseconds."""
        members: dict[str, Any] = {
            "name": self.name,
            "templateId": self.template_id,
            "computeType": "GPU",
            "gpuTypeIds": [name for pool in self.pools for name in POOLS.get(pool, (pool,))],
            "workersMin": self.workers_min,
            "workersMax": self.workers_max,
            "idleTimeout": self.idle_timeout_seconds,
            "executionTimeoutMs": self.execution_timeout_ms,
        }
        return {**members, "networkVolumeId": self.network_volume_id} if self.network_volume_id else members


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of one job, in milliseconds: how long it may run, and how long it may exist from submission on."""

    execution_ms: int
    ttl_ms: int

    def body(self) -> dict[str, int]:
        """The member ``policy`` of a run, within what the engine takes."""
        return {
            "executionTimeout": min(max(self.execution_ms, LEAST_EXECUTION_MS), MOST_POLICY_MS),
            "ttl": min(max(self.ttl_ms, 2 * LEAST_EXECUTION_MS), MOST_POLICY_MS),
        }


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as the engine tells of it. ``execution_ms`` is the billed part, None where it was not told."""

    id: str
    status: str
    output: Any = None
    error: str = ""
    execution_ms: int | None = None
    delay_ms: int | None = None
    worker: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self.status in FINAL

    @property
    def running(self) -> bool:
        """Whether a worker has it."""
        return self.status in RUNNING


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint is: jobs by state, workers by state."""

    jobs: Mapping[str, int]
    workers: Mapping[str, int]


# ── Management ───────────────────────────────────────────────────────────────────────────────────────────────────────
def create_template(account: Account, template: Template) -> UpstreamRequest:
    """``POST /templates`` (https://docs.runpod.io/api-reference/templates/POST/templates). Names are unique."""
    return _rest(account, "POST", "/templates", {**template.body(), "isServerless": True})


def update_template(account: Account, template_id: str, template: Template) -> UpstreamRequest:
    """``PATCH /templates/{id}``: workers of its endpoints are replaced one by one."""
    return _rest(account, "PATCH", f"/templates/{_part(template_id)}", template.body())


def list_templates(account: Account) -> UpstreamRequest:
    """``GET /templates``: those of the account."""
    return _rest(account, "GET", "/templates")


def delete_template(account: Account, template_id: str) -> UpstreamRequest:
    """``DELETE /templates/{id}``."""
    return _rest(account, "DELETE", f"/templates/{_part(template_id)}")


def create_endpoint(account: Account, endpoint: Endpoint) -> UpstreamRequest:
    """``POST /endpoints`` (https://docs.runpod.io/api-reference/endpoints/POST/endpoints)."""
    return _rest(account, "POST", "/endpoints", endpoint.body())


def update_endpoint(account: Account, endpoint_id: str, members: Mapping[str, Any]) -> UpstreamRequest:
    """``PATCH /endpoints/{id}``: members that are left out stay as they are."""
    return _rest(account, "PATCH", f"/endpoints/{_part(endpoint_id)}", members)


def list_endpoints(account: Account) -> UpstreamRequest:
    """``GET /endpoints``: those of the account."""
    return _rest(account, "GET", "/endpoints")


def delete_endpoint(account: Account, endpoint_id: str) -> UpstreamRequest:
    """``DELETE /endpoints/{id}``. Its most and least workers must be zero before
    (https://docs.runpod.io/sdks/graphql/manage-endpoints, "Delete a Serverless endpoint")."""
    return _rest(account, "DELETE", f"/endpoints/{_part(endpoint_id)}")


# ── The queue of one endpoint ────────────────────────────────────────────────────────────────────────────────────────
def run(account: Account, endpoint_id: str, body: Mapping[str, Any], policy: Policy | None = None) -> UpstreamRequest:
    """``POST /{endpoint}/run``: queued, answered at once with id and state. ``body`` holds ``input``."""
    return _queue(account, "POST", endpoint_id, "/run", _with(body, policy))


def runsync(
    account: Account, endpoint_id: str, body: Mapping[str, Any], *, wait_ms: int, policy: Policy | None = None
) -> UpstreamRequest:
    """``POST /{endpoint}/runsync?wait=ms``: the finished job, or an unfinished one when the wait is over."""
    wait = min(max(wait_ms, 1_000), MOST_WAIT_MS)
    return _queue(account, "POST", endpoint_id, f"/runsync?wait={wait}", _with(body, policy))


def status(account: Account, endpoint_id: str, job_id: str) -> UpstreamRequest:
    """``GET /{endpoint}/status/{job}``. 404 once the result's time is over."""
    method = account.status_method
    return _queue(account, method, endpoint_id, f"/status/{_part(job_id)}", {} if method == "POST" else None)


def cancel(account: Account, endpoint_id: str, job_id: str) -> UpstreamRequest:
    """``POST /{endpoint}/cancel/{job}``."""
    return _queue(account, "POST", endpoint_id, f"/cancel/{_part(job_id)}", {})


def health(account: Account, endpoint_id: str) -> UpstreamRequest:
    """``GET /{endpoint}/health``."""
    return _queue(account, "GET", endpoint_id, "/health")


def local_logs(account: Account, endpoint_id: str) -> UpstreamRequest:
    """``GET /endpoints/{id}/logs``: of the engine on this machine alone; RunPod shows logs to people only."""
    return _rest(account, "GET", f"/endpoints/{_part(endpoint_id)}/logs")


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def read(status_code: int, headers: Mapping[str, str], body: bytes, *, secret: str = "") -> Any:
    """The JSON of a good answer, None for an empty one. Raises UpstreamError for a failing status or for no JSON."""
    if not 200 <= status_code < 300:
        raise classify.refuse(status_code, headers, body, secret=secret)
    if not body.strip():
        return None
    try:
        return loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, headers.get("content-type", "")) from None


def is_gone(error: Exception) -> bool:
    """Whether a call failed because what it names is not there (any more)."""
    return getattr(error, "status", None) == 404


def read_id(value: Any) -> str:
    """The id of a made template or endpoint. Raises BadAnswer."""
    found = value.get("id") if isinstance(value, Mapping) else None
    if not isinstance(found, str) or not found:
        raise BadAnswer("the engine made something and named no id", status=200)
    return found


def find_named(value: Any, name: str) -> str | None:
    """The id of what bears ``name`` in a list; an endpoint's may have got ``" -fb"`` (its fast-boot mark) behind it."""
    for row in value if isinstance(value, list) else ():
        if isinstance(row, Mapping) and str(row.get("name", "")).removesuffix(" -fb") == name:
            return read_id(row)
    return None


def read_job(value: Any, *, secret: str = "") -> Seen:
    """A job out of the answer of run, runsync, status or cancel. Raises BadAnswer for none."""
    if not isinstance(value, Mapping) or not isinstance(value.get("status"), str):
        raise BadAnswer("the engine's answer tells of no job", status=200)
    state = str(value["status"]).upper()
    return Seen(
        id=str(value.get("id", "")),
        status=state,
        output=value.get("output"),
        error=clean(_error_text(value.get("error")), secret=secret) if state in FINAL else "",
        execution_ms=_milliseconds(value.get("executionTime")),
        delay_ms=_milliseconds(value.get("delayTime")),
        worker=str(value.get("workerId") or ""),
    )


def read_health(value: Any) -> Health:
    """The counts of ``/health``. Raises BadAnswer."""
    if not isinstance(value, Mapping):
        raise BadAnswer("the engine's health is no object", status=200)
    return Health(jobs=_counts(value.get("jobs")), workers=_counts(value.get("workers")))


def _counts(value: Any) -> dict[str, int]:
    table = value if isinstance(value, Mapping) else {}
    return {str(name): count for name, count in table.items() if isinstance(count, int)}


def _error_text(value: Any) -> str:
    """What went wrong, in the handler's own words: workers write an object with type, message and a long traceback."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            value = loose_json.decode(value.encode())
        except ValueError:
            return str(value)
    if isinstance(value, Mapping):
        value = value.get("error_message") or value.get("message") or value.get("error") or ""
    return value if isinstance(value, str) else ""


def _milliseconds(value: Any) -> int | None:
    """Whole milliseconds, rounded up; None for what is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MOST_POLICY_MS * 2:
        return None
    return int(-(-value // 1))


def _with(body: Mapping[str, Any], policy: Policy | None) -> dict[str, Any]:
    return {**body, "policy": policy.body()} if policy is not None else dict(body)


def _part(text: str) -> str:
    """One segment of a path. Raises UpstreamRefusal for what can't be one."""
    if not text or text in (".", ".."):
        raise UpstreamRefusal("this is no id of the engine's", status=404)
    return quote(text, safe="")


def _rest(account: Account, method: str, path: str, body: Mapping[str, Any] | None = None) -> UpstreamRequest:
    return _request(account, method, account.rest_url, path, body)


def _queue(
    account: Account, method: str, endpoint_id: str, path: str, body: Mapping[str, Any] | None = None
) -> UpstreamRequest:
    place = f"/{_part(endpoint_id)}" if endpoint_id else ""  # the SDK's own server is one endpoint
    return _request(account, method, account.queue_url, place + path, body)


def _request(
    account: Account, method: str, base_url: str, path: str, body: Mapping[str, Any] | None
) -> UpstreamRequest:
    origin, prefix = split_base_url(base_url)
    headers = _COMMON
    if account.secret:
        headers = (("authorization", f"Bearer {account.secret}"), *headers)
    sent = b"" if body is None else msgspec.json.encode(body)
    return UpstreamRequest(method=method, origin=origin, path=prefix + path, headers=headers, body=sent)
