"""Keeps a real node: sets up its place on the machine, runs its inside, clears all away at the end.

    python -m devstack.kube.node.shepherd NUMBER PLAN_FILE

It runs under a guard like every program of devstack, and so is asked to end also when its starter
was killed. Should it be killed itself, the kernel kills the node's programs, and what is left on
the machine goes when the next node starts.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

from devstack.kube.node.machine import MachineError, Place, held

# A killed node's shepherd needs a second or two, a living one may be another test run's.
_FREE_WITHIN_S = 300.0
_POLL_S = 0.1


class _StopError(BaseException):
    """Asked to end, wherever we are."""


def _stop(*_: object) -> None:
    raise _StopError


def main(arguments: list[str]) -> int:
    """The inside's exit status; 0 when asked to end, 1 when the place cannot be had."""
    place, plan = Place(int(arguments[0])), arguments[1]
    lock = socket.socket(socket.AF_UNIX)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        if not _locked(lock, place):
            print(f"{place.name} has been another one's for {_FREE_WITHIN_S:.0f} s", flush=True)
            return 1
        return _keep(place, plan)
    except _StopError:
        return 0
    except MachineError as error:
        print(error, flush=True)
        return 1


def _keep(place: Place, plan: str) -> int:
    try:
        _clear_others(place)
        place.clear()
        place.set_up()
        print(f"{place.name} has its place", flush=True)
        return _run_inside(place, plan)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        place.clear()


def _run_inside(place: Place, plan: str) -> int:
    # Each link of the chain is killed when the one before it dies, whatever it dies of.
    chain = ["setpriv", "--pdeathsig", "KILL"]
    chain += ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    inside = [sys.executable, "-m", "devstack.kube.node.inside", str(place.number), plan]
    with subprocess.Popen([*chain, *inside], stdin=subprocess.DEVNULL) as child:
        try:
            return child.wait()
        except _StopError:
            child.kill()
            raise


def _locked(lock: socket.socket, place: Place) -> bool:
    """Hold the place's name, which only one shepherd can, once it is free."""
    deadline = time.monotonic() + _FREE_WITHIN_S
    while not held(lock, place.name):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _clear_others(place: Place) -> None:
    """What killed nodes of other places left, whose shepherds were killed too."""
    for other in Place.left():
        with socket.socket(socket.AF_UNIX) as lock:
            if other.number != place.number and held(lock, other.name):
                other.clear()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
