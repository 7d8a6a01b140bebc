"""What a stop means for data on volumes and for the next start. PURE: figures in, sentence out.

A forecast, not a promise: cards that are free now may be taken later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KEPT, NOT_KEPT = "kept", "not_kept"
SAME_NODE, SAME_CLUSTER, SAME_DATACENTER = "same_node", "same_cluster", "same_datacenter"

_WHERE: Final = {
    SAME_NODE: "Volumes are kept, on the disks of one machine; the rest of the disk is not. It can "
    "be started again on that machine only",
    SAME_CLUSTER: "Volumes are kept; the rest of the disk is not. It can be started again in the "
    "cluster that holds them",
}


@dataclass(frozen=True)
class Forecast:
    """Where a start is bound to, whether it would find cards at once, and both in a sentence."""

    where: str
    starts_now: bool
    text: str


def forecast(where: str, *, gpus: int, block: int) -> Forecast:
    """For a rental of ``gpus`` cards with volumes, bound to ``where``: SAME_NODE or SAME_CLUSTER.

    ``block``: free cards of its kind there, on the machine that has most of them.
    """
    enough = block >= gpus
    free = f"{block or 'no'} card{' is' if block == 1 else 's are'} free together there now"
    now = "which is enough" if enough else f"and it needs {gpus}: it would have to wait"
    return Forecast(where, enough, f"{_WHERE[where]}; {free}, {now}.")


def stranded() -> Forecast:
    """For a rental whose volumes cannot be mounted any more: no cards anywhere would help."""
    return Forecast(
        SAME_CLUSTER,
        False,
        "It cannot be started again as it was: a volume of it is lost or deleted, or its volumes "
        "cannot be mounted together any more.",
    )
