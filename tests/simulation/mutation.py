"""Every mutant over several processes: is each noticed by its own invariant, and how soon?

`make mutants` runs all of them; N= draws so many by SEED=. A line for each, and a last one of JSON:
`mutants`, `caught`, `seconds`; the status is 1 when one survives.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from random import Random

from tests.simulation.campaign import Row, databases, rows_of, worker

# The damage shows within this many schedules, most often in the first.
MOST = 60


def hunt(
    url: str,
    names: list[str],
    *,
    seed: str,
    processes: int,
    heard: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Run these mutants, each until it is noticed; a row for each, also to ``heard`` as it comes.
    ``url``: as for a campaign."""
    share = [names[number::processes] for number in range(processes)]
    with databases(url, processes) as urls, ExitStack() as stack:
        workers = [
            stack.enter_context(worker(one, "mutant_worker", seed, MOST, *mine))
            for one, mine in zip(urls, share, strict=True)
            if mine
        ]
        readers = stack.enter_context(ThreadPoolExecutor(len(workers)))
        found = readers.map(lambda process: rows_of(process, heard), workers)
        return [row for rows in found for row in rows]


def known() -> list[str]:
    """The names of all mutants, as a process with the product loaded tells them."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
    django.setup()
    from tests.simulation.mutants import MUTANTS

    return sorted(MUTANTS)


def drawn(names: list[str], seed: str, number: int) -> list[str]:
    """So many of them, by the seed."""
    return sorted(Random(seed).sample(names, min(number, len(names))))


def said(row: Row) -> str:
    after = row["after"]
    how = f"noticed after {after}" if after else f"SURVIVED {MOST} schedules"
    return f"{row['seconds']:6.1f} s  {row['name']}: {how}"


def main() -> int:
    began = time.monotonic()
    seed, names = os.environ.get("SEED") or "mutants", known()
    if os.environ.get("N"):
        names = drawn(names, seed, int(os.environ["N"]))
    if os.environ.get("ONLY"):
        names = [os.environ["ONLY"]]
    processes = min(2, os.cpu_count() or 1)
    rows = hunt(
        os.environ["DATABASE_URL"],
        names,
        seed=seed,
        processes=processes,
        heard=lambda row: print(said(row), flush=True),
    )
    caught = sum(bool(row["after"]) for row in rows)
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"mutants": len(names), "caught": caught, "seconds": seconds}))
    return 0 if caught == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
