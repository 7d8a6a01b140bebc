"""`make clean`: remove what the commands made in this checkout. The per-user cache stays.

Standard library only, because it removes the virtual environment too.
"""

from __future__ import annotations

import shutil

from devstack.bootstrap import ROOT
from devstack.console import fail, say
from devstack.state import State, StateBusyError

MADE = (
    ".venv",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".import_linter_cache",
    ".hypothesis",
)


def main() -> None:
    """Refuses while a demo is running here."""
    demo = ROOT / ".devstack"
    if demo.exists():
        try:
            State.acquire(demo).close()
        except StateBusyError as error:
            raise fail(str(error)) from None
        shutil.rmtree(demo)
    for name in MADE:
        if (ROOT / name).exists():
            shutil.rmtree(ROOT / name)
            say(f"removed {name}")


if __name__ == "__main__":
    main()
