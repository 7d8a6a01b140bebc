"""Payouts from a balance at Stripe to a bank account: the platform's, or a connected account's.

Connected accounts are paid out when `control.order("payout", account=...)` says so, in place of
Stripe's schedule. A payout arrives after two days, or fails there when the bank account is one
of Stripe's failing test numbers; a bank may send back what had arrived.
"""

from devstack.stripe import answers
from devstack.stripe.core import Simulator, matches_time, merged_metadata, usd_only
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import PAGING, Answer, Params, due, operation, order
from devstack.stripe.resources import accounts, charges, transfers

KIND = "payout"
ARRIVES_AFTER_S = 2 * 24 * 3600


def pay_out(
    sim: Simulator,
    amount: int,
    *,
    automatic: bool,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Answer:
    """A payout that is on its way, of cents that are available; 400 beyond them. An automatic
    one is of all that is available."""
    transfers.need_available(
        sim, amount, "You have insufficient funds in your Stripe account for this payout."
    )
    payout = answers.blank(
        KIND,
        id=sim.new_id("po"),
        amount=amount,
        arrival_date=sim.now() + ARRIVES_AFTER_S,
        automatic=automatic,
        created=sim.now(),
        currency="usd",
        description=description,
        destination=sim.new_id("ba"),
        metadata=metadata or {},
        method="standard",
        reconciliation_status="in_progress" if automatic else "not_applicable",
        source_type="card",
        status="pending",
        type="bank_account",
    )
    payout["balance_transaction"] = _move(sim, payout, -amount, "payout", "STRIPE PAYOUT")
    if automatic:
        charges.take_out(sim, payout["id"])
    sim.save(payout)
    sim.emit("payout.created", payout)
    sim.later(ARRIVES_AFTER_S, "payout", payout["id"])
    return payout


def _move(sim: Simulator, payout: Answer, amount: int, kind: str, text: str) -> str:
    entry = charges.post(
        sim,
        kind=kind,
        category="payout" if kind == "payout" else "payout_reversal",
        amount=amount,
        fee=0,
        source=payout["id"],
        description=text,
    )
    return str(entry["id"])


@due("payout")
def _arrive(sim: Simulator, payout: str) -> None:
    found = sim.fetch(KIND, payout, param="payout")
    if found["status"] != "pending":
        return
    bank = sim.store.get(accounts.BANKS, "own") or {"number": "000123456789"}
    failure = accounts.BANK_ACCOUNTS[bank["number"]]
    if failure is None:
        _paid(sim, found)
    else:
        _fail(sim, found, failure)


def _paid(sim: Simulator, payout: Answer) -> Answer:
    payout["status"] = "paid"
    if payout["automatic"]:
        payout["reconciliation_status"] = "completed"
    sim.save(payout)
    sim.emit("payout.paid", payout)
    return payout


def _fail(sim: Simulator, payout: Answer, code: str) -> Answer:
    payout |= {
        "failure_balance_transaction": _move(
            sim, payout, payout["amount"], "payout_failure", "STRIPE PAYOUT FAILURE"
        ),
        "failure_code": code,
        "failure_message": f"The bank returned this payout: {code}.",
        "status": "failed",
    }
    sim.save(payout)
    sim.emit("payout.failed", payout)
    return payout


@order("payout")
def order_payout(
    sim: Simulator,
    *,
    account: str | None = None,
    amount: int | None = None,
    status: str = "pending",
    code: str = "could_not_process",
) -> Answer:
    """Pay an account's available cents (or `amount`) out; `status` paid or failed settles at
    once."""
    home = sim.on(account)
    if account is not None:
        accounts.need_transfers(sim, account)
    available = charges.totals(home)["available"]
    wanted = available if amount is None else amount
    if wanted < 1:
        raise ValueError("there is nothing available to pay out")
    payout = pay_out(home, wanted, automatic=amount is None)
    return (
        payout
        if status == "pending"
        else decide(sim, payout=payout["id"], account=account, status=status, code=code)
    )


@order("decide_payout")
def decide(
    sim: Simulator,
    *,
    payout: str,
    status: str,
    account: str | None = None,
    code: str = "could_not_process",
) -> Answer:
    """What the bank does: paid or failed; also a payout that had arrived may fail."""
    home = sim.on(account)
    found = home.fetch(KIND, payout, param="payout")
    allowed = {"pending": ("paid", "failed"), "paid": ("failed",)}
    if status not in allowed.get(found["status"], ()):
        raise ValueError(f"a payout that is {found['status']} does not become {status}")
    return _paid(home, found) if status == "paid" else _fail(home, found, code)


@operation("POST", "/v1/payouts", takes="amount currency description metadata", connected=True)
def create(sim: Simulator, params: Params) -> Answer:
    usd_only(params["currency"])
    return pay_out(
        sim,
        transfers.positive(params),
        automatic=False,
        description=params.get("description"),
        metadata=merged_metadata({}, params.get("metadata")),
    )


@operation("GET", "/v1/payouts/{payout}", connected=True)
def retrieve(sim: Simulator, params: Params, *, payout: str) -> Answer:
    return sim.fetch(KIND, payout, param="payout", in_path=True)


@operation("GET", "/v1/payouts", takes=f"{PAGING} arrival_date created status", connected=True)
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        p
        for p in sim.store.rows(KIND)
        if params.get("status") in (None, p["status"])
        and matches_time(p["created"], params.get("created"))
        and matches_time(p["arrival_date"], params.get("arrival_date"))
    ]
    return sim.page(rows, params, "/v1/payouts")


@operation("POST", "/v1/payouts/{payout}/cancel", connected=True)
def cancel(sim: Simulator, params: Params, *, payout: str) -> Answer:
    found = sim.fetch(KIND, payout, param="payout", in_path=True)
    if found["status"] != "pending" or found["automatic"]:
        raise invalid_request("Payouts can be canceled only while they are pending, and by hand.")
    found |= {
        "failure_balance_transaction": _move(
            sim, found, found["amount"], "payout_cancel", "STRIPE PAYOUT CANCEL"
        ),
        "status": "canceled",
    }
    sim.save(found)
    sim.emit("payout.canceled", found)
    return found
