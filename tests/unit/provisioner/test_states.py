"""The transition table is complete and says what the lifecycle promises."""

from __future__ import annotations

import pytest
from django.db.models import CheckConstraint, Q

from provisioner.contracts import Fault
from provisioner.contracts import InstanceState as S
from provisioner.instances.reasons import REASONS
from provisioner.instances.state import (
    COMING_UP,
    HOLDS_CARDS,
    MAY_HAVE_POD,
    MOVES,
    SERVING,
    TERMINAL,
    TROUBLED,
    may_move,
    metered,
)
from provisioner.models.instance import Instance
from provisioner.reconcile.decide import DEADLINES


def test_every_state_has_a_row_and_only_states_are_named() -> None:
    assert set(MOVES) == set(S)
    assert all(targets <= set(S) for targets in MOVES.values())


def test_every_state_is_reached_and_every_live_one_can_end() -> None:
    reached, frontier = {S.RESERVED}, [S.RESERVED]
    while frontier:
        for target in MOVES[frontier.pop()] - reached:
            reached.add(target)
            frontier.append(target)
    assert reached == set(S)
    for state in set(S) - {S.STOPPING, S.GONE}:
        assert may_move(state, S.STOPPING), state


def test_gone_is_final_and_reached_only_through_stopping() -> None:
    assert MOVES[S.GONE] == frozenset()
    assert [state for state in S if S.GONE in MOVES[state]] == [S.STOPPING]
    assert MOVES[S.STOPPING] == {S.STOPPING, S.GONE}


def test_the_named_sets_are_consistent() -> None:
    assert {S.GONE} == TERMINAL
    assert set(S) - TERMINAL == HOLDS_CARDS
    assert HOLDS_CARDS - {S.RESERVED} == MAY_HAVE_POD
    assert SERVING <= HOLDS_CARDS
    assert SERVING - {S.READY} == TROUBLED
    assert COMING_UP | SERVING | {S.STOPPING} | TERMINAL == set(S)
    assert not COMING_UP & SERVING


def test_the_meter_runs_while_ready_and_while_only_the_renters_program_fails() -> None:
    for state in S:
        for code, reason in REASONS.items():
            runs = state == S.READY or (state == S.DEGRADED and reason.fault == Fault.RENTER)
            assert metered(state, code) == runs, (state, code)


def test_only_serving_states_become_unreachable() -> None:
    assert {state for state in S if S.UNREACHABLE in MOVES[state]} == SERVING - {S.UNREACHABLE}


def test_every_state_on_the_way_up_has_a_deadline() -> None:
    assert set(DEADLINES) == COMING_UP
    assert all(reason in REASONS for _, reason in DEADLINES.values())


def test_the_database_knows_the_same_states() -> None:
    constraint = next(c for c in Instance._meta.constraints if c.name == "instance_state_known")
    assert isinstance(constraint, CheckConstraint)
    assert isinstance(constraint.condition, Q)
    (only,) = constraint.condition.children
    assert isinstance(only, tuple)
    assert only[0] == "state__in"
    assert set(only[1]) == {str(state) for state in S}


@pytest.mark.parametrize("code", sorted(REASONS))
def test_every_reason_has_a_sentence(code: str) -> None:
    assert REASONS[code].text.endswith(".")
    assert len(code) <= 40
