"""What is held against the product: connections, processes, files, memory and time of one process.

`Guard` hooks into the interpreter and stays until the process ends, so it belongs into a process of
its own. It also stops what it sees: a connection that must not be made is not made.
"""

from __future__ import annotations

import gc
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from sys import addaudithook
from typing import Any

_PROCESSES = frozenset(
    {
        *("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
        *("os.system", "pty.spawn", "os.startfile"),
    }
)


class Violation(OSError):
    """What was stopped; the guard keeps it as well, whoever swallows this."""


class Guard:
    """From `watch` on: connections to loopback ports in ``allowed`` only, no process, none of the
    files that inputs name."""

    def __init__(self, allowed: set[int], files: frozenset[str]) -> None:
        self.connections: list[str] = []
        self.processes: list[str] = []
        self.opened: list[str] = []
        self.seen = 0
        self._allowed, self._files, self._on = allowed, files, False
        addaudithook(self._hook)

    def watch(self) -> None:
        self._on = True

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event in ("socket.connect", "socket.sendto"):
            self._connecting(args[1])
        elif event in _PROCESSES:
            self.processes.append(f"{event} {args[:2]!r:.120}")
            raise Violation(event)
        elif event == "open" and args[0] in self._files:
            self.opened.append(str(args[0]))
            raise Violation(event)

    def _connecting(self, address: Any) -> None:
        self.seen += 1
        if not isinstance(address, tuple):
            return  # a Unix socket of this machine, such as the database's
        if address[0] not in ("127.0.0.1", "::1") or address[1] not in self._allowed:
            self.connections.append(repr(address[:2]))
            raise Violation(f"a connection to {address[:2]}")


class Names:
    """In place of the system's resolver: names answer as they are told, one answer per question
    and the last for ever; texts that are addresses in any spelling are the system's to read."""

    def __init__(self) -> None:
        self.asked = 0
        self._answers: dict[str, list[Sequence[str]]] = {}
        self._system = socket.getaddrinfo
        self._lock = threading.Lock()
        socket.getaddrinfo = self._resolve

    def answer(self, host: str, *answers: Sequence[str]) -> None:
        with self._lock:
            self._answers[host.lower()] = list(answers)

    def _resolve(self, host: Any, port: Any, *args: Any, **given: Any) -> Any:
        with self._lock:
            self.asked += 1
            told = self._answers.get(str(host).lower())
            found = None if not told else told.pop(0) if len(told) > 1 else told[0]
        if found is None:
            if host != "localhost":
                given["flags"] = socket.AI_NUMERICHOST
            return self._system(host, port, *args, **given)
        return [self._row(text, port) for text in found]

    @staticmethod
    def _row(text: str, port: Any) -> Any:
        six = ipaddress.ip_address(text).version == 6
        family = socket.AF_INET6 if six else socket.AF_INET
        return family, socket.SOCK_STREAM, 6, "", (text, port, 0, 0) if six else (text, port)


class Memory:
    """How far this process grew beyond what it was at the beginning, at any moment."""

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark is the present one again
        self._start = self._kib("VmHWM")

    def growth_mib(self) -> float:
        return round((self._kib("VmHWM") - self._start) / 1024, 1)

    @staticmethod
    def _kib(name: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))


class Pulse:
    """Asks a healthy cluster all along, as a loop would, and keeps how long that took."""

    def __init__(self, ask: Any, pause: float = 0.25) -> None:
        self.times: list[float] = []
        self.failures: list[str] = []
        self._ask, self._pause = ask, pause
        self._over = threading.Event()

    @contextmanager
    def beating(self) -> Iterator[Pulse]:
        thread = threading.Thread(target=self._run, name="pulse")
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._pause):
            began = time.monotonic()
            try:
                self._ask()
            except Exception as error:  # noqa: BLE001  (a failure, whatever it is)
                self.failures.append(f"{type(error).__name__}: {error}"[:200])
            self.times.append(time.monotonic() - began)
