"""Disputes: a customer's bank takes a payment back, and may return it.

A dispute begins with a test card or by `control.order("dispute", charge=...)`. Money and fee
leave at once, except for an inquiry, which only asks. It ends by the documented evidence texts,
by `close`, by `control.order("decide_dispute", ...)`, or lost when its day passes unanswered.
The fee stays with Stripe whatever the outcome, as in its current terms for US accounts.

Limits: evidence is text (files are a 501); no appeals, no compliance cases, no smart disputes.
"""

from devstack.stripe import answers, payments
from devstack.stripe.core import Simulator, matches_time, merged_metadata
from devstack.stripe.errors import invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, due, only, operation, order
from devstack.stripe.resources import charges, payment_methods, refunds

KIND = "dispute"
FEE = 1500  # cents
ANSWER_WITHIN_S = 9 * 24 * 3600
# An inquiry that nobody escalates is over after 120 days.
INQUIRY_ENDS_S = 120 * 24 * 3600
OPEN = frozenset({"needs_response", "warning_needs_response"})
_REASON_CODES = {"fraudulent": "10.4", "product_not_received": "13.1"}
# Stripe's testing page: what this text, submitted as evidence, brings about.
_VERDICTS = {
    "winning_evidence": "won",
    "losing_evidence": "lost",
    "escalate_inquiry_evidence": "escalated",
}
_TEXTS = (
    "access_activity_log billing_address cancellation_policy_disclosure cancellation_rebuttal "
    "customer_email_address customer_name customer_purchase_ip duplicate_charge_explanation "
    "duplicate_charge_id product_description refund_policy_disclosure refund_refusal_explanation "
    "service_date shipping_address shipping_carrier shipping_date shipping_tracking_number "
    "uncategorized_text"
)


def _fetch(sim: Simulator, dispute: str) -> Answer:
    return sim.fetch(KIND, dispute, param="dispute", in_path=True)


