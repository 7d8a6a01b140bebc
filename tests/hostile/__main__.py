"""`make hostile N=1000 SEED=1`: N hostile inputs, in a database that DATABASE_URL names.

Reads N, SEED and DATABASE_URL from the environment, where MALLOC_ARENA_MAX has to be 2. What must
not have happened is named on standard error; the last line on standard output is one JSON object.
The status is 1 when a limit is broken.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import django


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
    django.setup()
    from tests.hostile.campaign import campaign, show

    with tempfile.TemporaryDirectory(prefix="gpuyard-hostile-") as folder:
        report = campaign(
            Path(folder),
            count=int(os.environ.get("N") or 1000),
            seed=os.environ.get("SEED") or os.urandom(4).hex(),
        )
    show(report)
    print(report.as_json())
    return 1 if report.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
