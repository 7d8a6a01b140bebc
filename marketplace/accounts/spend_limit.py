"""How much an organization may spend per hour: a stolen card must empty no data centre.

The limit grows by itself with what was paid and stayed paid: a stolen card is noticed within days,
so money counts after some. Staff may fix it; then it grows no more by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from billing.facade import funds as billing
from kernel.clock import now
from kernel.money import MICRO
from marketplace.models import Organization


@dataclass(frozen=True)
class Step:
    """From ``wait`` after ``settled_micro`` were paid: ``per_hour_micro``."""

    settled_micro: int
    wait: timedelta
    per_hour_micro: int


# The first is what the 64 GPUs of a new organization's quota cost at usual prices. The second comes
# after the week in which most stolen cards are reported, the third and fourth after a billing
# month, when whoever reads statements has read one.
STEPS: Final = (
    Step(0, timedelta(0), 200 * MICRO),
    Step(50 * MICRO, timedelta(days=7), 500 * MICRO),
    Step(1_000 * MICRO, timedelta(days=30), 2_000 * MICRO),
    Step(10_000 * MICRO, timedelta(days=60), 10_000 * MICRO),
)


@dataclass(frozen=True)
class SpendLimit:
    """per_hour_micro: what may be spent now. raises_at: when more, if nothing goes back; None when
    it takes another payment, or staff."""

    per_hour_micro: int
    raises_at: datetime | None


def limit_at(
    since: Mapping[int, datetime], at: datetime, steps: Sequence[Step] = STEPS
) -> SpendLimit:
    """The limit of who has paid each amount since then. Pure."""
    present = steps[0].per_hour_micro
    coming: list[datetime] = []
    for step in steps[1:]:
        if step.settled_micro not in since:
            continue
        due = since[step.settled_micro] + step.wait
        if due <= at:
            present = max(present, step.per_hour_micro)
        elif step.per_hour_micro > present:
            coming.append(due)
    return SpendLimit(present, min(coming, default=None))


def spend_limit(organization: Organization) -> SpendLimit:
    """What the organization may spend per hour now, and when that rises."""
    return spend_limits([organization])[organization.id]


def spend_limits(organizations: Sequence[Organization]) -> dict[UUID, SpendLimit]:
    """`spend_limit` of several, by id; one query, whatever their number."""
    free = [row.id for row in organizations if not row.spend_limit_fixed]
    amounts = [step.settled_micro for step in STEPS[1:]]
    since = billing.settled_since(org_refs=free, amounts=amounts) if free else {}
    at = now()
    return {
        row.id: SpendLimit(row.spend_limit_micro_h, None)
        if row.spend_limit_fixed
        else limit_at(since[row.id], at)
        for row in organizations
    }
