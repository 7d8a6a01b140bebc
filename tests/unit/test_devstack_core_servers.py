"""PostgreSQL and broker answer with their own passwords only, and are gone after stop."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from devstack.broker import Broker
from devstack.postgres import MAX_CONNECTIONS, NOBODY, Postgres
from devstack.process import answers_on
from devstack.state import State


@pytest.fixture(autouse=True)
def no_servers_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("BROKER_URL", raising=False)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


def test_postgres_serves_its_two_roles_and_stops(state: State) -> None:
    postgres = Postgres(state, fsync=False)
    url = postgres.start()
    with psycopg.connect(url) as owner:
        row = owner.execute(
            "SELECT current_setting('server_version_num')::int, current_setting('fsync'),"
            " current_setting('max_connections')::int, rolsuper, rolcreatedb"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert row is not None
        version, fsync, connections, superuser, creates_databases = row
        assert version >= 150000
        assert (fsync, connections) == ("off", MAX_CONNECTIONS)
        assert (superuser, creates_databases) == (False, True)
        owner.execute("CREATE EXTENSION btree_gist")
        owner.execute("CREATE TABLE secret (id int)")
    with (
        psycopg.connect(postgres.facts_url) as reader,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        reader.execute("SELECT * FROM secret")
    began = time.monotonic()
    postgres.stop()
    assert time.monotonic() - began < 5
    assert not answers_on(port_of(url))()


def test_postgres_refuses_a_wrong_password(state: State) -> None:
    with Postgres(state, fsync=False) as postgres:
        wrong = postgres.url.replace(urlsplit(postgres.url).password or "", "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)


def test_postgres_keeps_what_was_committed_by_default(state: State) -> None:
    with Postgres(state) as postgres, psycopg.connect(postgres.url) as connection:
        row = connection.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
        ).fetchone()
        assert row == ("on", "on")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_servers_start_for_a_person_without_root() -> None:
    # A Python below root's closed home cannot be run by others; then the system's, if it fits.
    pythons = (sys.executable, "/usr/bin/python3")
    usable = [
        python for python in pythons if _as_nobody(python, "import devstack.postgres") is not None
    ]
    if not usable:
        pytest.skip("this checkout or its Python lies where another user cannot enter")
    code = (
        "import psycopg\n"
        "from devstack.state import State\n"
        "from devstack.postgres import Postgres\n"
        "from devstack.broker import Broker\n"
        "with State.temporary('test') as state, Postgres(state) as postgres, Broker(state):\n"
        "    print(psycopg.connect(postgres.url).execute('SELECT 7').fetchone())\n"
    )
    assert _as_nobody(usable[0], code) == "(7,)\n"


def _as_nobody(python: str, code: str) -> str | None:
    """Standard output of `code`, None when it could not run or failed; errors are shown."""
    try:
        done = subprocess.run(
            [python, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}\nprint(end='')"],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
    except PermissionError:
        return None
    return None if done.returncode else done.stdout


def test_a_given_database_is_used_and_nothing_is_started(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody@db.example.com/theirs")
    with Postgres(state) as postgres:
        assert postgres.url == "postgresql://somebody@db.example.com/theirs"
    assert [entry.name for entry in state.path.iterdir()] == ["lock"]


def ask(url: str, *commands: str) -> list[str]:
    """Answers of the broker, one line each."""
    with socket.create_connection(("127.0.0.1", port_of(url)), timeout=5) as connection:
        connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
        with connection.makefile("r", newline="\r\n") as answers:
            return [answers.readline().strip() for _ in commands]


def test_broker_round_trip(state: State) -> None:
    broker = Broker(state)
    url = broker.start()
    password = urlsplit(url).password
    assert ask(url, f"AUTH {password}", "RPUSH jobs one", "LLEN jobs") == ["+OK", ":1", ":1"]
    assert ask(url, "LLEN jobs")[0].startswith("-NOAUTH")
    broker.stop()
    assert not answers_on(port_of(url))()


def test_broker_password_is_not_on_its_command_line(state: State) -> None:
    with Broker(state) as broker:
        password = urlsplit(broker.url).password or "no password"
        lines = [line for line in map(command_line, Path("/proc").glob("[0-9]*")) if line]
        assert any(str(state.path) in line for line in lines)
        assert not any(password in line for line in lines)


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
