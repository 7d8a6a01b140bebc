"""Connections to servers of strangers that cannot be led elsewhere, held up or flooded.

urllib3 directly, not a generated client: what matters here is exactly what such a client decides
by itself (redirects, Retry-After, proxies from the environment, decompression, decoding all before
we see a byte). Here: the name is resolved once per connection, every address is checked, and the
checked address is connected to while TLS still verifies the host's name; one deadline covers
resolving, connecting, waiting and reading, enforced from outside because a server that sends a
byte now and then defeats any socket timeout. Which addresses may be used is the caller's rule;
how many bytes of an answer are read is the caller's too.
"""

from __future__ import annotations

import heapq
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from kernel.addresses import RESOLVERS, Resolver, resolve, resolve_within

# A server that accepts no connection within this is treated as down; longer would let a dead one
# hold a thread that a living one could use.
CONNECT_TIMEOUT = 3.0


class Deadline:
    """The end of one call, on the monotonic clock. At that time its sockets are shut down."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self.passed = False
        self.kept = False  # whether its last request went over a connection of an earlier call
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._closed = False

    def left(self) -> float:
        """Seconds left, never less than a millisecond (zero would mean "no timeout")."""
        return max(0.001, self.at - time.monotonic())

    def attach(self, sock: socket.socket) -> None:
        """Cut this connection at the end. A duplicate descriptor survives the TLS wrapping."""
        with self._lock:
            if not self._closed:
                self._sockets.append(socket.socket(fileno=os.dup(sock.fileno())))
        if self.passed:
            self.expire()

    def expire(self) -> None:
        with self._lock:
            self.passed = True
            for sock in self._sockets:
                with suppress(OSError):  # the peer may have been quicker
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()

    def __lt__(self, other: Deadline) -> bool:
        return self.at < other.at


class Cut:
    """Ends a call from another thread, the way its deadline would; and what waits for that end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = threading.Event()
        self._deadline: Deadline | None = None

    @property
    def made(self) -> bool:
        return self._made.is_set()

    def attach(self, deadline: Deadline) -> None:
        """The call that is running now; at once cut if the cut came before it."""
        with self._lock:
            self._deadline = deadline
        if self.made:
            deadline.expire()

    def make(self) -> None:
        self._made.set()
        with self._lock:
            deadline = self._deadline
        if deadline is not None:
            deadline.expire()

    def wait(self, seconds: float) -> bool:
        """Rest for so long at most; True when the cut was made."""
        return self._made.wait(seconds)


class _Watchdog:
    """One thread per process that expires calls. Restarted in a forked child."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[Deadline] = []
        self._pid = 0

    def watch(self, deadline: Deadline) -> None:
        with self._condition:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._heap = []
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
            heapq.heappush(self._heap, deadline)
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._heap:
                    self._condition.wait()
                first = self._heap[0]
                delay = first.at - time.monotonic()
                if delay > 0:
                    self._condition.wait(delay)
                    continue
                heapq.heappop(self._heap)
            first.expire()


_WATCHDOG = _Watchdog()
_CURRENT = threading.local()


@contextmanager
def within(seconds: float) -> Iterator[Deadline]:
    """Everything this thread does on connections inside the block ends after ``seconds``."""
    deadline = Deadline(seconds)
    _WATCHDOG.watch(deadline)
    before = getattr(_CURRENT, "deadline", None)
    _CURRENT.deadline = deadline
    try:
        yield deadline
    finally:
        _CURRENT.deadline = before
        deadline.close()


class _Connection(HTTPSConnection):
    """Connects to an address it has checked; TLS still verifies the name in the URL."""

    def __init__(self, *args: Any, gate: Way, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate = gate
        self._used = False

    def _new_conn(self) -> socket.socket:
        deadline: Deadline | None = getattr(_CURRENT, "deadline", None)
        if deadline is None:
            raise NewConnectionError(self, "a call to a stranger needs a deadline")
        sock = self._gate.open(self, deadline)
        deadline.attach(sock)
        self._used = False
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        deadline: Deadline | None = getattr(_CURRENT, "deadline", None)
        sock = getattr(self, "sock", None)
        if deadline is not None:
            deadline.kept = self._used
            if self._used and sock is not None:
                deadline.attach(sock)
        self._used = True
        super().request(*args, **kwargs)


class Way(Protocol):
    """How connections come to a server: `Gate`, or another way to it."""

    host: str  # that TLS verifies
    port: int

    def open(self, connection: HTTPConnection, deadline: Deadline) -> socket.socket:
        """Connect; raises urllib3's errors, with ``connection`` in them."""


class Gate:
    """What a connection may reach: one host and port, at addresses that ``check`` lets pass.

    check: raises ForbiddenAddress for an address that must not be connected to.
    """

    def __init__(
        self,
        host: str,
        port: int,
        check: Callable[[str], None],
        resolver: Resolver = resolve,
        threads: ThreadPoolExecutor = RESOLVERS,
    ) -> None:
        self.host, self.port = host, port
        self._check = check
        self._resolver = resolver
        self._threads = threads

    def open(self, connection: HTTPConnection, deadline: Deadline) -> socket.socket:
        """Connect to a checked address; raises ForbiddenAddress and urllib3's errors."""
        try:
            addresses = self.addresses(min(CONNECT_TIMEOUT, deadline.left()))
        except OSError as error:
            gone = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(self.host, connection, gone) from error
        failure: OSError | None = None
        for address in addresses[:4]:
            try:
                return dial((address, self.port), deadline)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(connection, "no connection in time") from failure
        raise NewConnectionError(connection, f"no connection: {failure}") from failure

    def addresses(self, timeout: float) -> list[str]:
        """Every address of the host, all checked; raises OSError or ForbiddenAddress."""
        found = resolve_within(
            timeout, self.host, self.port, resolver=self._resolver, threads=self._threads
        )
        for address in found:
            self._check(address)
        return found


def dial(address: tuple[str, int], deadline: Deadline) -> socket.socket:
    """A connection in time; OSError."""
    sock = socket.create_connection(address, min(CONNECT_TIMEOUT, deadline.left()))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def pool(gate: Way, context: ssl.SSLContext, *, size: int = 1) -> urllib3.HTTPSConnectionPool:
    """Connections through ``gate``, trusting what ``context`` does; ``size`` idle ones are kept."""
    made = urllib3.HTTPSConnectionPool(
        gate.host, gate.port, maxsize=size, block=False, retries=False, ssl_context=context
    )
    made.ConnectionCls = partial(_Connection, gate=gate)  # type: ignore[assignment]
    return made


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it wraps and what it was raised from; bounded against loops."""
    pending: list[BaseException] = [error]
    for _ in range(16):
        if not pending:
            return
        current = pending.pop()
        yield current
        wrapped = [current.__cause__, current.__context__, *current.args]
        wrapped.append(getattr(current, "reason", None))
        pending.extend(item for item in wrapped if isinstance(item, BaseException))
