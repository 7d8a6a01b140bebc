"""The style guide: every token and component on one public page."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import sin
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.urls import path

from kernel.clock import now
from kernel.errors import Refusal
from marketplace.accounts.access import Principal
from marketplace.http.portal import words
from marketplace.http.portal.base import page, show
from marketplace.http.portal.charts import Chart, Line
from marketplace.http.portal.forms import TopUpForm
from marketplace.http.portal.pages import Pages

_COLOURS: Final = (
    "paper", "surface", "sunken", "line", "ink", "ink-2", "ink-3", "accent",
    "good", "wait", "bad", "info",
)  # fmt: skip
_SIZES: Final = ("2xl", "xl", "l", "m", "s", "xs")
_STEPS: Final = (
    (60, "provisioning", "none", "Cards are reserved; the machine is being created."),
    (45, "unreachable", "platform", "We cannot reach the data centre. The meter stands."),
    (20, "starting", "none", "The container is up; checks are running and this is free."),
)


@page(public=True)
def styleguide(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    present = now()
    refusal = Refusal(
        "insufficient_funds",
        "One hour of this rental must be held first, and your balance is too small.",
        needed="2.5800",
        available="1.0200",
    )
    context = {
        "charts": _charts(present),
        "colours": _COLOURS,
        "sizes": _SIZES,
        "kinds": [(kind, list(states)) for kind, states in words.KINDS.items()],
        "form": TopUpForm(),
        "pages": Pages(2, 50, 200),
        "refusal": refusal,
        "events": [
            {
                "at": present - timedelta(seconds=ago),
                "state": state,
                "label": words.word("rental", state).label,
                "text": text,
                "fault": fault,
            }
            for ago, state, fault, text in _STEPS
        ],
    }
    return show(request, principal, "portal/styleguide.html", context)


def _charts(present: datetime) -> list[Chart]:
    """One of each kind, with a gap where nothing was measured."""
    minutes = [present - timedelta(minutes=5 * n) for n in range(24, -1, -1)]
    wave = [round(55 + 40 * sin(n / 3), 1) for n in range(25)]
    silent = [None if 9 < n < 14 else value / 2 for n, value in enumerate(wave)]
    first = present.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [first - timedelta(days=n) for n in range(13, -1, -1)]
    return [
        Chart(
            "sample-line", "GPU use", minutes, [Line("GPU 0", wave), Line("GPU 1", silent)],
            unit="%", most=100, note="a gap where it was silent",
        ),
        Chart(
            "sample-bars", "Earned per day", days, [Line("Earned", [n * 1.25 for n in range(14)])],
            unit="$", kind="bars", daily=True,
        ),
        Chart(
            "sample-steps", "Price", days, [Line("Lowest", [2 + n // 5 * 0.25 for n in range(14)])],
            unit="$/h", kind="steps", daily=True,
        ),
        Chart("sample-empty", "Memory", [present], [Line("GPU 0", [None])], unit="GiB"),
    ]  # fmt: skip


urls = [path("styleguide", styleguide)]
