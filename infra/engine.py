"""GPU engines behind one protocol: endpoints are made, changed and ended, jobs are run on them.

Both engines speak RunPod's wire (`upstreams.runpod`): RunPod itself, and the engine on this machine that stands in for
it in development and the demo (`infra.local_engine`). Everything here is synchronous and raises UpstreamError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from django.conf import settings

from catalog.models import Provider
from core.secrets import Unreadable
from jobs import http
from upstreams import runpod
from upstreams.errors import AccountRefused, UpstreamError
from upstreams.runpod import Health, Policy, Seen
from upstreams.wire import Timeouts, UpstreamRequest

__all__ = ["Engine", "Health", "Made", "Policy", "RunPodEngine", "Seen", "Spec", "by_name", "chosen"]

LOCAL: Final = "local"
RUNPOD: Final = "runpod"
#: The image that the engine on this machine has a handler for.
SAMPLE_IMAGE: Final = "hypereal/sample"
#: Where a mounted volume lies in a worker (https://docs.runpod.io/serverless/storage/network-volumes).
VOLUME_PATH: Final = "/runpod-volume"

_MANAGE: Final = Timeouts(connect_seconds=5, first_byte_seconds=20, idle_seconds=20, total_seconds=25)
_ASK: Final = Timeouts(connect_seconds=5, first_byte_seconds=15, idle_seconds=30, total_seconds=60)
#: A status with its output: pictures come inside it.
MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Spec:
    """What is to stand at the engine. ``name`` is unique there; by it a lost answer is found again."""

    name: str
    image: str
    gpu_types: Sequence[str]
    workers_min: int
    workers_max: int
    idle_timeout_seconds: int
    max_seconds: int
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    volume_id: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """The engine's ids of what was made so far."""

    template_id: str = ""
    endpoint_id: str = ""


class Engine(Protocol):
    """What a GPU engine can do. Each function is one or two short exchanges and may be repeated."""

    name: str

    def create_template(self, spec: Spec) -> str:
        """The id of the template: the one of that name, brought to ``spec``, if there is one, else a new one."""
        ...

    def create_endpoint(self, spec: Spec, template_id: str) -> str:
        """The id of the endpoint: the one of that name, brought to ``spec``, if there is one, else a new one."""
        ...

    def find_template(self, name: str) -> str:
        """The id of the template of that name, empty where there is none."""
        ...

    def find_endpoint(self, name: str) -> str:
        """The id of the endpoint of that name, empty where there is none."""
        ...

    def update(self, spec: Spec, made: Made) -> None:
        """Bring template and endpoint to ``spec``. Raises UpstreamError with status 404 where one is gone."""
        ...

    def delete(self, made: Made) -> None:
        """End endpoint and template, as far as they are there."""
        ...

    def health(self, endpoint_id: str) -> Health | None:
        """Jobs and workers by state; None where the engine has no such endpoint."""
        ...

    def run(self, endpoint_id: str, job_input: Any, policy: Policy) -> Seen:
        """Queue a job."""
        ...

    def runsync(self, endpoint_id: str, job_input: Any, policy: Policy, *, wait_seconds: float) -> Seen:
        """Run a job and wait that long for its end; it goes on behind that."""
        ...

    def status(self, endpoint_id: str, job_id: str) -> Seen | None:
        """A job, None where the engine does not know it (any more)."""
        ...

    def cancel(self, endpoint_id: str, job_id: str) -> Seen | None:
        """Stop a job; None as in ``status``."""
        ...

    def logs(self, endpoint_id: str) -> list[str] | None:
        """The last lines that workers wrote, None where this engine shows none to programs."""
        ...


