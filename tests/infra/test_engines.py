"""The wire against workers that nobody here wrote: the vendor's SDK, alone and behind the engine of this machine."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pytest_django import Settings

from hypereal_site import processes
from infra import engine
from infra.engine import LocalEngine, Made, Policy, Seen, Spec
from infra.samples import handler
from jobs import http
from tests.support import ports
from tests.support.gateway import wait_for
from upstreams import runpod
from upstreams.errors import AccountRefused, ConnectFailed, UpstreamRefusal
from upstreams.wire import UpstreamRequest

ROOT = Path(__file__).resolve().parents[2]
POLICY = Policy(execution_ms=60_000, ttl_ms=600_000)
SECRET = "of-this-test"
SPEC = Spec("hypereal-x", "hypereal/sample:1", ["ADA_24"], 0, 1, 60, 60, env={"TOKEN": "t"})


# ── The SDK's own server ─────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runpod.Account]:
    """A worker of the vendor's SDK with the sample handler."""
    port, log = ports.free_port(), tmp_path_factory.mktemp("sdk") / "log"
    command = [sys.executable, "-I", str(Path(handler.__file__)), "--rp_serve_api", "--rp_api_host", "127.0.0.1"]
    process = processes.spawn([*command, "--rp_api_port", str(port)], log=log, directory=ROOT)
    assert processes.wait_until(lambda: processes.answers(port), 60), processes.last_lines(log)
    yield runpod.Account(f"http://127.0.0.1:{port}", status_method="POST")
    processes.kill_group(process)


def ask(request: UpstreamRequest) -> Seen:
    reply = http.send(request)
    return runpod.read_job(runpod.read(reply.status, reply.headers, reply.body))


def test_the_sdk_runs_a_job_and_tells_its_end(sdk: runpod.Account) -> None:
    queued = ask(runpod.run(sdk, "", {"input": {"prompt": "a cat"}}, POLICY))
    assert queued.running and queued.id and not queued.ended
    done = ask(runpod.status(sdk, "", queued.id))
    assert (done.status, done.output, done.ended) == ("COMPLETED", {"echo": {"prompt": "a cat"}}, True)
    assert done.execution_ms is None, "it tells no time: whoever stands before it measures"


def test_the_sdk_runs_a_job_while_one_waits(sdk: runpod.Account) -> None:
    done = ask(runpod.runsync(sdk, "", {"input": {"mode": "sleep", "seconds": 0.1}}, wait_ms=5_000))
    assert (done.status, done.output) == ("COMPLETED", {"slept": 0.1})


def test_the_sdk_s_failures_come_with_200_and_lose_their_traceback(sdk: runpod.Account) -> None:
    failed = ask(runpod.runsync(sdk, "", {"input": {"mode": "fail", "message": "no memory"}}, wait_ms=5_000))
    assert (failed.status, failed.error) == ("FAILED", "no memory")
    assert ask(runpod.status(sdk, "", "never-heard-of")).status == "FAILED"


# ── The engine of this machine ───────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def local_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Process, LocalEngine]]:
    port, folder = ports.free_port(), tmp_path_factory.mktemp("gpu")
    command = [sys.executable, "-m", "infra.local_engine", "--port", str(port), "--folder", str(folder)]
    env = {**os.environ, "GPU_LOCAL_SECRET": SECRET, "DATABASE_URL": "postgres://secret"}
    process = processes.spawn([*command, "--result-seconds", "20"], log=folder / "log", directory=ROOT, env=env)
    assert processes.wait_until(lambda: processes.answers(port), 60), processes.last_lines(folder / "log")
    base = f"http://127.0.0.1:{port}"
    yield psutil.Process(process.pid), LocalEngine(runpod.Account(f"{base}/v2", f"{base}/v1", SECRET))
    workers = psutil.Process(process.pid).children(recursive=True)
    processes.stop([process], [(signal.SIGTERM, 10)])
    assert not psutil.wait_procs(workers, 60)[1], "its workers end with it"


@pytest.fixture(scope="module")
def local(local_process: tuple[psutil.Process, LocalEngine]) -> LocalEngine:
    return local_process[1]


@pytest.fixture(scope="module")
def endpoint(local: LocalEngine) -> str:
    return local.create_endpoint(SPEC, local.create_template(SPEC))


def finished(local: LocalEngine, endpoint: str, seen: Seen) -> Seen:
    def look() -> bool:
        nonlocal seen
        now = local.status(endpoint, seen.id)
        assert now is not None
        seen = now
        return seen.ended

    wait_for(look, 60)
    return seen


def test_a_job_is_queued_worked_on_and_measured(local: LocalEngine, endpoint: str) -> None:
    queued = local.run(endpoint, {"mode": "sleep", "seconds": 0.5}, POLICY)
    assert (queued.status, queued.ended) == ("IN_QUEUE", False)
    done = finished(local, endpoint, queued)
    assert (done.status, done.output) == ("COMPLETED", {"slept": 0.5})
    assert done.execution_ms is not None and 500 <= done.execution_ms < 20_000
    assert done.delay_ms is not None and done.worker


