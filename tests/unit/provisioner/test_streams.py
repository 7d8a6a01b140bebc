"""The streams process from inside: grants, limits, ends, leaving clients and slow ones."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from django.conf import settings

from kernel.grants import GRANT_SECONDS, Grant, sign
from kernel.ids import new_id
from provisioner.contracts.streaming import LOGS_FOLLOW, LOGS_TAIL, STREAM_PATHS
from provisioner.kube.errors import Rejected, Unavailable
from provisioner.models import Cluster
from provisioner.streams import app as app_module
from provisioner.streams.app import Streams
from provisioner.streams.place import Place
from provisioner.streams.seats import Seats

US, THEM = uuid4(), uuid4()
MACHINE = uuid4()
STAMP = b"2026-11-01T10:00:00.5Z "


class Host:
    """A cluster with one log, and the row that knows it."""

    def __init__(self) -> None:
        self.pieces: Callable[[Any], Iterator[bytes]] = lambda cut: iter([STAMP + b"hello\n"])
        self.tail: Callable[[], tuple[bytes, bool]] = lambda: (STAMP + b"hello\n", False)
        self.created, self.ending = True, True
        self.looks = 0
        self.asked: list[dict[str, Any]] = []

    def find(self, instance: UUID, tenant: UUID) -> Place | None:
        self.looks += 1
        if (instance, tenant) != (MACHINE, US):
            return None
        return Place(Cluster(), new_id(), "gpuyard-r-01", "gy-x", self.created, self.ending)

    def connect(self, _: Cluster) -> Any:
        return self

    def follow_log(self, namespace: str, name: str, **asked: Any) -> Iterator[bytes]:
        self.asked.append(asked)
        return self.pieces(asked["cut"])

    def pod_log(self, namespace: str, name: str, **asked: Any) -> tuple[bytes, bool]:
        self.asked.append(asked)
        return self.tail()


class Call:
    """One request to the application, driven like a server would."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.slow: asyncio.Event | None = None  # set: the client reads on

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if self.slow is not None and message["type"] == "http.response.body":
            await self.slow.wait()
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


@pytest.fixture
def host() -> Host:
    return Host()


def scope(
    verb: str = LOGS_FOLLOW,
    *,
    path: str = "",
    grant: str | None = None,
    owner: UUID = US,
    age: float = 0,
    method: str = "GET",
    last: str = "",
    **query: Any,
) -> dict[str, Any]:
    signed = sign(
        Grant(verb, MACHINE, owner), key=settings.GPUYARD_GRANT_KEY, now=time.time() - age
    )
    given = {"grant": signed if grant is None else grant, **query}
    return {
        "type": "http",
        "method": method,
        "path": path or STREAM_PATHS[verb],
        "query_string": urlencode(given, doseq=True).encode(),
        "headers": [(b"last-event-id", last.encode())] if last else [],
    }


def run(app: Streams, asked: dict[str, Any], *, within_s: float = 20) -> Call:
    """The whole answer to one request."""

    async def all_of_it() -> Call:
        call = Call()
        await asyncio.wait_for(app(asked, call.receive, call.send), within_s)
        return call

    return asyncio.run(all_of_it())


# Made in the test: a grant is for a minute, and others may run before.
@pytest.mark.parametrize(
    "asked",
    [
        partial(scope, grant=""),
        partial(scope, grant="e30.e30"),
        partial(scope, age=GRANT_SECONDS + 5),
        partial(scope, LOGS_TAIL, path=STREAM_PATHS[LOGS_FOLLOW]),
        partial(scope, LOGS_FOLLOW, path=STREAM_PATHS[LOGS_TAIL]),
        partial(scope, "terminal.open", path=STREAM_PATHS[LOGS_FOLLOW]),
    ],
    ids=["none", "forged", "expired", "tail as follow", "follow as tail", "another verb"],
)
def test_without_a_grant_for_it_nothing_is_even_looked_up(host: Host, asked: Any) -> None:
    call = run(Streams(connect=host.connect, find=host.find), asked())
    assert call.status == 401
    assert json.loads(call.body)["type"] == "/problems/unauthenticated"
    assert call.headers[b"content-type"] == b"application/problem+json"
    assert (host.looks, host.asked) == (0, [])


