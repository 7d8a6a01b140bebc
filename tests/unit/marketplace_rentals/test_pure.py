"""The pure parts: queries, prices, needs, states."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidRequest, Refusal
from marketplace.catalog.needs import Has, unmet, whole_gib
from marketplace.catalog.price import components, disk_price, order_price
from marketplace.catalog.query import (
    OfferQuery,
    Vocabulary,
    cuda_x100,
    parse,
    parse_requirement,
)
from marketplace.models import Rental
from marketplace.rentals import reasons, state

WORDS = Vocabulary({"nvidia-l4", "ascend-910b"}, {"nvidia", "huawei"}, {"nvlink"})


@given(price=st.integers(1, 10**9), gpus=st.integers(1, 4096), fee=st.integers(0, 10_000))
def test_renter_price_is_share_plus_fee(price, gpus, fee):
    made = order_price(per_gpu_micro_h=price, gpus=gpus, fee_bps=fee, owned=False)
    assert made.total_micro_h == price * gpus
    assert 0 <= made.provider_micro_h <= made.total_micro_h
    kept = made.total_micro_h - made.provider_micro_h
    assert 0 <= kept * 10_000 - made.total_micro_h * fee < 10_000  # the fee, rounded up by < 1


def test_owned_cards_pay_nothing_away():
    made = order_price(per_gpu_micro_h=2_000_000, gpus=3, fee_bps=1500, owned=True)
    assert (made.total_micro_h, made.provider_micro_h) == (6_000_000, 0)


def test_components_sum_to_the_total():
    made = order_price(per_gpu_micro_h=650_001, gpus=3, fee_bps=1500, owned=False)
    lines = components(made, disk_gib=50)
    assert sum(Decimal(line["per_hour"]) for line in lines) == Decimal("1.950003")
    assert [line["kind"] for line in lines] == ["gpu", "disk", "volume", "traffic"]
    lines = components(made, disk_gib=50, volume_gib=73, micro_gib_month=100_009)
    assert sum(Decimal(line["per_hour"]) for line in lines) == Decimal("1.960003")


@given(price=st.integers(0, 10**8), gib=st.integers(1, 65536), fee=st.integers(0, 10_000))
def test_a_disk_costs_its_gib_by_the_month_of_730_hours_rounded_down_once(price, gib, fee):
    made = disk_price(micro_gib_month=price, gib=gib, share_bps=10_000 - fee)
    assert 0 <= price * gib - made.total_micro_h * 730 < 730
    kept = made.total_micro_h - made.provider_micro_h
    assert 0 <= kept * 10_000 - made.total_micro_h * fee < 10_000  # as for cards


@given(st.dictionaries(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=3)))
def test_any_query_string_is_understood_or_refused_by_name(params):
    refusal, query = None, OfferQuery()
    try:
        query = parse(params, WORDS)
    except Refusal as error:
        refusal = error
    if refusal is None:
        assert set(query.asked()) | {"order"} >= {name for name, values in params.items() if values}
    else:
        assert refusal.slug in ("unknown_filter", "invalid_filter")
        assert refusal.extra["filter"] in {name[:60] for name in params}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["accelerator", "gpus", "max_price", "min_cuda", "region", "x"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_requirement_is_understood_or_refused_per_field(body):
    refusal, query = None, OfferQuery()
    try:
        query = parse_requirement(body, WORDS)
    except InvalidRequest as error:
        refusal = error
    assert query.gpus is not None if refusal is None else refusal.extra["errors"]


def test_a_requirement_takes_numbers_and_texts_alike():
    asked = {"accelerator": "nvidia-l4", "gpus": 2, "min_ram_gib": 64.5, "max_price": "0.65"}
    query = parse_requirement(asked, WORDS)
    assert query == OfferQuery(
        accelerator=("nvidia-l4",), gpus=2, min_ram_gib=Decimal("64.5"), max_price=650_000
    )
    assert query == parse({name: [str(value)] for name, value in asked.items()}, WORDS)


def test_card_memory_is_named_as_it_is_sold():
    assert [whole_gib(mib) for mib in (81559, 81920, 24564, 32768, 6144)] == [80, 80, 24, 32, 6]


def test_cuda_versions_sort():
    assert cuda_x100("9.9") < cuda_x100("12.0") < cuda_x100("12.4") == 1240


@pytest.mark.parametrize(
    ("needs", "missing"),
    [
        ({}, []),
        ({"vendor": ["nvidia"], "toolkit": "cuda"}, []),
        ({"vendor": ["amd", "huawei"]}, ["vendor"]),
        ({"toolkit": "cann", "min_memory_gib": 25}, ["toolkit", "min_memory_gib"]),
        ({"min_memory_gib": 24, "min_cuda": "12.4"}, []),
        ({"min_cuda": "12.6"}, ["min_cuda"]),
    ],
)
def test_needs(needs, missing):
    assert unmet(needs, Has("nvidia", "cuda", 24564, 1240)) == missing


def test_unknown_cuda_meets_no_need():
    assert unmet({"min_cuda": "11.0"}, Has("nvidia", "cuda", 24564, 0)) == ["min_cuda"]


MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_state_table_is_whole():
    assert set(Rental.State.values) == state.STATES
    assert all(targets <= state.STATES for targets in state.MOVES.values())
    for source in state.STATES - {state.TERMINATED, state.TERMINATING}:
        assert state.may_move(source, state.TERMINATING), source
        assert "terminate" in state.actions(source)
    assert state.MOVES[state.TERMINATED] == frozenset()
    assert state.actions(state.TERMINATED) == state.actions(state.TERMINATING) == []
    for source in state.HOLDS_CARDS - {state.TERMINATING, state.STOPPING}:
        assert state.TERMINATED not in state.MOVES[source], source  # absence is observed first


def test_reasons_are_whole():
    for code, row in reasons.REASONS.items():
        assert row.code == code
        assert row.fault in {"renter", "host", "platform", "funds", "none"}
        assert row.retry in {"no", "other_host", "same_host", "later"}
        assert row.text.endswith(".")
        actor = reasons.actor_of(code, row.fault)
        assert actor in {"renter", "platform", "host", "funds", "admin"}
    assert reasons.actor_of("terminated_by_user", "none") == "renter"
    assert reasons.actor_of("funds", "funds") == "funds"
