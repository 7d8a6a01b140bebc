"""How a moment reads: of what is near the time matters, of what is far the day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from marketplace.http.portal.tags import MISSING, when

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("apart", "figure", "note"),
    [
        (timedelta(hours=2), "minute", "day"),
        (timedelta(hours=-23), "minute", "day"),
        (timedelta(hours=24), "day", "minute"),
        (timedelta(days=300), "day", "minute"),
        (timedelta(days=-3), "day", "minute"),
    ],
)
def test_the_figure_is_what_matters_at_that_distance(
    apart: timedelta, figure: str, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOON)
    moment = NOON + apart
    assert f'data-shape="{figure}"' in when(moment, "figure")
    assert f'data-shape="{note}"' in when(moment, "note")


def test_a_shape_is_taken_as_it_is_and_no_time_is_a_dash() -> None:
    assert when(NOON, "day") == (
        '<time datetime="2026-11-29T12:00:00Z" data-shape="day"'
        ' title="2026-11-29 12:00:00 UTC">29 Nov 2026</time>'
    )
    assert (when(None, "figure"), when("soon", "note")) == (MISSING, MISSING)
