"""Which fee holds: the most specific rule, and of two alike the later one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kernel.ids import new_id
from marketplace.catalog.fees import FeeTable
from marketplace.models import FeeChange, Provider

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
H100 = "nvidia-h100-80gb-sxm"
PLAIN, AGREED = Provider(id=new_id()), Provider(id=new_id(), fee_bps=900)


@pytest.fixture(autouse=True)
def base(settings: Any) -> None:
    settings.GPUYARD_FEE_BPS = 1500


def change(bps: int, card: str = "", owner: Provider | None = None, day: int = 0) -> FeeChange:
    at = JANUARY + timedelta(days=day)
    return FeeChange(
        id=new_id(), provider=owner, accelerator=card, fee_bps=bps, valid_from=at, reason="x"
    )


RULES = [
    change(1400),
    change(1300, "nvidia"),
    change(1200, H100),
    change(1100, owner=PLAIN),
    change(1000, "nvidia", PLAIN),
    change(800, H100, PLAIN),
]


@pytest.mark.parametrize(
    ("count", "fee"), list(enumerate((1500, 1400, 1300, 1200, 1100, 1000, 800)))
)
def test_each_rule_goes_before_those_more_general(count: int, fee: int) -> None:
    for rows in (RULES[:count], RULES[:count][::-1]):
        assert FeeTable(rows).of(PLAIN, H100, JANUARY) == fee


def test_an_agreement_goes_before_what_everybody_pays_and_behind_its_owners_changes() -> None:
    table = FeeTable([*RULES, change(700, owner=AGREED, day=5)])
    assert table.of(AGREED, H100, JANUARY) == 900
    assert table.of(AGREED, H100, JANUARY + timedelta(days=5)) == 700
    assert table.rule(AGREED, H100, JANUARY) is None


def test_of_two_alike_the_later_holds_and_none_before_its_time() -> None:
    table = FeeTable([change(1200, day=2), change(1000, day=1)])
    fees = [table.of(None, H100, JANUARY + timedelta(days=day)) for day in range(3)]
    assert fees == [1500, 1000, 1200]
    assert table.of(None, H100, JANUARY + timedelta(days=2, microseconds=-1)) == 1000


def test_a_vendors_rule_is_not_for_anothers_cards() -> None:
    assert FeeTable(RULES).of(None, "ascend-910b", JANUARY) == 1400


def test_the_outlook_names_each_change_once() -> None:
    table = FeeTable([change(1200, day=3), change(1000, H100, day=5), change(1000, H100, day=7)])
    seen = table.outlook(PLAIN, JANUARY)
    assert (seen.bps, seen.cards) == (1500, {})
    coming = [
        (one.accelerator, one.from_bps, one.to_bps, one.valid_from.day) for one in seen.coming
    ]
    assert coming == [
        ("", 1500, 1200, 4),
        (H100, 1200, 1000, 6),
    ]  # fmt: skip
    later = table.outlook(PLAIN, JANUARY + timedelta(days=6))
    assert (later.bps, later.cards, later.coming) == (1200, {H100: 1000}, ())
