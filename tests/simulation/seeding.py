"""Everything random or temporal that the product reads, taken from a seed and a virtual clock.

Put in place from outside, at the modules that the product reads them from: ids, claim tokens,
back-off fractions, threads, the clusters' clients, the broker. The clock is PostgreSQL's own
setting for it (kernel/migrations/0001_app_now.py).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import structlog
from django.db import connection

import kernel.clock
import kernel.ids
from config.celery import app
from provisioner.kube.connections import Connections
from provisioner.reconcile import (
    claim,
    instance_loop,
    last_words,
    leases,
    node_loop,
    observe,
    orphans,
    pool,
    steps,
    tokens,
)

Json = dict[str, Any]


class Clock:
    """The platform's clock for one schedule. ``tell``: takes the statement that sets it in
    PostgreSQL, which nobody needs before the next statement of the product."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.now = datetime.min
        self._tell = tell

    def set(self, moment: datetime) -> None:
        if connection.in_atomic_block:
            raise RuntimeError("time passes between transactions, never inside one")
        self.now = moment
        self._tell(f"SELECT set_config('gpuyard.now', '{moment.isoformat()}', false)")

    def advance(self, by: timedelta) -> None:
        self.set(self.now + by)


class _Told:
    """The connection that kernel.clock.now() asks, as far as it does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def cursor(self) -> _Told:
        return self

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was opened."""

    def execute(self, sql: str) -> None:
        if sql != "SELECT app_now()":
            raise RuntimeError(f"the clock is asked {sql!r}: answer that here, or ask PostgreSQL")

    def fetchone(self) -> tuple[datetime]:
        return (self._clock.now,)


class Executor:
    """In place of a pool of threads: calls run one at a time, in an order that the seed decides,
    when somebody waits for them."""

    order: random.Random = random.Random(0)
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, **_: Any) -> None:
        self._calls: dict[futures.Future[Any], Callable[[], Any]] = {}

    def submit(self, call: Callable[[], Any]) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        _waiting[future] = call
        return future

    def shutdown(self, **_: Any) -> None:
        """Nothing runs on its own."""


_waiting: dict[futures.Future[Any], Callable[[], Any]] = {}


def wait(running: Iterator[futures.Future[Any]], **_: Any) -> tuple[set[Any], set[Any]]:
    """Run one of the calls to its end; others act before and after it."""
    asked = list(running)
    future = asked[Executor.order.randrange(len(asked))]
    call = _waiting.pop(future)
    Executor.meanwhile()
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001  a thread hands over whatever ended its call
        future.set_exception(error)
    Executor.meanwhile()
    return {future}, set(asked) - {future}


class Complaints:
    """Log lines at error level: the product says of itself that something must not have been."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, _: Any, level: str, event: Any) -> Any:
        if level in ("error", "critical", "exception"):
            known = {k: str(v)[:200] for k, v in sorted(event.items())}
            self.seen.append(f"{event['event']} {known}")
        raise structlog.DropEvent


def _in_order(plain: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Rows that are due at the same moment come in any order from PostgreSQL: take them by key;
    which is worked at first the seed decides."""

    def claimed(*args: Any, **named: Any) -> list[Any]:
        rows = plain(*args, **named)
        return sorted(rows, key=lambda row: str(row.pk if hasattr(row, "pk") else row.cluster.pk))

    return claimed


def _sorted_batch(
    plain: Callable[[uuid.UUID], leases.Batch | None],
) -> Callable[[uuid.UUID], leases.Batch | None]:
    def claimed(cluster: uuid.UUID) -> leases.Batch | None:
        batch = plain(cluster)
        if batch is None:
            return None
        return replace(batch, orders=tuple(sorted(batch.orders, key=lambda order: str(order.id))))

    return claimed


class Seeds:
    """Independent streams of one seed, so that a change in one part does not shift the others."""

    def __init__(self, seed: str) -> None:
        self.seed = seed

    def stream(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")


@contextmanager
def seeded(
    clock: Clock, *, connect: Callable[[Any], Any], send: Callable[[str], None]
) -> Iterator[Complaints]:
    """The product reads time, chance, threads, clusters and broker from here inside the block."""
    complaints = Complaints()
    ids = kernel.ids.__name__
    with ExitStack() as stack:

        def put(target: str, value: Any) -> None:
            stack.enter_context(mock.patch(target, value))

        millis = SimpleNamespace(time_ns=lambda: int(clock.now.timestamp() * 1000) * 1_000_000)
        put(f"{ids}.time", millis)
        # As `SELECT app_now()` would answer, without asking: a tenth of all queries.
        stack.enter_context(mock.patch.object(kernel.clock, "connection", _Told(clock)))
        put(f"{ids}.os", SimpleNamespace(urandom=Chance.urandom))
        stack.enter_context(mock.patch.object(uuid, "uuid4", Chance.uuid4))
        stack.enter_context(mock.patch.object(pool, "ThreadPoolExecutor", Executor))
        stack.enter_context(mock.patch.object(pool, "wait", wait))
        stack.enter_context(
            mock.patch.object(Connections, "__call__", lambda self, cluster: connect(cluster))
        )
        stack.enter_context(mock.patch.object(app, "send_task", lambda task, **_: send(task)))
        # Every row that is due at once, so that a limit never cuts among equals.
        stack.enter_context(mock.patch.object(instance_loop, "PER_CLUSTER", pool.THREADS))
        one_by_one = _in_order(claim.claim_instances)
        stack.enter_context(mock.patch.object(instance_loop, "claim_instances", one_by_one))
        for module in (observe, node_loop, orphans, tokens):
            stack.enter_context(
                mock.patch.object(module, "claim_loops", _in_order(claim.claim_loops))
            )
        # Leases and clusters by key; what a call may still do is a matter of virtual time.
        stack.enter_context(mock.patch.object(leases, "_CLUSTERS", f"{leases._CLUSTERS}ORDER BY 1"))
        stack.enter_context(mock.patch.object(leases, "claim", _sorted_batch(leases.claim)))
        monotonic = SimpleNamespace(monotonic=lambda: clock.now.timestamp())  # noqa: PLW0108 moves
        loops = (instance_loop, observe, node_loop, orphans, tokens, leases)
        for module in (*loops, steps, last_words):
            stack.enter_context(mock.patch.object(module, "time", monotonic))
        stack.enter_context(_heard(complaints))
        state = random.getstate()
        try:
            yield complaints
        finally:
            random.setstate(state)
            _waiting.clear()


class Chance:
    """The product's own randomness. Back-off fractions come from the global generator."""

    ids: random.Random = random.Random(0)

    @classmethod
    def urandom(cls, size: int) -> bytes:
        return cls.ids.randbytes(size)

    @classmethod
    def uuid4(cls) -> uuid.UUID:
        return uuid.UUID(int=cls.ids.getrandbits(128))

    @classmethod
    def begin(cls, seeds: Seeds) -> None:
        cls.ids = seeds.stream("ids")
        Executor.order = seeds.stream("threads")
        random.seed(f"{seeds.seed}/product")
        _waiting.clear()


@contextmanager
def _heard(complaints: Complaints) -> Iterator[None]:
    """Loggers keep the list of processors that they were made with: change it in place."""
    processors = structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [complaints]
    try:
        yield
    finally:
        processors[:] = before
