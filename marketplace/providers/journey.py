"""How far an owner is on the way from applying to earning. PURE.

Worked out from what there is, and stored nowhere: whoever leaves comes back where they were, on
another machine as well, and two people of one organization see the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """In their order."""

    APPLY = "apply"
    PLACE = "place"
    PREPARE = "prepare"
    HAND_OVER = "hand_over"
    PREFLIGHT = "preflight"
    PRICES = "prices"
    DONE = "done"


@dataclass(frozen=True)
class Reached:
    """approved: by staff, without whom no cluster is taken. cluster: there is one on its way;
    sells: it passed its preflight; offers: how many were derived from it; drafts: without price."""

    applied: bool
    approved: bool = False
    has_place: bool = False
    cluster: bool = False
    sells: bool = False
    offers: int = 0
    drafts: int = 0


def present(reached: Reached) -> Step:
    """The step that is to be done now."""
    if not reached.applied:
        return Step.APPLY
    if not reached.has_place:
        return Step.PLACE
    if not reached.cluster:
        return Step.PREPARE
    if not reached.sells:
        return Step.PREFLIGHT
    return Step.PRICES if reached.drafts or not reached.offers else Step.DONE


def may_open(step: Step, reached: Reached) -> bool:
    """Whether it can be looked at: all that was done or is to be done, and the steps before a
    cluster at any time, since there may always be another one."""
    return {
        Step.APPLY: not reached.applied,
        Step.PLACE: reached.applied,
        Step.PREPARE: reached.applied,
        Step.HAND_OVER: reached.has_place and reached.approved,
        Step.PREFLIGHT: reached.cluster,
        Step.PRICES: reached.cluster,
        Step.DONE: present(reached) == Step.DONE,
    }[step]
