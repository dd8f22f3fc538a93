"""A folder that looks like an installation to the supervisor: its processes only tell what happens to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.support.services import ROOT

_COMMON = """
import os, pathlib, signal, sys, time
HERE = pathlib.Path.cwd()
def note(text):
    with open(HERE / "events", "a") as events:
        print(text, file=events)
def begin(name):
    note(f"{name} starts")
    print(f"{name} says: started", flush=True)
    if (HERE / f"{name}.stubborn").exists():
        signal.signal(signal.SIGTERM, lambda *_: note(f"{name} ignores SIGTERM"))
    else:
        signal.signal(signal.SIGTERM, lambda *_: (note(f"{name} ends"), os._exit(0)))
    if (HERE / f"{name}.broken").exists():
        sys.exit(f"{name} says: broken")
def stay(name):
    begin(name)
    while True:
        time.sleep(60)
"""
_WEB = """
import http.server, sys
from common import begin
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404)
        self.end_headers()
begin("web")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Page).serve_forever()
"""
_PREPARE = """
import json, os, sys
from common import HERE
json.dump(dict(os.environ), open(HERE / "environment", "w"))
if (HERE / "prepare.broken").exists():
    sys.exit("prepare says: no such table")
if os.environ["HYPEREAL_DEMO"] == "1":
    print("loading")
    print(json.dumps({"api_key": "ck_demo", "email": "demo@hypereal.test", "password": "a password"}))
"""
_MANAGE = """
import sys
from common import stay
stay({"rqworker": "worker", "run_cron": "cron"}[sys.argv[1]])
"""
_RUN = """
import sys, pathlib
from hypereal_site.supervisor import Supervisor
sys.exit(Supervisor(pathlib.Path({!r})).run())
"""


class Installation:
    """Starts supervisors over ``folder`` and looks at what they do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        files = {
            "common.py": _COMMON,
            "manage.py": _MANAGE,
            "hypereal_site/serve.py": _WEB,
            "hypereal_site/prepare.py": _PREPARE,
            "upstreams/sandbox.py": 'from common import stay\nstay("sandbox")\n',
            "infra/local_engine.py": 'from common import stay\nstay("gpu")\n',
            "billing/demo_stripe/server.py": 'from common import stay\nstay("demo-stripe")\n',
        }
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def start(self, *, servers: bool = True, **env: str) -> subprocess.Popen[str]:
        """A supervisor as its own process. ``servers=False`` gives it addresses in place of embedded servers."""
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "SSL_CERT_FILE")}
        if not servers:
            clean |= {"DATABASE_URL": "postgresql://elsewhere/hypereal", "REDIS_URL": "redis://elsewhere/0"}
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN.format(str(self.folder))],
            cwd=ROOT,
            env={**clean, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def until_up(self, process: subprocess.Popen[str]) -> str:
        """What the supervisor printed up to the line that says how to stop it. Worker and cron have begun too."""
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                for name in ("worker", "cron"):
                    self.wait_for(f"{name} starts")
                return "".join(lines)
        raise AssertionError("the supervisor did not come up:\n" + "".join(lines))

    def stop(self, process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> str:
        """Ask the supervisor to stop; what it still printed."""
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
        return output

    def close(self) -> None:
        """End whatever a failed test left running."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=120)

    def living(self) -> list[psutil.Process]:
        """Every process that works in the folder or below: servers, product, stand-ins."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    @property
    def events(self) -> list[str]:
        """What the processes told, in order."""
        path = self.folder / "events"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def environment(self) -> dict[str, str]:
        """The environment that the processes got."""
        return dict(json.loads((self.folder / "environment").read_text()))

    def wait_for(self, event: str, times: int = 1, seconds: float = 60.0) -> None:
        """Wait until ``event`` was told that often."""
        end = time.monotonic() + seconds
        while self.events.count(event) < times:
            assert time.monotonic() < end, f"{event!r} did not come {times} times: {self.events}"
            time.sleep(0.05)
