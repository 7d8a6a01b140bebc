"""A rental over time: what the platform measured of it, and what its machines told of themselves.

The first (states, proven and charged seconds, restarts) is what is charged by. The second comes
from the reporter in the pod, where the tenant is root: to look at, never to charge by. A gap in it
is null, never zero.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from billing import facade as billing
from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import public
from kernel.text import rfc3339
from marketplace.models import Rental, RentalEvent
from provisioner import facade as provisioner
from provisioner.contracts import ReadyView
from provisioner.contracts.reports import Series
from provisioner.facade import reports

# What is shown when nobody says since when: the run that somebody watches.
_SHOWN: Final = timedelta(hours=1)
# Older figures are forgotten: asking for them gives the month that there is.
_KEPT: Final = timedelta(days=30)


def series(
    rental: Rental,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    step: int | None = None,
) -> dict[str, Any]:
    """States, proven-ready stretches and restarts of its whole life, with their totals; what its
    machines reported in [since, until), by default the last hour. Raises Refusal invalid_filter."""
    ready = provisioner.ready_intervals(rental_ref=rental.id)
    restarts = provisioner.restarts(rental_ref=rental.id)
    charges = billing.charges(rental_ref=rental.id)
    states = RentalEvent.objects.filter(rental=rental).order_by("seq").values_list("at", "state")
    return {
        "rental": rental.public_id,
        "totals": {
            "ready_seconds": sum(_seconds(stretch) for stretch in ready),
            "charged_seconds": sum(charge.seconds for charge in charges),
            "restarts": sum(restarts.values()) if restarts else None,
        },
        "series": {
            "state": _changes(list(states)),
            "ready": [_stretch(stretch) for stretch in ready],
            "charged": [
                {"from": rfc3339(c.from_at), "to": rfc3339(c.to_at), "seconds": c.seconds}
                for c in charges
            ],
            "restarts": [
                {"instance": public("instance", key), "value": count}
                for key, count in sorted(restarts.items())
            ],
        },
        "reported": reported(rental, since=since, until=until, step=step),
    }


def reported(
    rental: Rental,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    step: int | None = None,
) -> dict[str, Any]:
    """The machines' own figures as series of [Unix time, value], one per metric and device."""
    at = now()
    oldest = at - _KEPT
    last = at if until is None else min(until, at)
    # Never before the oldest: a year 1 that came in cannot be reckoned with.
    first = max(oldest, max(last, oldest + _SHOWN) - _SHOWN if since is None else since)
    if first >= last:
        raise Refusal(
            "invalid_filter",
            'The filter "since" must lie before until and now, and until in the last 30 days.',
            filter="since",
        )
    found = reports.series(rental_ref=rental.id, since=first, until=last, step=step)
    begin = int(found.since.timestamp())
    return {
        "since": rfc3339(found.since),
        "until": rfc3339(found.until),
        "step": found.step,
        "series": [
            {
                "metric": name,
                "device": device,
                "device_id": _device_id(found, device),
                "values": [[begin + n * found.step, value] for n, value in enumerate(values)],
            }
            for (name, device), values in found.values.items()
        ],
    }


def _device_id(found: Series, device: int | None) -> str | None:
    known = device is not None and device < len(found.device_ids)
    return found.device_ids[device] if known and device is not None else None


def _changes(states: list[tuple[Any, str]]) -> list[dict[str, Any]]:
    """Points where the state became another one; events in the same state are no points."""
    found: list[dict[str, Any]] = []
    for at, state in states:
        if not found or found[-1]["value"] != state:
            found.append({"at": rfc3339(at), "value": state})
    return found


def _stretch(stretch: ReadyView) -> dict[str, Any]:
    return {
        "instance": public("instance", stretch.instance_id),
        "from": rfc3339(stretch.from_at),
        "to": rfc3339(stretch.to_at),
        "proven_to": rfc3339(stretch.proven_to),
        "seconds": _seconds(stretch),
    }


def _seconds(stretch: ReadyView) -> int:
    return max(0, int((stretch.proven_to - stretch.from_at).total_seconds()))
