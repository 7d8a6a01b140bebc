"""Which parts of a charged window lie between looks that came late, or between none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from provisioner.contracts.evidence import Gap
from provisioner.instances.evidence import gaps_between

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


@pytest.mark.parametrize(
    ("proofs", "gaps"),
    [
        ([0, 30, 60, 90, 100], []),
        ([-10, 20, 50, 80, 110], []),
        ([0, 31, 60, 90, 100], [(0, 31, True)]),
        ([0, 30, 90, 100], [(30, 90, True)]),
        ([0, 30, 91, 100], [(30, 91, False)]),
        ([-40, 30, 60, 90, 120], [(0, 30, False)]),
        ([-25, 15, 45, 75, 105], [(0, 15, True)]),
        ([10, 40, 70, 100], [(0, 10, False)]),
        ([0, 30, 60], [(60, 100, False)]),
        ([], [(0, 100, False)]),
    ],
)
def test_gaps_are_the_parts_of_the_window_between_late_looks(
    proofs: list[int], gaps: list[tuple[int, int, bool]]
) -> None:
    found = gaps_between(map(at, proofs), at(0), at(100))
    assert found == [Gap(at(begins), at(ends), bridged) for begins, ends, bridged in gaps]
