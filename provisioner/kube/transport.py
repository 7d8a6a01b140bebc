"""Connections to a partner's API server that cannot be led elsewhere, held up or flooded.

urllib3 directly, not a generated client: what matters here is exactly what such a client decides
by itself (redirects, Retry-After, proxies from the environment, decompression, decoding all before
we see a byte). Here: the name is resolved once per connection, every address is checked, and the
checked address is connected to while TLS still verifies the host's name; one deadline covers
resolving, connecting, waiting and reading, enforced from outside because a server that sends a
byte now and then defeats any socket timeout.
"""

from __future__ import annotations

import heapq
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from provisioner.clusters.addresses import Resolver, Target, resolve, usable
from provisioner.contracts import AddressBinding

# A server that accepts no connection within this is treated as down; longer would let a dead
# cluster hold a thread that a living one could use.
CONNECT_TIMEOUT = 3.0
# Idle connections kept per cluster: the loops' own bound on parallel calls to one cluster.
POOL_SIZE = 8


class Deadline:
    """The end of one call, on the monotonic clock. At that time its sockets are shut down."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self.passed = False
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
                threading.Thread(target=self._run, name="kube-deadlines", daemon=True).start()
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
# Resolving has no timeout in libc: a few threads of its own, and whoever waits too long gives up.
_RESOLVERS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="kube-dns")


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

    def __init__(self, *args: Any, gate: Gate, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate = gate

    def _new_conn(self) -> socket.socket:
        deadline: Deadline | None = getattr(_CURRENT, "deadline", None)
        if deadline is None:
            raise NewConnectionError(self, "a call to a cluster needs a deadline")
        try:
            addresses = self._gate.addresses(min(CONNECT_TIMEOUT, deadline.left()))
        except OSError as error:
            gone = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(self.host, self, gone) from error
        sock = self._first_that_answers(addresses, deadline)
        deadline.attach(sock)
        return sock

    def _first_that_answers(self, addresses: list[str], deadline: Deadline) -> socket.socket:
        failure: OSError | None = None
        for address in addresses[:4]:
            try:
                timeout = min(CONNECT_TIMEOUT, deadline.left())
                sock = socket.create_connection((address, self.port), timeout)
            except OSError as error:
                failure = error
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "no connection in time") from failure
        raise NewConnectionError(self, f"no connection: {failure}") from failure

    def request(self, *args: Any, **kwargs: Any) -> None:
        deadline: Deadline | None = getattr(_CURRENT, "deadline", None)
        sock = getattr(self, "sock", None)
        if deadline is not None and sock is not None:
            deadline.attach(sock)  # a connection kept from an earlier call
        super().request(*args, **kwargs)


class Gate:
    """What a connection to one cluster may reach: its target and the provider's binding."""

    def __init__(
        self, target: Target, binding: AddressBinding, resolver: Resolver = resolve
    ) -> None:
        self.target = target
        self._binding = binding
        self._resolver = resolver

    def addresses(self, timeout: float) -> list[str]:
        """Checked addresses; raises OSError or ForbiddenAddress."""
        job: Future[list[str]] = _RESOLVERS.submit(
            self._resolver, self.target.host, self.target.port
        )
        try:
            found = job.result(timeout)
        except FutureTimeout as error:
            job.cancel()
            raise socket.gaierror(socket.EAI_AGAIN, "resolving took too long") from error
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return usable(self.target, self._binding, found)


def pool(gate: Gate, ca_pem: str) -> urllib3.HTTPSConnectionPool:
    """A pool for one cluster that trusts ``ca_pem`` and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The given certificate is the anchor even if it is an intermediate one, as in Kubernetes' own
    # clients.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=ca_pem)
    made = urllib3.HTTPSConnectionPool(
        gate.target.host,
        gate.target.port,
        maxsize=POOL_SIZE,
        block=False,
        retries=False,
        ssl_context=context,
    )
    made.ConnectionCls = partial(_Connection, gate=gate)  # type: ignore[assignment]
    return made
