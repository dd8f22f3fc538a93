"""Ending processes: all of what they left, and nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hypereal_site import processes
from tests.support.gateway import wait_for

LEAVES_A_CHILD = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"


@pytest.mark.parametrize("collected", [False, True], ids=["not collected", "collected"])
def test_what_an_ended_process_left_in_its_group_is_ended(tmp_path: Path, collected: bool) -> None:
    log = tmp_path / "log"
    process = processes.spawn([sys.executable, "-c", LEAVES_A_CHILD], log=log, directory=tmp_path, env={})
    wait_for(lambda: log.read_text().strip().isdigit())
    child = psutil.Process(int(log.read_text()))
    if collected:
        process.wait(60)
    processes.kill_group(process)
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert process.returncode is not None


def test_a_stranger_who_got_an_ended_process_number_is_left_alone() -> None:
    ended = subprocess.Popen(["true"], start_new_session=True)
    ended.wait(60)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        ended.pid = stranger.pid  # what the kernel does when it has been through all numbers
        processes.stop([ended], [])
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
