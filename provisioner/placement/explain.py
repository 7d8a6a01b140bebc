"""Sentences and codes for a placement decision: PURE."""

from __future__ import annotations

# Why nodes were not candidates, in the order in which the checks apply.
REJECTIONS: dict[str, str] = {
    "cluster_not_ready": "the cluster does not answer, or takes no new rentals",
    "disk_too_large": "more disk was asked for than comes with that many cards here",
    "namespaces_exhausted": "the cluster's pool of namespaces has none left for a new tenant",
    "no_storage": "the cluster has no storage for a new volume",
    "no_way_in": "the cluster never had a relay, and somebody has to get in",
    "other_cluster": "the order's volumes are in another cluster",
    "other_node": "the order's volumes are on the disks of another node",
    "node_unavailable": "the node is not ready, not schedulable or no longer set aside",
    "too_few_free": "fewer free cards on the node than were ordered",
    "excluded": "the order excludes the node",
}


def why(free: int, total: int, wanted: int) -> str:
    """Why a node got its rank, for staff."""
    left = free - wanted
    if left == 0:
        return f"exact fit: uses all {free} free of {total} cards"
    return f"leaves {left} of {total} cards free"
