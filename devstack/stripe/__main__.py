"""`python -m devstack.stripe`: the simulator as a process that ends with its parent."""

import argparse
import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

from devstack.stripe.server import DEFAULT_API_KEY, DEFAULT_WEBHOOK_SECRET, StripeSim

PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """SIGTERM when the parent's thread that started us ends; at once if it is gone already."""
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="devstack.stripe", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--state", type=Path, help="directory that survives a restart")
    parser.add_argument("--webhook-url", help="loopback address that receives every event")
    parser.add_argument("--webhook-secret", default=DEFAULT_WEBHOOK_SECRET)
    parser.add_argument("--api-key", default=DEFAULT_API_KEY)
    given = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _end_with_parent()
    try:
        simulator = StripeSim(
            port=given.port,
            state=given.state,
            api_key=given.api_key,
            webhook_url=given.webhook_url,
            webhook_secret=given.webhook_secret,
        )
    except OSError as error:
        sys.exit(f"stripe simulator: port {given.port}: {error.strerror}")
    with simulator:
        print(f"stripe simulator ready at {simulator.base_url}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
