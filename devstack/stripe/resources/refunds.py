"""Refunds of card payments.

The money leaves with the refund and Stripe keeps its fee. A refund that fails, or that the bank
gives up, brings the money back with a balance transaction of its own. The balance may fall below
zero, as that of an account which Stripe may debit; so a refund never waits for funds.
"""

from collections.abc import Callable

from devstack.stripe import answers
from devstack.stripe.core import Simulator, matches_time, merged_metadata
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import (
    PAGING,
    Answer,
    Params,
    due,
    included,
    operation,
    order,
)
from devstack.stripe.resources import charges, payment_methods

KIND = "refund"
SETTLES_AFTER_S = 60  # "some time later" of Stripe's test cards for asynchronous refunds
# Called with the charge after a refund of it.
AFTER_REFUND: list[Callable[[Simulator, Answer], None]] = []
CHARGED_BACK = frozenset({"needs_response", "under_review", "lost"})


@operation("POST", "/v1/refunds", takes="charge payment_intent amount reason metadata")
def create(sim: Simulator, params: Params) -> Answer:
    charge = _charge(sim, params)
    return give(
        sim,
        charge,
        params.get("amount"),
        reason=params.get("reason"),
        metadata=merged_metadata({}, params.get("metadata")),
    )


def _charge(sim: Simulator, params: Params) -> Answer:
    if ("charge" in params) == ("payment_intent" in params):
        raise invalid_request(
            "One of the following params should be provided for this request: payment_intent or "
            "charge.",
            code="parameter_missing",
        )
    if "charge" in params:
        return sim.fetch("charge", params["charge"], param="charge")
    intent = sim.fetch("payment_intent", params["payment_intent"], param="payment_intent")
    if intent["status"] != "succeeded":
        raise invalid_request(
            f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        )
    return sim.fetch("charge", intent["latest_charge"], param="payment_intent")


