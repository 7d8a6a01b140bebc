"""`make year N=10000 SEED=7`: a year of N rentals, in a fresh database that DATABASE_URL names.

What differs is named on standard error; the last line on standard output is one JSON object. The
status is 1 when anything differs.
"""

from __future__ import annotations

import os
import sys

import django


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
    django.setup()
    from tests.year.play import play

    report = play(int(os.environ.get("N") or 10_000), os.environ.get("SEED") or os.urandom(4).hex())
    for problem in report.problems[:50]:
        print(problem, file=sys.stderr)
    print(report.as_json())
    return 0 if report.right else 1


if __name__ == "__main__":
    sys.exit(main())