def test_a_grant_for_somebody_elses_machine_finds_nothing(host: Host) -> None:
    for verb in (LOGS_FOLLOW, LOGS_TAIL):
        call = run(Streams(connect=host.connect, find=host.find), scope(verb, owner=THEM))
        assert call.status == 404
    assert host.asked == []


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (partial(scope, method="POST"), 405),
        (partial(scope, path="/streams/else"), 404),
        (partial(scope, tail="2001"), 400),
        (partial(scope, tail="-1"), 400),
        (partial(scope, tail="1e3"), 400),
        (partial(scope, tail=["1", "2"]), 400),
        (partial(scope, LOGS_TAIL, previous="yes"), 400),
        (lambda: {**scope(), "query_string": b"\xff\xfe"}, 400),
        (lambda: {**scope(), "query_string": b"a&" * 500}, 400),
    ],
)
def test_what_makes_no_sense_is_a_problem(host: Host, asked: Any, status: int) -> None:
    call = run(Streams(connect=host.connect, find=host.find), asked())
    assert call.status == status
    assert json.loads(call.body)["status"] == status


def test_a_machine_that_ends_ends_its_stream(host: Host) -> None:
    call = run(Streams(connect=host.connect, find=host.find), scope(tail=7))
    assert call.status == 200
    assert call.headers[b"content-type"].startswith(b"text/event-stream")
    assert call.headers[b"cache-control"] == b"no-store"
    line = b'data: {"at":"2026-11-01T10:00:00.500000Z","text":"hello"}\n\n'
    assert line in call.body
    assert call.body.endswith(b'event: end\ndata: {"code":"ended"}\n\n')
    assert host.asked[0]["tail_lines"] == 7
    assert host.asked[0]["since"] is None


def test_a_reader_that_comes_back_is_given_what_it_has_not_seen(host: Host) -> None:
    nanos = 1793527200_500_000_000
    host.pieces = lambda cut: iter([STAMP + b"seen\n" + STAMP + b"new\n"])
    call = run(Streams(connect=host.connect, find=host.find), scope(last=f"{nanos}-1"))
    assert b'"seen"' not in call.body
    assert b'"new"' in call.body
    assert host.asked[0]["tail_lines"] is None
    assert host.asked[0]["since"].timestamp() == nanos // 10**9


def test_markup_and_line_feeds_cannot_leave_their_event(host: Host) -> None:
    host.pieces = lambda cut: iter([STAMP + b"</script>\r\rdata: forged\n\nevent: end\n"])
    call = run(Streams(connect=host.connect, find=host.find), scope())
    events = call.body.split(b"\n\n")
    assert [event for event in events if event.startswith(b"event: end")] == [
        b'event: end\ndata: {"code":"ended"}'
    ]
    assert not any(line.startswith(b"data: forged") for line in call.body.split(b"\n"))


def test_a_cluster_in_trouble_is_said_and_tried_again(host: Host) -> None:
    host.ending = False
    tries: list[int] = []

    def pieces(cut: Any) -> Iterator[bytes]:
        tries.append(1)
        if len(tries) < 3:
            raise Unavailable("connect", "refused by /secret/path")
        host.ending = True
        return iter([STAMP + b"back\n"])

    host.pieces = pieces
    call = run(Streams(connect=host.connect, find=host.find), scope())
    assert call.body.count(b"event: notice") == 1, "said once, not at every try"
    assert b"secret" not in call.body
    assert b'"back"' in call.body


def test_a_program_that_has_not_started_is_waited_for(host: Host) -> None:
    host.ending, host.created = False, False

    def find(instance: UUID, tenant: UUID) -> Place | None:
        found = Host.find(host, instance, tenant)
        if host.looks > 3:
            host.created = host.ending = True
        return found

    call = run(Streams(connect=host.connect, find=find), scope())
    assert call.body.index(b'"waiting"') < call.body.index(b'"hello"')


def test_one_organization_cannot_take_all_seats(host: Host) -> None:
    host.ending = False
    host.pieces = lambda cut: iter([b""] * cut.wait(30))

    async def crowd() -> tuple[list[int], int]:
        app = Streams(connect=host.connect, find=host.find, seats=Seats(most=9, most_of_one=3))
        calls = [Call() for _ in range(5)]
        tasks = [asyncio.create_task(app(scope(), call.receive, call.send)) for call in calls]
        while sum(bool(call.sent) for call in calls) < 5:
            await asyncio.sleep(0.01)
        full = [call for call in calls if call.status == 429]
        assert all(call.headers[b"retry-after"] == b"5" for call in full)
        statuses = sorted(call.status for call in calls)
        for call in calls:
            call.left.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        late = Call()
        late.left.set()
        await asyncio.wait_for(app(scope(), late.receive, late.send), 10)
        return statuses, late.status

    assert asyncio.run(crowd()) == ([200, 200, 200, 429, 429], 200), "seats come back"


