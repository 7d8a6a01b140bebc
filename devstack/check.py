"""`make check`: lint, format, types, import contracts, migration drift. All run."""

from __future__ import annotations

import subprocess
import sys
import time

from devstack.bootstrap import ROOT
from devstack.console import say

_PYTHON = [sys.executable]
CHECKS = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "import contracts": ["lint-imports"],
    "migration drift": [
        *_PYTHON,
        # No database is needed to compare models with migrations; Django would like to see one.
        "-Wignore:Got an error checking a consistent migration history",
        *("manage.py", "makemigrations", "--check", "--dry-run"),
    ],
    "types": ["mypy", "."],
}


def main() -> int:
    """1 when any check failed; the findings are on standard output."""
    failed = []
    for name, command in CHECKS.items():
        began = time.monotonic()
        done = subprocess.run(command, check=False, cwd=ROOT, stdin=subprocess.DEVNULL)
        verdict = "failed" if done.returncode else "passed"
        say(f"{name}: {verdict} in {time.monotonic() - began:.1f} s")
        if done.returncode:
            failed.append(name)
    if failed:
        say(f"check failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
