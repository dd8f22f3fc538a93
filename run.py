#!/usr/bin/env python3
"""Runs all of Hypereal on this machine: `python3 run.py`.

Makes .venv and installs the locked packages where they are missing, then hands over to hypereal_site/supervisor.py.
`--install-only` stops after the packages, `--dev` adds those of tests and linters (the Makefile uses both).
Needs nothing but Python; written so that an old one can still read the sentence that names the right one.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCATION = VENV / "location"
LOG = ROOT / "var" / "log" / "install.log"
#: The embedded Redis has wheels for these only.
VERSIONS = ((3, 11), (3, 12))
STARTED = "HYPEREAL_STARTED_AT"


def main() -> None:
    """Install what is missing, then run (unless asked only to install)."""
    parser = argparse.ArgumentParser(description="Runs Hypereal on this machine.")
    parser.add_argument("--install-only", action="store_true", help="make .venv, install the packages, and stop")
    parser.add_argument("--dev", action="store_true", help="also install what tests and linters need")
    options = parser.parse_args()
    os.environ.setdefault(STARTED, repr(time.time()))
    _want_python()
    _install(["requirements.lock"] + (["requirements-dev.lock"] if options.dev else []))
    if not options.install_only:
        os.chdir(str(ROOT))
        if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
            # Nothing is left beside the sources; but compiled at each start, they would take ten seconds.
            os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / "var" / "pycache"))
        os.execv(str(PYTHON), [str(PYTHON), "-m", "hypereal_site.supervisor"])


def _want_python() -> None:
    """Go on under a fitting Python; with the wrong one look for a right one, else say which is needed."""
    if tuple(sys.version_info[:2]) in VERSIONS:
        return
    for version in reversed(VERSIONS):
        other = shutil.which("python{}.{}".format(*version))
        if other:
            os.execv(other, [other, str(ROOT / "run.py"), *sys.argv[1:]])
    here = "{}.{}".format(*sys.version_info[:2])
    sys.exit("Hypereal needs Python 3.11 or 3.12, and this is {}: install one of them.".format(here))


def _install(locks: "list[str]") -> None:
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with open(str(ROOT / "var" / "install.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two starts at once must not build one environment
        if not _venv_works():
            _make_venv()
        missing = [name for name in locks if not _is_installed(name)]
        if missing:
            _install_packages(missing)
            for name in missing:
                _stamp(name).write_text(_digest(name))


def _venv_works() -> bool:
    """One that was not made to its end, was moved (its programs name the old place) or lost its Python does not."""
    if not (LOCATION.exists() and LOCATION.read_text() == str(VENV)):
        return False
    probe = "import sys; sys.exit(sys.version_info[:2] not in {!r})".format(VERSIONS)
    try:
        return subprocess.call([str(PYTHON), "-c", probe], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _make_venv() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        sys.exit("This Python has no venv module with pip: install it (on Debian: apt install {}).".format(package))
    _say("making .venv")
    import venv

    if VENV.is_symlink():
        VENV.unlink()  # to clear it would empty the environment that it leads to

    try:
        # Without pip: unpacking it takes longer than all the rest, and it can run out of its wheel (_pip).
        venv.create(str(VENV), with_pip=False, clear=True)
    except OSError as error:
        sys.exit("The virtual environment {} could not be made: {}".format(VENV, error))
    LOCATION.write_text(str(VENV))


def _install_packages(locks: "list[str]") -> None:
    _say("installing packages ({})".format(", ".join(locks)))
    files = [argument for name in locks for argument in ("-r", str(ROOT / name))]
    pip = [*_pip(), "install", "-q", "--disable-pip-version-check", "--require-hashes"]
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "-q", "--require-hashes", "--python", str(PYTHON)]
    with open(str(LOG), "wb") as log:
        # uv does in seconds what takes pip minutes. It does not look at the system's certificates unless told.
        env = dict({"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}, **os.environ)
        if "PIP_INDEX_URL" in env:
            env.setdefault("UV_DEFAULT_INDEX", env["PIP_INDEX_URL"])
        if _call([*pip, "-r", str(ROOT / "requirements-uv.lock")], env, log) and _call(uv + files, env, log):
            return
        _say("uv could not install them, trying pip (takes minutes)")
        if _call(pip + files, env, log):
            return
    sys.exit("The packages could not be installed: is there a way to a package index? {} says why.".format(LOG))


def _pip() -> "list[str]":
    """The pip that came with this Python, run by the environment's."""
    import ensurepip

    folder = getattr(ensurepip, "_WHEEL_PKG_DIR", None) or pathlib.Path(ensurepip.__file__).parent / "_bundled"
    wheels = sorted(pathlib.Path(folder).glob("pip-*.whl"))
    if wheels:
        return [str(PYTHON), str(wheels[-1] / "pip")]
    subprocess.call([str(PYTHON), "-m", "ensurepip"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [str(PYTHON), "-m", "pip"]


def _call(command: "list[str]", env: "dict[str, str]", log: "typing.IO[bytes]") -> bool:
    try:
        return subprocess.call(command, env=env, stdout=log, stderr=log) == 0
    except OSError:
        return False


def _stamp(lock: str) -> pathlib.Path:
    return VENV / ("installed-" + lock)


def _is_installed(lock: str) -> bool:
    stamp = _stamp(lock)
    return stamp.exists() and stamp.read_text() == _digest(lock)


def _digest(lock: str) -> str:
    return hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()


def _say(text: str) -> None:
    print("[{:5.1f} s] {}".format(time.time() - float(os.environ[STARTED]), text), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