class RunPodEngine:
    """Whatever speaks RunPod's wire."""

    def __init__(self, account: runpod.Account, name: str = RUNPOD) -> None:
        self.name, self._account = name, account

    def create_template(self, spec: Spec) -> str:
        """The id of the template: the one of that name, brought to ``spec``, if there is one, else a new one."""
        if not (known := self.find_template(spec.name)):
            return runpod.read_id(self._manage(runpod.create_template(self._account, _template(spec))))
        # Somebody may have changed what is wanted since it was made.
        self._manage(runpod.update_template(self._account, known, _template(spec)))
        return known

    def create_endpoint(self, spec: Spec, template_id: str) -> str:
        """The id of the endpoint: the one of that name, brought to ``spec``, if there is one, else a new one."""
        if not (known := self.find_endpoint(spec.name)):
            wanted = _endpoint(spec, template_id)
            return runpod.read_id(self._manage(runpod.create_endpoint(self._account, wanted)))
        self._update_endpoint(spec, Made(template_id, known))
        return known

    def find_template(self, name: str) -> str:
        """The id of the template of that name, empty where there is none."""
        return runpod.find_named(self._manage(runpod.list_templates(self._account)), name) or ""

    def find_endpoint(self, name: str) -> str:
        """The id of the endpoint of that name, empty where there is none."""
        return runpod.find_named(self._manage(runpod.list_endpoints(self._account)), name) or ""

    def update(self, spec: Spec, made: Made) -> None:
        """Bring template and endpoint to ``spec``. Raises UpstreamError with status 404 where one is gone."""
        self._manage(runpod.update_template(self._account, made.template_id, _template(spec)))
        self._update_endpoint(spec, made)

    def _update_endpoint(self, spec: Spec, made: Made) -> None:
        members = _endpoint(spec, made.template_id).body()
        members.pop("computeType")  # what an endpoint is made of can't be changed
        self._manage(runpod.update_endpoint(self._account, made.endpoint_id, members))

    def delete(self, made: Made) -> None:
        """End endpoint and template, as far as they are there."""
        if made.endpoint_id:
            none = {"workersMin": 0, "workersMax": 0}  # the engine wants that before
            if self._there(runpod.update_endpoint(self._account, made.endpoint_id, none)):
                self._there(runpod.delete_endpoint(self._account, made.endpoint_id))
        if made.template_id:
            self._there(runpod.delete_template(self._account, made.template_id))

    def health(self, endpoint_id: str) -> Health | None:
        """Jobs and workers by state; None where the engine has no such endpoint."""
        found = self._found(runpod.health(self._account, endpoint_id))
        return None if found is None else runpod.read_health(found)

    def run(self, endpoint_id: str, job_input: Any, policy: Policy) -> Seen:
        """Queue a job."""
        return self._job(self._ask(runpod.run(self._account, endpoint_id, {"input": job_input}, policy)))

    def runsync(self, endpoint_id: str, job_input: Any, policy: Policy, *, wait_seconds: float) -> Seen:
        """Run a job and wait that long for its end; it goes on behind that."""
        wait_ms = int(wait_seconds * 1000)
        request = runpod.runsync(self._account, endpoint_id, {"input": job_input}, wait_ms=wait_ms, policy=policy)
        limits = Timeouts(5, wait_seconds + 15, 30, wait_seconds + 60)
        return self._job(self._exchange(request, limits, MOST_ANSWER_BYTES))

    def status(self, endpoint_id: str, job_id: str) -> Seen | None:
        """A job, None where the engine does not know it (any more)."""
        found = self._found(runpod.status(self._account, endpoint_id, job_id))
        return None if found is None else self._job(found)

    def cancel(self, endpoint_id: str, job_id: str) -> Seen | None:
        """Stop a job; None as in ``status``."""
        found = self._found(runpod.cancel(self._account, endpoint_id, job_id))
        return None if found is None else self._job(found)

    def logs(self, endpoint_id: str) -> list[str] | None:
        """RunPod shows logs in its own console only."""
        return None

    def _job(self, value: Any) -> Seen:
        return runpod.read_job(value, secret=self._account.secret)

    def _there(self, request: UpstreamRequest) -> bool:
        """Do it; False where what it names is gone."""
        try:
            self._manage(request)
        except UpstreamError as error:
            if not runpod.is_gone(error):
                raise
            return False
        return True

    def _found(self, request: UpstreamRequest) -> Any:
        try:
            return self._ask(request)
        except UpstreamError as error:
            if not runpod.is_gone(error):
                raise
            return None

    def _manage(self, request: UpstreamRequest) -> Any:
        return self._exchange(request, _MANAGE, 4 * 1024 * 1024)

    def _ask(self, request: UpstreamRequest) -> Any:
        return self._exchange(request, _ASK, MOST_ANSWER_BYTES)

    def _exchange(self, request: UpstreamRequest, limits: Timeouts, most_bytes: int) -> Any:
        reply = http.send(request, limits, most_bytes)
        return runpod.read(reply.status, reply.headers, reply.body, secret=self._account.secret)


class LocalEngine(RunPodEngine):
    """The engine on this machine. It shows what its workers wrote."""

    def __init__(self, account: runpod.Account) -> None:
        super().__init__(account, LOCAL)

    def logs(self, endpoint_id: str) -> list[str] | None:
        """The last lines that workers wrote."""
        found = self._found(runpod.local_logs(self._account, endpoint_id))
        lines = found.get("lines") if isinstance(found, Mapping) else None
        return [str(line) for line in lines] if isinstance(lines, list) else []


def chosen() -> str:
    """The name of the engine that new deployments go to; empty where this installation has none."""
    if settings.GPU_ENGINE:
        return str(settings.GPU_ENGINE)
    if _runpod_secret():
        return RUNPOD
    return LOCAL if settings.GPU_LOCAL_URL else ""


def by_name(name: str) -> Engine:
    """The engine of a deployment. Raises AccountRefused where it is not set up (any more)."""
    if name == LOCAL and settings.GPU_LOCAL_URL:
        base = settings.GPU_LOCAL_URL.rstrip("/")
        return LocalEngine(runpod.Account(f"{base}/v2", f"{base}/v1", settings.GPU_LOCAL_SECRET))
    provider = Provider.objects.filter(slug=RUNPOD, enabled=True).first() if name == RUNPOD else None
    secret = _runpod_secret()
    if provider is None or not secret:
        raise AccountRefused("the GPU engine is not set up")
    return RunPodEngine(runpod.Account(provider.base_url.rstrip("/"), settings.RUNPOD_REST_URL.rstrip("/"), secret))


def _runpod_secret() -> str:
    """The key of the provider ``runpod``: from the environment first, then from the admin."""
    if settings.RUNPOD_API_KEY:
        return str(settings.RUNPOD_API_KEY)
    provider = Provider.objects.filter(slug=RUNPOD, enabled=True).first()
    try:
        return provider.secret() if provider is not None else ""
    except Unreadable:
        return ""


def _template(spec: Spec) -> runpod.Template:
    return runpod.Template(
        name=spec.name, image=spec.image, env=spec.env, volume_path=VOLUME_PATH if spec.volume_id else ""
    )


def _endpoint(spec: Spec, template_id: str) -> runpod.Endpoint:
    return runpod.Endpoint(
        name=spec.name,
        template_id=template_id,
        pools=spec.gpu_types,
        workers_min=spec.workers_min,
        workers_max=spec.workers_max,
        idle_timeout_seconds=spec.idle_timeout_seconds,
        execution_timeout_ms=spec.max_seconds * 1000,
        network_volume_id=spec.volume_id,
    )
