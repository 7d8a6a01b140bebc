"""`python -m devstack.kube up`: clusters in a process of their own, until SIGTERM or SIGINT.

When all serve, the file named by --json-out is written by rename (all clusters by name, with
tokens, mode 0600) and its path is printed as one line of JSON; it is removed at the end. With
`--kind sim` the clusters are simulated in this process. `build` only makes sure that the programs
of real ones are there. Exit status: 0 after a signal while serving, 130 after
one before that, 1 when something failed or a program ended by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from devstack.console import say, started_at
from devstack.debian import DebianError
from devstack.kube.api import ApiError
from devstack.kube.binaries import find_binaries
from devstack.kube.build import BuildError
from devstack.kube.sim.stack import Pace, SimStack
from devstack.kube.stack import DEFAULT_NAMES, KubeStack
from devstack.process import ProcessError
from devstack.state import StateBusyError

# How often it looks whether a program has ended by itself.
_WATCH_S = 1.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="devstack.kube")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="find or build the programs and print where they are")
    up = commands.add_parser("up", help="run clusters until a signal comes")
    up.add_argument("--kind", choices=["real", "sim"], default="real")
    up.add_argument("--state", type=Path, required=True)
    up.add_argument("--json-out", type=Path, required=True)
    up.add_argument("--names", default=",".join(DEFAULT_NAMES))
    up.add_argument("--namespaces", type=int, default=16)
    up.add_argument("--heartbeat-s", type=float, default=10.0)
    up.add_argument("--node-grace-s", type=int, default=40)
    up.add_argument("--real", default="", help="of the names those with a real node")
    given = parser.parse_args(arguments)
    started_at()
    _on_signals(_interrupt)
    try:
        if given.command == "build":
            print(find_binaries().folder)
            return 0
        return _up(given)
    except KeyboardInterrupt:
        return 130
    except (ProcessError, ApiError, BuildError, DebianError, StateBusyError, OSError) as error:
        say(f"kubernetes: {error}")
        return 1


def _up(given: argparse.Namespace) -> int:
    stack = _made(given)
    try:
        stack.start()
        _write(given.json_out, json.dumps(stack.describe(), indent=1))
        print(json.dumps({"clusters": str(given.json_out.absolute())}), flush=True)
        try:
            while not (ended := stack.ended()):
                time.sleep(_WATCH_S)
        except KeyboardInterrupt:
            return 0
        names = ", ".join(child.name for child in ended)
        say(f"ended by itself: {names}\n{ended[0].tail()}")
        return 1
    finally:
        _on_signals(signal.SIG_IGN)  # a second one must not cut the stop short
        given.json_out.unlink(missing_ok=True)
        stack.stop()


def _made(given: argparse.Namespace) -> KubeStack | SimStack:
    names = given.names.split(",")
    if given.kind == "sim":
        pace = Pace(heartbeat_s=given.heartbeat_s, node_grace_s=given.node_grace_s)
        pool = given.namespaces
        return SimStack(given.state, names=names, namespaces=pool, pace=pace, reapers=True)
    return KubeStack(
        given.state,
        names=names,
        namespaces=given.namespaces,
        heartbeat_s=given.heartbeat_s,
        node_grace_s=given.node_grace_s,
        real=[name for name in given.real.split(",") if name],
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends waiting, building and serving alike, each with its own clean-up."""
    raise KeyboardInterrupt


def _on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
