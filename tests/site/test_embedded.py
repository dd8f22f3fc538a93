"""The embedded servers, for real: start, stop, kill, leftovers, users. No Django database is used here."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from hypereal_site import embedded, processes
from hypereal_site.embedded import EmbeddedError, Postgres, Redis
from tests.support.services import FOLDER, ROOT

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Below the checkout, which the user that PostgreSQL runs as can reach; pytest's own folders are 0700."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="embedded-", dir=FOLDER) as name:
        yield Path(name)


@pytest.fixture
def postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder / "postgres")
    yield server
    server.stop()


def _query(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_postgres_starts_keeps_its_data_and_takes_the_same_port_again(postgres: Postgres) -> None:
    url = postgres.start()
    assert str(_query(url, "SHOW server_version")).startswith("18.")
    assert _query(url, "SHOW fsync") == "on"
    assert _query(url, "SHOW max_connections") == "300"
    assert _query(url, "SHOW data_checksums") == "on"
    _execute(url, "CREATE TABLE kept AS SELECT 7 AS value")
    postgres.stop()
    assert not processes.answers(postgres.port)
    assert postgres.start() == url
    assert _query(url, "SELECT value FROM kept") == 7


def test_postgres_wants_its_password_and_keeps_it_private(postgres: Postgres) -> None:
    url = postgres.start()
    wrong = url.replace(":" + (postgres.directory / "password").read_text() + "@", ":wrong@")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    assert _mode(postgres.directory / "password") == 0o600
    assert _mode(postgres.working_directory) == 0o700
    assert not (postgres.directory / "password.init").exists()


def test_what_a_killed_postgres_had_committed_is_there_after_the_restart(postgres: Postgres) -> None:
    url = postgres.start()
    _execute(url, "CREATE TABLE kept (value int)")
    open_transaction = psycopg.connect(url)
    open_transaction.execute("INSERT INTO kept VALUES (2)")
    _execute(url, "INSERT INTO kept VALUES (1)")
    postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        open_transaction.commit()
    assert processes.working_in(postgres.working_directory, "postgres") == []
    assert postgres.start() == url
    assert _query(url, "SELECT array_agg(value) FROM kept") == [1]


def test_a_stale_pid_file_does_not_block_even_when_its_number_is_in_use(postgres: Postgres) -> None:
    url = postgres.start()
    postgres.kill()
    pid_file = postgres.working_directory / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
    assert postgres.start() == url
    assert _query(url, "SELECT 1") == 1


def test_values_and_statements_stay_out_of_the_log(postgres: Postgres) -> None:
    url = postgres.start()
    _execute(url, "CREATE TABLE letters (text text UNIQUE)")
    _execute(url, "INSERT INTO letters VALUES ('private words')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        _execute(url, "INSERT INTO letters VALUES ('private words')")
    log = postgres.log.read_text()
    assert "duplicate key" in log
    assert "private words" not in log


def test_a_killed_initdb_leaves_nothing_that_looks_finished(postgres: Postgres) -> None:
    half = postgres.directory / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    postgres.start()
    assert not half.exists()


def test_data_of_another_major_version_is_refused_untouched(postgres: Postgres) -> None:
    data = postgres.working_directory
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match="was written by PostgreSQL 16"):
        postgres.start()
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_two_servers_never_share_a_folder(postgres: Postgres) -> None:
    postgres.start()
    with pytest.raises(EmbeddedError, match="Another running process"):
        Postgres(postgres.directory).start()
    assert postgres.running


def test_redis_starts_keeps_its_data_and_wants_its_password(folder: Path) -> None:
    server = Redis(folder / "redis")
    try:
        url = server.start()
        with redis.Redis.from_url(url) as client:
            client.set("kept", "yes")
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        assert server.process is not None
        assert (server.directory / "password").read_text() not in " ".join(psutil.Process(server.process.pid).cmdline())
        assert _mode(server.directory / "redis.conf") == 0o600
        server.stop()
        assert server.start() == url
        with redis.Redis.from_url(url) as client:
            assert client.get("kept") == b"yes"
    finally:
        server.stop()


_ORPHAN_MAKER = """
import os, sys
from hypereal_site.embedded import Postgres, Redis
servers = [Postgres(sys.argv[1] + "/postgres"), Redis(sys.argv[1] + "/redis")]
print(*(server.start() for server in servers), flush=True)
if sys.argv[2] == "frozen":  # a parent-death signal that comes to nothing: the servers are stopped for the moment
    import signal
    for server in servers:
        os.kill(server.process.pid, signal.SIGSTOP)
