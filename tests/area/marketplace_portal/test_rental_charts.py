"""The charts of a rental: what its machine told, gaps as gaps, nothing where it told nothing."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

from kernel.clock import now
from marketplace.models import Rental
from provisioner.models import Instance, MetricSample, Reporter
from tests import market
from tests.area.marketplace_portal.test_rent import rented
from tests.area.marketplace_portal.visitors import Visitor

GIB = 2**30


def told(rental: Rental, minutes: int, *, silent: range = range(0)) -> None:
    """A reporter that told four times a minute of one card, but not in ``silent`` minutes ago."""
    instance = Instance.objects.get(rental_ref=rental.id)
    at = now()
    Rental.objects.filter(pk=rental.pk).update(
        created_at=at - timedelta(hours=2), ready_at=at - timedelta(hours=2)
    )
    reporter = Reporter.objects.create(
        instance=instance, reported_at=at, pod_at=at, device_ids=["GPU-0123456789abcdef"]
    )
    MetricSample.objects.bulk_create(
        MetricSample(
            reporter=reporter,
            seconds=15,
            at=at - timedelta(seconds=15 * n),
            gpu_percent=[50.0],
            memory_used_bytes=[40 * GIB],
            memory_total_bytes=[80 * GIB],
            temperature_c=[61.0],
            disk_used_bytes=10 * GIB,
            disk_total_bytes=50 * GIB,
        )
        for n in range(1, minutes * 4)
        if n // 4 not in silent
    )


def figures(text: str, chart: str) -> dict[str, Any]:
    found = re.search(rf'id="{chart}".*?<script type="application/json">(.*?)</script>', text, re.S)
    assert found, f"no {chart}"
    return dict(json.loads(found[1]))


def test_each_figure_is_a_chart_with_its_scale(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    told(rental, 30)
    page = renter.get(f"/rentals/{rental.public_id}")
    use, memory = figures(page.text, "chart-gpu"), figures(page.text, "chart-memory")
    assert use["unit"] == "%"
    assert use["most"] == 100
    assert {value for value in use["lines"][0]["values"] if value is not None} == {50.0}
    assert use["lines"][0]["label"] == "GPU 0"
    assert memory["most"] == 80
    assert {value for value in memory["lines"][0]["values"] if value is not None} == {40.0}
    assert figures(page.text, "chart-disk")["most"] == 50
    assert "61 °C" in page.text, "the table says the same without a script"
    assert "every 30s" in page.text


def test_silence_is_a_gap(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    told(rental, 30, silent=range(10, 20))
    values = figures(renter.get(f"/rentals/{rental.public_id}").text, "chart-gpu")["lines"][0][
        "values"
    ]
    first = next(n for n, value in enumerate(values) if value is not None)
    assert None in values[first:], "ten silent minutes must not be bridged"
    assert 0 not in values


def test_a_machine_that_told_nothing_has_no_charts(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    page = renter.get(f"/rentals/{rental.public_id}")
    assert re.search(r'id="rental-machine" class="panel" hidden', page.text)
    Rental.objects.update(ready_at=now())
    page = renter.get(f"/rentals/{rental.public_id}/charts?span=24h")
    assert "has told nothing" in page.text
    assert renter.get(f"/rentals/{rental.public_id}/charts?span=1y").status_code == 400
