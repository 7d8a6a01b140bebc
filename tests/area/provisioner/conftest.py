"""A yard of supply and a cluster in memory for the provisioner's own tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.yard import at_time


@pytest.fixture
def cluster() -> MemoryCluster:
    """What the loops talk to instead of an API server."""
    return MemoryCluster()


@pytest.fixture
def set_clock(db: None) -> Iterator[object]:
    """Set the platform's clock by text; real again afterwards."""
    yield at_time
    at_time(None)
