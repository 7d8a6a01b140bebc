"""What a stop means for data and for the next start. PURE: figures in, sentence out.

A forecast, not a promise: cards that are free now may be taken later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEPT, NOT_KEPT = "kept", "not_kept"
SAME_NODE, SAME_CLUSTER, ANYWHERE = "same_node", "same_cluster", "anywhere"


@dataclass(frozen=True)
class Free:
    """Free cards of the rental's kind: on the node of its data, in its cluster, anywhere."""

    on_node: int = 0
    in_cluster: int = 0
    anywhere: int = 0


def forecast(domain: str | None, *, gpus: int, free: Free) -> tuple[str, dict[str, Any]]:
    """(sentence, {"data", "where", "free_now"}) for a rental of ``gpus`` cards.

    ``domain``: of its volumes ("node" or "cluster"; the narrower one if there are both), None when
    it has none. ``free`` counts are of cards that a start could use at once.
    """
    if domain == "node":
        return _shown(
            KEPT,
            SAME_NODE,
            free.on_node,
            gpus,
            "Volumes are kept, on the disks of one machine; the rest of the disk is not. It can be "
            "started again on that machine only",
        )
    if domain == "cluster":
        return _shown(
            KEPT,
            SAME_CLUSTER,
            free.in_cluster,
            gpus,
            "Volumes are kept; the rest of the disk is not. It can be started again in the same "
            "data centre",
        )
    return _shown(
        NOT_KEPT,
        ANYWHERE,
        free.anywhere,
        gpus,
        "It has no volume, so nothing on its disk is kept. It can be started again wherever such "
        "cards are free",
    )


def _shown(
    data: str, where: str, free: int, gpus: int, sentence: str
) -> tuple[str, dict[str, Any]]:
    if free >= gpus:
        now = f"{_cards(free)} free there now, which is enough."
    else:
        now = f"{_cards(free)} free there now, and it needs {gpus}: it would have to wait."
    return f"{sentence}; {now}", {"data": data, "where": where, "free_now": free}


def _cards(number: int) -> str:
    return f"{number or 'no'} card{' is' if number == 1 else 's are'}"
