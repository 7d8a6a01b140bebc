"""Transfers to connected accounts and their reversals.

A transfer moves available money of the platform into the account's own balance at once; a
reversal takes it back, if the account still has it. Both sides get a balance transaction.

Limit: from the available balance only (source_transaction is a 501).
"""

from devstack.stripe import answers
from devstack.stripe.core import Simulator, matches_time, merged_metadata, usd_only
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import PAGING, Answer, Params, operation
from devstack.stripe.resources import accounts, charges

KIND = "transfer"
REVERSAL = "transfer_reversal"
_SHORT = (
    "You have insufficient available funds in your Stripe account. Try adding funds directly to "
    "your available balance by creating Charges using the 4000000000000077 test card."
)


def positive(params: Params) -> int:
    """The amount in cents; 400 unless there is one above zero."""
    if "amount" not in params:
        raise invalid_request(
            "Missing required param: amount.", param="amount", code="parameter_missing"
        )
    if params["amount"] < 1:
        raise invalid_request(
            "Invalid positive integer", param="amount", code="parameter_invalid_integer"
        )
    return int(params["amount"])


def need_available(sim: Simulator, amount: int, message: str) -> None:
    """400 balance_insufficient unless the available balance covers the cents."""
    if charges.totals(sim)["available"] < amount:
        raise invalid_request(message, code="balance_insufficient")


@operation(
    "POST",
    "/v1/transfers",
    takes="amount currency destination description metadata transfer_group",
)
def create(sim: Simulator, params: Params) -> Answer:
    usd_only(params["currency"])
    amount = positive(params)
    account = accounts.need_transfers(sim, params["destination"])
    need_available(sim, amount, _SHORT)
    payment = sim.new_id("py")
    transfer = answers.blank(
        KIND,
        id=sim.new_id("tr"),
        amount=amount,
        amount_reversed=0,
        created=sim.now(),
        currency="usd",
        description=params.get("description"),
        destination=account["id"],
        destination_payment=payment,
        metadata=merged_metadata({}, params.get("metadata")),
        reversals={},
        reversed=False,
        source_type="card",
        transfer_group=params.get("transfer_group"),
    )
    entry = charges.post(
        sim,
        kind="transfer",
        amount=-amount,
        fee=0,
        source=transfer["id"],
        description=transfer["description"],
    )
    charges.post(
        sim.on(account["id"]),
        kind="payment",
        category="charge",
        amount=amount,
        fee=0,
        source=payment,
        description=transfer["description"],
    )
    transfer["balance_transaction"] = entry["id"]
    _save(sim, transfer)
    sim.emit("transfer.created", transfer)
    return transfer


def _save(sim: Simulator, transfer: Answer) -> Answer:
    url = f"/v1/transfers/{transfer['id']}/reversals"
    transfer["reversals"] = sim.page(_of(sim, transfer["id"]), {}, url)
    return sim.save(transfer)


def _of(sim: Simulator, transfer: str) -> list[Answer]:
    return [r for r in sim.store.rows(REVERSAL) if r["transfer"] == transfer]


@operation("GET", "/v1/transfers/{transfer}")
def retrieve(sim: Simulator, params: Params, *, transfer: str) -> Answer:
    return sim.fetch(KIND, transfer, param="transfer", in_path=True)


@operation("POST", "/v1/transfers/{transfer}", takes="description metadata")
def update(sim: Simulator, params: Params, *, transfer: str) -> Answer:
    found = sim.fetch(KIND, transfer, param="transfer", in_path=True)
    if "metadata" in params:
        found["metadata"] = merged_metadata(found["metadata"], params["metadata"])
    found["description"] = params.get("description", found["description"])
    _save(sim, found)
    sim.emit("transfer.updated", found)
    return found


@operation("GET", "/v1/transfers", takes=f"{PAGING} created destination transfer_group")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        t
        for t in sim.store.rows(KIND)
        if params.get("destination") in (None, t["destination"])
        and params.get("transfer_group") in (None, t["transfer_group"])
        and matches_time(t["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/transfers")


@operation("POST", "/v1/transfers/{id}/reversals", takes="amount description metadata")
def reverse(sim: Simulator, params: Params, *, id: str) -> Answer:
    transfer = sim.fetch(KIND, id, param="id", in_path=True)
    left = transfer["amount"] - transfer["amount_reversed"]
    if left == 0:
        raise invalid_request(f"Transfer {id} is already fully reversed.")
    amount = positive(params) if "amount" in params else left
    if amount > left:
        raise invalid_request(
            f"Transfer reversal amount (${amount / 100:.2f}) is greater than unreversed amount on "
            f"transfer (${left / 100:.2f})",
            param="amount",
        )
    there = sim.on(transfer["destination"])
    need_available(there, amount, "Insufficient funds in the connected account to reverse this.")
    reversal = answers.blank(
        REVERSAL,
        id=sim.new_id("trr"),
        amount=amount,
        created=sim.now(),
        currency="usd",
        destination_payment_refund=sim.new_id("pyr"),
        metadata=merged_metadata({}, params.get("metadata")),
        transfer=id,
    )
    entry = charges.post(
        sim,
        kind="transfer_refund",
        category="transfer_reversal",
        amount=amount,
        fee=0,
        source=reversal["id"],
        description=params.get("description"),
    )
    charges.post(
        there,
        kind="payment_refund",
        category="refund",
        amount=-amount,
        fee=0,
        source=reversal["destination_payment_refund"],
        description=params.get("description"),
    )
    reversal["balance_transaction"] = entry["id"]
    sim.save(reversal)
    transfer["amount_reversed"] += amount
    transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
    _save(sim, transfer)
    sim.emit("transfer.reversed", transfer)
    return reversal


def _reversal(sim: Simulator, transfer: str, reversal: str) -> Answer:
    sim.fetch(KIND, transfer, param="transfer", in_path=True)
    return sim.fetch(REVERSAL, reversal, param="id", in_path=True)


@operation("GET", "/v1/transfers/{transfer}/reversals/{id}")
def retrieve_reversal(sim: Simulator, params: Params, *, transfer: str, id: str) -> Answer:
    return _reversal(sim, transfer, id)


@operation("POST", "/v1/transfers/{transfer}/reversals/{id}", takes="metadata")
def update_reversal(sim: Simulator, params: Params, *, transfer: str, id: str) -> Answer:
    found = _reversal(sim, transfer, id)
    found["metadata"] = merged_metadata(found["metadata"], params.get("metadata"))
    sim.save(found)
    _save(sim, sim.fetch(KIND, transfer, param="transfer"))
    return found


@operation("GET", "/v1/transfers/{id}/reversals", takes=PAGING)
def list_reversals(sim: Simulator, params: Params, *, id: str) -> Answer:
    sim.fetch(KIND, id, param="id", in_path=True)
    return sim.page(_of(sim, id), params, f"/v1/transfers/{id}/reversals")
