"""run.py on machines that lack something: each gives one sentence. The packages themselves are not installed here."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.services import ROOT

#: Stands for pip: notes how it was called and fails when the file "offline" lies beside the checkout's run.py.
_PIP = """
import pathlib, sys
root = pathlib.Path(sys.prefix).parent
with open(root / "calls", "a") as calls:
    print("pip", *sys.argv[1:], file=calls)
if (root / "offline").exists():
    sys.exit("no route to the index")
"""
_UV = """#!/bin/sh
echo "uv $* certs=$UV_SYSTEM_CERTS index=$UV_DEFAULT_INDEX" >> "$(dirname "$0")/../../calls"
test ! -e "$(dirname "$0")/../../no-uv" && test ! -e "$(dirname "$0")/../../offline"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """run.py and its locks in a folder of their own."""
    for name in ("run.py", "requirements.lock", "requirements-dev.lock", "requirements-uv.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def with_venv(checkout: Path) -> Path:
    """The same, with an environment whose pip and uv only note their calls."""
    venv.create(checkout / ".venv", with_pip=False)
    package = checkout / "wheels" / "pip-1-py3-none-any.whl" / "pip"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(_PIP)
    uv = checkout / ".venv" / "bin" / "uv"
    uv.write_text(_UV)
    uv.chmod(0o755)
    (checkout / ".venv" / "location").write_text(str(checkout / ".venv"))
    return checkout


def _run(checkout: Path, *arguments: str, before: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """run.py as a program, after the Python statements ``before``."""
    code = "import sys, runpy, ensurepip; ensurepip._WHEEL_PKG_DIR = 'wheels'; "
    code += f"{before or 'pass'}; sys.argv[:] = ['run.py', *{list(arguments)!r}]; "
    code += "runpy.run_path('run.py', run_name='__main__')"
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UV_", "PIP_", "HYPEREAL_", "PYTHONPYC"))
    }
    return subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, env={**clean, **env}, capture_output=True, text=True, check=False
    )


def _calls(checkout: Path) -> list[str]:
    path = checkout / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_an_old_python_can_read_the_file() -> None:
    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 7))


def test_a_wrong_python_is_told_in_one_sentence(checkout: Path) -> None:
    for version in ("(3, 9, 18)", "(3, 14, 0)"):
        done = _run(checkout, before=f"sys.version_info = {version}", PATH="")
        shown = ".".join(version.strip("()").split(", ")[:2])
        assert done.stderr == f"Hypereal needs Python 3.11 or 3.12, and this is {shown}: install one of them.\n"
        assert done.returncode == 1
    assert not (checkout / ".venv").exists()


def test_a_wrong_python_hands_over_to_a_right_one_on_the_path(checkout: Path) -> None:
    (checkout / "bin").mkdir()
    right = checkout / "bin" / "python3.12"
    right.write_text('#!/bin/sh\necho "taken over with $*"\n')
    right.chmod(0o755)
    done = _run(checkout, "--dev", before="sys.version_info = (3, 13, 1)", PATH=f"{checkout / 'bin'}:/bin:/usr/bin")
    assert done.stdout == f"taken over with {checkout / 'run.py'} --dev\n"


def test_a_python_without_its_venv_module_is_told_which_package_to_install(checkout: Path) -> None:
    missing = "import importlib.util; importlib.util.find_spec = lambda name: None"
    done = _run(checkout, "--install-only", before=missing)
    minor = sys.version_info.minor
    expected = f"This Python has no venv module with pip: install it (on Debian: apt install python3.{minor}-venv).\n"
    assert (done.stderr, done.returncode) == (expected, 1)


def test_the_lock_is_installed_once_with_hashes(with_venv: Path) -> None:
    for _ in range(2):
        done = _run(with_venv, "--install-only", PIP_INDEX_URL="https://mirror.example/simple")
        assert done.returncode == 0, done.stderr
    uv, install = _calls(with_venv)
    assert uv.startswith("pip install") and "--require-hashes" in uv and uv.endswith("requirements-uv.lock")
    assert install.startswith("uv pip install") and "--require-hashes" in install
    assert install.endswith("requirements.lock certs=1 index=https://mirror.example/simple")


def test_a_changed_lock_and_the_tools_for_developers_are_installed_when_they_come(with_venv: Path) -> None:
    _run(with_venv, "--install-only")
    _run(with_venv, "--install-only", "--dev")
    assert "requirements-dev.lock" in _calls(with_venv)[-1]
    assert "requirements.lock" not in _calls(with_venv)[-1]
    with (with_venv / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    _run(with_venv, "--install-only", "--dev")
    assert len(_calls(with_venv)) == 6
    assert "requirements.lock" in _calls(with_venv)[-1]


def test_pip_takes_over_where_uv_fails_and_still_checks_hashes(with_venv: Path) -> None:
    (with_venv / "no-uv").touch()
    done = _run(with_venv, "--install-only")
    assert done.returncode == 0
    assert "trying pip" in done.stdout
    last = _calls(with_venv)[-1]
    assert last.startswith("pip install") and "--require-hashes" in last and last.endswith("requirements.lock")


def test_without_a_package_index_the_sentence_names_the_log(with_venv: Path) -> None:
    (with_venv / "offline").touch()
    done = _run(with_venv, "--install-only")
    assert done.returncode == 1
    assert done.stderr.startswith("The packages could not be installed: is there a way to a package index?")
    assert done.stderr.count("\n") == 1
    assert "no route to the index" in (with_venv / "var" / "log" / "install.log").read_text()
    (with_venv / "offline").unlink()
    assert _run(with_venv, "--install-only").returncode == 0


def test_a_moved_environment_is_made_anew(with_venv: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("moved") / "checkout"
    shutil.copytree(with_venv, moved, symlinks=True)
    # The new one is made without pip here, to need no index: what counts is that the old one is not used.
    missing = "import importlib.util; importlib.util.find_spec = lambda name: None"
    assert "no venv module" in _run(moved, "--install-only", before=missing).stderr


@pytest.mark.parametrize("kept", ["", "/elsewhere"], ids=["nowhere else", "elsewhere"])
def test_what_is_compiled_is_kept_even_if_not_beside_the_sources(with_venv: Path, kept: str) -> None:
    """Else each start would compile everything again."""
    package = with_venv / "hypereal_site"
    package.mkdir()
    tell = "import os; print(os.environ.get('PYTHONDONTWRITEBYTECODE'), os.environ.get('PYTHONPYCACHEPREFIX'))"
    (package / "supervisor.py").write_text(tell)
    env = {"PYTHONDONTWRITEBYTECODE": "1", **({"PYTHONPYCACHEPREFIX": kept} if kept else {})}
    done = _run(with_venv, **env)
    assert done.stdout.splitlines()[-1] == f"None {kept or with_venv / 'var' / 'pycache'}", done.stderr


def test_a_link_to_another_environment_is_never_cleared(
    with_venv: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "theirs").touch()
    shutil.rmtree(with_venv / ".venv")
    (with_venv / ".venv").symlink_to(other)
    _run(with_venv, "--install-only")
    assert (other / "theirs").exists()
    assert not (with_venv / ".venv").is_symlink()
