"""Read Stripe for the reconciliation: what moved its balance, its objects of ours, its meters.

Page by page, each request through the limiter, so that a big account costs time and no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from billing.reconciliation.meters import Pair
from billing.reconciliation.objects import Seen
from billing.stripe_gateway import read, read_returns
from billing.stripe_gateway.client import call
from kernel.errors import PermanentError
from kernel.money import CURRENCY

Listed = Callable[[Any, dict[str, Any]], Any]
_PAGE: Final = 100
_CURRENCY: Final = CURRENCY.lower()

# What the books know the mover of money by, where that is not the object itself.
_NAMED_BY: Final = {"charge": "payment_intent", "transfer_reversal": "transfer"}
# Payouts to our own bank are ours until they have arrived.
_UNDER_WAY: Final = ("pending", "in_transit")


@dataclass(frozen=True)
class Movement:
    """One balance transaction. key: Stripe's id of what the books know it by."""

    id: str
    key: str
    net_minor: int


def pages(listed: Listed, params: dict[str, Any]) -> Iterator[Any]:
    """Every object of a list, newest first."""
    more: dict[str, Any] = {}
    while True:
        page = call(lambda client: listed(client, {**params, **more, "limit": _PAGE}))  # noqa: B023
        yield from page.data
        if not page.has_more:
            return
        more = {"starting_after": page.data[-1].id}


def created(since: datetime, until: datetime | None = None) -> dict[str, Any]:
    """The filter for [since, until) by time of creation; None: until now."""
    span = {"gte": int(since.timestamp())}
    return {"created": span if until is None else {**span, "lt": int(until.timestamp())}}


def movements(params: dict[str, Any]) -> Iterator[Movement]:
    """Balance transactions that these parameters choose."""
    params = {**params, "currency": _CURRENCY, "expand": ["data.source"]}
    for row in pages(lambda client, given: client.v1.balance_transactions.list(given), params):
        if not _to_the_bank(row.source):
            yield Movement(row.id, _key(row), row.net)


def movements_of(key: str) -> int:
    """What one object moved since ever, net in cents."""
    try:
        return sum(
            row.net_minor for source in _sources(key) for row in movements({"source": source})
        )
    except PermanentError as error:
        return _nothing(error)


def _sources(key: str) -> list[str]:
    """The objects whose balance transactions are the key's: the reverse of ``_key``."""
    if key.startswith("pi_"):
        charge = read.payment_intent(key).latest_charge
        return [] if charge is None else [charge if isinstance(charge, str) else charge.id]
    if key.startswith("tr_"):
        reversals = pages(lambda client, given: client.v1.transfers.reversals.list(key, given), {})
        return [key, *(reversal.id for reversal in reversals)]
    return [key]


def _nothing(error: PermanentError) -> int:
    """What Stripe does not know moved nothing."""
    if error.code != "resource_missing":
        raise error
    return 0


def _key(row: Any) -> str:
    source = row.source
    if source is None or isinstance(source, str):
        return source or row.id
    name = getattr(source, _NAMED_BY.get(source.object, "id"), None) or source.id
    return name if isinstance(name, str) else name.id


def _to_the_bank(source: Any) -> bool:
    thing = getattr(source, "object", None)
    return thing == "payout" and source.status in _UNDER_WAY


def balance() -> int:
    """Available and pending in cents; with what `movements` leaves out it is all that we have."""
    found: Any = call(lambda client: client.v1.balance.retrieve())
    lines = (*found.available, *found.pending)
    return sum(int(line.amount) for line in lines if line.currency == _CURRENCY)


def in_transit(since: datetime) -> int:
    """What is on its way to our bank, in cents. It arrives within days: older ones are not read."""
    params = {**created(since), "currency": _CURRENCY, "type": "payout", "expand": ["data.source"]}
    rows = pages(lambda client, given: client.v1.balance_transactions.list(given), params)
    return -sum(int(row.net) for row in rows if _to_the_bank(row.source))


def seconds(pair: Pair, until: datetime) -> int:
    """Stripe's sum of a customer's meter in [begins, until), which are whole minutes."""
    params: Any = {
        "customer": pair.customer,
        "start_time": int(pair.begins.timestamp()),
        "end_time": int(until.timestamp()),
    }
    rows = pages(
        lambda client, given: client.v1.billing.meters.event_summaries.list(pair.meter, given),
        params,
    )
    # A sum of whole seconds that came as a floating number; it is whole again as it is read.
    return sum(int(row.aggregated_value) for row in rows)


