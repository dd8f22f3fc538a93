"""Child processes that leave no trace: started through launch.py, stopped step by step, recognised after a crash."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

LAUNCHER = Path(__file__).with_name("launch.py")
#: Signals to try in order, each with the seconds to wait for the process to end.
StopSteps = Sequence[tuple[signal.Signals, float]]


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    directory: Path,
    env: Mapping[str, str] | None = None,
    user: str = "same",
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in its own session; it gets ``death_signal`` when this process dies, however it dies.

    Call it from a thread that lives as long as the process: Linux counts the death of the starting thread.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            launched(command, directory=directory, user=user, death_signal=death_signal),
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def launched(
    command: Sequence[str | Path],
    *,
    directory: Path,
    user: str = "same",
    death_signal: signal.Signals = signal.SIGTERM,
) -> list[str]:
    """The full command line that runs ``command`` through launch.py as a child of this process."""
    head = [sys.executable, "-I", "-S", LAUNCHER, os.getpid(), int(death_signal), user, directory]
    return [str(part) for part in [*head, *command]]


def stop(running: Sequence[subprocess.Popen[bytes]], steps: StopSteps) -> None:
    """End processes side by side by the given signals, each sent once, and at last by SIGKILL to their groups."""
    for number, seconds in steps:
        living = [process for process in running if process.poll() is None]
        for process in living:
            process.send_signal(number)
        end = time.monotonic() + seconds
        for process in living:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
    for process in running:
        kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and to whatever it left in its group. Its exit is collected."""
    # spawn() made it the leader of its own group, whose number nobody else can get while a member lives. Where its exit
    # was collected before and somebody has its number, no member lived, and the group is a stranger's.
    if process.returncode is not None and psutil.pid_exists(process.pid):
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        pass
    process.wait()


def end_leftovers(found: Callable[[], list[psutil.Process]], steps: StopSteps) -> None:
    """End processes without a parent of ours: signal what ``found`` returns until it returns nothing.

    Raises TimeoutError when they survive all steps.
    """
    for number, seconds in [*steps, (signal.SIGKILL, 5.0)]:
        for process in found():
            try:
                process.send_signal(number)
            except psutil.Error:
                continue
        if wait_until(lambda: not found(), seconds):
            return
    raise TimeoutError("processes of an earlier run do not end: " + ", ".join(str(p.pid) for p in found()))


def working_in(directory: Path, program: str) -> list[psutil.Process]:
    """Living processes named ``program`` whose working folder is ``directory``."""
    target = str(directory.resolve())
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == program and process.cwd() == target and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def bearing(name: str, value: str) -> list[psutil.Process]:
    """Living processes, but this one, whose environment holds ``name=value``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process)
        except (psutil.Error, OSError):  # gone, or another user's
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float, *, every: float = 0.03) -> bool:
    """Ask ``condition`` until it is true; False when ``seconds`` pass first."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(every)
    return True


def reserve_port(port: int = 0) -> socket.socket:
    """A bound loopback socket (0 = any free port). Close it just before a child binds. Raises OSError if taken."""
    held = socket.socket()
    # A port whose last owner has just closed must not look taken; a listening one still does.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        raise
    return held


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    with reserve_port() as held:
        return int(held.getsockname()[1])


def answers(port: int) -> bool:
    """Does something accept connections on this loopback port?"""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def fresh_log(path: Path) -> Path:
    """Move the log of the run before aside (one is kept) and return the path for the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_name(path.name + ".1"))
    return path


def last_lines(path: Path, count: int = 12) -> str:
    """The end of a log file, indented for the terminal."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
            lines = file.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        lines = []
    return "\n".join("    " + line for line in lines)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
