"""What windows must cost and who must pay, counted one by one: the measure of the statement that
does it for thousands. It shares no line with the product."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil, floor
from uuid import UUID

QUARTERS = Fraction(5, 4)  # hours that a hold is raised to


@dataclass
class Rental:
    """As it was rented, and what became of it."""

    key: UUID
    org: UUID
    price: int
    share: int
    held: int
    rented: datetime
    since: datetime | None = None  # runs
    until: datetime | None = None  # charged
    paid_until: datetime | None = None
    seconds: int = 0
    overrun: int = 0
    disk: bool = False  # of one that no sweep refills
    tax: Fraction = Fraction(0)  # of the net
    taxed: int = 0  # tax so far
    earned: int = 0
    lines: list[tuple[datetime, datetime, int, int, int, int]] = field(default_factory=list)


@dataclass
class Recount:
    """Rentals and what their tenants have before the floor, by key."""

    rentals: dict[UUID, Rental]
    funds: dict[UUID, int]

    def tick(self, windows: Iterable[tuple[UUID, datetime, datetime]]) -> None:
        """Windows that touch nothing charged before, then refills of their rentals."""
        ordered = sorted(windows)
        for key, begin, end in ordered:
            self._charge(self.rentals[key], begin, end)
        self.refill({key for key, _, _ in ordered}, None)

    def refill(self, keys: Iterable[UUID], at: datetime | None) -> None:
        rentals = [self.rentals[key] for key in keys]
        for rental in sorted(rentals, key=lambda one: (one.paid_until or one.rented, one.key)):
            if rental.since is not None:
                unpaid = max(rental.since, rental.until or rental.since)
                hours = QUARTERS
                if at is not None and at >= unpaid:
                    hours += Fraction(int((at - unpaid).total_seconds()) + 1, 3600)
                wish = max(0, self._grossed(rental, ceil(rental.price * hours)) - rental.held)
                granted = min(wish, max(0, self.funds[rental.org]))
                self.funds[rental.org] -= granted
                rental.held += granted
        for rental in rentals:
            rental.paid_until = None
            if rental.since is not None and rental.price:
                unpaid = max(rental.since, rental.until or rental.since)
                net = floor(rental.held / (1 + rental.tax))
                seconds = floor(Fraction(net * 3600, rental.price))
                rental.paid_until = unpaid + timedelta(seconds=seconds)

    def _charge(self, rental: Rental, begin: datetime, end: datetime) -> None:
        before, after = rental.seconds, rental.seconds + int((end - begin).total_seconds())
        amount = floor(Fraction(rental.price * after, 3600))
        amount -= floor(Fraction(rental.price * before, 3600))
        share = floor(Fraction(rental.share * after, 3600))
        share -= floor(Fraction(rental.share * before, 3600))
        net, tax = self._affordable(rental, amount)
        overrun = amount - net
        from_hold = min(net + tax, rental.held)
        from_tenant = net + tax - from_hold
        rental.held -= from_hold
        rental.taxed += tax
        self.funds[rental.org] -= from_tenant
        rental.overrun += overrun
        rental.earned += share
        rental.seconds = after
        rental.until = end if rental.until is None else max(rental.until, end)
        rental.lines.append((begin, end, amount, share, overrun, tax))

    def _affordable(self, rental: Rental, amount: int) -> tuple[int, int]:
        """The most of ``amount`` whose tax can be paid as well, and that tax: tried one by one
        downwards from a guess that is a little too high."""
        funds = rental.held + max(0, self.funds[rental.org])
        paid = sum(line[2] - line[4] for line in rental.lines)
        net = min(amount, floor(Fraction(funds + 2) / (1 + rental.tax)))
        while True:
            tax = floor((paid + net) * rental.tax) - rental.taxed
            if net + tax <= funds or not net:
                return net, tax
            net -= 1

    @staticmethod
    def _grossed(rental: Rental, net: int) -> int:
        return net + ceil(net * rental.tax)
