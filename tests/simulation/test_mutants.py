"""Every invariant is seen to fail: a net whose holes nobody looked for catches nothing.

Up to sixty schedules each, so MUTANTS=all in the environment asks for them; a run of the tests only
sees that each invariant over tables has one.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.invariants import ALWAYS, QUIET
from tests.simulation.mutants import MUTANTS, damaged
from tests.simulation.runner import Runner

# The damage shows within this many schedules, most often in the first.
MOST = 60


wanted = pytest.mark.skipif(os.environ.get("MUTANTS") != "all", reason="MUTANTS=all runs them")


@wanted
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_the_invariant_notices(runner: Runner, name: str) -> None:
    one = MUTANTS[name]
    for number in range(MOST):
        with damaged(one):
            done = runner.run(f"mutant:{number}", watched=one.invariant, sql=one.sql, **one.manner)
        if done.violations:
            assert one.invariant in done.violations[0]
            return
    pytest.fail(f"{name}: {MOST} schedules, and nobody noticed")


def test_every_invariant_over_tables_has_its_mutant() -> None:
    proven = {one.invariant for one in MUTANTS.values()}
    assert set(ALWAYS) | set(QUIET) <= proven


@wanted
def test_without_damage_the_same_schedules_hold(runner: Runner) -> None:
    for number in range(10):
        done = runner.run(f"mutant:{number}")
        assert not done.violations, "\n".join(done.trace)
