"""What time, machines and networks do in a schedule; people.py and owners.py have the others."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction

from kernel.ids import public
from marketplace.providers import brakes
from provisioner import facade as provisioner
from tests.simulation import owners
from tests.simulation.people import Asked, end
from tests.simulation.table import ACTIONS, Action, action

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule

__all__ = ["ACTIONS", "Action", "Asked", "end", "owners", "release_brakes"]


# --- time ---------------------------------------------------------------------------------------


@action(18)
def tick(sim: Schedule) -> str:
    """Seconds pass."""
    sim.platform.pass_time(sim.rng.choice([1, 2, 5, 5, 10, 20]))
    return "tick"


@action(5)
def linger(sim: Schedule) -> str:
    """Minutes pass in which only full lists are made: machines run and the meter counts."""
    sim.platform.run("provisioner.observe")
    for _ in range(sim.rng.randint(1, 3)):
        sim.platform.pass_time(45)
        sim.platform.run("provisioner.observe")
    return "linger"


@action(1)
def dwell(sim: Schedule) -> str:
    """Minutes pass in which everything of ours runs: patience ends, other hosts are tried."""
    sim.platform.run("provisioner.observe")
    rounds = sim.rng.choice([1, 2, 2, 3, 3, 7])
    for _ in range(rounds):
        sim.platform.pass_time(50)
        sim.platform.run("provisioner.observe")
        sim.platform.pass_time(50)
        sim.platform.round()
    return f"dwell for {rounds} rounds"


@action(1, fault=True)
def platform_away(sim: Schedule) -> str:
    """All of ours stands still for a while."""
    minutes = sim.rng.choice([2, 20, 70])
    sim.platform.pass_time(60 * minutes)
    return f"away for {minutes} min"


# --- machines and networks ------------------------------------------------------------------------


@action(7, fault=True)
def storm(sim: Schedule) -> str:
    """A cluster's network turns bad, or good again."""
    number = sim.some_cluster()
    weather = sim.platform.weathers[number]
    weather.storm = 0.0 if weather.storm else sim.platform.manner.storm
    weather.lies = bool(weather.storm) and sim.rng.random() < 0.3
    return f"storm {number}: {weather.storm} lies {weather.lies}"


@action(7, fault=True, meanwhile=True)
def partition(sim: Schedule) -> str:
    """A cluster cannot be reached, or can again; its streams break, or go on where they stood."""
    number = sim.some_cluster()
    weather, watch = sim.platform.weathers[number], sim.platform.watches[number]
    weather.partition = not weather.partition
    if weather.partition:
        watch.stand_still()
        return f"partition {number}"
    if sim.rng.random() < 0.5:
        watch.go_on()
        return f"partition {number} over, its stream goes on"
    watch.cut()
    return f"partition {number} over"


@action(3, fault=True)
def cut_stream(sim: Schedule) -> str:
    """A watch breaks; what was under way is lost."""
    number = sim.some_cluster()
    sim.platform.watches[number].cut()
    return f"cut stream {number}"


@action(3, fault=True)
def watcher_off(sim: Schedule) -> str:
    """No watcher runs, or one starts."""
    for watch in sim.platform.watches:
        if watch.on:
            watch.stop()
        elif sim.platform.manner.watch:
            watch.start()
    return "watchers"


@action(7, fault=True, meanwhile=True)
def node(sim: Schedule) -> str:
    """A node falls silent, or comes back, with or without a reboot."""
    cluster = sim.platform.clusters[sim.some_cluster()]
    one = cluster.nodes[sim.rng.choice(sorted(cluster.nodes))]
    if one.up:
        cluster.silence(one.name)
        return f"{one.name} is silent"
    rebooted = sim.rng.random() < 0.5
    cluster.revive(one.name, rebooted=rebooted)
    return f"{one.name} is back, rebooted {rebooted}"


@action(3, fault=True)
def card(sim: Schedule) -> str:
    """A node loses a card, or has it again."""
    cluster = sim.platform.clusters[sim.some_cluster()]
    one = cluster.nodes[sim.rng.choice(sorted(cluster.nodes))]
    one.healthy = one.cards if one.healthy < one.cards else one.cards - 1
    return f"{one.name} has {one.healthy} cards"


@action(12, meanwhile=True, fault=True)
def crash(sim: Schedule) -> str:
    """A renter's program ends and is started again."""
    pod = sim.some_pod()
    if pod is None:
        return ""
    back_in = timedelta(seconds=sim.rng.choice([2, 2, 100, 2400]))
    sim.platform.clusters[pod[0]].crash(pod[1], back_in)
    return f"crash {sim.name('pod', pod[1].uid)}"


@action(5, fault=True, meanwhile=True)
def lose_pod(sim: Schedule) -> str:
    """The owner deletes a pod of ours by force, or the kubelet ends it."""
    pod = sim.some_pod()
    if pod is None:
        return ""
    cluster = sim.platform.clusters[pod[0]]
    evicted = sim.rng.random() < 0.5
    if evicted:
        cluster.fail(pod[1])
    else:
        cluster.lose(pod[1])
    return f"lose {sim.name('pod', pod[1].uid)} evicted {evicted}"


@action(2, fault=True)
def stranger(sim: Schedule) -> str:
    """A pod with our label that we know nothing of, as after a restore: never to be touched."""
    number = sim.some_cluster()
    sim.platform.clusters[number].add_stranger()
    return f"stranger in {number}"


@action(2, fault=True)
def reaper(sim: Schedule) -> str:
    """A cluster's reaper stops, or is started and knows nothing."""
    number = sim.some_cluster()
    one = sim.platform.clusters[number].reaper
    one.toggle()
    return f"reaper of {number}: {one.up}"


@action(1, fault=True)
def restored(sim: Schedule) -> str:
    """Staff mark the database as restored, as of now."""
    with transaction.atomic():
        provisioner.mark_restored(backup_at=sim.clock.now)
    return "marked as restored"


@action(3, fault=True, meanwhile=True)
def let_go(sim: Schedule) -> str:
    """Staff let go of every brake that is pulled."""
    return f"{len(release_brakes())} brakes released"


def release_brakes() -> list[str]:
    """Everything that is pulled is let go; the ids."""
    pulled = [public("brake", one.id) for one in provisioner.brakes() if one.released_at is None]
    for brake in pulled:
        with transaction.atomic():
            brakes.release(acting="console", brake_id=brake, note="looked at in a schedule")
    return pulled


@action(2, fault=True)
def clock_jump(sim: Schedule) -> str:
    """A cluster's clock is wrong by minutes, or right again."""
    number = sim.some_cluster()
    minutes = sim.rng.choice([-10, 0, 10])
    sim.platform.clusters[number].skew = timedelta(minutes=minutes)
    return f"clock of {number}: {minutes} min"
