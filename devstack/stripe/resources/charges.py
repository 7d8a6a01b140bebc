"""Charges, balance transactions and the balance that is their sum.

The balance is never stored: it is what the balance transactions add up to, so it cannot drift
from them. Fees are those of a US account for domestic cards: 2.9 % and 30 cents.
"""

from typing import Any

from devstack.stripe import answers
from devstack.stripe.cards import Card, Decline
from devstack.stripe.core import Simulator, matches_time, merged_metadata
from devstack.stripe.registry import PAGING, Answer, Params, operation

FEE_PER_MILLE = 29
FEE_FIXED = 30
PAYS_OUT_AFTER_S = 2 * 24 * 3600
PAID_OUT = "paid_out"  # automatic payout -> its balance transactions


def fee_of(amount: int) -> int:
    """Stripe's fee in cents, rounded half up."""
    return (amount * FEE_PER_MILLE + 500) // 1000 + FEE_FIXED


def record(
    sim: Simulator, intent: Answer, method: Answer, card: Card, decline: Decline | None
) -> Answer:
    """A succeeded or failed charge of a payment intent, with its events.

    A succeeded charge gets its balance transaction after the charge.succeeded event, as with
    Stripe's asynchronous capture: the event's snapshot does not have it yet, charge.updated has.
    """
    charge = answers.blank(
        "charge",
        id=sim.new_id("ch"),
        amount=intent["amount"],
        amount_captured=0 if decline else intent["amount"],
        amount_refunded=0,
        billing_details=method["billing_details"],
        calculated_statement_descriptor="GPUYARD",
        captured=decline is None,
        created=sim.now(),
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        disputed=False,
        failure_code=decline.code if decline else None,
        failure_message=decline.message if decline else None,
        fraud_details={},
        metadata=dict(intent["metadata"]),
        outcome=_outcome(decline),
        paid=decline is None,
        payment_intent=intent["id"],
        payment_method=method["id"],
        payment_method_details=_details(intent, method),
        radar_options={},
        receipt_email=intent["receipt_email"],
        refunded=False,
        statement_descriptor_suffix=intent["statement_descriptor_suffix"],
        status="failed" if decline else "succeeded",
    )
    sim.save(charge)
    if decline:
        sim.emit("charge.failed", charge)
        return charge
    sim.emit("charge.succeeded", charge)
    entry = post(
        sim,
        kind="charge",
        amount=charge["amount"],
        fee=fee_of(charge["amount"]),
        source=charge["id"],
        description=charge["description"],
        waits_s=0 if card.at_once else PAYS_OUT_AFTER_S,
    )
    charge["balance_transaction"] = entry["id"]
    charge["receipt_url"] = f"{sim.base_url}/_hosted/receipts/{charge['id']}"
    sim.save(charge)
    sim.emit("charge.updated", charge, {"balance_transaction": None, "receipt_url": None})
    return charge


def post(
    sim: Simulator,
    *,
    kind: str,
    amount: int,
    fee: int,
    source: str,
    description: str | None,
    waits_s: int = 0,
    category: str | None = None,
) -> Answer:
    """One balance transaction: the only way money enters or leaves the balance.

    `amount` and `fee` are cents; the money is pending for `waits_s` seconds.
    """
    details: list[dict[str, Any]] = []
    if fee:
        details.append(
            {
                "amount": fee,
                "application": None,
                "currency": "usd",
                "description": "Stripe processing fees",
                "type": "stripe_fee",
            }
        )
    entry = answers.blank(
        "balance_transaction",
        id=sim.new_id("txn"),
        amount=amount,
        available_on=sim.now() + waits_s,
        balance_type="payments",
        created=sim.now(),
        currency="usd",
        description=description,
        fee=fee,
        fee_details=details,
        net=amount - fee,
        reporting_category=category or kind,
        source=source,
        status="pending" if waits_s else "available",
        type=kind,
    )
    return sim.save(entry)


def pending_s(sim: Simulator, charge: Answer) -> int:
    """For how many seconds the money of a succeeded charge is still pending."""
    entry = sim.fetch("balance_transaction", charge["balance_transaction"], param="charge")
    return max(0, int(entry["available_on"]) - sim.now())


