"""A cluster that hangs delays nobody's launch elsewhere: the short form of bench/dark_cluster.py.

The tenth that is allowed cannot be told from noise in a few launches beside other tests, so the
bound here is what a hang costs when it does reach others: half of a call's whole deadline.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.kube.sim.stack import Pace, SimStack
from devstack.state import State
from provisioner.kube.client import CALL_SECONDS
from tests.faults.storm import processes
from tests.faults.storm.launches import compare
from tests.market import USD, make_renter
from tests.sites import Site, on_sale

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        "ROUNDS" not in os.environ, reason="part of make torture: a minute of launches"
    ),
]

NAMES = ("near", "partner")
FLEET: list[dict[str, Any]] = [
    {"card": "h100-sxm", "nodes": 12, "cards": 8, "cpu": 192, "memory_gib": 2048, "disk_gib": 28000}
]


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    with State.temporary("dark") as state:
        stack = SimStack(
            state.path / "kube",
            names=NAMES,
            fleets=dict.fromkeys(NAMES, FLEET),
            pace=Pace(heartbeat_s=10.0),
            control=False,
        )
        stack.start()
        try:
            yield on_sale(stack, make_renter("Owner", credit=0))
        finally:
            stack.stop()


def test_a_cluster_that_hangs_delays_no_launch_elsewhere(
    sites: list[Site], database_url: str, tmp_path: Path
) -> None:
    renter = make_renter("Renter", credit=10_000 * USD)
    quick = [*processes.LOOPS, "0.05"]
    with processes.running(database_url, tmp_path, sites, workers=[quick] * 2) as children:
        figures = compare(renter, sites, pairs=1, seconds=15)
        assert not children.ended()
    healthy, cut_off = figures.medians()
    print(f"\nmedian launch {healthy:.3f} s, beside a cluster that hangs {cut_off:.3f} s")
    assert cut_off - healthy < CALL_SECONDS / 2
