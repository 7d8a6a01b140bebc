"""A market and people with browsers. The rate limiter forgets between tests."""

from __future__ import annotations

import pytest

from marketplace.catalog.templates import load_curated
from marketplace.http import ratelimit
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, visitor_of


@pytest.fixture(autouse=True)
def fresh_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets())


@pytest.fixture
def supply(transactional_db: None) -> market.Supply:
    """Two machines with H100 cards on sale at 2 USD, and the curated templates."""
    load_curated()
    return market.make_supply(4, 2)


@pytest.fixture
def stranger(transactional_db: None) -> Visitor:
    return Visitor()


@pytest.fixture
def renter(supply: market.Supply) -> Visitor:
    """An owner of an organization with credit, signed in."""
    return visitor_of(market.make_renter())


@pytest.fixture
def provider(supply: market.Supply) -> Visitor:
    """The owner of the supply, signed in."""
    return visitor_of(supply.owner)