print("up", flush=True)
sys.stdin.read()
"""


def _orphan(folder: Path, how: str) -> None:
    """Start both servers in a process of their own and kill that one with SIGKILL."""
    command = [sys.executable, "-c", _ORPHAN_MAKER, str(folder), how]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert parent.stdout.readline() == "up\n"
        parent.kill()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parent-death signals are Linux's")
def test_servers_end_with_their_parent(folder: Path) -> None:
    _orphan(folder, "running")
    for directory, program in ((folder / "postgres" / "data", "postgres"), (folder / "redis", "redis-server")):
        assert processes.wait_until(lambda d=directory, p=program: not processes.working_in(d, p), 60)  # type: ignore[misc]


def test_the_next_start_ends_orphans_that_are_provably_its_own(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as elsewhere:
        stranger = Postgres(elsewhere)
        stranger.start()
        _orphan(folder, "frozen")
        orphans = processes.working_in(folder / "postgres" / "data", "postgres")
        assert orphans
        servers = (Postgres(folder / "postgres"), Redis(folder / "redis"))
        # A stopped process hears neither SIGINT nor SIGTERM: shorten the wait for the SIGKILL that follows.
        for server in servers:
            server.stop_steps = ((signal.SIGTERM, 0.2),)
        try:
            for server in servers:
                server.start()
            assert not any(orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE for orphan in orphans)
            assert stranger.running
        finally:
            for server in servers:
                server.stop()
            stranger.stop()


@as_root
@pytest.mark.parametrize("user", ["namespace", f"{NOBODY}:{NOBODY}"])
def test_root_runs_postgres_as_somebody_else(folder: Path, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = processes.launched([embedded._postgres_binary("postgres"), "--version"], directory=ROOT, user=user)
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"this machine does not let root run as {user}")
    monkeypatch.setattr(embedded, "_unprivileged_user", lambda directory: user)
    folder.chmod(0o711)
    server = Postgres(folder / "postgres")
    try:
        url = server.start()
        _execute(url, "CREATE TABLE kept AS SELECT 7 AS value")
        server.kill()
        assert _query(server.start(), "SELECT value FROM kept") == 7
        assert server.process is not None
        if user != "namespace":
            assert psutil.Process(server.process.pid).uids().real == NOBODY
    finally:
        server.stop()


@as_root
def test_a_change_of_the_user_takes_the_data_along(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o711)
    for user in ("namespace", f"{NOBODY}:{NOBODY}", "namespace"):
        monkeypatch.setattr(embedded, "_unprivileged_user", lambda directory, user=user: user)
        server = Postgres(folder / "postgres", fsync=False)
        try:
            assert _query(server.start(), "SELECT 1") == 1
        finally:
            server.stop()


def test_without_any_way_off_root_the_sentence_names_the_way_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(processes, "launched", lambda *args, **kwargs: ["false"])
    with pytest.raises(EmbeddedError, match="set DATABASE_URL to a PostgreSQL server"):
        embedded._unprivileged_user(folder)


_AS_ANYONE = """
import sys
import psycopg
from hypereal_site.embedded import Postgres, Redis
postgres, redis = Postgres(sys.argv[1] + "/postgres"), Redis(sys.argv[1] + "/redis")
url = postgres.start(); redis.start()
psycopg.connect(url).execute("SELECT 1")
postgres.kill(); postgres.start(); postgres.stop(); redis.stop()
print("fine")
"""


@as_root
def test_an_ordinary_user_starts_kills_and_restarts_both() -> None:
    python, env = _python_for_nobody()
    with tempfile.TemporaryDirectory(prefix="hypereal-nobody-", dir="/tmp") as folder:
        os.chown(folder, NOBODY, NOBODY)
        command = [python, "-c", _AS_ANYONE, folder]
        done = subprocess.run(
            command, cwd=ROOT, env=env, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True
        )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def _python_for_nobody() -> tuple[str, dict[str, str]]:
    """A Python that the user nobody may run (root's own may lie in root's private home) and what it needs to import."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    minor = f"python3.{sys.version_info.minor}"
    for python in filter(None, (os.path.realpath(sys.executable), shutil.which(minor, path="/usr/bin"))):
        probe = [python, "-c", "import psycopg, psutil"]
        try:
            subprocess.run(
                probe, cwd=ROOT, env=env, user=NOBODY, group=NOBODY, extra_groups=[], check=True, capture_output=True
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python, env
    pytest.skip("no Python here that the user nobody may run")


def test_a_folder_of_another_user_is_told_in_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(EmbeddedError, match="belongs to another user of this machine"):
        Postgres(folder).start()
