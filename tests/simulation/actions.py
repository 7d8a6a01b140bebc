"""What people, machines and networks do in a schedule: a table of weighted actions.

To add one: write a function that takes the schedule and returns a line for the trace ("" when it
did not apply), and decorate it. People act through the product's own actions, with the web process
dying under them now and then; machines and networks act on the simulated clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from django.db import transaction

from kernel.errors import Refusal
from kernel.ids import new_id, public
from marketplace.accounts.idempotency import Claim, Rendered, hash_request, once
from marketplace.catalog.query import OfferQuery
from marketplace.models import Rental
from marketplace.providers import brakes
from marketplace.rentals import act, edit, start, stop
from marketplace.rentals.order import RentOrder
from provisioner import facade as provisioner
from tests.market import H100, USD, Renter, add_credit
from tests.simulation.world import IMAGE, REGIONS

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule


@dataclass(frozen=True)
class Action:
    name: str
    weight: int
    fault: bool  # left out of calm schedules
    meanwhile: bool  # may happen while a call of somebody else is under way
    act: Callable[[Schedule], str]


ACTIONS: list[Action] = []


def action(
    weight: int, *, fault: bool = False, meanwhile: bool = False
) -> Callable[[Callable[[Schedule], str]], Callable[[Schedule], str]]:
    """Add a function to the table under its name."""

    def add(act: Callable[[Schedule], str]) -> Callable[[Schedule], str]:
        ACTIONS.append(Action(act.__name__, weight, fault, meanwhile, act))
        return act

    return add


@dataclass
class Asked:
    """A rent request as its client knows it; ``answer`` None: the connection broke."""

    renter: Renter
    order: RentOrder
    claim: Claim
    answer: bytes | None = None


# --- people -------------------------------------------------------------------------------------


@action(18, meanwhile=True)
def rent(sim: Schedule) -> str:
    """Somebody rents one to four cards, somewhere or in a region, with an end or without."""
    rng = sim.rng
    renter = rng.choices(sim.world.renters, [4, 2, 1])[0]
    gpus = rng.choice([1, 1, 1, 2, 2, 4])
    region = rng.choice([None, REGIONS[sim.some_cluster()]])
    hours = rng.choice([None, None, Decimal("0.05"), Decimal("1"), Decimal("4")])
    queue = rng.choice([None, None, 60, 900])
    failover = rng.random() < 0.3
    order = RentOrder(
        requirement=OfferQuery(accelerator=(H100,), gpus=gpus, region=region),
        image=IMAGE,
        ssh=False,
        env={"TOKEN": "secret"} if rng.random() < 0.3 else {},
        max_hours=hours,
        no_limit=hours is None,
        queue_seconds=queue,
        failover=failover,
    )
    body = hash_request("POST", "/rentals", [gpus, region, str(hours), queue, failover])
    asked = Asked(renter, order, Claim(renter.org, str(new_id()), body))
    sim.asked.append(asked)
    return _send(sim, asked)


@action(6, meanwhile=True)
def rent_again(sim: Schedule) -> str:
    """A client repeats a request: it saw no answer, or does not trust it."""
    return _send(sim, sim.rng.choice(sim.asked)) if sim.asked else ""


@action(10, meanwhile=True)
def terminate(sim: Schedule) -> str:
    """Somebody ends a rental, also one that is ending or over."""
    return end(sim, sim.rng.choice(sorted(sim.rentals))) if sim.rentals else ""


def end(sim: Schedule, rental: str) -> str:
    """The renter of ``rental`` ends it."""
    acting = sim.rentals[rental].principal
    done = sim.request(
        "terminate",
        lambda: once(
            None,
            lambda: stop.terminate(acting=acting, rental_id=rental),
            lambda row: (202, {"state": row.state}),
        ),
    )
    if isinstance(done, Rendered):
        sim.ended.add(rental)
    return f"terminate {sim.name('rental', rental)}: {_said(done)}"


@action(4, meanwhile=True)
def change_end(sim: Schedule) -> str:
    """Somebody moves the end date, mostly near."""
    until = sim.clock.now + timedelta(seconds=sim.rng.choice([5, 60, 4000]))

    def move(renter: Renter, rental: str) -> Rental:
        return edit.change(acting=renter.principal, rental_id=rental, expires_at=until)

    return _change(sim, "change end", move)


@action(7, meanwhile=True)
def stop_it(sim: Schedule) -> str:
    """Somebody gives the cards back and keeps the rental."""
    return _ask(sim, act.Asked("stop"))


@action(8, meanwhile=True)
def start_it(sim: Schedule) -> str:
    """Somebody starts what stopped or retries what failed, and waits for cards or not."""
    waits = sim.rng.choice([None, 60, 900])
    return _ask(sim, act.Asked(sim.rng.choice(["start", "start", "retry"]), queue_seconds=waits))


@action(6, meanwhile=True)
def restart(sim: Schedule) -> str:
    """Somebody restarts a machine on its cards."""
    return _ask(sim, act.Asked("restart"))


@action(3, meanwhile=True)
def extend(sim: Schedule) -> str:
    """Somebody moves the end date away."""
    until = sim.clock.now + timedelta(seconds=sim.rng.choice([900, 4000]))
    return _ask(sim, act.Asked("extend", expires_at=until))


@action(2, meanwhile=True)
def lock(sim: Schedule) -> str:
    """Somebody locks a rental against being stopped or ended, or unlocks it."""
    locked = sim.rng.random() < 0.5

    def turn(renter: Renter, rental: str) -> Rental:
        return edit.change(acting=renter.principal, rental_id=rental, lock=locked)

    return _change(sim, f"lock {locked}", turn)


def _ask(sim: Schedule, asked: act.Asked) -> str:
    def ask(renter: Renter, rental: str) -> Rental:
        return act.act(acting=renter.principal, rental_id=rental, asked=asked)

    return _change(sim, asked.action, ask)


def _change(sim: Schedule, what: str, change: Callable[[Renter, str], Rental]) -> str:
    """One request of a rental's renter, in its own transaction."""
    if not sim.rentals:
        return ""
    rental = sim.rng.choice(sorted(sim.rentals))
    done = sim.request(
        what,
        lambda: once(
            None,
            lambda: change(sim.rentals[rental], rental),
            lambda row: (202, {"state": row.state}),
        ),
    )
    return f"{what} {sim.name('rental', rental)}: {_said(done)}"


