"""One world for all tests of this folder; each schedule undoes what it did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulation.runner import Runner, ready


@pytest.fixture(scope="module")
def runner(django_db_setup: None, django_db_blocker: Any) -> Iterator[Runner]:
    """A runner in the test database, which it leaves as it was."""
    with django_db_blocker.unblock(), ready() as made:
        yield made