def _outcome(decline: Decline | None) -> dict[str, Any]:
    good = decline is None
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None if good else "05",
        "network_status": "approved_by_network" if good else "declined_by_network",
        "reason": None if decline is None else decline.reason or decline.code,
        "risk_level": "normal",
        "risk_score": 20,
        "seller_message": "Payment complete." if good else "The bank declined the payment.",
        "type": "authorized" if good else "issuer_declined",
    }


def _details(intent: Answer, method: Answer) -> dict[str, Any]:
    card = method["card"]
    return {
        "type": "card",
        "card": {
            "amount_authorized": intent["amount"],
            "authorization_code": None,
            "brand": card["brand"],
            "checks": card["checks"],
            "country": card["country"],
            "exp_month": card["exp_month"],
            "exp_year": card["exp_year"],
            "fingerprint": card["fingerprint"],
            "funding": card["funding"],
            "installments": None,
            "last4": card["last4"],
            "mandate": None,
            "network": card["brand"],
            "network_token": {"used": False},
            "three_d_secure": None,
            "wallet": None,
        },
    }


@operation("GET", "/v1/charges/{charge}")
def retrieve(sim: Simulator, params: Params, *, charge: str) -> Answer:
    return sim.fetch("charge", charge, param="id", in_path=True)


@operation("GET", "/v1/charges", takes=f"{PAGING} customer payment_intent created")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        c
        for c in sim.store.rows("charge")
        if params.get("customer") in (None, c["customer"])
        and params.get("payment_intent") in (None, c["payment_intent"])
        and matches_time(c["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/charges")


@operation("POST", "/v1/charges/{charge}", takes="description metadata receipt_email")
def update(sim: Simulator, params: Params, *, charge: str) -> Answer:
    found = sim.fetch("charge", charge, param="id", in_path=True)
    if "metadata" in params:
        found["metadata"] = merged_metadata(found["metadata"], params.pop("metadata"))
    found |= params
    sim.save(found)
    sim.emit("charge.updated", found)
    return found


def _current(sim: Simulator, entry: Answer) -> Answer:
    """Pending money becomes available when its day has come."""
    status = "available" if entry["available_on"] <= sim.now() else "pending"
    return {**entry, "status": status}


def entries(sim: Simulator) -> list[Answer]:
    """Every balance transaction as of now, oldest first."""
    return [_current(sim, e) for e in sim.store.rows("balance_transaction")]


@operation("GET", "/v1/balance_transactions/{id}", connected=True)
def retrieve_entry(sim: Simulator, params: Params, *, id: str) -> Answer:
    return _current(sim, sim.fetch("balance_transaction", id, param="id", in_path=True))


@operation(
    "GET",
    "/v1/balance_transactions",
    takes=f"{PAGING} created currency payout source type",
    connected=True,
)
def list_entries(sim: Simulator, params: Params) -> Answer:
    members = sim.store.get(PAID_OUT, params.get("payout", "")) or {"entries": []}
    rows = [
        e
        for e in entries(sim)
        if params.get("source") in (None, e["source"])
        and ("payout" not in params or e["id"] in members["entries"])
        and params.get("type") in (None, e["type"])
        and params.get("currency") in (None, e["currency"])
        and matches_time(e["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/balance_transactions")


def take_out(sim: Simulator, payout: str) -> None:
    """Note which balance transactions an automatic payout of all that is available pays out."""
    earlier = {e for row in sim.store.rows(PAID_OUT) for e in row["entries"]}
    fresh = [e["id"] for e in entries(sim) if e["status"] == "available"]
    sim.store.put(PAID_OUT, payout, {"entries": [e for e in fresh if e not in earlier]})


def totals(sim: Simulator) -> dict[str, int]:
    """Cents by status: `available` and `pending`."""
    result = {"available": 0, "pending": 0}
    for entry in entries(sim):
        result[entry["status"]] += entry["net"]
    return result


@operation("GET", "/v1/balance", connected=True)
def balance(sim: Simulator, params: Params) -> Answer:
    def line(amount: int) -> list[dict[str, Any]]:
        return [{"amount": amount, "currency": "usd", "source_types": {"card": amount}}]

    now = totals(sim)
    return {
        "object": "balance",
        "livemode": False,
        "available": line(now["available"]),
        "pending": line(now["pending"]),
        "refund_and_dispute_prefunding": {"available": line(0), "pending": line(0)},
    }
