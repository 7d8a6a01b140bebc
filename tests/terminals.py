"""A terminal of the portal without a portal: the streams process, and a page's end of a websocket.

`Page` is a real websocket client with the frames that static/js/terminal.js sends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import websocket
from django.conf import settings

from devstack.ports import free_port
from kernel.grants import Grant, sign
from provisioner.contracts.streaming import STREAM_PATHS, TERMINAL
from provisioner.streams.frames import PROTOCOL
from tests.sshpod import MIB, until


@dataclass(frozen=True)
class Machine:
    """What the streams process is told of the one machine there is."""

    instance: UUID
    rental: UUID
    owner: UUID


@contextmanager
def streaming(machine: Machine, gateway_port: int) -> Iterator[Streaming]:
    """The streams process as operators start it, for that gateway."""
    port = free_port()
    known = {name: value.hex for name, value in asdict(machine).items()}
    words = ["-m", "granian", "--factory", "tests.terminal_app:make", "--interface", "asgi"]
    words += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--log-level",
        "warning",
    ]
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "GPUYARD_SSH_GATEWAY": f"127.0.0.1:{gateway_port}",
        "MACHINE": json.dumps(known),
    }
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen([sys.executable, *words], cwd=root, env=environment)
    try:
        until(lambda: _listens(port), "the streams process listens", deadline_s=60)
        yield Streaming(port, process)
    finally:
        process.terminate()
        process.wait(timeout=30)


@dataclass(frozen=True)
class Streaming:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def mib(self) -> float:
        """What it and its worker have in memory."""
        pids = [self.process.pid, *_children(self.process.pid)]
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(each) for task in tasks for each in (task / "children").read_text().split()]


def _listens(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


def granted(
    machine: UUID, owner: UUID, user: UUID | None, *, age: float = 0, verb: str = TERMINAL
) -> str:
    grant = Grant(verb, machine, owner, user)
    return sign(grant, key=settings.GPUYARD_GRANT_KEY, now=time.time() - age)


class Page:
    """The page's end. shown: all that the terminal was to show; closed: the last sentence."""

    def __init__(
        self, port: int, grant: str, *, origin: str = "", protocol: str = PROTOCOL, **query: Any
    ) -> None:
        self.shown = b""
        self.closed = ""
        asked = urlencode({"grant": grant, **query})
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{port}{STREAM_PATHS[TERMINAL]}?{asked}",
            timeout=20,
            origin=origin or settings.GPUYARD_BASE_URL,
            subprotocols=[protocol],
        )

    def type(self, text: str) -> None:
        self.socket.send_binary(text.encode())

    def say(self, **said: Any) -> None:
        self.socket.send(json.dumps(said))

    def hear(self) -> bytes | None:
        """The next bytes, which count as drawn; None at the end. Signs of life are passed over."""
        while True:
            opcode, data = self.socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return None
            if opcode == websocket.ABNF.OPCODE_BINARY:
                self.shown += data
                self.say(seen=len(data))
                return bytes(data)
            said = json.loads(data)
            assert set(said) <= {"closed"}, said
            if "closed" in said:
                self.closed = said["closed"]
                self.leave()
                return None

    def until(self, text: str, deadline_s: float = 20) -> str:
        """All that was shown, once ``text`` was."""
        return self.until_so(lambda: text.encode() in self.shown, text, deadline_s)

    def until_so(self, condition: Callable[[], bool], what: str, deadline_s: float = 20) -> str:
        deadline = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < deadline, (what, self.shown[-2000:])
            assert self.hear() is not None, (what, self.closed, self.shown[-2000:])
        return self.shown.decode(errors="replace")

    def until_closed(self) -> str:
        """The sentence."""
        while self.hear() is not None:
            pass
        return self.closed

    def leave(self) -> None:
        self.socket.close()

    def vanish(self) -> None:
        """Without a word, as a machine that lost its power."""
        assert self.socket.sock is not None
        self.socket.sock.close()
