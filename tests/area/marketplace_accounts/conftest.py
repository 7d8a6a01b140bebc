"""Fixtures for people who call the API. The rate limiter forgets between tests."""

from __future__ import annotations

import pytest

from marketplace.http import ratelimit
from tests.area.marketplace_accounts import people


@pytest.fixture(autouse=True)
def fresh_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets())


@pytest.fixture
def anyone(db: None) -> people.Api:
    return people.anonymous()


@pytest.fixture
def owner(db: None) -> people.Api:
    return people.owner()


@pytest.fixture
def staff(db: None) -> people.Api:
    return people.api_of(people.staff())
