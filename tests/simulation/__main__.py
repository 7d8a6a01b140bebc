"""`make simulate N=10000 SEED=7`: schedules 0 to N-1 of the seed; ONLY=i shows the trace of one.

Reads N, SEED, ONLY and DATABASE_URL (a server whose role may create databases) from the
environment. The last line on standard output is one JSON object; the status is 1 after a violation.
"""

from __future__ import annotations

import os
import sys

from tests.simulation.campaign import campaign, one, show


def main() -> int:
    url, seed = os.environ["DATABASE_URL"], os.environ.get("SEED") or os.urandom(4).hex()
    if os.environ.get("ONLY"):
        report = one(url, seed=seed, index=int(os.environ["ONLY"]))
    else:
        report = campaign(
            url,
            schedules=int(os.environ.get("N") or 1000),
            seed=seed,
            processes=min(2, os.cpu_count() or 1),
        )
    show(report, seed)
    print(report.as_json())
    return 1 if report.broken or report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
