"""R4: objects at Stripe against our rows, both ways. No network here.

A kind of object is a line of KINDS: whose row it is, what its ends mean here, and which rows may
still change. What an object looks like at Stripe is read in the gateway, which has a line for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db.models import Q

from billing.contracts import InvoiceState, PaymentState
from billing.contracts.disputes import CLOSED
from billing.contracts.payouts import LineState
from billing.contracts.reconciliation import Difference
from billing.models import (
    CardSetup,
    CreditNote,
    Customer,
    Dispute,
    Invoice,
    Payment,
    PayoutLine,
    Refund,
    StripeEvent,
    TopUp,
)

_CENTS: Final = "cents"


@dataclass(frozen=True)
class Seen:
    """An object at Stripe. ours: it carries our metadata. ended_at: when it came to its state, or
    a time that this was before; None when nothing ends about it."""

    kind: str
    stripe_id: str
    status: str
    amount_minor: int | None
    ours: bool
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Row:
    """Our row of it; state and amount None where there is none of the kind."""

    ref: Any
    state: str | None
    amount_minor: int | None


@dataclass(frozen=True)
class Kind:
    """ends: Stripe's status -> our states that agree with it; a status that is not there is no
    end, and no state of ``final`` may stand here with it. open: rows that may still change.

    amount: our field, in cents or (``micro``) micro-units.
    """

    rows: Any
    ends: Mapping[str, frozenset[str]] = field(default_factory=dict)
    final: frozenset[str] = frozenset()
    amount: str = ""
    micro: bool = False
    state: str = "state"
    open: Q = field(default_factory=lambda: Q(pk__in=[]))


def _one(state: str) -> frozenset[str]:
    return frozenset({state})


_SUCCEEDED, _CANCELED = _one(PaymentState.SUCCEEDED), _one(PaymentState.CANCELED)
_FAILED = _one(PaymentState.FAILED)
_KEPT = frozenset({LineState.SENT, LineState.PAID, LineState.FAILED})
_WAITING = Q(state__in=[PaymentState.PENDING, PaymentState.OPEN])
# A payment may have come though its page expired, and a refused top-up has no more to say.
_EXPIRED = _CANCELED | _FAILED | _SUCCEEDED

KINDS: Final[dict[str, Kind]] = {
    "customer": Kind(Customer, state=""),
    "payment_intent": Kind(
        Payment,
        ends={"succeeded": _SUCCEEDED, "canceled": _CANCELED},
        final=_SUCCEEDED,
        amount="amount_minor",
        open=_WAITING,
    ),
    # A page of Stripe's, by what it is for.
    "checkout.session payment": Kind(
        TopUp,
        ends={"complete": _SUCCEEDED, "expired": _EXPIRED},
        final=_SUCCEEDED,
        amount="gross_micro",
        micro=True,
        open=_WAITING,
    ),
    "checkout.session setup": Kind(
        CardSetup,
        ends={"complete": _SUCCEEDED, "expired": _CANCELED | _FAILED},
        final=_SUCCEEDED,
        open=_WAITING,
    ),
    "invoice": Kind(
        Invoice,
        ends={
            state.value: _one(state)
            for state in (
                InvoiceState.OPEN,
                InvoiceState.PAID,
                InvoiceState.VOID,
                InvoiceState.UNCOLLECTIBLE,
            )
        },
        final=frozenset(InvoiceState) - {InvoiceState.DRAFT},
        amount="total_minor",
        open=Q(state__in=[InvoiceState.DRAFT, InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE]),
    ),
    "refund": Kind(
        Refund,
        ends={"succeeded": _SUCCEEDED, "failed": _FAILED, "canceled": _CANCELED},
        final=_SUCCEEDED,
        amount="amount_minor",
        open=_WAITING,
    ),
    "dispute": Kind(
        Dispute,
        ends={state.value: _one(state) for state in CLOSED},
        final=CLOSED,
        amount="amount_minor",
        open=Q(closed_at__isnull=True),
    ),
    "credit_note": Kind(
        CreditNote,
        ends={"issued": _SUCCEEDED, "void": _CANCELED | _FAILED},
        final=_SUCCEEDED,
        amount="amount_micro",
        micro=True,
        open=_WAITING,
    ),
    # Stripe's transfers have no states; these are ours of what is left of one.
    "transfer": Kind(
        PayoutLine,
        ends={"made": _KEPT, "reversed": _one(LineState.RETURNED)},
        amount="kept_micro",
        micro=True,
        open=Q(state__in=[LineState.SENT, LineState.FAILED]),
    ),
}


def rows(kind: str, ids: Iterable[str]) -> dict[str, Row]:
    """Our rows of these objects, by Stripe's id."""
    what = KINDS[kind]
    found = what.rows.objects.filter(stripe_id__in=list(ids))
    return {row.stripe_id: _row(what, row) for row in found}


