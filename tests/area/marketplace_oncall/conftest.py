"""Who is on call, and switches that no test leaves behind in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from marketplace.accounts import switches
from marketplace.http import ratelimit
from tests.area.marketplace_accounts import people


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rows of a test are rolled back; what the process read of them must go with them."""
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets())
    switches.forget()
    yield
    switches.forget()


@pytest.fixture
def staff(db: None) -> people.Api:
    return people.api_of(people.staff())
