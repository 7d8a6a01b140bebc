"""The funds ladder: what an organization's people are told before and after its money ends.

Forecasts 72, 24 and 1 hours before the end, each once per fall; stopping at zero is charge.py's and
deletes nothing. From the moment its people are told that the money ended, the data of what was
stopped is kept for seven days, free for them; money that pays an hour again ends that grace. Then
the stopped rentals are ended and their volumes deleted, each with a receipt. Nothing is deleted
that was not announced with its date: the seven days count from the telling, not from the stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import Min, QuerySet

from billing.contracts import BalanceView
from billing.facade import funds as billing
from kernel.clock import now
from kernel.ids import public
from kernel.money import CURRENCY, format_micro
from kernel.text import rfc3339
from kernel.turns import Turn, turns
from marketplace.accounts import switches
from marketplace.accounts.money_mail import tell
from marketplace.accounts.phrases import phrase
from marketplace.accounts.spend_limit import STEPS
from marketplace.models import FundsWatch, Rental, Volume
from marketplace.rentals.state import STOPPED, STOPPING
from marketplace.rentals.stop import end_for
from marketplace.volumes.keep import remove_for
from marketplace.webhooks.events import emit

# Three days reach over a weekend, a day to whoever reads mail in the morning, an hour to scripts.
RUNGS: Final = (72, 24, 1)
GRACE: Final = timedelta(days=7)
WARNING: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)

_FUNDS: Final = "funds"
_OVER: Final = "funds_grace_over"


def next_rung(told: int | None, left: timedelta) -> tuple[int | None, bool]:
    """The rung told from now on, and whether to tell it. Pure.

    told: the rung told last; left: how long the money lasts. A rung counts as recovered once a
    quarter more than it is left: rentals that come and go around it must not send a mail each time.
    """
    rung = min((hours for hours in RUNGS if left <= hours * _HOUR), default=None)
    if rung is not None and (told is None or rung < told):
        return rung, True
    if told is None or left * 4 <= told * _HOUR * 5:
        return told, False
    return rung, False


def run() -> None:
    """Tell what is new, end the graces that money or time ended."""
    with turns("ladder") as turn:
        _forecasts(turn)
        _empty(turn)


@dataclass(frozen=True)
class Standing:
    """For the banner: when the money ends, or until when data is kept because it has ended."""

    funds_end_at: datetime | None
    grace_until: datetime | None


def standing(
    balance: BalanceView, *, grace_until: datetime | None, at: datetime
) -> Standing | None:
    """What its people should see on every page; None when all is well. PURE.

    Who could pay an hour of all that a new organization may rent is in no grace any more, whatever
    the loop has still to write.
    """
    if grace_until is not None and balance.spendable_micro < STEPS[0].per_hour_micro:
        return Standing(None, grace_until)
    ends = balance.funds_end_at
    return Standing(ends, None) if ends is not None and ends <= at + max(RUNGS) * _HOUR else None


def unpaid(rental: Rental) -> bool:
    """Whether the lack of money stopped it, and nobody started or ended it since."""
    return rental.state in (STOPPING, STOPPED) and rental.reason == _FUNDS


def kept_until(rental: Rental) -> datetime | None:
    """Until when a rental that the lack of money stopped is kept; None: no end is set."""
    if not unpaid(rental):
        return None
    watch = FundsWatch.objects.filter(pk=rental.organization_id).first()
    return watch.grace_until if watch is not None else None


def _forecasts(turn: Turn) -> None:
    """Rungs reached and recovered from. While nothing runs nothing ends, and nothing recovers."""
    ends, at = billing.ends(), now()
    rows = FundsWatch.objects.filter(told_hours__isnull=False)
    told = dict(rows.values_list("pk", "told_hours"))
    # Of who has nothing left everything is said; their disks use up money all the same.
    empty = set(FundsWatch.objects.exclude(emptied_at=None).values_list("pk", flat=True))
    for org, end in sorted(ends.items()):
        if org not in empty and next_rung(told.get(org), end - at) != (told.get(org), False):
            with turn(org):
                _change(org, partial(_climb, end=end))


def _climb(watch: FundsWatch, *, end: datetime) -> None:
    rung, new = next_rung(watch.told_hours, end - now())
    watch.told_hours = rung
    if not new:
        return
    _announce(watch, "balance.low", hours=rung, funds_end_at=end)
    left = phrase("about {hours} hours", hours=rung) if rung != 1 else phrase("about an hour")
    tell(
        watch.organization_id,
        "balance.low",
        subject=phrase("Your balance lasts {left}", left=left),
        text=phrase(
            "At what you run now the balance is used up on {at}, in {left}. Rentals are stopped "
            "then and their volumes are kept. Top up to let them run on.",
            at=_date(end),
            left=left,
        ),
    )


def _empty(turn: Turn) -> None:
    """Graces that begin, end well, near their end, or are over."""
    stopped = _stopped().values("organization_id").annotate(hour=Min("price_micro_h"))
    hours: dict[UUID, int] = dict(stopped.values_list("organization_id", "hour"))
    watches = {
        watch.organization_id: watch for watch in FundsWatch.objects.exclude(emptied_at=None)
    }
    spendable = billing.spendable(org_refs=hours.keys() | watches.keys())
    at = now()
    for org in sorted(hours.keys() | watches.keys()):
        watch = watches.get(org)
        with turn(org):
            if org not in hours or spendable[org] >= hours[org]:
                if watch is not None:
                    _change(org, _recover)
            elif watch is None:
                _change(org, _begin)
            elif watch.grace_until is not None and watch.grace_until <= at:
                _finish(org, hours[org])
            elif watch.grace_until is not None and watch.grace_until - WARNING <= at:
                _change(org, _warn)


def _begin(watch: FundsWatch) -> None:
    if watch.emptied_at is not None:
        return
    watch.emptied_at = at = now()
    watch.grace_until = until = at + GRACE
    watch.warned, watch.told_hours = False, None
    _announce(watch, "balance.empty", hours=0, funds_end_at=at)
    names = _names(_stopped().filter(organization=watch.organization_id))
    tell(
        watch.organization_id,
        "balance.empty",
        subject=phrase("Your balance is used up: rentals were stopped, data is kept"),
        text=phrase(
            "Stopped, and not charged since: {names}. Nothing is deleted now. Their volumes are "
            "kept, free of charge, until {until}. Top up before that and they stay as they are, to "
            "be started again whenever you like. After it they are deleted for good, with a "
            "receipt.",
            names=names,
            until=_date(until),
        ),
    )


def _recover(watch: FundsWatch) -> None:
    watch.emptied_at, watch.grace_until, watch.warned = None, None, False


def _warn(watch: FundsWatch) -> None:
    if watch.warned or watch.grace_until is None:
        return
    watch.warned = True
    names = _names(_stopped().filter(organization=watch.organization_id))
    tell(
        watch.organization_id,
        "balance.last_day",
        subject=phrase("Last day: stopped rentals and their volumes will be deleted"),
        text=phrase(
            "Your balance is used up and {names} will be deleted on {at}, volumes included, for "
            "good. Top up before that to keep them.",
            names=names,
            at=_date(watch.grace_until),
        ),
    )


def _finish(org: UUID, hour: int) -> None:
    """The grace is over and was announced: end what is stopped, delete what it mounted.

    Not while charging is stopped: what nobody charges proves nobody's lack of money.
    """
    if switches.holds_charging("funds"):
        return
    with transaction.atomic(durable=True):
        watch = _locked(org)
        if watch.grace_until is None or watch.grace_until > now():
            return
        if billing.spendable(org_refs=[org])[org] >= hour:
            return  # it was topped up this very moment: the next run ends the grace
        if not watch.warned:
            _put_off(watch)
            return
        ended = list(
            _stopped().filter(organization=org, state=STOPPED).select_for_update().order_by("id")
        )
        for rental in ended:
            end_for(rental, _OVER)
        volumes = remove_for([rental.id for rental in ended], _OVER)
        gone = ", ".join([*map(_name, ended), *map(_name, volumes)])
        tell(
            org,
            "balance.deleted",
            subject=phrase("Stopped rentals and their volumes were deleted"),
            text=phrase(
                "The seven days are over: {names}. The receipt of each volume is on its page.",
                names=gone,
            ),
        )
        _recover(watch)
        watch.save()


def _put_off(watch: FundsWatch) -> None:
    """We were away when the warning was due: it is given now, and counts from now."""
    watch.grace_until = now() + WARNING
    _warn(watch)
    watch.save()


def _stopped() -> QuerySet[Rental]:
    """What the lack of money stopped and nobody started or ended since."""
    return Rental.objects.filter(state__in=(STOPPING, STOPPED), reason=_FUNDS, ended_at=None)


def _change(org: UUID, change: Callable[[FundsWatch], None]) -> None:
    with transaction.atomic(durable=True):
        watch = _locked(org)
        change(watch)
        watch.save()


def _locked(org: UUID) -> FundsWatch:
    FundsWatch.objects.bulk_create([FundsWatch(organization_id=org)], ignore_conflicts=True)
    return FundsWatch.objects.select_for_update().get(pk=org)


def _announce(watch: FundsWatch, type: str, *, hours: int | None, funds_end_at: datetime) -> None:
    watch.told_count += 1
    org = watch.organization_id

    def described() -> dict[str, Any]:
        left = billing.spendable(org_refs=[org])[org]
        return {
            "organization": public("organization", org),
            "hours": hours,
            "funds_end_at": rfc3339(funds_end_at),
            "grace_until": rfc3339(watch.grace_until),
            "spendable": format_micro(left),
            "currency": CURRENCY,
        }

    emit(
        organization=org,
        type=type,
        object=described,
        cause=f"{public('organization', org)}:{watch.told_count}",
    )


def _names(rentals: QuerySet[Rental]) -> str:
    return ", ".join(map(_name, rentals))


def _name(thing: Rental | Volume) -> str:
    return f"{thing.name} ({thing.public_id})"


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
