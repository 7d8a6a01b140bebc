"""What happens in the year, drawn from a seed: who rents what, when it runs, what goes wrong.

Pure: no product code, no clock. Times are UTC; people act by the clocks of Berlin and New York, so
that some rent, run and stop over the nights in which those are set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

ZONES = (ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"))
CARDS = ("nvidia-h100-80gb-sxm", "nvidia-rtx-4090", "ascend-910b")
# The cluster's list that the tick of an hour charges by comes so long after it.
LISTED = timedelta(seconds=20)
YEAR = (datetime(2027, 1, 1, tzinfo=UTC), 365)
# Weeks with both nights in which the clocks of New York and Berlin are set, and a month's end.
SPRING = (datetime(2027, 3, 9, tzinfo=UTC), 24)
# The Saturdays before the clocks are set.
_SATURDAYS = [datetime(2027, *day) for day in ((3, 13), (3, 27), (10, 30), (11, 6))]


@dataclass(frozen=True)
class Run:
    """A stretch in which the cards are ready.

    good: proof ends here when it closes, at the last list that an hour was charged by or later.
    late: proof up to ``closed`` comes so much later, within the minute for which the product waits
    for it; None if never or at once. again: the renter stopped it and starts it again, so that it
    holds anew.
    """

    opened: datetime
    closed: datetime
    good: datetime
    late: timedelta | None = None
    again: bool = False


@dataclass
class Rental:
    number: int
    org: int
    provider: int
    accelerator: str
    gpus: int
    price: int  # micro-units an hour, for all its cards
    share: int
    rented: datetime
    runs: list[Run] = field(default_factory=list)


@dataclass
class Org:
    number: int
    postpaid: bool
    poor: bool  # adds credit once and runs out of it
    declined: bool  # its saved card is refused


@dataclass
class Plan:
    """longest: hours of one stretch of a rental. last: days in which rentals begin, so that three
    stretches and their pauses end before the days are over."""

    begin: datetime
    days: int
    orgs: list[Org]
    providers: int
    dark: list[tuple[int, datetime, datetime]]  # provider, and from when to when nobody saw it
    rentals: list[Rental]

    @property
    def longest(self) -> int:
        return self.days // 2

    @property
    def last(self) -> int:
        return self.days - (3 * self.longest + 16) // 24 - 2


def draw(rentals: int, seed: str, span: tuple[datetime, int] = YEAR) -> Plan:
    """The plan of a seed for a stretch of days; all of it ends a little before its end."""
    begin, days = span
    rng = Random(f"{seed}/plan")
    orgs = [
        Org(number, postpaid=number % 3 == 2, poor=number % 5 == 1, declined=number % 10 == 1)
        for number in range(max(6, min(rentals // 80, 120)))
    ]
    providers = 2 if rentals < 500 else 8
    plan = Plan(begin, days, orgs, providers, [], [])
    plan.dark = sorted(_dark(rng, plan, max(24, rentals // 40)), key=lambda one: one[1])
    for number in range(rentals):
        plan.rentals.append(_rental(rng, plan, number))
    plan.rentals.sort(key=lambda one: one.rented)
    return plan


def _dark(rng: Random, plan: Plan, count: int) -> list[tuple[int, datetime, datetime]]:
    found = []
    for provider in range(plan.providers):
        at, each = plan.begin, count // plan.providers
        for _ in range(each):
            at += timedelta(seconds=rng.randrange(40_000, 2 * plan.days * 86_400 // each))
            if at > plan.begin + timedelta(days=plan.days - 2):
                break
            end = at + timedelta(seconds=rng.randrange(61, 8 * 3600))
            found.append((provider, at, end))
            at = end
    return found


def _moment(rng: Random, plan: Plan) -> datetime:
    """Some time of the year by somebody's wall clock; one in ten in the nights of DST."""
    zone, last = rng.choice(ZONES), plan.last
    day = plan.begin.replace(tzinfo=None) + timedelta(days=rng.randrange(last))
    if rng.random() < 0.1:
        since = plan.begin.replace(tzinfo=None)
        day = rng.choice([one for one in _SATURDAYS if 0 <= (one - since).days < last])
    wall = day + timedelta(seconds=rng.randrange(86_400))
    moment = wall.replace(tzinfo=zone, fold=rng.randrange(2)).astimezone(UTC)
    soonest = plan.begin + timedelta(hours=3)
    return max(moment, soonest) + timedelta(microseconds=rng.randrange(10**6))


def _rental(rng: Random, plan: Plan, number: int) -> Rental:
    org, provider = rng.randrange(len(plan.orgs)), rng.randrange(plan.providers)
    rented = _moment(rng, plan)
    card, gpus = rng.randrange(len(CARDS)), rng.choice([1, 1, 1, 2, 4, 8])
    # Owners change their prices every few weeks; a rental keeps the one that it was rented at.
    epoch = (rented - plan.begin).days // rng.choice([17, 30, 45])
    price = gpus * ([1_990_000, 349_000, 1_000_003][card] + 7919 * (epoch * 37 % 11))
    rental = Rental(number, org, provider, CARDS[card], gpus, price, price * 85 // 100, rented)
    if rng.random() < 0.1:
        rental.share = rng.randrange(price)
    at, pieces = rented + timedelta(seconds=rng.randrange(20, 900)), rng.choice([1, 1, 1, 2, 3])
    for piece in range(pieces):
        hours = min(rng.expovariate(1 / 6) * (20 if rng.random() < 0.02 else 1), plan.longest)
        end = at + timedelta(seconds=max(2, int(hours * 3600)), microseconds=rng.randrange(10**6))
        rental.runs += _runs(rng, plan, provider, at, end, again=piece > 0)
        at = end + timedelta(seconds=rng.randrange(600, 5 * 3600), microseconds=rng.randrange(9**6))
    return rental


def _runs(
    rng: Random, plan: Plan, provider: int, at: datetime, end: datetime, *, again: bool
) -> list[Run]:
    """One stretch that the renter wants, cut where nobody saw the machine."""
    runs = []
    for where, begins, ends in plan.dark:
        if where == provider and begins < end and ends > at:
            if begins > at:
                runs.append(Run(at, begins, begins, again=again))
                again = False
            at = ends + timedelta(seconds=rng.randrange(5, 300), microseconds=rng.randrange(9**6))
    if at < end:
        good, late = end, None
        if rng.random() < 0.3:
            # Stopped between two looks: the answer to the deletion proves the rest, or does not.
            looked = (end - LISTED).replace(minute=0, second=0, microsecond=0) + LISTED
            good = max(at, looked, end - timedelta(seconds=rng.uniform(0.1, 40)))
            if rng.random() < 0.7:
                late = timedelta(seconds=rng.choice([0.5, 2, 20, 59]))
        runs.append(Run(at, end, good, late, again=again))
    return runs
