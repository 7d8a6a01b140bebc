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


def main() -> None:
    seed, numbers = sys.argv[1], range(*map(int, sys.argv[2:5]))
    django.setup()
    from tests.simulation.runner import ready

    with ready() as runner:
        gc.freeze()  # the world and the product are there for good
        gc.disable()
        for number, index in enumerate(numbers):
            if number % COLLECT == 0:
                gc.collect()
            done = runner.run(f"{seed}:{index}")
            row = {"index": index, "hash": done.hash, "violations": done.violations}
            row["trace"] = done.trace if done.violations or len(numbers) == 1 else []
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
