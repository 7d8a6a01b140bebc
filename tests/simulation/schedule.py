"""One schedule: a seed, its steps, what is checked after each, and its trace."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from kernel.errors import Refusal
from kernel.ids import parse
from marketplace.accounts import audit
from marketplace.accounts.idempotency import Rendered
from marketplace.models import Rental
from marketplace.rentals.state import COMING_UP, ENDING
from tests.market import Renter
from tests.simulation import invariants, truth
from tests.simulation.actions import ACTIONS, Action, Asked, end, release_brakes
from tests.simulation.cluster import SimCluster
from tests.simulation.invariants import Found, Tables
from tests.simulation.platform import Platform
from tests.simulation.pods import SimPod
from tests.simulation.seeding import Complaints

# Most are short: what can go wrong needs few steps, and many beginnings find more than few ends.
STEPS = ((2, 4), (5, 9), (10, 40))
OFTEN = (13, 6, 1)
# Quiet rounds in seconds. The first comes after the longest grace of a program that was told to
# end, and is the only one that most need; then dense, where claims expire and clusters come back.
ROUNDS = (31, 5, 10, 15, 20, 20, 20, 25, *[20] * 12, *[55] * 12)
# What a calm schedule may leave uncharged of each ready stretch: until the first list that sees it.
UNBILLED = timedelta(seconds=60)


@dataclass
class Outcome:
    """What a schedule showed. ``hash``: of its trace, equal wherever the seed is equal."""

    seed: str
    hash: str = ""
    steps: int = 0
    trace: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


class Broken(Exception):
    """An invariant does not hold: the schedule ends here."""


class Schedule:
    """What actions see. ``rentals``: public ids with their renters, as acknowledged.

    ``watched``: the one invariant that counts; all do when it is empty.
    """

    def __init__(
        self, platform: Platform, complaints: Complaints, seed: str, watched: str = ""
    ) -> None:
        self.platform = platform
        self.world = platform.world
        self.clock = platform.clock
        self.rng = platform.rng
        self.asked: list[Asked] = []
        self.rentals: dict[str, Renter] = dict(platform.world.rentals)
        self.ended: set[str] = set()
        self.outcome = Outcome(seed)
        self._watched = watched
        self._complaints = complaints
        self._tables = Tables([], {}, {}, [], {}, set())
        self._names: dict[tuple[str, str], str] = {}
        platform.act_meanwhile = self._meanwhile

    # --- for actions ----------------------------------------------------------------------------

    def name(self, kind: str, key: str) -> str:
        """The n-th thing of its kind: ids do not appear in a trace."""
        number = sum(1 for known, _ in self._names if known == kind)
        return self._names.setdefault((kind, key), f"{kind} {number}")

    def some_cluster(self) -> int:
        number = self.rng.randrange(len(self.platform.clusters))
        return 0 if self.platform.manner.one_cluster else number

    def some_pod(self) -> tuple[int, SimPod] | None:
        """A pod of ours and its cluster's number."""
        pods = [
            (cluster.number, pod)
            for cluster in self.platform.clusters
            for pod in cluster.pods.values()
            if not pod.stranger
        ]
        return self.rng.choice(pods) if pods else None

    def request(self, name: str, act: Callable[[], Any]) -> Any:
        """A request of somebody: its result, the refusal, or None when the process died."""
        kill = self.rng.randrange(2) if self.rng.random() < self.platform.manner.kill else None
        try:
            return self.platform.request(name, act, kill)
        except Refusal as refusal:
            return refusal

    def acknowledged(self, asked: Asked, answer: Rendered) -> None:
        """I16: the same key always gives the same answer."""
        if asked.answer is not None and asked.answer != answer.body:
            self._violated("I16 the same answer for the same key", f"{answer.body!r}")
        asked.answer = answer.body
        self.rentals[answer.body.decode().split('"')[3]] = asked.renter

    # --- running --------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Steps, then quiet; the outcome says what was broken."""
        try:
            for act in self.platform.manner.script:
                self.platform.note(act(self))
                self.check()
            for _ in range(self.rng.randint(*self.rng.choices(STEPS, OFTEN)[0])):
                self._step()
            self._settle()
        except Broken:
            pass
        lines = self.platform.trace + self.outcome.violations
        self.outcome.trace = lines
        self.outcome.hash = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return self.outcome

    def _step(self) -> None:
        self.outcome.steps += 1
        self._act(self._choose())
        if self.rng.random() < 0.5:
            self.platform.pass_time(self.rng.choice([0.2, 1, 2]))
        self.platform.work(self.rng.randint(0, 2))
        self.check()

    def _choose(self, *, meanwhile: bool = False) -> Action:
        table = [
            one
            for one in ACTIONS
            if not (one.fault and self.platform.manner.calm) and (one.meanwhile or not meanwhile)
        ]
        return self.rng.choices(table, [one.weight for one in table])[0]

    def _act(self, one: Action) -> None:
        said = one.act(self)
        if said:
            self.platform.note(said)

    def _meanwhile(self) -> None:
        """Others, while a call is under way: a request, a fault, or another worker's loops."""
        if self.rng.random() < 0.5:
            self._act(self._choose(meanwhile=True))
        else:
            self.platform.work(1)

    def _settle(self) -> None:
        """Faults stop, everybody may end what they rent, and within minutes all is well."""
        if self.rng.random() < 0.6:
            for rental in sorted(self.rentals):
                if self.rng.random() < 0.8:
                    self.platform.note(end(self, rental))
        self.platform.note("faults stop")
        calm = self.clock.now
        self.platform.calm_down()
        self.platform.work(0)
        self.platform.run("provisioner.instances")
        left: list[Found] = []
        for seconds in ROUNDS:
            self.platform.pass_time(seconds)
            if release_brakes():
                calm = self.clock.now  # what it held has its time from here
            self.platform.round()
            self.check()
            if self.clock.now - calm >= truth.ORPHAN:
                self._report(truth.orphans(self._tables, self.platform.clusters))
            left = self._unsettled()
            if not left:
                break
        self._report(left)
        self._last_look()

    def _unsettled(self) -> list[Found]:
        found = truth.orphans(self._tables, self.platform.clusters)
        return found or invariants.unsettled()

    def _last_look(self) -> None:
        audit.seal()
        faults = audit.verify().faults
        self._report([("I15 the audit chain holds", fault) for fault in faults])
        if self.platform.manner.calm:
            self._report(truth.unbilled(self.platform.clusters, UNBILLED))
        strangers = [
            pod.name
            for cluster in self.platform.clusters
            for pod in cluster.history
            if pod.stranger and pod.gone
        ]
        self._report([("strangers are never touched", name) for name in strangers])
        rows = Rental.objects.order_by("created_at", "id").values_list("state", "reason", "gpus")
        self.platform.note(f"rentals {list(rows)}")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT coalesce(sum(seconds), 0), coalesce(sum(amount_micro), 0)"
                " FROM billing_usageline"
            )
            self.platform.note(f"charged {[int(value) for value in cursor.fetchone()]}")

    # --- checking -------------------------------------------------------------------------------

    def _slack(self, cluster: SimCluster, end: datetime) -> timedelta:
        """How much later than the truth a charge may end; by lists alone, nothing."""
        watch = self.platform.watches[cluster.number]
        return watch.slack(end) if self.platform.manner.watch else timedelta(0)

    def check(self) -> None:
        """Everything that must hold now; raises Broken."""
        self._report(self.platform.violations)
        if self.platform.sandbox.was_written():
            before, self._tables = self._tables, invariants.look()
            self._report(self._tables.broken)
            self._report(_jumped(before, self._tables))
            self._report(self._forgotten())
        self._report(truth.broken(self._tables, self.platform.clusters, slack=self._slack))
        complaints, self._complaints.seen = self._complaints.seen, []
        serious = [text for text in complaints if not text.startswith(EXPECTED)]
        self._report([("the product complains of itself", text) for text in serious])

    def _forgotten(self) -> list[Found]:
        """I21: what was acknowledged exists, and what was asked to end is ending."""
        found = []
        for public in self.rentals:
            state = self._tables.rentals.get(parse("rental", public))
            if state is None or (public in self.ended and state not in ENDING):
                what = f"{self.name('rental', public)} is {state}"
                found.append(("I21 every acknowledged request exists", what))
        return found

    def _report(self, found: list[Found]) -> None:
        for name, what in found:
            self._violated(name, what)
        if self.outcome.violations:
            raise Broken

    def _violated(self, name: str, what: str) -> None:
        if self._watched in ("", name):
            self.outcome.violations.append(f"VIOLATION {name}: {what}")


def _jumped(before: Tables, after: Tables) -> list[Found]:
    """Those who left the queue for cards while somebody before them asked for the same."""
    served = [
        key
        for key in before.queued
        if key not in after.queued and after.rentals.get(key) in ("provisioning", *COMING_UP)
    ]
    return [
        ("the queue is served in its order", f"{place} before {other}")
        for key in served
        for (what, place) in [before.queued[key]]
        for waiting in before.queued.keys() & after.queued.keys()
        for (wish, other) in [before.queued[waiting]]
        if wish == what and other < place and after.queued[waiting][1] == other
    ]


# Error lines that say what the world did, not that the product is wrong.
EXPECTED = ("mass_brake", "usage_overrun", "database_restored", "reaper {")
