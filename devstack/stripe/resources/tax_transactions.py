"""Tax transactions: calculations that became sales, and their reversals. They are for reports and
move no money. A reference is used once among all of them."""

from typing import Any

from devstack.stripe import answers
from devstack.stripe.core import Simulator, merged_metadata
from devstack.stripe.errors import invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, included, operation
from devstack.stripe.resources import tax_calculations

KIND = "tax.transaction"
LINES = "tax_transaction_lines"
_COPIED = ("currency", "customer", "customer_details", "ship_from_details", "shipping_cost")


@operation(
    "POST",
    "/v1/tax/transactions/create_from_calculation",
    takes="calculation metadata posted_at reference",
)
def create_from_calculation(sim: Simulator, params: Params) -> Answer:
    found = tax_calculations.live(sim, params["calculation"])
    for other in sim.store.rows(KIND):
        if sim.store.get("tax_transaction_of", other["id"]) == {"calculation": found["id"]}:
            raise invalid_request(
                f"This tax calculation was already used to create the transaction {other['id']}.",
                param="calculation",
            )
    lines = [
        _line(sim, line, line["amount"], line["amount_tax"], kind="transaction")
        for line in tax_calculations.lines_of(sim, found)
    ]
    made = _make(sim, params, found, lines, kind="transaction", tax_date=found["tax_date"])
    sim.store.put("tax_transaction_of", made["id"], {"calculation": found["id"]})
    return made


@operation(
    "POST",
    "/v1/tax/transactions/create_reversal",
    takes="mode original_transaction reference flat_amount metadata line_items",
)
def create_reversal(sim: Simulator, params: Params) -> Answer:
    original = sim.fetch(KIND, params["original_transaction"], param="original_transaction")
    if original["type"] != "transaction":
        raise invalid_request("A reversal cannot be reversed.", param="original_transaction")
    if "line_items" in params:
        raise not_simulated("reversing single line items")
    rest = [_rest(sim, original, line) for line in _lines_of(sim, original["id"])]
    left = sum(net + taxed for _, net, taxed in rest)
    if params["mode"] == "full":
        if "flat_amount" in params:
            raise invalid_request("A full reversal takes no flat_amount.", param="flat_amount")
        amount = left
    else:
        if "flat_amount" not in params or params["flat_amount"] >= 0:
            raise invalid_request("A flat_amount must be negative.", param="flat_amount")
        amount = -params["flat_amount"]
    if amount > left or not left:
        raise invalid_request(
            f"The amount to reverse is greater than the {left} left of the transaction.",
            param="flat_amount",
        )
    lines, gross, taken = [], 0, 0
    for line, net, taxed in rest:
        # Spread over net and tax of each line by what is left of them, all of it exactly.
        gross += net + taxed
        part = amount * gross // left - taken
        taken += part
        of_tax = part * taxed // (net + taxed) if net + taxed else 0
        lines.append(_line(sim, line, of_tax - part, -of_tax, kind="reversal", of=line["id"]))
    made = _make(sim, params, original, lines, kind="reversal", tax_date=original["tax_date"])
    made["reversal"] = {"original_transaction": original["id"]}
    return sim.save(made)


def _rest(sim: Simulator, original: Answer, line: Answer) -> tuple[Answer, int, int]:
    """A line with the net and the tax that no reversal took yet."""
    net, taxed = line["amount"], line["amount_tax"]
    for other in sim.store.rows(KIND):
        if (other["reversal"] or {}).get("original_transaction") == original["id"]:
            for one in _lines_of(sim, other["id"]):
                if one["reversal"]["original_line_item"] == line["id"]:
                    net, taxed = net + one["amount"], taxed + one["amount_tax"]
    return line, net, taxed


def _line(
    sim: Simulator, like: Answer, net: int, taxed: int, *, kind: str, of: str | None = None
) -> Answer:
    return answers.blank(
        "tax.transaction_line_item",
        id=sim.new_id("tax_li"),
        amount=net,
        amount_tax=taxed,
        metadata=like["metadata"],
        quantity=like["quantity"],
        reference=like["reference"],
        reversal={"original_line_item": of} if of else None,
        tax_behavior="exclusive",
        tax_code=like["tax_code"],
        type=kind,
    )


def _make(
    sim: Simulator,
    params: Params,
    like: Answer,
    lines: list[Answer],
    *,
    kind: str,
    tax_date: int,
) -> Answer:
    if any(row["reference"] == params["reference"] for row in sim.store.rows(KIND)):
        raise invalid_request(
            f"A tax transaction with the reference {params['reference']} exists already.",
            param="reference",
        )
    made = answers.blank(
        KIND,
        id=sim.new_id("tax"),
        created=sim.now(),
        metadata=merged_metadata({}, params.get("metadata")),
        posted_at=params.get("posted_at", sim.now()),
        reference=params["reference"],
        tax_date=tax_date,
        type=kind,
        **{name: like[name] for name in _COPIED},
    )
    sim.store.put(LINES, made["id"], {"lines": lines})
    return sim.save(made)


@operation("GET", "/v1/tax/transactions/{transaction}")
def retrieve(sim: Simulator, params: Params, *, transaction: str) -> Answer:
    return sim.fetch(KIND, transaction, param="transaction", in_path=True)


@operation("GET", "/v1/tax/transactions/{transaction}/line_items", takes=PAGING)
def line_items(sim: Simulator, params: Params, *, transaction: str) -> Answer:
    retrieve(sim, params, transaction=transaction)
    return _page(sim, transaction, params)


@included(KIND, "line_items")
def _included(sim: Simulator, found: Answer) -> Any:
    return _page(sim, found["id"], {})


def _page(sim: Simulator, transaction: str, params: Params) -> Answer:
    url = f"/v1/tax/transactions/{transaction}/line_items"
    return sim.page(_lines_of(sim, transaction), params, url, newest_first=False)


def _lines_of(sim: Simulator, transaction: str) -> list[Answer]:
    rows: list[Answer] = (sim.store.get(LINES, transaction) or {"lines": []})["lines"]
    return rows