@action(3, meanwhile=True)
def top_up(sim: Schedule) -> str:
    """Credit arrives."""
    renter = sim.rng.choice(sim.world.renters)
    amount = sim.rng.choice([5, 20]) * USD
    with transaction.atomic():
        add_credit(renter.org, amount)
    return f"top up {sim.world.renters.index(renter)}: {amount}"


def _send(sim: Schedule, asked: Asked) -> str:
    done = sim.request(
        "rent",
        lambda: start.rent(
            acting=asked.renter.principal,
            order=asked.order,
            claim=asked.claim,
            render=lambda rental: (202, {"id": rental.public_id}),
        ),
    )
    if isinstance(done, Rendered):
        sim.acknowledged(asked, done)
    gpus = asked.order.requirement.gpus if asked.order.requirement else 0
    return f"rent {gpus} by {sim.world.renters.index(asked.renter)}: {_said(done)}"


def _said(done: object) -> str:
    if isinstance(done, Refusal):
        return done.slug
    if isinstance(done, Rendered):
        return f"{done.status}{' again' if done.replayed else ''}"
    return "no answer"


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
    """A cluster cannot be reached, or can again; its streams break."""
    number = sim.some_cluster()
    weather = sim.platform.weathers[number]
    weather.partition = not weather.partition
    if not weather.partition:
        sim.platform.watches[number].cut()
    return f"partition {number}: {weather.partition}"


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