def test_the_worker_has_its_environment_and_nothing_of_ours(local: LocalEngine, endpoint: str) -> None:
    names = ["TOKEN", "DATABASE_URL", "GPU_LOCAL_SECRET"]
    done = local.runsync(endpoint, {"mode": "environment", "names": names}, POLICY, wait_seconds=60)
    assert done.output == {"set": {"TOKEN": True, "DATABASE_URL": False, "GPU_LOCAL_SECRET": False}}


def test_comfyui_input_and_output_pass(local: LocalEngine, endpoint: str) -> None:
    asked = {
        "workflow": {"3": {"class_type": "KSampler"}},
        "workflow_overrides": {"Sampler.steps": 30},
        "images": [{"name": "in.png", "image": "AAAA"}],
    }
    done = local.runsync(endpoint, asked, POLICY, wait_seconds=60)
    assert done.output["images_taken"] == ["in.png"]
    assert base64.b64decode(done.output["images"][0]["data"]).startswith(b"\x89PNG")


def test_a_handler_that_fails_and_one_that_takes_too_long(local: LocalEngine, endpoint: str) -> None:
    failed = local.runsync(endpoint, {"mode": "fail", "message": "no memory"}, POLICY, wait_seconds=60)
    assert (failed.status, failed.error) == ("FAILED", "no memory")
    short = Policy(execution_ms=5_000, ttl_ms=600_000)
    late = local.runsync(endpoint, {"mode": "sleep", "seconds": 30}, short, wait_seconds=60)
    assert late.status == "TIMED_OUT"
    again = local.runsync(endpoint, {"a": 1}, POLICY, wait_seconds=60)
    assert again.status == "COMPLETED", "another worker took its place"


def test_a_running_job_is_cancelled_and_its_time_told(local: LocalEngine, endpoint: str) -> None:
    queued = local.run(endpoint, {"mode": "sleep", "seconds": 60}, POLICY)
    wait_for(lambda: (local.status(endpoint, queued.id) or queued).running, 60)
    time.sleep(0.2)
    seen = local.cancel(endpoint, queued.id)
    assert seen is not None and seen.status == "CANCELLED"
    assert seen.execution_ms is not None and seen.execution_ms >= 200


def test_a_worker_that_is_killed_fails_its_job(
    local_process: tuple[psutil.Process, LocalEngine], endpoint: str
) -> None:
    process, local = local_process
    queued = local.run(endpoint, {"mode": "sleep", "seconds": 60}, POLICY)
    wait_for(lambda: (local.status(endpoint, queued.id) or queued).running, 60)
    for worker in process.children():
        worker.kill()
    seen = finished(local, endpoint, queued)
    assert seen.status == "FAILED" and "worker" in seen.error


def test_logs_health_and_what_is_not_there(local: LocalEngine, endpoint: str) -> None:
    health = local.health(endpoint)
    assert health is not None and health.jobs["completed"] > 0 and set(health.workers) >= {"idle", "running"}
    assert any("Starting API server" in line for line in local.logs(endpoint) or [])
    assert local.health("nowhere") is local.status(endpoint, "nothing") is local.cancel(endpoint, "nothing") is None


def test_images_that_are_not_here_are_refused(local: LocalEngine) -> None:
    with pytest.raises(UpstreamRefusal) as refused:
        local.create_template(Spec("other", "runpod/worker-comfyui:5", ["ADA_24"], 0, 1, 5, 60))
    assert "hypereal/sample" in refused.value.message


def test_what_is_made_under_a_name_is_found_changed_and_ended(local: LocalEngine) -> None:
    spec = Spec("hypereal-y", "hypereal/sample", ["ADA_24"], 0, 1, 5, 60)
    template = local.create_template(spec)
    assert local.create_template(spec) == template == local.find_template("hypereal-y")
    made = Made(template, local.create_endpoint(spec, template))
    assert local.create_endpoint(spec, template) == made.endpoint_id
    local.update(Spec("hypereal-y", "hypereal/sample", ["ADA_24"], 0, 2, 5, 60, env={"A": "b"}), made)
    seen = local.runsync(made.endpoint_id, {"mode": "environment", "names": ["A"]}, POLICY, wait_seconds=60)
    assert seen.output == {"set": {"A": True}}
    local.delete(made)
    local.delete(made)
    assert local.health(made.endpoint_id) is None and local.find_template("hypereal-y") == ""


def test_strangers_are_not_served(local: LocalEngine, endpoint: str) -> None:
    stranger = LocalEngine(runpod.Account(local._account.queue_url, local._account.rest_url, "guessed"))
    with pytest.raises(AccountRefused):
        stranger.health(endpoint)


def test_an_engine_that_is_not_there(settings: Settings) -> None:
    settings.GPU_LOCAL_URL = f"http://127.0.0.1:{ports.free_port()}"
    with pytest.raises(ConnectFailed):
        engine.by_name("local").health("x")


def test_the_engine_ends_without_its_secret() -> None:
    command = [sys.executable, "-m", "infra.local_engine", "--port", "1", "--folder", "/tmp"]
    env = {name: value for name, value in os.environ.items() if name != "GPU_LOCAL_SECRET"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode != 0 and "GPU_LOCAL_SECRET" in done.stderr
