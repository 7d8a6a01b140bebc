"""What a rental's machine did, as charts: cards, their memory and heat, and the machine's disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _

from kernel.clock import now
from kernel.errors import Refusal
from marketplace.accounts.access import Principal
from marketplace.http.portal import words
from marketplace.http.portal.base import is_htmx, page, piece, show
from marketplace.http.portal.charts import Chart, Line, Unit
from marketplace.models import Rental
from marketplace.rentals import metrics, read

# Figures are kept for thirty days; what somebody watches is the last hour.
SPANS: Final[dict[str, tuple[words.Text, timedelta]]] = {
    "1h": (_("1 hour"), timedelta(hours=1)),
    "6h": (_("6 hours"), timedelta(hours=6)),
    "24h": (_("24 hours"), timedelta(hours=24)),
    "7d": (_("7 days"), timedelta(days=7)),
}
_FIRST: Final = "1h"
_GIB: Final = 2**30
# A reporter tells every 15 s and a chart of an hour has a point per minute or so.
_AGAIN_S: Final = 30


def panel_of(rental: Rental, span: str = _FIRST) -> dict[str, Any]:
    """What the panel's template needs; without charts where the machine told nothing of itself."""
    over = rental.ended_at
    until = over or now()
    found = metrics.reported(rental, since=until - SPANS[span][1], until=until)
    series = {(row["metric"], row["device"]): row["values"] for row in found["series"]}
    return {
        "ran": rental.ready_at is not None,
        "charts": [chart for chart in _charts(series) if not chart.is_empty],
        "span": span,
        "spans": [(name, label) for name, (label, _span) in SPANS.items()],
        "again": None if over else _AGAIN_S,
    }


Values = dict[tuple[str, int | None], list[list[float | None]]]


def _charts(series: Values) -> list[Chart]:
    """The charts there are figures for. A line per card; totals are the upper end of the scale."""

    def chart(
        ident: str,
        title: words.Text,
        metric: str,
        *,
        unit: Unit,
        scale: float = 1.0,
        most: float | None = None,
    ) -> Chart:
        found = {device: values for (name, device), values in series.items() if name == metric}
        at = [_moment(place) for place, _value in next(iter(found.values()), [])]
        lines = [
            Line(_name(device), [_scaled(value, scale) for _place, value in values])
            for device, values in sorted(found.items(), key=lambda each: each[0] or 0)
        ]
        return Chart(ident, title, at, lines, unit=unit, most=most)

    def top(metric: str) -> float | None:
        known = [
            value
            for (name, _device), values in series.items()
            if name == metric
            for _place, value in values
            if value is not None
        ]
        return round(max(known) / _GIB, 1) if known else None

    return [
        chart("chart-gpu", _("GPU use"), "gpu_percent", unit="%", most=100.0),
        chart(
            "chart-memory", _("GPU memory"), "memory_used_bytes",
            unit="GiB", scale=_GIB, most=top("memory_total_bytes"),
        ),
        chart("chart-heat", _("Temperature"), "temperature_c", unit="°C"),
        chart(
            "chart-disk", _("Disk"), "disk_used_bytes",
            unit="GiB", scale=_GIB, most=top("disk_total_bytes"),
        ),
    ]  # fmt: skip


def _name(device: int | None) -> words.Text:
    return _("Used") if device is None else f"GPU {device}"


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else round(value / scale, 3)


def _moment(place: float | None) -> datetime:
    return datetime.fromtimestamp(place or 0, UTC)


@page(scope="rentals:read")
def charts_page(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """The panel for another span, or as it stands now."""
    found = read.get(principal, rental)
    span = request.GET.get("span", _FIRST)
    if span not in SPANS:
        raise Refusal(
            "invalid_filter", f"The charts show {', '.join(SPANS)}, the last of it.", filter="span"
        )
    context = {
        "rental": {"id": found.public_id, "name": found.name},
        "panel": panel_of(found, span),
    }
    if is_htmx(request):
        return piece(request, "portal/rental/charts.html", context)
    return show(request, principal, "portal/rental/charts_page.html", context)


urls = [path("rentals/<str:rental>/charts", charts_page)]
