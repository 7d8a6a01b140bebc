"""A worker process that ends itself, or stops in mid-work, at one chosen effect on a cluster.

Run as a program by tests/faults/lives.py. It wraps the HTTP client's one method, the moment at
which the bytes are out and no answer was read, and the giving back of a claim; what runs is the
product's own code. An effect is a POST or a DELETE, named by its verb and kind with a number where
the same comes again: "DELETE pods", "POST pods 2". Moments:

before    the request has not left
during    the request has left, its answer was not read: it happened or it did not
after     the answer was read, nothing of it is in the database
written   what came of it is committed, the claim is still held
"""

from __future__ import annotations

import re
import signal
import sys
import threading
import time

import django

MOMENTS = ("before", "during", "after", "written")
# A process that was never hit ends by itself: the test then says that there was nothing to hit.
LIVES_S = 30.0


class Trap:
    """Counts effects and fires once, at the chosen moment of the chosen one."""

    def __init__(self, moment: str, effect: str, number: signal.Signals) -> None:
        verb, kind, *nth = effect.split()
        self.moment, self.wanted, self.left = moment, (verb, kind), int(*nth or ["1"])
        self.number = number
        self.inside = self.passed = False

    def begins(self, method: str, path: str) -> bool:
        """Whether this request is the chosen effect."""
        kinds = re.findall(r"/(pods|secrets|leases)(?:/|$)", path)
        if self.passed or not kinds or (method, kinds[-1]) != self.wanted:
            return False
        self.left -= 1
        return self.left == 0

    def reached(self, moment: str) -> None:
        if moment == self.moment:
            self.moment = ""
            # At this very thread: sent to the process it stops another one first, on a busy machine
            # some milliseconds before this one, and the request has left by then.
            signal.pthread_kill(threading.get_ident(), self.number)


def main() -> None:
    moment, effect, number = sys.argv[1], sys.argv[2], signal.Signals[sys.argv[3]]
    django.setup()
    from urllib3.connection import HTTPConnection

    from provisioner.kube.client import Client
    from provisioner.reconcile import claim, instance_loop

    trap = Trap(moment, effect, number)
    request, getresponse = Client.request, HTTPConnection.getresponse
    release = claim.release_instance

    def trapped_request(self, method, path, **given):
        if not trap.begins(method, path):
            return request(self, method, path, **given)
        trap.reached("before")
        trap.inside = True
        try:
            return request(self, method, path, **given)
        finally:
            trap.inside, trap.passed = False, True
            trap.reached("after")

    def trapped_getresponse(self):
        if trap.inside:
            trap.reached("during")
        return getresponse(self)

    def trapped_release(row, **given):
        if trap.passed:
            trap.reached("written")
        release(row, **given)

    Client.request = trapped_request  # type: ignore[method-assign]
    HTTPConnection.getresponse = trapped_getresponse  # type: ignore[method-assign]
    vars(instance_loop)["release_instance"] = trapped_release
    ends = time.monotonic() + LIVES_S
    while time.monotonic() < ends and not (trap.passed and not trap.moment):
        instance_loop.run(seconds=0.5)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
