"""The broker loses everything, again and again, and dies once, under load: no rental is lost.

ROUNDS in the environment sets the number of emptyings at an interval of ten seconds; without it
there are a few at shorter intervals. Figures are printed.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field

import pytest

from devstack.people import Person
from devstack.platform_api import ProblemError
from tests.whole_stack import World

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(
        "ROUNDS" not in os.environ,
        reason="part of make torture: half a minute of load on a whole stack",
    ),
]

ROUNDS = int(os.environ.get("ROUNDS", "0"))
EMPTYINGS = ROUNDS or 4
INTERVAL_S = 10.0 if ROUNDS else 5.0
# Rentals alive at a time for each renter: a load that two cores bear beside three control planes.
LOAD = 3
# The killed broker is away so long.
OUTAGE_S = 3.0


@dataclass
class Load:
    """Renters that rent and end all the time; each request's answer is kept."""

    world: World
    stop: threading.Event = field(default_factory=threading.Event)
    accepted: list[tuple[Person, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    errors: list[ProblemError] = field(default_factory=list)

    def go(self, person: Person) -> None:
        mine: list[str] = []
        while not self.stop.is_set():
            try:
                if len(mine) < LOAD:
                    mine.append(self.world.rent(person)["id"])
                    self.accepted.append((person, mine[-1]))
                else:
                    person.api.delete(f"/rentals/{mine[0]}")
                    self.ended.append(mine.pop(0))
            except ProblemError as problem:
                if problem.status >= 500:
                    self.errors.append(problem)
                else:
                    self.refused.append(problem.slug)
            self.stop.wait(1.0)

    def run(self, people: list[Person]) -> list[threading.Thread]:
        threads = [threading.Thread(target=self.go, args=(person,)) for person in people]
        for thread in threads:
            thread.start()
        return threads


def test_nothing_accepted_is_lost_while_the_broker_forgets(world: World) -> None:
    load = Load(world)
    threads = load.run([world.people["renter"], world.people["second_renter"]])
    forgotten = 0
    try:
        for number in range(EMPTYINGS):
            load.stop.wait(INTERVAL_S)
            forgotten += world.stack.broker.forget()
            if number == EMPTYINGS // 2:
                world.stack.broker.kill()
                load.stop.wait(OUTAGE_S)
                world.stack.broker.revive()
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(60)
    quiet = time.monotonic()
    assert load.errors == [], "a dead broker must not turn a stored wish into a server error"
    ended = set(load.ended)
    assert len(ended) >= EMPTYINGS
    for person, key in load.accepted:
        wanted = "terminated" if key in ended else "running"
        world.until_state(person, key, wanted, deadline_s=30)
    took = time.monotonic() - quiet
    for person, key in load.accepted:
        if key not in ended:
            world.end(person, key)
    for _, key in load.accepted:
        pods = world.pods_of(key)
        assert len(pods) <= 1
        assert all(pod.gone_at for pod in pods)
        assert world.open_holds(key) == 0
    print(
        f"broker emptied {EMPTYINGS} times every {INTERVAL_S:g} s ({forgotten} keys lost), killed "
        f"once; {len(load.accepted)} rentals accepted, {len(ended)} ended meanwhile, "
        f"{len(load.refused)} refused, none lost; converged {took:.1f} s after the last request"
    )