def test_a_client_that_leaves_ends_the_thread_and_the_read(host: Host) -> None:
    host.ending = False
    cuts: list[Any] = []

    def pieces(cut: Any) -> Iterator[bytes]:
        cuts.append(cut)
        yield STAMP + b"hello\n"
        assert cut.wait(20), "the read was not cut"

    host.pieces = pieces
    before = threading.active_count()

    async def leave() -> None:
        call = Call()
        app = Streams(connect=host.connect, find=host.find)
        task = asyncio.create_task(app(scope(), call.receive, call.send))
        while b"hello" not in call.body:
            await asyncio.sleep(0.01)
        call.left.set()
        await asyncio.wait_for(task, 10)

    asyncio.run(leave())
    assert [cut.made for cut in cuts] == [True]
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


def test_a_process_that_stops_ends_its_streams(host: Host) -> None:
    host.ending = False
    host.pieces = lambda cut: iter([STAMP + b"hello\n", *([b""] * cut.wait(20))])

    async def stop() -> Call:
        app, call = Streams(connect=host.connect, find=host.find), Call()
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        life: list[dict[str, Any]] = []

        async def told(message: dict[str, Any]) -> None:
            life.append(message)

        living = asyncio.create_task(app({"type": "lifespan"}, messages.get, told))
        await messages.put({"type": "lifespan.startup"})
        task = asyncio.create_task(app(scope(), call.receive, call.send))
        while not host.asked:
            await asyncio.sleep(0.01)
        await messages.put({"type": "lifespan.shutdown"})
        await asyncio.wait_for(asyncio.gather(living, task), 10)
        assert [message["type"] for message in life] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]
        return call

    assert b"event: end" not in asyncio.run(stop()).body, "the client comes back, elsewhere"


def test_a_slow_reader_slows_the_read_instead_of_filling_memory(host: Host) -> None:
    host.ending = False
    read: list[int] = []

    def pieces(cut: Any) -> Iterator[bytes]:
        while not cut.made:
            read.append(1)
            yield STAMP + b"x" * 50 + b"\n"

    host.pieces = pieces

    async def slowly() -> int:
        call = Call()
        call.slow = asyncio.Event()
        app = Streams(connect=host.connect, find=host.find)
        task = asyncio.create_task(app(scope(), call.receive, call.send))
        while len(read) < 4:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # a measured stretch in which a reader without limit runs ahead
        reached = len(read)
        call.left.set()
        await asyncio.wait_for(task, 10)
        return reached

    assert asyncio.run(slowly()) < 20


def test_a_quiet_log_gives_signs_of_life(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "HEARTBEAT_SECONDS", 0.01)
    host.pieces = lambda cut: iter([STAMP + b"late\n"] if not cut.wait(0.3) else [])
    call = run(Streams(connect=host.connect, find=host.find), scope())
    assert call.body.count(b": alive") > 3
    assert b'"late"' in call.body


def test_a_mistake_of_ours_ends_one_stream_in_order(host: Host) -> None:
    def pieces(cut: Any) -> Iterator[bytes]:
        raise ZeroDivisionError

    host.pieces = pieces
    call = run(Streams(connect=host.connect, find=host.find), scope())
    assert call.status == 200
    assert b"event: end" not in call.body, "the client comes back"
    assert call.sent[-1]["more_body"] is False


def test_a_tail_is_one_document(host: Host) -> None:
    call = run(Streams(connect=host.connect, find=host.find), scope(LOGS_TAIL, tail=5))
    shown = json.loads(call.body)
    assert (shown["kind"], shown["truncated"]) == ("live", False)
    assert [item["text"] for item in shown["items"]] == ["hello"]
    assert host.asked[0]["tail_lines"] == 5


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Rejected("invalid", "waiting to start"), 200, "none"),
        (Rejected("not_found", "404"), 200, "none"),
        (Unavailable("dns", "x"), 503, ""),
        (Rejected("forbidden", "pods/log cannot get"), 503, ""),
    ],
)
def test_a_tail_that_cannot_be_read_says_why(
    host: Host, error: Any, status: int, kind: str
) -> None:
    def fail() -> tuple[bytes, bool]:
        raise error

    host.tail = fail
    call = run(Streams(connect=host.connect, find=host.find), scope(LOGS_TAIL))
    shown = json.loads(call.body)
    assert call.status == status
    assert shown.get("kind", "") == kind
    assert shown["detail"]
    for word in ("token", "provider", "server"):
        assert word not in shown["detail"], "what an owner should mend is not told to a renter"
