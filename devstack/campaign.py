"""Long campaigns as commands of their own: `make bench`, `torture`, `simulate`, `year`, `mutants`.

bench     every benchmark of bench/ against a fresh, migrated PostgreSQL with durable writes; each
          ends with a line of JSON that names figure, floor and ratio; ONLY= runs one
torture   the races and the fault tests with many rounds, workers that sleep a real minute and a
          broker that forgets everything every ten seconds: N=50 by default
simulate  N=1000 seeded schedules of the whole product in one process (docs/simulation.md); SEED=
          chooses them, ONLY= repeats one; the last line is JSON
year      a year of N=10000 rentals in virtual time, with a Stripe that fails in every way, counted
          again by an oracle to the micro-unit; SEED= chooses it; the last line is JSON
mutants   the product broken on purpose, one way after the other, until the simulation notices; N=
          draws so many by SEED=, ONLY= runs one; status 1 when one survives
long      tests that are marked as campaigns: minutes each on a real control plane
hostile   N=1000 things that a partner who means harm can type, and answers of their servers and
          agents, against limits of connections, processes, memory and time; SEED= chooses them;
          the last line is JSON
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from devstack.broker import Broker
from devstack.console import fail, say
from devstack.postgres import Postgres
from devstack.state import State

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = "50"
# 64 requests at once and their settling take some seconds a round on a busy machine.
TIMEOUT_S = 3000


def main(name: str) -> int:
    """The highest exit status of what ran."""
    campaigns = {
        "bench": _bench,
        "torture": _torture,
        "simulate": _simulate,
        "year": _year,
        "mutants": _mutants,
        "hostile": _hostile,
        "long": _long,
    }
    if name not in campaigns:
        raise fail(f"no campaign {name!r}; there are {', '.join(campaigns)}")
    with (
        State.temporary(name) as state,
        Postgres(state, fsync=name == "bench") as postgres,
        Broker(state) as broker,
    ):
        env = {**os.environ, "DATABASE_URL": postgres.url, "BROKER_URL": broker.url}
        return campaigns[name](env)


def _long(env: dict[str, str]) -> int:
    return _run([sys.executable, "-m", "pytest", "tests", "-m", "campaign", "-v"], env)


def _bench(env: dict[str, str]) -> int:
    _run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], env)
    worst = 0
    for script in sorted((ROOT / "bench").glob(f"{env.get('ONLY') or '*'}.py")):
        say(f"bench {script.stem}")
        worst = max(worst, _run([sys.executable, str(script)], env))
    return worst


def _torture(env: dict[str, str]) -> int:
    env["ROUNDS"] = env.get("N", ROUNDS)
    suites = ["tests/races", "tests/faults"]
    stack = "tests/live/whole_stack"
    suites += [f"{stack}/test_broker.py", f"{stack}/test_life.py"]
    return _run([sys.executable, "-m", "pytest", "-q", "--timeout", str(TIMEOUT_S), *suites], env)


def _simulate(env: dict[str, str]) -> int:
    return _run([sys.executable, "-m", "tests.simulation"], env)


def _year(env: dict[str, str]) -> int:
    env["DJANGO_SETTINGS_MODULE"] = "config.settings.test"
    migrated = _run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], env)
    return migrated or _run([sys.executable, "-m", "tests.year"], env)


def _mutants(env: dict[str, str]) -> int:
    return _run([sys.executable, "-m", "tests.simulation.mutation"], env)


def _hostile(env: dict[str, str]) -> int:
    env["DJANGO_SETTINGS_MODULE"] = "config.settings.test"
    env["MALLOC_ARENA_MAX"] = "2"  # as docs/operators.md says for every process
    migrated = _run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], env)
    return migrated or _run([sys.executable, "-m", "tests.hostile"], env)


def _run(command: list[str], env: dict[str, str]) -> int:
    return subprocess.run(command, env=env, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
