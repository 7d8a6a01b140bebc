"""Supply, a platform and a renter at noon."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.flows.stage import NOON, Platform
from tests.market import Renter, Supply, make_renter, make_supply


@pytest.fixture
def supply(db: None) -> Supply:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [NOON.isoformat()])
    return make_supply(4)


@pytest.fixture
def platform(supply: Supply) -> Platform:
    return Platform(supply)


@pytest.fixture
def renter(supply: Supply) -> Renter:
    return make_renter()
