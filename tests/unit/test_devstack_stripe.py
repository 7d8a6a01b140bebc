"""Parts of the Stripe simulator that need no server."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devstack.stripe.cards import CARDS
from devstack.stripe.clock import VirtualClock
from devstack.stripe.core import Simulator, matches_time, merged_metadata
from devstack.stripe.errors import StripeError
from devstack.stripe.oracle import decode_form
from devstack.stripe.resources.charges import fee_of
from devstack.stripe.shapes import (
    AnyOf,
    Choice,
    Exact,
    Flag,
    ListOf,
    Record,
    Shape,
    ShapeError,
    Text,
    Whole,
    any_of,
)
from devstack.stripe.soundness import problems
from devstack.stripe.store import Store
from devstack.stripe.webhooks import is_loopback, signature


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("a=1&b=", {"a": "1", "b": ""}),
        ("a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        ("a[0]=x&a[1]=y", {"a": {"0": "x", "1": "y"}}),
        ("a[]=x&a[]=y", {"a": ["x", "y"]}),
        ("a%5Bb%5D=%C3%A9+%26", {"a": {"b": "é &"}}),
        ("", {}),
    ],
)
def test_forms_are_decoded(form: str, value: dict[str, Any]) -> None:
    assert decode_form(form) == value


@pytest.mark.parametrize("form", ["a=1&a[b]=2", "a[b]=2&a=1", "[x]=1", "a[]=1&a[b]=2"])
def test_forms_that_contradict_themselves_are_refused(form: str) -> None:
    with pytest.raises(StripeError):
        decode_form(form)


@given(st.text(max_size=60))
def test_any_text_is_decoded_or_refused(form: str) -> None:
    try:
        outcome: object = decode_form(form)
    except StripeError as error:
        outcome = error.status
    assert outcome == 400 or isinstance(outcome, dict)


def test_open_enums_are_closed_and_clearing_stays_possible() -> None:
    closed = any_of([Choice(("a", "b")), Text()])
    assert closed.check("a", "p", "form") == "a"
    with pytest.raises(ShapeError):
        closed.check("c", "p", "form")
    clearable = any_of([Choice(("",)), Text()])
    assert clearable.check("", "p", "form") == ""
    with pytest.raises(ShapeError) as refused:
        Text().check("", "p", "form")
    assert refused.value.code == "parameter_invalid_empty"


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (Whole(), {"0": 0, "-5": -5}, ["", "1.0", "x", "1" * 19, " 1"]),
        (Flag(), {"true": True, "false": False}, ["1", "True", ""]),
        (Exact(), {"1.5": Decimal("1.5"), "1E+2": Decimal(100)}, ["NaN", "x", "", "1e-13"]),
        (ListOf(Text()), {}, ["x"]),
    ],
)
def test_leaves(shape: Shape, good: dict[str, Any], bad: list[str]) -> None:
    for text, value in good.items():
        assert shape.check(text, "p", "form") == value
    for text in bad:
        with pytest.raises(ShapeError):
            shape.check(text, "p", "form")


def test_a_union_reports_the_fault_of_the_fitting_kind() -> None:
    union = AnyOf((Choice(("",)), Record("R", {"a": Whole()}, frozenset({"a"}))))
    assert union.check({"a": "1"}, "p", "form") == {"a": 1}
    with pytest.raises(ShapeError) as refused:
        union.check({"b": "1"}, "p", "form")
    assert refused.value.param == "p[b]"


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.transaction():
        store.put("t", "1", {"v": 1})

    def fail_late() -> None:
        with store.transaction():
            store.put("t", "1", {"v": 2})
            store.put("t", "2", {"v": 2})
            store.remove("t", "1")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail_late()
    assert store.rows("t") == [{"v": 1}]
    assert Store(tmp_path).rows("t") == [{"v": 1}]


def test_what_the_store_gives_out_is_a_copy() -> None:
    store = Store()
    with store.transaction():
        store.put("t", "1", {"v": [1]})
    taken = store.get("t", "1")
    assert taken is not None
    taken["v"].append(2)
    assert store.get("t", "1") == {"v": [1]}
    with pytest.raises(RuntimeError, match="transaction"):
        store.put("t", "1", {})


def test_a_damaged_journal_is_not_read_over(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('["t", "1"\n["t", "2", {"v": 1}]\n')
    with pytest.raises(ValueError, match="delimiter"):
        Store(tmp_path)


def test_the_clock_only_moves_forward() -> None:
    clock = VirtualClock()
    before = clock.now()
    assert clock.advance(10) >= before + 10
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)


def test_created_filters() -> None:
    assert matches_time(5, None)
    assert matches_time(5, 5)
    assert not matches_time(5, 6)
    assert matches_time(5, {"gte": 5, "lte": 5})
    assert not matches_time(5, {"gt": 5})
    assert not matches_time(5, {"lt": 5})


def test_metadata_merges_and_has_limits() -> None:
    assert merged_metadata({"a": "1", "b": "2"}, {"b": "", "c": "3"}) == {"a": "1", "c": "3"}
    assert merged_metadata({"a": "1"}, "") == {}
    for wrong in ({"k" * 41: "v"}, {"k": "v" * 501}, {str(n): "v" for n in range(51)}):
        with pytest.raises(StripeError):
            merged_metadata({}, wrong)


@given(st.integers(min_value=50, max_value=99_999_999))
def test_the_fee_is_stripes_formula_to_the_cent(amount: int) -> None:
    exact = Decimal(amount) * Decimal("0.029") + 30
    assert abs(fee_of(amount) - exact) <= Decimal("0.5")
    assert 0 < fee_of(amount) < amount


def test_every_test_card_has_a_valid_number_and_unique_names() -> None:
    names = [name for card in CARDS for name in card.names]
    assert len(names) == len(set(names))
    for card in CARDS:
        digits = [int(d) for d in reversed(card.number)]
        total = sum(d if i % 2 == 0 else sum(divmod(d * 2, 10)) for i, d in enumerate(digits))
        assert total % 10 == 0, card.number


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://127.0.0.1:80/x", True),
        ("https://localhost/", True),
        ("http://[::1]:8/", True),
        ("http://example.com/", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://127.0.0.1@example.com/", False),
        ("ftp://127.0.0.1/", False),
        ("http://10.0.0.1/", False),
        ("", False),
    ],
)
def test_only_loopback_is_loopback(url: str, good: bool) -> None:
    assert is_loopback(url) is good


def test_the_signature_is_the_one_of_the_sdk() -> None:
    from stripe import WebhookSignature

    payload = b'{"id": "evt_1"}'
    header = signature(payload, "whsec_x", 1_700_000_000)
    assert WebhookSignature.verify_header(payload.decode(), header, "whsec_x")


CHARGE = {
    "id": "ch_1",
    "status": "succeeded",
    "amount": 500,
    "amount_refunded": 0,
    "refunded": False,
    "payment_intent": "pi_1",
}
ENTRY = {
    "id": "txn_1",
    "available_on": 0,
    "source": "ch_1",
    "type": "charge",
    "amount": 500,
    "fee": 45,
    "net": 455,
}


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ({"charge": [CHARGE], "balance_transaction": [ENTRY]}, []),
        ({"balance_transaction": [ENTRY]}, ["ch_1"]),
        ({"charge": [CHARGE]}, ["ch_1"]),
        ({"charge": [CHARGE], "balance_transaction": [ENTRY | {"net": 456}]}, ["txn_1"]),
        (
            {
                "charge": [CHARGE | {"amount_refunded": 600}],
                "balance_transaction": [ENTRY],
            },
            ["ch_1"],
        ),
        (
            {
                "v2.core.account": [{"id": "acct_1"}],
                "acct_1/balance_transaction": [ENTRY | {"source": "po_1", "type": "payout"}],
            },
            ["po_1"],
        ),
        (
            {
                "credit_note": [
                    {
                        "id": "cn_1",
                        "status": "issued",
                        "invoice": "in_1",
                        "customer_balance_transaction": None,
                        "refunds": [],
                        "out_of_band_amount": 3,
                        "pre_payment_amount": 0,
                        "post_payment_amount": 4,
                    }
                ]
            },
            ["cn_1"],
        ),
    ],
)
def test_money_that_does_not_add_up_is_named(rows: dict[str, Any], named: list[str]) -> None:
    store = Store()
    with store.transaction():
        for table, objects in rows.items():
            for row in objects:
                store.put(table, row["id"], row)
    found = problems(Simulator(store, VirtualClock()))
    assert [line.split(":")[0] for line in found] == named
