"""The whole stack, and a browser to look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browsers import browser, page, pytest_runtest_makereport  # noqa: F401
from tests.whole_stack import World, running


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """All processes on real parts, two providers on sale, people with money."""
    with running() as found:
        yield found
