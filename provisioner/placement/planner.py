"""Which node should take an order: PURE, from figures to a ranked list with reasons.

Policy of this version is best fit: within the cheapest group the node whose free cards are used up
most closely comes first, so that large blocks stay whole for large orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from provisioner.contracts import Candidate, PlacementRequest, Plan
from provisioner.placement.explain import why
from provisioner.placement.score import best_fit

# A reservation tries candidates in order and skips locked ones. Fewer than this and a burst on one
# offer runs out of alternatives; more and reading them shows in the time of every rental.
CANDIDATES = 200


@dataclass(frozen=True)
class NodeFigures:
    """One node's share of a group: free and total slots, all taken from the maintained summary."""

    share_id: UUID
    node_id: UUID
    group_id: UUID
    cluster_id: UUID
    free: int
    total: int


def plan(
    request: PlacementRequest, figures: Sequence[NodeFigures], rejections: dict[str, int]
) -> Plan:
    """Rank the nodes that can take the order. ``rejections`` are passed through for people."""
    rank = {group: place for place, group in enumerate(request.group_ids)}
    usable = [
        row
        for row in figures
        if row.free >= request.gpus
        and row.group_id in rank
        and row.node_id not in request.exclude_nodes
        and (not request.cluster_ids or row.cluster_id in request.cluster_ids)
        and (not request.node_ids or row.node_id in request.node_ids)
    ]
    usable.sort(
        key=lambda row: (
            rank[row.group_id],
            best_fit(row.free, row.total, request.gpus),
            row.share_id,
        )
    )
    candidates = tuple(
        Candidate(
            node_id=row.node_id,
            group_id=row.group_id,
            share_id=row.share_id,
            cluster_id=row.cluster_id,
            free=row.free,
            score=row.free - request.gpus,
            why=why(row.free, row.total, request.gpus),
        )
        for row in usable[:CANDIDATES]
    )
    return Plan(request=request, candidates=candidates, rejections=dict(rejections))
