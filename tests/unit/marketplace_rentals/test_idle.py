"""What an idle stop does in each state: the pure decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from marketplace.rentals.idle import Step, decide
from marketplace.rentals.state import STATES
from provisioner.contracts.reports import Quiet

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEN = NOON - timedelta(minutes=10)


def step(state: str = "running", reason: str = "ready", **more):
    given = {"minutes": 10, "interrupt_at": None, "quiet": Quiet(TEN, NOON), **more}
    return decide(state=state, reason=reason, **given)


def test_a_running_rental_gets_a_notice_when_its_time_is_over() -> None:
    assert step() is Step.NOTICE
    assert step(quiet=Quiet(TEN + timedelta(microseconds=1), NOON)) is Step.NOTHING
    assert step(quiet=None) is Step.NOTHING
    assert step(minutes=None) is Step.NOTHING


def test_a_notice_is_carried_out_at_its_moment_and_not_before() -> None:
    told = {"state": "interrupting", "reason": "idle"}
    assert step(**told, interrupt_at=NOON) is Step.STOP
    assert step(**told, interrupt_at=NOON + timedelta(seconds=1)) is Step.NOTHING


@pytest.mark.parametrize(
    "more", [{"quiet": None}, {"quiet": Quiet(NOON, NOON)}, {"minutes": None}, {"minutes": 11}]
)
def test_a_notice_whose_cause_went_is_withdrawn_even_when_it_is_due(more) -> None:
    given = {"state": "interrupting", "reason": "idle", "interrupt_at": NOON, **more}
    assert step(**given) is Step.WITHDRAW


@pytest.mark.parametrize("state", sorted(STATES - {"running"}))
def test_other_states_and_other_notices_are_left_alone(state: str) -> None:
    assert step(state, "end_date", interrupt_at=NOON) is Step.NOTHING