def begin(
    sim: Simulator, charge: Answer, *, amount: int, reason: str, inquiry: bool = False
) -> Answer:
    """A new dispute over `amount` cents of a charge, with its money and its events."""
    charge["disputed"] = True
    sim.save(charge)
    now = sim.now()
    card = charge["payment_method_details"]["card"]
    code = _REASON_CODES.get(reason, "10.4")
    dispute = answers.blank(
        KIND,
        id=sim.new_id("du"),
        amount=amount,
        balance_transactions=[],
        charge=charge["id"],
        created=now,
        currency="usd",
        enhanced_eligibility_types=[],
        evidence=answers.nulls(KIND, "evidence")
        | {"enhanced_evidence": {}, "customer_email_address": charge["receipt_email"]},
        evidence_details={
            "due_by": now + ANSWER_WITHIN_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        is_charge_refundable=inquiry,
        metadata={},
        network_reason_code=code,
        payment_intent=charge["payment_intent"],
        payment_method_details={
            "type": "card",
            "card": {
                "brand": card["brand"],
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": card["network"],
                "network_reason_code": code,
            },
        },
        reason=reason,
        status="warning_needs_response" if inquiry else "needs_response",
    )
    sim.save(dispute)
    if not inquiry:
        _take(sim, dispute)
    sim.emit("charge.dispute.created", dispute)
    if not inquiry:
        sim.emit("charge.dispute.funds_withdrawn", dispute)
        _fail_pending_refunds(sim, charge)
    sim.later(ANSWER_WITHIN_S, "dispute", dispute["id"])
    return dispute


def _take(sim: Simulator, dispute: Answer) -> None:
    charge = sim.fetch("charge", dispute["charge"], param="charge")
    _move(sim, dispute, -dispute["amount"], FEE, "dispute", charges.pending_s(sim, charge))


def _move(
    sim: Simulator, dispute: Answer, amount: int, fee: int, category: str, waits_s: int = 0
) -> None:
    what = "withdrawal" if amount < 0 else "reversal"
    entry = charges.post(
        sim,
        kind="adjustment",
        category=category,
        amount=amount,
        fee=fee,
        source=dispute["id"],
        description=f"Chargeback {what} for {dispute['charge']}",
        waits_s=waits_s,
    )
    dispute["balance_transactions"].append(entry)
    sim.save(dispute)


def _fail_pending_refunds(sim: Simulator, charge: Answer) -> None:
    for row in sim.store.rows(refunds.KIND):
        if row["charge"] == charge["id"] and row["status"] == "pending":
            refund = sim.fetch(refunds.KIND, row["id"], param="refund")
            refunds.fail(sim, refund, "failed", "charge_for_pending_refund_disputed")


def _after_payment(sim: Simulator, intent: Answer) -> None:
    charge = sim.fetch("charge", intent["latest_charge"], param="charge")
    card, _ = payment_methods.instrument(sim, charge["payment_method"])
    if card.dispute is not None:
        inquiry = card.dispute == "inquiry"
        reason = "fraudulent" if inquiry else card.dispute
        begin(sim, charge, amount=charge["amount"], reason=reason, inquiry=inquiry)


payments.AFTER_SUCCESS.append(_after_payment)


def _after_refund(sim: Simulator, charge: Answer) -> None:
    """A full refund answers an inquiry."""
    for row in sim.store.rows(KIND):
        waiting = row["status"] in {"warning_needs_response", "warning_under_review"}
        if row["charge"] == charge["id"] and waiting and charge["refunded"]:
            _end(sim, sim.fetch(KIND, row["id"], param="dispute"), "warning_closed")


refunds.AFTER_REFUND.append(_after_refund)


def _end(sim: Simulator, dispute: Answer, status: str) -> Answer:
    """The bank's last word: won, lost or (an inquiry) warning_closed."""
    before = dispute["status"]
    dispute["status"] = status
    if status == "won":
        _move(sim, dispute, dispute["amount"], 0, "dispute_reversal")
    sim.save(dispute)
    sim.emit("charge.dispute.updated", dispute, {"status": before})
    if status == "won":
        sim.emit("charge.dispute.funds_reinstated", dispute)
    sim.emit("charge.dispute.closed", dispute)
    return dispute


def _escalate(sim: Simulator, dispute: Answer) -> Answer:
    """The bank makes a chargeback of its inquiry: now the money leaves."""
    before = dispute["status"]
    dispute |= {"status": "needs_response", "is_charge_refundable": False}
    dispute["payment_method_details"]["card"]["case_type"] = "chargeback"
    dispute["evidence_details"] |= {"due_by": sim.now() + ANSWER_WITHIN_S, "has_evidence": False}
    _take(sim, dispute)
    sim.emit("charge.dispute.updated", dispute, {"status": before})
    sim.emit("charge.dispute.funds_withdrawn", dispute)
    sim.later(ANSWER_WITHIN_S, "dispute", dispute["id"])
    return dispute


@due("dispute")
def _past_due(sim: Simulator, dispute: str) -> None:
    found = sim.fetch(KIND, dispute, param="dispute")
    if found["status"] not in OPEN or found["evidence_details"]["due_by"] > sim.now():
        return
    found["evidence_details"]["past_due"] = True
    if found["status"] == "needs_response":
        _end(sim, found, "lost")
    else:
        sim.save(found)
        sim.later(INQUIRY_ENDS_S - ANSWER_WITHIN_S, "inquiry", dispute)


@due("inquiry")
def _inquiry_over(sim: Simulator, dispute: str) -> None:
    found = sim.fetch(KIND, dispute, param="dispute")
    if found["status"] in {"warning_needs_response", "warning_under_review"}:
        _end(sim, found, "warning_closed")


@operation("POST", "/v1/disputes/{dispute}", takes="evidence metadata submit")
def update(sim: Simulator, params: Params, *, dispute: str) -> Answer:
    found = _fetch(sim, dispute)
    before = {k: found[k] for k in ("status", "metadata")}
    if "metadata" in params:
        found["metadata"] = merged_metadata(found["metadata"], params["metadata"])
    if "evidence" in params or params.get("submit"):
        _answer_bank(found, params)
    sim.save(found)
    changed = {k: v for k, v in before.items() if found[k] != v}
    sim.emit("charge.dispute.updated", found, changed)
    if not found["status"].endswith("under_review") or before["status"] == found["status"]:
        return found
    return _verdict(sim, found, _VERDICTS.get(found["evidence"]["uncategorized_text"] or ""))


def _answer_bank(dispute: Answer, params: Params) -> None:
    given = params.get("evidence", {})
    only(given, _TEXTS, "evidence")
    if dispute["status"] not in OPEN:
        raise invalid_request(
            f"This dispute is {dispute['status']}: its evidence can no longer be changed.",
            param="evidence",
        )
    dispute["evidence"] |= {name: value or None for name, value in given.items()}
    details = dispute["evidence_details"]
    details["has_evidence"] = any(dispute["evidence"][n] for n in _TEXTS.split())
    if params.get("submit", True):
        details |= {
            "submission_count": details["submission_count"] + 1,
            "submission_method": "manual",
        }
        warning = dispute["status"].startswith("warning")
        dispute["status"] = "warning_under_review" if warning else "under_review"


def _verdict(sim: Simulator, dispute: Answer, verdict: str | None) -> Answer:
    inquiry = dispute["status"].startswith("warning")
    if verdict is None or (verdict == "escalated" and not inquiry):
        if inquiry:
            sim.later(INQUIRY_ENDS_S, "inquiry", dispute["id"])
        return dispute
    if verdict == "escalated":
        return _escalate(sim, dispute)
    if inquiry and verdict == "lost":
        return _end(sim, _escalate(sim, dispute), "lost")
    return _end(sim, dispute, "warning_closed" if inquiry else verdict)


@operation("POST", "/v1/disputes/{dispute}/close")
def close(sim: Simulator, params: Params, *, dispute: str) -> Answer:
    found = _fetch(sim, dispute)
    if found["status"].startswith("warning"):
        raise not_simulated("closing an inquiry")
    if found["status"] != "needs_response":
        raise invalid_request(f"This dispute is already {found['status']}.")
    return _end(sim, found, "lost")


@operation("GET", "/v1/disputes/{dispute}")
def retrieve(sim: Simulator, params: Params, *, dispute: str) -> Answer:
    return _fetch(sim, dispute)


@operation("GET", "/v1/disputes", takes=f"{PAGING} charge payment_intent created")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        d
        for d in sim.store.rows(KIND)
        if params.get("charge") in (None, d["charge"])
        and params.get("payment_intent") in (None, d["payment_intent"])
        and matches_time(d["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/disputes")


@order("dispute")
def dispute_charge(
    sim: Simulator,
    *,
    charge: str,
    amount: int | None = None,
    reason: str = "fraudulent",
    inquiry: bool = False,
) -> Answer:
    """A customer disputes a payment that succeeded; `amount` in cents, else what is left of it."""
    found = sim.fetch("charge", charge, param="charge")
    left = found["amount"] - found["amount_refunded"]
    wanted = left if amount is None else amount
    if found["status"] != "succeeded" or not 0 < wanted <= left:
        raise ValueError(f"{charge} has {left} cents that can be disputed")
    for row in sim.store.rows(KIND):
        if row["charge"] == charge and row["status"] not in {"won", "warning_closed"}:
            raise ValueError(f"{charge} is disputed already ({row['id']})")
    return begin(sim, found, amount=wanted, reason=reason, inquiry=inquiry)


@order("decide_dispute")
def decide(sim: Simulator, *, dispute: str, status: str) -> Answer:
    """What the bank decides: won, lost, warning_closed, or, to escalate, needs_response."""
    found = sim.fetch(KIND, dispute, param="dispute")
    allowed = {
        "needs_response": ("won", "lost"),
        "under_review": ("won", "lost"),
        "warning_needs_response": ("warning_closed", "needs_response"),
        "warning_under_review": ("warning_closed", "needs_response"),
    }
    if status not in allowed.get(found["status"], ()):
        raise ValueError(f"a dispute that is {found['status']} does not become {status}")
    return _escalate(sim, found) if status == "needs_response" else _end(sim, found, status)
