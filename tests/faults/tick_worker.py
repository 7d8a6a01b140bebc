"""A worker that charges and is killed with -9 in the middle of it.

Run as a program by test_tick_kill.py: it wraps calls at the provisioner's door and SIGKILLs itself
when a batch is posted and not committed, or when it is committed and the next one is asked for.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import django

BATCHES = 2  # that it works at before it dies


def main() -> None:
    moment, size = sys.argv[1], int(sys.argv[2])
    django.setup()
    from marketplace.rentals.charge import charge
    from provisioner import facade as provisioner

    name = {"posted": "ack_charged", "committed": "chargeable", "": ""}[moment]
    if name:
        calls = 0
        original = getattr(provisioner, name)

        def killing(**given: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == BATCHES + (moment == "committed"):
                os.kill(os.getpid(), signal.SIGKILL)
            return original(**given)

        setattr(provisioner, name, killing)
    print(charge(size))


if __name__ == "__main__":
    main()
