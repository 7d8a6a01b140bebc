"""A renter's machine without its cluster, and OpenSSH's clients to speak to it with.

The static binary runs as an init container would bring it, with keys as a mounted Secret has them.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack.ports import free_port

MIB = 1 << 20
NEEDS_OPENSSH = pytest.mark.skipif(
    not all(map(shutil.which, ("ssh", "scp", "sftp", "ssh-keygen"))),
    reason="OpenSSH's clients are not on this machine",
)
Ended = subprocess.CompletedProcess[str]


def make_key(folder: Path, name: str) -> Path:
    """A new key pair ``name`` and ``name.pub``; the private one's path."""
    made = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(made)]
    subprocess.run(command, check=True)
    return made


@dataclass
class Way:
    """An SSH server at a local port, its host key known in advance, and keys to try.

    host_key: public, one line. keys: a folder with private keys by name.
    """

    port: int
    host_key: str
    keys: Path
    user: str = "any"
    key: str = "gateway"
    address: str = "127.0.0.1"

    def options(self, key: str = "") -> list[str]:
        known = self.keys / f"known_hosts_{self.port}"
        if not known.exists():  # clients that have just been started may be reading it
            known.write_text(f"[{self.address}]:{self.port} {self.host_key}\n")
        settings = {
            "IdentityFile": self.keys / (key or self.key),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ControlPath": "none",
        }
        return ["-F", "/dev/null", *(f"-o{name}={value}" for name, value in settings.items())]

    def ssh(self, *words: str, key: str = "") -> list[str]:
        """The command; ``words`` are options, then HOST and what to run."""
        return ["ssh", *self.options(key), "-p", str(self.port), *words]

    @property
    def host(self) -> str:
        return f"{self.user}@{self.address}"

    def run(self, line: str, *options: str, given: str = "", key: str = "") -> Ended:
        return subprocess.run(
            self.ssh(*options, self.host, line, key=key),
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.ssh(self.host, line),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def copy(self, source: str, target: str) -> None:
        """scp, which speaks sftp; a remote path begins with ``host`` and a colon."""
        command = ["scp", "-s", *self.options(), "-P", str(self.port), source, target]
        subprocess.run(command, check=True, timeout=120, capture_output=True)

    def until_open(self) -> None:
        until(lambda: answers(self.port, self.address), "SSH answers")


@dataclass
class Pod(Way):
    """What is left in a container for its renter, and the way to it."""

    process: subprocess.Popen[str] = None  # type: ignore[assignment]  # given by `running`


@contextmanager
def running(
    binary: Path,
    keys: Path,
    *words: str,
    inside: tuple[str, ...] = (),
    extra: Mapping[str, str] | None = None,
    address: str = "127.0.0.1",
) -> Iterator[Pod]:
    """A machine that one gets into; ``words``: more flags of the keeper, ``inside``: what to start
    it in, ``extra``: more of its environment, ``address``: a loopback address of its own."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "HOME": str(keys), "LANG": "C", "COLOUR": "blue"}
    process = subprocess.Popen(
        [
            *(*inside, str(binary), "keep", "-keys", str(keys), "-ssh", f"{address}:{port}"),
            *words,
        ],
        env={**environment, **(extra or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    host_key = (keys / "host-key.pub").read_text().strip()
    pod = Pod(port, host_key, keys, address=address, process=process)
    try:
        pod.until_open()
        yield pod
    finally:
        process.kill()
        process.communicate()


def answers(port: int, address: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((address, port), timeout=1) as knocked:
            return knocked.recv(4) == b"SSH-"
    except OSError:
        return False


def until(condition: Callable[[], bool], what: str, *, deadline_s: float = 15) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)


@contextmanager
def counting_server() -> Iterator[int]:
    """The port of one that answers with the number of bytes once its client has sent all."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    each, _ = listening.accept()
                except OSError:
                    return
                with each:
                    total = 0
                    while got := each.recv(65536):
                        total += len(got)
                    each.sendall(str(total).encode())

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def prove_terminal(way: Way) -> None:
    """A login shell in a terminal, whose size is the client's and follows it; its exit status."""
    master, slave = pty.openpty()
    _resize(master, 40, 120)
    client = subprocess.Popen(
        way.ssh("-tt", way.host), stdin=slave, stdout=slave, stderr=slave, close_fds=True
    )
    os.close(slave)
    try:
        # Quotes in the questions: what the terminal echoes is not taken for the answer.
        os.write(master, b"tty; stty size; echo shell=$0 te''rm=$TERM\n")
        seen = _read(master, b"term=")
        assert re.search(rb"/dev/pts/\d+\r\n40 120\r\nshell=-\w*sh term=", seen), seen
        _resize(master, 50, 132)
        client.send_signal(signal.SIGWINCH)
        for _ in range(50):  # the change travels: asked again until it has come
            os.write(master, b"stty size; echo as''ked\n")
            seen = _read(master, b"\nasked")
            if b"50 132" in seen:
                break
        assert b"50 132" in seen
        os.write(master, b"exit 3\n")
        assert client.wait(timeout=15) == 3
    finally:
        client.kill()
        client.wait()
        os.close(master)


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _read(terminal: int, end: bytes, deadline_s: float = 15) -> bytes:
    """What a terminal shows until a line has ``end`` in it."""
    seen, deadline = b"", time.monotonic() + deadline_s
    while not re.search(end + rb".*\n", seen):
        left = deadline - time.monotonic()
        assert left > 0, seen
        assert select.select([terminal], [], [], left)[0], seen
        seen += os.read(terminal, 65536)
    return seen


def prove_forwarding(way: Way) -> None:
    """Ports both ways, each direction ended by itself."""
    with counting_server() as port:
        done = subprocess.run(
            way.ssh("-W", f"127.0.0.1:{port}", way.host),
            input=b"x" * 3 * MIB,
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert done.stdout == str(3 * MIB).encode()
        back = free_port()
        program = (
            f"import socket as s; c = s.create_connection(('127.0.0.1', {back}));"
            "c.sendall(b'12345'); c.shutdown(s.SHUT_WR); print(c.recv(9).decode())"
        )
        options = (f"-R{back}:127.0.0.1:{port}", "-oExitOnForwardFailure=yes")
        asked = way.run(f'python3 -c "{program}"', *options)
    assert (asked.returncode, asked.stdout) == (0, "5\n"), asked.stderr


def prove_hostile_is_closed(
    port: int, version: bytes, count: int, *, address: str = "127.0.0.1"
) -> None:
    """What is no handshake gets the server's own greeting and offer at most, and is closed."""
    hostile = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-" + b"A" * 4096 + b"\r\n",
        b"banner\r\n" * 20000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(64),
        b"SSH-2.0-x\r\n" + struct.pack(">I", 0xFFFFFFFF) + os.urandom(64),
        b"SSH-2.0-x\r\n" + struct.pack(">IB", 12, 4) + b"\x14" + os.urandom(64),
        b"\x00" * 300,
    )
    for number in range(count):
        with socket.create_connection((address, port), timeout=10) as knocked:
            answer = b""
            with suppress(OSError):  # it may be closed before all is said
                knocked.sendall(hostile[number % len(hostile)])
                knocked.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while got := knocked.recv(65536):
                    answer += got
        greeting, _, rest = answer.partition(b"\r\n")
        assert greeting in {b"", version}
        assert len(rest) < 4096, "its own key exchange offer and no more"