def give(
    sim: Simulator,
    charge: Answer,
    amount: int | None,
    *,
    reason: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Answer:
    """Refund cents of a charge, all that is left without an amount; 400 beyond that."""
    amount = _limited(sim, charge, amount)
    card, _ = payment_methods.instrument(sim, charge["payment_method"])
    refund = answers.blank(
        KIND,
        id=sim.new_id("re"),
        amount=amount,
        charge=charge["id"],
        created=sim.now(),
        currency="usd",
        customer=charge["customer"],
        destination_details={
            "card": {
                "reference": None,
                "reference_status": "pending",
                "reference_type": "acquirer_reference_number",
                "type": "pending" if card.refund == "slow" else "refund",
            },
            "type": "card",
        },
        metadata=metadata or {},
        payment_intent=charge["payment_intent"],
        payment_method=charge["payment_method"],
        pending_reason="processing" if card.refund == "slow" else None,
        reason=reason,
        status="pending" if card.refund == "slow" else "succeeded",
    )
    entry = charges.post(
        sim,
        kind="refund",
        amount=-amount,
        fee=0,
        source=refund["id"],
        description=f"REFUND FOR CHARGE ({charge['description'] or charge['id']})",
        waits_s=charges.pending_s(sim, charge),
    )
    refund["balance_transaction"] = entry["id"]
    sim.save(refund)
    sim.emit("refund.created", refund)
    _refunded(sim, charge, amount)
    sim.emit("charge.refunded", charge)
    for hook in AFTER_REFUND:
        hook(sim, charge)
    if card.refund != "at_once":
        sim.later(SETTLES_AFTER_S, "refund", refund["id"])
    return refund


def _limited(sim: Simulator, charge: Answer, amount: int | None) -> int:
    if charge["status"] != "succeeded":
        raise invalid_request(f"Charge {charge['id']} did not succeed; cannot issue a refund.")
    for dispute in sim.store.rows("dispute"):
        if dispute["charge"] == charge["id"] and dispute["status"] in CHARGED_BACK:
            raise invalid_request(
                f"Charge {charge['id']} has been charged back; cannot issue a refund.",
                code="charge_disputed",
            )
    left = charge["amount"] - charge["amount_refunded"]
    if left == 0:
        raise invalid_request(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    if amount is not None and amount < 1:
        raise invalid_request(
            "Invalid positive integer", param="amount", code="parameter_invalid_integer"
        )
    if amount is not None and amount > left:
        raise invalid_request(
            f"Refund amount (${amount / 100:.2f}) is greater than unrefunded amount on charge "
            f"(${left / 100:.2f})",
            param="amount",
        )
    return int(left if amount is None else amount)


def _refunded(sim: Simulator, charge: Answer, amount: int) -> None:
    """The charge after `amount` cents more, or less, went back."""
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    sim.save(charge)


def _changed(sim: Simulator, refund: Answer, previous: Params) -> Answer:
    sim.save(refund)
    for kind in ("refund.updated", "charge.refund.updated"):
        sim.emit(kind, refund, previous)
    return refund


@due("refund")
def _settle(sim: Simulator, refund: str) -> None:
    found = sim.fetch(KIND, refund, param="refund")
    charge = sim.fetch("charge", found["charge"], param="charge")
    card, _ = payment_methods.instrument(sim, charge["payment_method"])
    if card.refund == "fails" and found["status"] == "succeeded":
        fail(sim, found, "failed", "expired_or_canceled_card")
    elif card.refund == "slow" and found["status"] == "pending":
        succeed(sim, found)


def succeed(sim: Simulator, refund: Answer) -> Answer:
    """A pending refund reached the customer."""
    refund |= {"status": "succeeded", "pending_reason": None}
    refund["destination_details"]["card"]["type"] = "refund"
    return _changed(sim, refund, {"status": "pending"})


def fail(sim: Simulator, refund: Answer, status: str, reason: str) -> Answer:
    """The bank sent the money back (`failed`) or the account's owner stopped it (`canceled`)."""
    before = refund["status"]
    charge = sim.fetch("charge", refund["charge"], param="charge")
    entry = charges.post(
        sim,
        kind="refund_failure",
        amount=refund["amount"],
        fee=0,
        source=refund["id"],
        description="REFUND FAILURE",
        waits_s=charges.pending_s(sim, charge),
    )
    refund |= {
        "failure_balance_transaction": entry["id"],
        "failure_reason": reason,
        "pending_reason": None,
        "status": status,
    }
    _refunded(sim, charge, -refund["amount"])
    _changed(sim, refund, {"status": before, "failure_reason": None})
    if status == "failed":
        sim.emit("refund.failed", refund)
    return refund


@order("refund")
def decide(sim: Simulator, *, refund: str, status: str, reason: str = "unknown") -> Answer:
    """What the bank does with a refund: succeeded or failed; canceled is done in the Dashboard."""
    found = sim.fetch(KIND, refund, param="refund")
    allowed = {"pending": ("succeeded", "failed", "canceled"), "succeeded": ("failed",)}
    if status not in allowed.get(found["status"], ()):
        raise ValueError(f"a refund that is {found['status']} does not become {status}")
    if status == "succeeded":
        return succeed(sim, found)
    return fail(sim, found, status, reason if status == "failed" else "merchant_request")


@operation("POST", "/v1/refunds/{refund}", takes="metadata")
def update(sim: Simulator, params: Params, *, refund: str) -> Answer:
    found = sim.fetch(KIND, refund, param="refund", in_path=True)
    before = found["metadata"]
    found["metadata"] = merged_metadata(before, params.get("metadata"))
    return _changed(sim, found, {"metadata": before})


@operation("POST", "/v1/refunds/{refund}/cancel")
def cancel(sim: Simulator, params: Params, *, refund: str) -> Answer:
    found = sim.fetch(KIND, refund, param="refund", in_path=True)
    # Stripe cancels over the API only what waits for the customer, which no card refund does.
    raise invalid_request(
        f"You cannot cancel this refund because it has a status of {found['status']}. Only a "
        "refund with a status of requires_action may be canceled."
    )


@operation("GET", "/v1/refunds/{refund}")
def retrieve(sim: Simulator, params: Params, *, refund: str) -> Answer:
    return sim.fetch(KIND, refund, param="refund", in_path=True)


def _of_charge(sim: Simulator, charge: str) -> list[Answer]:
    return [r for r in sim.store.rows(KIND) if r["charge"] == charge]


@operation("GET", "/v1/refunds", takes=f"{PAGING} charge payment_intent created")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        r
        for r in sim.store.rows(KIND)
        if params.get("charge") in (None, r["charge"])
        and params.get("payment_intent") in (None, r["payment_intent"])
        and matches_time(r["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/refunds")


@included("charge", "refunds")
def _included(sim: Simulator, charge: Answer) -> Answer:
    url = f"/v1/charges/{charge['id']}/refunds"
    return sim.page(_of_charge(sim, charge["id"]), {}, url)
