"""How often somebody may try to pay, against card testing: stolen numbers are tried by the dozen.

Counted are rows, per organization, per address and per card (Stripe's fingerprint, the same for a
card wherever it is saved), failures more strictly. Limit: which cards are tried on Stripe's own
page is Stripe's to judge; here the pages are counted, and a page that saw a refusal is a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Q

from billing.models import CardSetup, TopUp
from kernel.clock import now
from kernel.errors import Refusal

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Cap:
    """At most ``most`` attempts, or failed ones, within that time."""

    within: timedelta
    most: int
    failed: bool = False


# Honest people mistype a card twice and top up a few times a day. Who tests cards needs dozens of
# attempts to gain anything. An address may be an office or a university: it gets room for ten.
ORGANIZATION: Final = (Cap(_HOUR, 20), Cap(_DAY, 60), Cap(_HOUR, 5, failed=True))
ADDRESS: Final = (Cap(_HOUR, 60), Cap(_HOUR, 15, failed=True), Cap(_DAY, 30, failed=True))
CARD: Final = (Cap(_DAY, 20), Cap(_DAY, 4, failed=True))

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


def check(*, org_ref: UUID, ip: str | None, fingerprint: str) -> None:
    """Refusal("rate_limited", retry_after) when another attempt would be too many.

    In a transaction that stores the attempt: the locks hold others of the same kind up until then.
    """
    _bound("organization", ORGANIZATION, Q(customer=org_ref), org_ref)
    if ip is not None:
        _bound("address", ADDRESS, Q(ip=ip), ip)
    if fingerprint:
        _bound("card", CARD, Q(method__fingerprint=fingerprint), fingerprint)


def _bound(what: str, caps: Sequence[Cap], whose: Q, name: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [f"pay/{what}/{name}"])
    present = now()
    wait = wait_for(caps, _tries(whose, since=present - _DAY), at=present)
    if wait:
        seconds = ceil(wait.total_seconds())
        raise Refusal(
            "rate_limited",
            f"Too many payment attempts by this {what}. Nothing was charged. Wait {seconds} s and "
            "try again, or write to support if your card is refused without a reason.",
            retry_after=seconds,
        )


def _tries(whose: Q, *, since: datetime) -> list[tuple[datetime, bool]]:
    found: list[tuple[datetime, bool]] = []
    # What the standing order does is bounded by its own rules and asked for by nobody here.
    for rows in (TopUp.objects.filter(auto=False), CardSetup.objects.all()):
        recent = rows.filter(whose, created_at__gt=since).order_by("-created_at")[:200]
        found += [(at, why is not None) for at, why in recent.values_list("created_at", "failure")]
    return sorted(found, reverse=True)


def wait_for(
    caps: Sequence[Cap], tries: Sequence[tuple[datetime, bool]], *, at: datetime
) -> timedelta:
    """How long until one more attempt keeps every cap. Pure. tries: (when, failed), newest first.

    Zero: now. Else until the attempt that fills the cap is old enough.
    """
    wait = timedelta()
    for cap in caps:
        counted = [when for when, failed in tries if failed or not cap.failed]
        if len(counted) >= cap.most:
            wait = max(wait, counted[cap.most - 1] + cap.within - at)
    return wait
