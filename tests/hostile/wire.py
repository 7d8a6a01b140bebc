"""Raw HTTP over raw TLS: a proper library would not misbehave enough."""

from __future__ import annotations

import random
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.pem import Pair

# Nobody of the product waits for longer; a server that forgets its clients would fill this process.
LONGEST = 40.0


@dataclass
class Asked:
    """One request. ``over``: set when the servers are to end."""

    method: str
    path: str
    body: bytes
    rng: random.Random
    over: threading.Event

    def rest(self, seconds: float) -> None:
        """A pause; ConnectionAbortedError when the servers end."""
        if self.over.wait(seconds):
            raise ConnectionAbortedError


Answer = Callable[[socket.socket, Asked], None]


class Listener:
    """A port where every connection gets ``answer``, over TLS unless ``pair`` is None."""

    def __init__(self, answer: Answer, pair: Pair | None, folder: Path, seed: str) -> None:
        self._answer, self._seed = answer, seed
        self._over = threading.Event()
        self._context: ssl.SSLContext | None = None
        if pair is not None:
            file = folder / f"{id(pair):x}.pem"
            file.write_text(pair.both)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(file)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.requests = self._connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                raw.settimeout(LONGEST)
                self._connections += 1
                threading.Thread(
                    target=self._one, args=(raw, self._connections), daemon=True
                ).start()

    def _one(self, raw: socket.socket, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        with suppress(OSError):  # the client went away, as it should
            if self._context is None:
                with raw:
                    self._answer(raw, Asked("", "", b"", rng, self._over))
                return
            with self._context.wrap_socket(raw, server_side=True) as sock:
                while (asked := self._read(sock, rng)) is not None:
                    self.requests += 1
                    self._answer(sock, asked)

    def _read(self, sock: socket.socket, rng: random.Random) -> Asked | None:
        """The next request; None when there is none."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = sock.recv(65536)
            if not chunk:
                return None
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        while length is not None and len(body) < int(length[1]):
            body += sock.recv(65536)
        method, _, rest = head.split(b"\r\n")[0].decode("latin-1").partition(" ")
        return Asked(method, rest.partition(" ")[0], body, rng, self._over)

    def close(self) -> None:
        self._over.set()
        self._listener.close()


class Canary:
    """A port that nothing may ever reach: counts connections and bytes."""

    def __init__(self, address: str, port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family)
        self.port: int = self._listener.getsockname()[1]
        self.connections = self.bytes = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                made, _ = self._listener.accept()
                self.connections += 1
                made.settimeout(2)
                with made, suppress(OSError):
                    while got := made.recv(65536):
                        self.bytes += len(got)

    def close(self) -> None:
        self._listener.close()
