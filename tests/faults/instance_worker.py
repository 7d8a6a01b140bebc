"""A worker process that is killed with -9 around its n-th effect on a cluster.

Run as a program by test_instance_kill.py: it wraps the HTTP client's one method, so the product's
code is the very same, and SIGKILLs itself before the request leaves or after its answer arrived,
which is before anything of it was written to the database. An effect is a POST or a DELETE.
"""

from __future__ import annotations

import os
import signal
import sys

import django


def main() -> None:
    moment, number = sys.argv[1], int(sys.argv[2])  # before | after | never, effect from 1
    django.setup()
    from provisioner.kube.client import Client
    from provisioner.reconcile import instance_loop

    plain, effects = Client.request, 0

    def killing(self, method, path, **given):
        nonlocal effects
        # Reviews ask a question; they change nothing.
        if method in ("POST", "DELETE") and "review" not in path:
            effects += 1
            if effects == number and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
        answer = plain(self, method, path, **given)
        if effects == number and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Client.request = killing  # type: ignore[method-assign]
    instance_loop.run(seconds=1.0)


if __name__ == "__main__":
    main()
