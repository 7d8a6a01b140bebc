"""What the platform itself measured of a rental, as series over time.

Figures from inside the machine (GPU, memory, disk) need a reporter in the pod, which this version
does not have: they are null, never zero.
"""

from __future__ import annotations

from typing import Any, Final

from billing import facade as billing
from kernel.ids import public
from kernel.text import rfc3339
from marketplace.models import Rental, RentalEvent
from provisioner import facade as provisioner
from provisioner.contracts import ReadyView

_NOT_MEASURED: Final = (
    "gpu_utilization",
    "gpu_memory_used_mib",
    "gpu_temperature_c",
    "memory_used_mib",
    "disk_used_gib",
)


def series(rental: Rental) -> dict[str, Any]:
    """States, proven-ready stretches and restarts, with their totals."""
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
            **dict.fromkeys(_NOT_MEASURED),
        },
    }


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
