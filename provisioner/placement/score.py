"""Scores of candidate nodes: PURE, smaller is better."""

from __future__ import annotations


def best_fit(free: int, total: int, wanted: int) -> tuple[int, int]:
    """(cards left over, size of the node): the tightest node, and of equals the smaller one,
    because a large empty node is what a large order will need."""
    return (free - wanted, total)
