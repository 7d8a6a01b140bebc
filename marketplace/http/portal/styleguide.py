"""The style guide: every token and component on one public page."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.urls import path

from kernel.clock import now
from kernel.errors import Refusal
from marketplace.accounts.access import Principal
from marketplace.http.portal import words
from marketplace.http.portal.base import page, show
from marketplace.http.portal.forms import TopUpForm

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
        "colours": _COLOURS,
        "sizes": _SIZES,
        "kinds": [(kind, list(states)) for kind, states in words.KINDS.items()],
        "form": TopUpForm(),
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


urls = [path("styleguide", styleguide)]