def _row(what: Kind, row: Any) -> Row:
    amount = getattr(row, what.amount) if what.amount else None
    if amount is not None and what.micro:
        amount //= 10_000
    return Row(row.pk, getattr(row, what.state) if what.state else None, amount)


def to_look_at(kind: str, since: datetime, until: datetime) -> set[str]:
    """Stripe's ids of our rows that are new, may still change, or had an event lately."""
    what = KINDS[kind]
    mine = what.rows.objects.filter(stripe_id__isnull=False)
    fresh = mine.filter(what.open | Q(created_at__gte=since, created_at__lt=until))
    ids = set(fresh.values_list("stripe_id", flat=True))
    events = StripeEvent.objects.filter(received_at__gte=since, received_at__lt=until)
    named = set(events.values_list("object_id", flat=True))
    return ids | set(mine.filter(stripe_id__in=named).values_list("stripe_id", flat=True))


def compare(seen: Seen, row: Row | None, *, until: datetime) -> Difference | None:
    """One object with its row. What ended after ``until`` is not looked at yet."""
    what = KINDS[seen.kind]
    ended = seen.status in what.ends
    if seen.ended_at is not None and seen.ended_at >= until:
        return None
    if row is None:
        # An attempt at a payment that came to nothing needs no row of ours.
        return _differs(seen, None, "nothing") if seen.ours and (ended or not what.ends) else None
    agreed = what.ends.get(seen.status)
    if agreed is not None and row.state not in agreed:
        return _differs(seen, row, f"{row.state}")
    if agreed is None and row.state in what.final:
        return _differs(seen, row, f"{row.state}")
    if ended and None not in (seen.amount_minor, row.amount_minor):
        return None if seen.amount_minor == row.amount_minor else _amount(seen, row)
    return None


def missing(kind: str, stripe_id: str, row: Row) -> Difference:
    """Our row names an object that Stripe does not have."""
    name = kind.partition(" ")[0]
    return Difference(
        name="stripe_objects",
        subject=f"{name}:{stripe_id}",
        expected="nothing",
        found=row.state or "a row",
        text=f"Stripe has no {name} {stripe_id}, which {kind} {row.ref} of ours names",
        unit="objects",
        about=frozenset({f"stripe:{stripe_id}", f"cause:{row.ref}"}),
    )


def _differs(seen: Seen, row: Row | None, here: str) -> Difference:
    name = seen.kind.partition(" ")[0]
    return Difference(
        name="stripe_objects",
        subject=f"{name}:{seen.stripe_id}",
        expected=seen.status or "there",
        found=here,
        text=f"{name} {seen.stripe_id} is {seen.status or 'there'} at Stripe and {here} here",
        unit="objects",
        about=_about(seen, row),
    )


def _amount(seen: Seen, row: Row) -> Difference:
    assert seen.amount_minor is not None
    assert row.amount_minor is not None
    name = seen.kind.partition(" ")[0]
    return Difference(
        name="stripe_objects",
        subject=f"{name}:{seen.stripe_id}",
        expected=str(seen.amount_minor),
        found=str(row.amount_minor),
        text=f"{name} {seen.stripe_id} is of {seen.amount_minor} cents at Stripe, not so here",
        amount=row.amount_minor - seen.amount_minor,
        unit=_CENTS,
        about=_about(seen, row),
    )


def _about(seen: Seen, row: Row | None) -> frozenset[str]:
    mine = set() if row is None else {f"cause:{row.ref}"}
    return frozenset({f"stripe:{seen.stripe_id}", *mine})