# --- objects ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """How objects of one name are listed, fetched and understood. ``see`` None: none of ours.

    names: the kinds of billing.reconciliation.objects that they may be.
    """

    names: tuple[str, ...]
    listed: Listed
    fetched: Callable[[Any, str, dict[str, Any]], Any]
    see: Callable[[Any], Seen | None]
    expand: tuple[str, ...] = ()


def every(reader: Reader, since: datetime, until: datetime) -> Iterator[Seen]:
    """What was made in [since, until)."""
    params: dict[str, Any] = created(since, until)
    if reader.expand:
        params["expand"] = [f"data.{path}" for path in reader.expand]
    for thing in pages(reader.listed, params):
        seen = reader.see(thing)
        if seen is not None:
            yield seen


def fetch(reader: Reader, stripe_id: str) -> Seen | None:
    """One object as it is now; None when Stripe has none of that id."""
    params = {"expand": list(reader.expand)} if reader.expand else {}
    try:
        thing = call(lambda client: reader.fetched(client, stripe_id, params))
    except PermanentError as error:
        if error.code != "resource_missing":
            raise
        return None
    return None if getattr(thing, "deleted", False) else reader.see(thing)


def _at(moment: int | None) -> datetime | None:
    return None if moment is None else datetime.fromtimestamp(moment, tz=UTC)


def _customer(thing: Any) -> Seen:
    ours = read.ours(thing, read.ORG) is not None
    return Seen("customer", thing.id, "", None, ours, _at(thing.created))


def _payment(thing: Any) -> Seen:
    charge = thing.latest_charge
    taken = None if charge is None or isinstance(charge, str) else charge.created
    received = thing.amount_received if thing.status == "succeeded" else thing.amount
    ours = read.ours(thing, read.TOPUP) is not None
    ended = max(filter(None, (thing.created, thing.canceled_at, taken)))
    return Seen("payment_intent", thing.id, thing.status, received, ours, _at(ended))


def _page(thing: Any) -> Seen | None:
    """A page says not when it was completed; it ends at ``expires_at`` at the latest."""
    if thing.mode not in ("payment", "setup"):
        return None
    name = read.TOPUP if thing.mode == "payment" else read.SETUP
    status = thing.status
    if status == "complete" and thing.mode == "payment" and thing.payment_status != "paid":
        status = "open"  # the payer has done what there was to do, the money is on its way
    return Seen(
        f"checkout.session {thing.mode}",
        thing.id,
        status,
        thing.amount_total if thing.mode == "payment" else None,
        read.ours(thing, name) is not None,
        _at(thing.expires_at),
    )


def _invoice(thing: Any) -> Seen:
    passed = thing.status_transitions
    moments = (passed.finalized_at, passed.paid_at, passed.voided_at)
    ended = max(filter(None, (*moments, passed.marked_uncollectible_at, thing.created)))
    ours = read.ours(thing, read.INVOICE) is not None
    return Seen("invoice", thing.id, thing.status, thing.total, ours, _at(ended))


def _refund(thing: Any) -> Seen:
    ours = read.ours(thing, read_returns.REFUND) is not None
    return Seen("refund", thing.id, thing.status or "", thing.amount, ours, _at(thing.created))


def _dispute(thing: Any) -> Seen:
    """It carries nothing of ours: the payer does, whom it names by the payment."""
    payer = getattr(thing.payment_intent, "customer", None)
    ours = payer is not None and read.ours(payer, read.ORG) is not None
    moved = max([thing.created, *(one.created for one in thing.balance_transactions)])
    return Seen("dispute", thing.id, thing.status, thing.amount, ours, _at(moved))


def _credit_note(thing: Any) -> Seen:
    ours = read.ours(thing, read_returns.CREDIT_NOTE) is not None
    ended = max(filter(None, (thing.created, thing.voided_at)))
    return Seen("credit_note", thing.id, thing.status, thing.total, ours, _at(ended))


def _transfer(thing: Any) -> Seen:
    kept = thing.amount - thing.amount_reversed
    ended = max([thing.created, *(one.created for one in thing.reversals.data)])
    status = "made" if kept else "reversed"
    ours = read.ours(thing, read.PAYOUT) is not None
    return Seen("transfer", thing.id, status, kept, ours, _at(ended))


READERS: Final = (
    Reader(
        ("customer",),
        lambda client, given: client.v1.customers.list(given),
        lambda client, id, given: client.v1.customers.retrieve(id, given),
        _customer,
    ),
    Reader(
        ("payment_intent",),
        lambda client, given: client.v1.payment_intents.list(given),
        lambda client, id, given: client.v1.payment_intents.retrieve(id, given),
        _payment,
        expand=("latest_charge",),
    ),
    Reader(
        ("checkout.session payment", "checkout.session setup"),
        lambda client, given: client.v1.checkout.sessions.list(given),
        lambda client, id, given: client.v1.checkout.sessions.retrieve(id, given),
        _page,
    ),
    Reader(
        ("invoice",),
        lambda client, given: client.v1.invoices.list(given),
        lambda client, id, given: client.v1.invoices.retrieve(id, given),
        _invoice,
    ),
    Reader(
        ("refund",),
        lambda client, given: client.v1.refunds.list(given),
        lambda client, id, given: client.v1.refunds.retrieve(id, given),
        _refund,
    ),
    Reader(
        ("dispute",),
        lambda client, given: client.v1.disputes.list(given),
        lambda client, id, given: client.v1.disputes.retrieve(id, given),
        _dispute,
        expand=("payment_intent.customer",),
    ),
    Reader(
        ("credit_note",),
        lambda client, given: client.v1.credit_notes.list(given),
        lambda client, id, given: client.v1.credit_notes.retrieve(id, given),
        _credit_note,
    ),
    Reader(
        ("transfer",),
        lambda client, given: client.v1.transfers.list(given),
        lambda client, id, given: client.v1.transfers.retrieve(id, given),
        _transfer,
    ),
)
