"""Free cards that lie too thin for the orders that come, and counts of orders in vain."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from marketplace.rentals.capacity import scattered
from marketplace.rentals.unmet import Shape, Tally
from provisioner.contracts.desk import StockView

NOBODY = UUID(int=0)
HOUR = datetime(2026, 11, 1, 12, tzinfo=UTC)


def group(blocks: dict[int, int], largest_node: int = 8) -> StockView:
    free = sum(size * count for size, count in blocks.items())
    return StockView(
        *(NOBODY, NOBODY, NOBODY, "card", free, 0, 0, 0, 0, 0),
        largest_node=largest_node,
        blocks=blocks,
    )


@pytest.mark.parametrize(
    ("blocks", "largest_node", "largest_order", "expected"),
    [
        ({}, 8, 8, None),  # nothing is free: nothing is scattered
        ({8: 2}, 8, 8, "0"),
        ({8: 1, 4: 2}, 8, 8, "0.5"),
        ({1: 4}, 8, 1, "0"),  # all that is ordered is single cards
        ({4: 2}, 4, 8, "0"),  # no node is as large as the order: whole nodes are not scattered
        ({4: 1, 3: 1}, 4, 64, "0.4285"),
    ],
)
def test_scattered(
    blocks: dict[int, int], largest_node: int, largest_order: int, expected: str | None
) -> None:
    found = scattered([group(blocks, largest_node)], largest_order)
    assert found == (None if expected is None else Decimal(expected))


def test_groups_with_smaller_nodes_count_by_their_own_size() -> None:
    assert scattered([group({8: 1}), group({2: 4}, 2)], 8) == 0
    assert scattered([group({4: 2}), group({2: 4}, 2)], 8) == Decimal("0.5")


def shape(number: int = 1) -> Shape:
    return Shape(HOUR, "no_capacity", f"card-{number}", "eu", 8)


def test_a_storm_is_written_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("marketplace.rentals.unmet.time.monotonic", lambda: clock[0])
    tally = Tally()
    assert tally.add(shape()) == {shape(): 1}, "the first is seen at once"
    for _ in range(1000):
        assert tally.add(shape()) == {}
    clock[0] += 1.0
    assert tally.add(shape(2)) == {shape(): 1000, shape(2): 1}
    clock[0] += 1.0
    tally.give_back({shape(): 5})
    assert tally.add(shape()) == {shape(): 6}, "what could not be written is not lost"


def test_memory_is_bounded_whatever_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("marketplace.rentals.unmet.time.monotonic", lambda: clock[0])
    tally = Tally()
    tally.add(shape())
    for number in range(10_000):
        tally.add(shape(number))
    clock[0] += 1.0
    found = tally.add(shape())
    assert len(found) <= 202
    assert sum(found.values()) == 10_001
