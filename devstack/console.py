"""Progress lines with elapsed time, one clock for all processes of one command.

Standard library only: the bootstrap prints through it before anything is installed. Lines go to
standard error, so that a command's own result stays alone on standard output.
"""

from __future__ import annotations

import os
import sys
import time

_CLOCK = "GPUYARD_STARTED_AT"


def started_at() -> float:
    """Unix time at which the command began; the first process to ask sets it for its children."""
    return float(os.environ.setdefault(_CLOCK, repr(time.time())))


def say(text: str) -> None:
    """Print one progress line, `[  12.3 s] text`, at once."""
    began = started_at()
    print(f"[{time.time() - began:6.1f} s] {text}", file=sys.stderr, flush=True)


def fail(text: str) -> SystemExit:
    """An exit with a message for the person at the keyboard: `raise fail("...")`. Status 1."""
    return SystemExit(f"gpuyard: {text}")
