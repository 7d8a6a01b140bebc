"""The streams process with the origin in front, as operators run them, and a reader of events."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from devstack.ports import free_port
from devstack.process import Supervisor, answers_at, wait_until
from devstack.stack import ROOT
from devstack.state import State


@contextmanager
def streams_process(state: State, database_url: str) -> Iterator[str]:
    """The base address of a streams process on this database."""
    port = free_port()
    with Supervisor(state) as supervisor:
        child = supervisor.start(
            "streams",
            [
                *(sys.executable, "-m", "granian", "config.asgi:application"),
                *("--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)),
                *("--workers", "1", "--no-access-log", "--log-level", "warning"),
            ],
            env={"DATABASE_URL": database_url, "GPUYARD_PROCESS": "streams"},
            cwd=ROOT,
        )
        url = f"http://127.0.0.1:{port}"
        wait_until(
            answers_at(f"{url}/streams/healthz"), "the streams process", child=child, deadline_s=120
        )
        yield url


@dataclass
class Event:
    """One server-sent event; data decoded."""

    kind: str = "message"
    ident: str = ""
    data: Any = None


@dataclass
class Reader:
    """One open stream. ``events`` are read as they come; ``close`` leaves like a browser."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse
    seen: list[Event] = field(default_factory=list)

    @classmethod
    def open(cls, url: str, *, last: str = "", headers: dict[str, str] | None = None) -> Reader:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        more = {"Last-Event-ID": last} if last else {}
        accept = {"Accept": "text/event-stream"}
        target = f"{parts.path}?{parts.query}"
        connection.request("GET", target, headers={**accept, **more, **(headers or {})})
        return cls(connection, connection.getresponse())

    def next(self) -> Event | None:
        """The next event, None at the stream's end."""
        event, fresh = Event(), False
        while line := self.response.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "" and fresh:
                self.seen.append(event)
                return event
            if name == "data":
                event.data, fresh = json.loads(value), True
            elif name == "event":
                event.kind = value
            elif name == "id":
                event.ident = value
        return None

    def until_text(self, wanted: str, *, within_s: float = 20) -> list[Event]:
        """All events up to the line that holds ``wanted``."""
        found: list[Event] = []
        deadline = time.monotonic() + within_s
        while (event := self.next()) is not None:
            found.append(event)
            if wanted in event.data.get("text", ""):
                return found
            assert time.monotonic() < deadline, f"no {wanted!r} in {[e.data for e in found][-5:]}"
        raise AssertionError(f"the stream ended without {wanted!r}: {[e.data for e in found][-5:]}")

    def close(self) -> None:
        self.response.close()
        self.connection.close()
