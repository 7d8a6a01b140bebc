"""Runs schedules one after the other in one database, each undone at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock
from uuid import UUID

from django.db import connection

from billing.metering import hold, settle
from config.celery import app
from provisioner.reconcile import brake, instance_loop
from tests.simulation import invariants
from tests.simulation.platform import Manner, Platform
from tests.simulation.sandbox import Sandbox
from tests.simulation.schedule import Outcome, Schedule
from tests.simulation.seeding import Chance, Clock, Complaints, Seeds, seeded
from tests.simulation.world import World, build

# Holds of minutes instead of hours, so that money runs out within a schedule.
SHORT_HOLD, SHORT_REFILL = 120, 150


class Runner:
    """Made by `ready`."""

    def __init__(
        self,
        sandbox: Sandbox,
        clock: Clock,
        complaints: Complaints,
        world: World,
        serving: dict[UUID, Any],
    ) -> None:
        self._sandbox = sandbox
        self._clock = clock
        self._complaints = complaints
        self._world = world
        self._serving = serving
        self._platform: Platform | None = None

    def send(self, task: str) -> None:
        if self._platform is not None:
            self._platform.send(task)

    def run(self, seed: str, *, watched: str = "", sql: str = "", **manner: Any) -> Outcome:
        """One schedule from the common start; everything it did is undone afterwards.

        ``watched``: only this invariant counts. ``sql``: run first, undone like the rest.
        ``manner``: traits that the seed does not draw.
        """
        seeds = Seeds(seed)
        Chance.begin(seeds)
        self._complaints.seen.clear()
        # The first quiet round is still within a minute of the world's last full list: no gap yet.
        offset = seeds.stream("start").randrange(15_000)
        self._clock.set(self._world.built_at + timedelta(milliseconds=offset))
        drawn = Manner(seeds.stream("manner"))
        for name, value in manner.items():
            setattr(drawn, name, value)
        platform = Platform(self._sandbox, self._clock, self._world, seeds, drawn)
        self._platform = platform
        self._serving.update({row.pk: platform.connect(row) for row in self._world.clusters})
        try:
            if sql:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
            with self._lengths(platform):
                return Schedule(platform, self._complaints, seed, watched).run()
        finally:
            self._platform = None
            self._sandbox.boundary = lambda when: None
            self._sandbox.undo()

    @contextmanager
    def _lengths(self, platform: Platform) -> Iterator[None]:
        with ExitStack() as stack:
            finish = platform.finish_fenced(instance_loop._finish)
            stack.enter_context(mock.patch.object(instance_loop, "_finish", finish))
            stack.enter_context(mock.patch.object(brake, "FEW", platform.manner.brake_at))
            if platform.manner.short_holds:
                stack.enter_context(mock.patch.object(hold, "FIRST_HOLD", SHORT_HOLD))
                stack.enter_context(mock.patch.object(settle, "REFILL", SHORT_REFILL))
            yield


@contextmanager
def ready() -> Iterator[Runner]:
    """A runner in the present database, which is left as it was found."""
    app.loader.import_default_modules()
    serving: dict[UUID, Any] = {}
    runner: list[Runner] = []

    def send(task: str) -> None:
        for one in runner:
            one.send(task)

    with (
        Sandbox(connection) as sandbox,
        seeded(
            clock := Clock(sandbox.tell), connect=lambda row: serving[row.pk], send=send
        ) as complaints,
    ):
        Chance.begin(Seeds("world"))
        world = build(clock, serving)
        invariants.install()
        sandbox.mark()
        runner.append(Runner(sandbox, clock, complaints, world, serving))
        yield runner[0]
