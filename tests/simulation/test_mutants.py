"""Every invariant is seen to fail: a net whose holes nobody looked for catches nothing.

A run of the tests takes five of the mutants by chance; `make mutants` (MUTANTS=all) takes them all.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.simulation.invariants import ALWAYS, QUIET
from tests.simulation.mutants import MUTANTS, damaged
from tests.simulation.runner import Runner

# The damage shows within this many schedules, most often in the first.
MOST = 60


# One seed for all workers of a parallel run: each must collect the same tests.
_SEED = os.environ.setdefault("MUTANTS_SEED", os.urandom(4).hex())
TAKEN = (
    sorted(MUTANTS)
    if os.environ.get("MUTANTS") == "all"
    else sorted(random.Random(_SEED).sample(sorted(MUTANTS), 5))
)


@pytest.mark.parametrize("name", TAKEN)
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


def test_without_damage_the_same_schedules_hold(runner: Runner) -> None:
    for number in range(10):
        done = runner.run(f"mutant:{number}")
        assert not done.violations, "\n".join(done.trace)
