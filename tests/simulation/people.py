"""What people do in a schedule: through the product's own actions, with the web process dying under
them now and then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from django.db import transaction

from kernel.errors import Refusal
from kernel.ids import new_id
from marketplace.accounts.idempotency import Claim, Rendered, hash_request, once
from marketplace.catalog.query import OfferQuery
from marketplace.models import Rental
from marketplace.rentals import act, edit, start, stop
from marketplace.rentals.order import RentOrder
from tests.market import H100, USD, Renter, add_credit
from tests.simulation.table import action
from tests.simulation.world import IMAGE, REGIONS

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule


@dataclass
class Asked:
    """A rent request as its client knows it; ``answer`` None: the connection broke."""

    renter: Renter
    order: RentOrder
    claim: Claim
    answer: bytes | None = None


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
    secret = rng.random() < 0.3
    return ask(
        sim, renter, gpus, region, hours=hours, queue=queue, failover=failover, secret=secret
    )


def ask(
    sim: Schedule,
    renter: Renter,
    gpus: int,
    region: str | None,
    *,
    hours: Decimal | None = None,
    queue: int | None = None,
    failover: bool = False,
    secret: bool = False,
) -> str:
    """One request to rent, with a key of its own."""
    order = RentOrder(
        requirement=OfferQuery(accelerator=(H100,), gpus=gpus, region=region),
        image=IMAGE,
        ssh=False,
        env={"TOKEN": "secret"} if secret else {},
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
    return ask_of(sim, asked, sim.rng.choice(sorted(sim.rentals))) if sim.rentals else ""


def ask_of(sim: Schedule, asked: act.Asked, rental: str) -> str:
    """One action on this rental."""

    def asks(renter: Renter, rental: str) -> Rental:
        return act.act(acting=renter.principal, rental_id=rental, asked=asked)

    return _request(sim, asked.action, asks, rental)


def _change(sim: Schedule, what: str, change: Callable[[Renter, str], Rental]) -> str:
    """One request of a rental's renter, in its own transaction."""
    if not sim.rentals:
        return ""
    return _request(sim, what, change, sim.rng.choice(sorted(sim.rentals)))


def _request(sim: Schedule, what: str, change: Callable[[Renter, str], Rental], rental: str) -> str:
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
