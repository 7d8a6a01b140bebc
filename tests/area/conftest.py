"""What holds for all tests of an area."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from marketplace.accounts import switches

# For which the product keeps them in mind.
KEPT_S = switches.CACHED_S


@pytest.fixture(autouse=True)
def _switches_are_read_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process reads the switches anew every two seconds: whoever counts statements would count
    how busy the machine is. Each test begins with none in mind."""
    monkeypatch.setattr(switches, "CACHED_S", 3600.0)
    switches.forget()
    yield
    switches.forget()
