"""The product's processes around one seed: workers, beat, broker, watcher and their clusters.

Everything runs in this one process, one thing at a time. What is concurrent in production is here
an order that the seed decides: others act while a call to a cluster is under way (never inside a
transaction, where the product makes none), a worker may die at any moment of a call or a commit,
and may come back so late that its claim is somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from config.celery import app
from config.schedules import BEAT
from kernel.errors import Refusal
from kernel.ids import parse
from marketplace.models import Offer
from provisioner.models import Cluster, ClusterLoop, Instance
from provisioner.reconcile.claim import INSTANCE_CLAIM
from provisioner.reconcile.steps import Step
from tests.simulation.pods import SimPod
from tests.simulation.port import Port, Weather
from tests.simulation.sandbox import Sandbox
from tests.simulation.seeding import Clock, Executor, Seeds
from tests.simulation.watch import Watch
from tests.simulation.world import REGIONS, World, fresh_clusters

# The loops that this issue is about, in the order of a quiet round.
# What says that a machine is well: full lists of pods, and looks at the nodes.
PROVING = ("provisioner.inventory", "provisioner.observe")
CORE = (
    "provisioner.observe",
    "provisioner.instances",
    "provisioner.inventory",
    "provisioner.orphans",
    "provisioner.leases",
    "provisioner.summaries",
    "marketplace.follow",
    "marketplace.charge",
    "marketplace.place",
    "marketplace.leases",
    "marketplace.funds",
    "marketplace.taken_back",
)
RARE = (
    "marketplace.seal_audit",
    "marketplace.publish",
    "marketplace.forget",
    "provisioner.tokens",
    "provisioner.old_logs",
)
_PERIODS = {entry["task"]: timedelta(seconds=entry["schedule"]) for entry in BEAT.values()}


NEVER = datetime(2100, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """kill -9: nothing of the product may catch it."""


class Manner:
    """How a schedule goes wrong, drawn once from its seed."""

    def __init__(self, rng: Random) -> None:
        self.calm = rng.random() < 0.1
        wild = 0.0 if self.calm else 1.0
        self.trouble = wild * rng.choice([0.0, 0.1, 0.4])
        self.watch = rng.random() < 0.5
        self.hints_lost = wild * rng.choice([0.0, 0.1, 1.0])
        self.kill = wild * rng.choice([0.0, 0.1, 0.3])
        self.others = wild * rng.choice([0.0, 0.1, 0.3])
        self.storm = wild * rng.choice([0.0, 0.2, 0.5])
        self.one_cluster = rng.random() < 0.6
        self.short_holds = rng.random() < 0.3
        # The mass brake at this many ends instead of ten: eight cards never reach ten.
        self.brake_at = 10 if self.calm else rng.choice([10, 10, 10, 2])
        # What happens first, where a mutant needs a situation that chance seldom makes.
        self.script: tuple[Callable[[Any], str], ...] = ()


class Platform:
    """One schedule's product. ``act_meanwhile`` is what others do during a call."""

    def __init__(
        self, sandbox: Sandbox, clock: Clock, world: World, seeds: Seeds, manner: Manner
    ) -> None:
        self.sandbox = sandbox
        self.clock = clock
        self.world = world
        self.rng = seeds.stream("platform")
        self.manner = manner
        self.trace: list[str] = []
        self.violations: list[tuple[str, str]] = []
        self.began = clock.now
        self.clusters = fresh_clusters(world)
        for cluster in self.clusters:
            cluster.advance(clock.now)
        self.weathers = [Weather() for _ in self.clusters]
        self.watches: list[Watch] = []
        self._ports: dict[Any, Port] = {}
        for number, (row, cluster) in enumerate(zip(world.clusters, self.clusters, strict=True)):
            cluster.rng = seeds.stream(f"cluster {number}")
            cluster.trouble = self.manner.trouble
            cluster.on_created = self._created
            net = seeds.stream(f"network {number}")
            self._ports[row.pk] = Port(cluster, self.weathers[number], net, self._moments(number))
            self.watches.append(Watch(cluster, row.pk, seeds.stream(f"watch {number}")))
            if self.manner.watch:
                self.watches[number].start()
        if self.manner.one_cluster:
            # The second stands by itself: nobody looks at it, and nobody rents there.
            ClusterLoop.objects.filter(cluster=world.clusters[1]).update(due_at=NEVER)
            Offer.objects.filter(region=REGIONS[1]).update(state=Offer.State.PAUSED)
        self.act_meanwhile: Callable[[], None] = lambda: None
        self._hints: list[tuple[Any, str]] = []
        self._beat = dict.fromkeys(_PERIODS, clock.now)
        self._kill: int | None = None
        self._busy = 0
        self._faultless = False
        self._paused = False
        sandbox.boundary = lambda when: self._boundary(f"commit {when}")
        Executor.meanwhile = staticmethod(self._meanwhile)

    # --- what the product reaches -------------------------------------------------------------

    def connect(self, row: Cluster) -> Port:
        return self._ports[row.pk]

    def send(self, task: str) -> None:
        """The broker takes a hint; it may lose it, keep it for a while, or deliver it twice."""
        if self.rng.random() < self.manner.hints_lost:
            return
        for _ in range(2 if not self._faultless and self.rng.random() < 0.05 else 1):
            delay = self.rng.uniform(0, 5) if self.rng.random() < 0.2 else 0.0
            self._hints.append((self.clock.now + timedelta(seconds=delay), task))

    # --- time and work --------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """A line of the trace: when and what, without anything that differs between runs."""
        self.trace.append(f"{(self.clock.now - self.began).total_seconds():9.3f} {text}")

    def pass_time(self, seconds: float) -> None:
        """Let time pass; what the watcher sees it applies when it arrives, not later."""
        until = self.clock.now + timedelta(milliseconds=int(seconds * 1000))
        while (moment := self._next(until)) < until:
            self._reach(moment)
            self.watch()
        self._reach(until)

    def _next(self, until: datetime) -> datetime:
        """The next moment at which a watcher may have something to do."""
        moments = [until]
        for number, watch in enumerate(self.watches):
            if watch.on and not self.weathers[number].partition:
                moments += [*watch.arrivals(), *self.clusters[number].upcoming()]
        return max(self.clock.now, min(moments))

    def _reach(self, moment: datetime) -> None:
        self.clock.set(moment)
        for cluster in self.clusters:
            cluster.advance(moment)

    def work(self, most: int) -> None:
        """What arrived at the watcher, the hints, and some of what beat asks for by now."""
        self.watch()
        due = sorted({task for when, task in self._hints if when <= self.clock.now})
        self._hints = [one for one in self._hints if one[0] > self.clock.now]
        late = sorted(t for t, at in self._beat.items() if self.clock.now - at >= _PERIODS[t])
        core = [task for task in late if task in CORE and task not in due]
        rare = [task for task in late if task in RARE]
        self.rng.shuffle(due)
        chosen = due + self.rng.sample(core, min(most, len(core)))
        if self.manner.calm:  # no gap of ours: every second must be proven
            chosen = [task for task in PROVING if task in late] + chosen
        if rare and self.rng.random() < 0.05:
            chosen.append(self.rng.choice(rare))
        for task in chosen:
            self.run(task, kill=self._death())

    def round(self) -> None:
        """A quiet round: everything once, nothing goes wrong."""
        self._hints.clear()
        self.watch()
        for task in CORE:
            if self.clock.now - self._beat[task] >= _PERIODS[task]:
                self.run(task)

    def watch(self) -> None:
        for number, watch in enumerate(self.watches):
            if self.weathers[number].partition:
                continue
            for seen in watch.due(self.clock.now):
                self._guarded("watch", partial(watch.deliver, seen))

    def run(self, task: str, kill: int | None = None) -> None:
        """One run of a loop, as beat and wake-ups start it; ``kill``: die at that boundary."""
        if task in self._beat:
            self._beat[task] = self.clock.now
        self.note(f"run {task}")
        self._guarded(task, app.tasks[task].run, kill)

    def request(self, name: str, act: Callable[[], Any], kill: int | None = None) -> Any:
        """Somebody's request in the web process; None when the process died under it."""
        return self._guarded(name, act, kill)

    def calm_down(self) -> None:
        """Faults stop; the world is whole again, and what is under way comes to its end."""
        self.manner.trouble = self.manner.hints_lost = self.manner.others = 0.0
        self._faultless = True
        for cluster, weather, watch in zip(self.clusters, self.weathers, self.watches, strict=True):
            if weather.partition:
                watch.cut()
            weather.storm, weather.partition, weather.lies = 0.0, False, False
            cluster.trouble = 0.0
            watch.calm = True
            cluster.mend()

    # --- inside ---------------------------------------------------------------------------------

    def _death(self) -> int | None:
        return self.rng.randrange(8) if self.rng.random() < self.manner.kill else None

    def _guarded(self, name: str, act: Callable[[], Any], kill: int | None = None) -> Any:
        before, self._kill = self._kill, kill
        try:
            return act()
        except Killed:
            self.note(f"{name} was killed")
            return None
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, no loop may break
            self.violations.append(("nothing breaks", f"{name}: {error!r}"))
            return None
        finally:
            self._kill = before

    def _boundary(self, what: str) -> None:
        if self._kill is None:
            return
        if self._kill == 0:
            self._kill = None
            self.note(f"killed at {what}")
            raise Killed
        self._kill -= 1

    def _moments(self, number: int) -> Callable[[str, str], None]:
        def moment(verb: str, what: str) -> None:
            if what != "leaves":
                self.note(f"cluster {number} {verb}: {what}")
            self._boundary(f"{verb} {what}")

        return moment

    def _meanwhile(self) -> None:
        """Before and after a call: nothing, some time, others' work, or a very long pause."""
        if self._busy or self.rng.random() >= self.manner.others:
            return
        self._busy += 1
        kill, self._kill = self._kill, None
        try:
            pause = self.rng.choice([0.05, 0.5, 3.0, 3.0, INSTANCE_CLAIM.total_seconds() + 5])
            self.note(f"meanwhile {pause} s")
            self._paused |= timedelta(seconds=pause) > INSTANCE_CLAIM
            self.pass_time(pause)
            self.act_meanwhile()
        finally:
            self._busy -= 1
            self._kill = kill

    def _created(self, pod: SimPod) -> None:
        """A worker that was stopped between its claim and its request sends it too late, which
        nothing can fence: such a pod may meet an instance that is gone, and the sweep ends it."""
        if self._paused:
            until = Instance.objects.values_list("create_until", flat=True)
            last = until.filter(pk=parse("instance", pod.instance)).first()
            pod.late = last is None or last < self.clock.now

    def finish_fenced(self, finish: Callable[[Step, Any], None]) -> Callable[[Step, Any], None]:
        """The instance loop's write-back, watched: without its claim it must change nothing."""

        def finished(step: Step, result: Any) -> None:
            until = step.row.claim_until
            lost = until is not None and self.clock.now > until and _claim(step) != step.token
            before = _fenced(step) if lost else None
            finish(step, result)
            if lost and _fenced(step) != before:
                self.violations.append(("fence", f"{before} became {_fenced(step)}"))

        return finished


def _claim(step: Step) -> Any:
    return Instance.objects.values_list("claim_token", flat=True).get(pk=step.row.pk)


def _fenced(step: Step) -> Any:
    """What only the holder of the claim may change."""
    columns = ("state", "event_seq", "claim_token", "claim_until", "due_at", "attempts")
    return Instance.objects.values_list(*columns).get(pk=step.row.pk)
