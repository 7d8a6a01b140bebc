"""Every invariant is seen to fail: a net whose holes nobody looked for catches nothing.

A run of the tests draws some of the mutants by its seed and names it; `make mutants` runs all.
"""

from __future__ import annotations

import pytest

from tests.servers import Servers
from tests.simulation.invariants import ALWAYS, QUIET
from tests.simulation.mutants import MUTANTS, damaged
from tests.simulation.mutation import MOST, drawn, hunt, said
from tests.simulation.test_seeds import PATIENCE_S, SEED

# Together with their databases half a minute.
DRAWN = 12


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S)
def test_drawn_mutants_are_noticed(servers: Servers) -> None:
    names = drawn(sorted(MUTANTS), SEED, DRAWN)
    rows = hunt(servers.database_url, names, seed=SEED, processes=2)
    assert {row["name"] for row in rows} == set(names), "a worker broke"
    survived = [said(row) for row in rows if not row["after"]]
    again = [f"make mutants SEED={SEED} ONLY={row['name']}" for row in rows if not row["after"]]
    assert not survived, f"of {MOST} schedules each: {survived}; again: {again}"


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_the_product_still_has_what_a_mutant_breaks(name: str) -> None:
    """All of them every time, and as it is called now: those not drawn would fail another day."""
    with damaged(MUTANTS[name]):
        pass


def test_every_invariant_over_tables_has_its_mutant() -> None:
    proven = {one.invariant for one in MUTANTS.values()}
    assert set(ALWAYS) | set(QUIET) <= proven
