"""What must add up whatever a test did: every cent of the balance has an object that explains it.

Each function answers lines that name one object which does not add up; an empty list is sound.
"""

from collections import defaultdict
from typing import Any

from devstack.stripe.core import Simulator
from devstack.stripe.resources import charges

Entries = dict[str, list[tuple[str, int, int]]]  # source -> [(type, amount, fee)] in cents


def problems(sim: Simulator) -> list[str]:
    """Money that appeared or vanished, and objects that disagree about it."""
    found = [problem for account in sim.connected() for problem in _connected(sim, account)]
    entries = _entries(sim, found)
    found += _explained(sim, entries)
    found += [f"{source}: a balance transaction without a source" for source in entries]
    return [
        *found,
        *_payments(sim),
        *_refunded(sim),
        *_invoices(sim),
        *_credited(sim),
        *_reversed(sim),
    ]


def _entries(sim: Simulator, found: list[str]) -> Entries:
    entries: Entries = defaultdict(list)
    for entry in sim.store.rows("balance_transaction"):
        entries[entry["source"]].append((entry["type"], entry["amount"], entry["fee"]))
        if entry["net"] != entry["amount"] - entry["fee"]:
            found.append(f"{entry['id']}: net is not amount less fee")
    return entries


def _explained(sim: Simulator, entries: Entries) -> list[str]:
    """Objects whose balance transactions are not those that they must have; takes them out."""
    found: list[str] = []
    for kind, expected in EXPECTED.items():
        for row in sim.store.rows(kind):
            if [(t, a) for t, a, _ in entries.pop(row["id"], [])] != expected(row):
                found.append(f"{row['id']}: its balance transactions are not what it says")
    return found


def _connected(sim: Simulator, account: Simulator) -> list[str]:
    """A connected account has what was transferred, less what was reversed and paid out."""
    found: list[str] = []
    entries = _entries(account, found)
    found += _explained(account, entries)
    for transfer in sim.store.rows("transfer"):
        if transfer["destination"] == account.account:
            moved = [(t, a) for t, a, _ in entries.pop(transfer["destination_payment"], [])]
            if moved != [("payment", transfer["amount"])]:
                found.append(f"{transfer['id']}: the money did not arrive")
            for reversal in _reversals(sim, transfer):
                key = reversal["destination_payment_refund"]
                moved = [(t, a) for t, a, _ in entries.pop(key, [])]
                if moved != [("payment_refund", -reversal["amount"])]:
                    found.append(f"{reversal['id']}: the money was not taken back")
    found += [f"{source}: a balance transaction without a source" for source in entries]
    if any(total < 0 for total in charges.totals(account).values()):
        found.append(f"{account.account}: its balance is below zero")
    return found


def _reversals(sim: Simulator, transfer: dict[str, Any]) -> list[dict[str, Any]]:
    return [r for r in sim.store.rows("transfer_reversal") if r["transfer"] == transfer["id"]]


def _credited(sim: Simulator) -> list[str]:
    """An invoice agrees with its credit notes, and each note with where its money went."""
    found: list[str] = []
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for note in sim.store.rows("credit_note"):
        if note["status"] != "issued":
            continue
        balance = note["customer_balance_transaction"]
        credited = (
            0
            if balance is None
            else -sim.fetch("customer_balance_transaction", balance, param="credit_note")["amount"]
        )
        refunded = sum(r["amount_refunded"] for r in note["refunds"])
        if refunded + credited + (note["out_of_band_amount"] or 0) != note["post_payment_amount"]:
            found.append(f"{note['id']}: what went back is not its post payment amount")
        sums[note["invoice"]][0] += note["pre_payment_amount"]
        sums[note["invoice"]][1] += note["post_payment_amount"]
    return found + [
        f"{invoice['id']}: its credit notes are not what it says"
        for invoice in sim.store.rows("invoice")
        if sums[invoice["id"]]
        != [
            invoice["pre_payment_credit_notes_amount"],
            invoice["post_payment_credit_notes_amount"],
        ]
        or sum(sums[invoice["id"]]) > max(invoice["total"], 0)
    ]


def _reversed(sim: Simulator) -> list[str]:
    return [
        f"{transfer['id']}: amount_reversed is not what its reversals took"
        for transfer in sim.store.rows("transfer")
        if not sum(r["amount"] for r in _reversals(sim, transfer))
        == transfer["amount_reversed"]
        <= transfer["amount"]
    ]


def _charge(row: dict[str, Any]) -> list[tuple[str, int]]:
    return [("charge", row["amount"])] if row["status"] == "succeeded" else []


def _refund(row: dict[str, Any]) -> list[tuple[str, int]]:
    back = [("refund_failure", row["amount"])] if row["failure_balance_transaction"] else []
    if bool(back) != (row["status"] in {"failed", "canceled"}):
        return [("a failed refund returns its money", 0)]
    return [("refund", -row["amount"]), *back]


def _dispute(row: dict[str, Any]) -> list[tuple[str, int]]:
    taken = [] if row["status"].startswith("warning") else [("adjustment", -row["amount"])]
    return [*taken, ("adjustment", row["amount"])] if row["status"] == "won" else taken


def _payout(row: dict[str, Any]) -> list[tuple[str, int]]:
    back = {"failed": "payout_failure", "canceled": "payout_cancel"}.get(row["status"])
    returned = [(back, row["amount"])] if back else []
    return [("payout", -row["amount"]), *returned]


# Kind -> the (type, amount) of the balance transactions that an object must have, in order.
EXPECTED = {
    "charge": _charge,
    "refund": _refund,
    "dispute": _dispute,
    "transfer": lambda row: [("transfer", -row["amount"])],
    "transfer_reversal": lambda row: [("transfer_refund", row["amount"])],
    "payout": _payout,
}


def _payments(sim: Simulator) -> list[str]:
    paid: dict[str, int] = defaultdict(int)
    for charge in sim.store.rows("charge"):
        if charge["status"] == "succeeded":
            paid[charge["payment_intent"]] += charge["amount"]
    return [
        f"{intent['id']}: amount_received is not what its charges took"
        for intent in sim.store.rows("payment_intent")
        if paid[intent["id"]] != intent["amount_received"]
    ]


def _refunded(sim: Simulator) -> list[str]:
    given: dict[str, int] = defaultdict(int)
    for refund in sim.store.rows("refund"):
        if refund["status"] not in {"failed", "canceled"}:
            given[refund["charge"]] += refund["amount"]
    return [
        f"{charge['id']}: amount_refunded is not what its refunds gave back"
        for charge in sim.store.rows("charge")
        if not given[charge["id"]] == charge["amount_refunded"] <= charge["amount"]
        or charge["refunded"] != (charge["amount_refunded"] == charge["amount"])
    ]


def _invoices(sim: Simulator) -> list[str]:
    return [
        f"{invoice['id']}: paid, but not in full"
        for invoice in sim.store.rows("invoice")
        if invoice["status"] == "paid" and invoice["amount_paid"] != invoice["amount_due"]
    ]
