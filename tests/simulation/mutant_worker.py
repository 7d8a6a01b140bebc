"""One process of a hunt: `python -m tests.simulation.mutant_worker SEED MOST NAME...`.

Prints a line of JSON per mutant: ``after`` how many schedules its invariant noticed it, 0 if never.
"""

from __future__ import annotations

import json
import sys
import time

import django


def main() -> None:
    seed, most, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    django.setup()
    from tests.simulation.mutants import MUTANTS, damaged
    from tests.simulation.runner import ready

    with ready() as runner:
        for name in names:
            began, one, after = time.monotonic(), MUTANTS[name], 0
            for number in range(most):
                with damaged(one):
                    done = runner.run(
                        f"{seed}:{number}", watched=one.invariant, sql=one.sql, **one.manner
                    )
                if done.violations:
                    after = number + 1
                    break
            row = {"name": name, "after": after, "seconds": time.monotonic() - began}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
