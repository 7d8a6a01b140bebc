"""The step that is next, from what there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marketplace.providers.journey import Reached, Step, may_open, present

NOBODY = Reached(applied=False)
APPLIED = Reached(applied=True)
LET_IN = Reached(applied=True, approved=True, has_place=True)
WAITING = replace(LET_IN, cluster=True)
SELLING = replace(WAITING, sells=True, offers=2)


@pytest.mark.parametrize(
    ("reached", "step"),
    [
        (NOBODY, Step.APPLY),
        (APPLIED, Step.PLACE),
        (replace(APPLIED, has_place=True), Step.PREPARE),
        (LET_IN, Step.PREPARE),
        (WAITING, Step.PREFLIGHT),
        (replace(WAITING, sells=True), Step.PRICES),
        (replace(SELLING, drafts=1), Step.PRICES),
        (SELLING, Step.DONE),
    ],
)
def test_the_next_step_is_worked_out_and_can_be_opened(reached: Reached, step: Step) -> None:
    assert present(reached) == step
    assert may_open(step, reached)


@pytest.mark.parametrize(
    ("reached", "open_steps"),
    [
        (NOBODY, {Step.APPLY}),
        (APPLIED, {Step.PLACE, Step.PREPARE}),
        (LET_IN, {Step.PLACE, Step.PREPARE, Step.HAND_OVER}),
        (replace(LET_IN, approved=False), {Step.PLACE, Step.PREPARE}),
        (SELLING, set(Step) - {Step.APPLY}),
    ],
)
def test_nothing_is_opened_ahead(reached: Reached, open_steps: set[Step]) -> None:
    assert {step for step in Step if may_open(step, reached)} == open_steps
