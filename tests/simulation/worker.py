"""One process of a campaign: `python -m tests.simulation.worker SEED START STOP STEP`.

Prints a line of JSON per schedule, with its trace when it was broken or the only one.
"""

from __future__ import annotations

import gc
import json
import sys

import django

# Schedules between two collections of what they left: some megabytes.
COLLECT = 25
# Schedules in one transaction. What they undo stays in the tables until it ends, and by and by it
# costs more to step over than the world costs to build.
TOGETHER = 50
# Statements that stay planned. Lists of any length make ever more of them, and each takes memory.
PREPARED = 600


def main() -> None:
    seed, numbers = sys.argv[1], range(*map(int, sys.argv[2:5]))
    django.setup()
    _prepare()
    from tests.simulation.runner import ready

    alone = len(numbers) == 1
    for first in range(0, len(numbers), TOGETHER):
        with ready() as runner:
            gc.freeze()  # the world and the product are there for long
            gc.disable()
            for number, index in enumerate(numbers[first : first + TOGETHER]):
                if number % COLLECT == 0:
                    gc.collect()
                done = runner.run(f"{seed}:{index}")
                row = {"index": index, "hash": done.hash, "violations": done.violations}
                row["trace"] = done.trace if done.violations or alone else []
                print(json.dumps(row), flush=True)
        _clean()


def _clean() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM")


def _prepare() -> None:
    """Statements are planned once per process: schedules repeat the same few hundred."""
    from django.db import connection

    planned = "-c plan_cache_mode=force_generic_plan"
    connection.settings_dict["OPTIONS"] |= {
        "server_side_binding": True,
        "prepare_threshold": 1,
        "options": planned,
    }
    connection.ensure_connection()
    connection.connection.prepared_max = PREPARED


if __name__ == "__main__":
    main()
