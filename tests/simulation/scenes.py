"""Situations that mutants need and chance seldom makes; each returns its line for the trace."""

from __future__ import annotations

from datetime import timedelta

from marketplace.rentals import act
from provisioner.models import Instance
from tests.simulation import people
from tests.simulation.schedule import Schedule
from tests.simulation.world import REGIONS


def rounds(sim: Schedule, number: int, seconds: float) -> None:
    """Quiet rounds, each checked."""
    for _ in range(number):
        sim.platform.pass_time(seconds)
        sim.platform.round()
        sim.check()


def a_stop(sim: Schedule) -> str:
    """A machine that runs is stopped, and time passes."""
    rounds(sim, 2, 5)
    for rental in sorted(sim.rentals):
        said = people.ask_of(sim, act.Asked("stop"), rental)
    rounds(sim, 4, 20)
    return said


def a_free_card(sim: Schedule) -> str:
    """Of the two machines that run on one node, one ends, and its card has rested."""
    said = people.end(sim, min(sim.rentals))
    rounds(sim, 6, 30)
    return said


def one_after_the_other(sim: Schedule) -> str:
    """Two organizations rent a card each on the node where cards are left."""
    for renter in sim.world.renters[:2]:
        said = people.ask(sim, renter, 1, REGIONS[0])
        rounds(sim, 1, 3)
    return said


def asked_twice(sim: Schedule) -> str:
    """A client asks for a card and repeats its request."""
    people.ask(sim, sim.world.renters[0], 1, REGIONS[0])
    return people.rent_again(sim)


def found_late(sim: Schedule) -> str:
    """A machine breaks, and nobody looks for a while."""
    rounds(sim, 2, 5)
    cluster, pod = sim.some_pod() or (0, None)
    if pod is None:
        return ""
    sim.platform.clusters[cluster].fail(pod)
    rounds(sim, 3, 25)
    return "broken for a while"


def a_stranger(sim: Schedule) -> str:
    """A pod of ours that no table knows is there for minutes."""
    sim.platform.clusters[0].add_stranger()
    rounds(sim, 6, 30)
    return "a stranger was there"


def out_of_reach(sim: Schedule) -> str:
    """A machine is to end while its cluster cannot be reached."""
    sim.platform.weathers[0].partition = True
    said = people.end(sim, min(sim.rentals))
    sim.platform.run("provisioner.instances")
    sim.platform.weathers[0].partition = False
    sim.platform.watches[0].cut()
    return said


def dark_with_failover(sim: Schedule) -> str:
    """A rental that may go elsewhere runs in a cluster that cannot be reached for minutes."""
    people.ask(sim, sim.world.renters[0], 1, REGIONS[0], queue=3600, failover=True)
    rounds(sim, 6, 8)
    weather = sim.platform.weathers[0]
    weather.partition = True
    for _ in range(5):
        # Before the list that fails makes everybody leave the cluster alone for a while.
        sim.platform.pass_time(40)
        sim.platform.run("provisioner.instances")
        rounds(sim, 1, 1)
    # As after many tries that failed: its turn comes later.
    later = sim.clock.now + timedelta(seconds=120)
    Instance.objects.filter(state="stopping").update(due_at=later)
    weather.partition = False
    sim.platform.watches[0].cut()
    for _ in range(8):
        rounds(sim, 1, 6)
        # Its renter, who was told that it ended, has it tried again.
        people.ask_of(sim, act.Asked("retry"), max(sim.rentals))
    return "dark for minutes"


def lying_lists(sim: Schedule) -> str:
    """Lists of the first cluster may be empty with 200."""
    sim.platform.weathers[0].lies = True
    rounds(sim, 6, 6)
    return "lists lie"


def two_in_the_queue(sim: Schedule) -> str:
    """Every card is taken, two wait for the same, and one card comes back."""
    for waits in (None, None, 3600, 3600):
        people.ask(sim, sim.world.renters[0], 1, REGIONS[0], queue=waits)
        rounds(sim, 1, 3)
    people.end(sim, min(sim.rentals))
    rounds(sim, 8, 30)
    return "two waited"
