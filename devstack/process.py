"""A small supervisor: named child processes, each with a log file and a guard, stopped in reverse.

Every child runs under devstack.guard, so none of its descendants outlives this process, however it
ends. Children share no terminal and no process group with us: Ctrl-C reaches this process alone,
which then stops them in order. Waiting is always for a condition with a deadline, and ends at once
with the end of the log when the child dies instead.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from devstack import guard
from devstack.state import State

# Conditions are looked at this often: a step is late by at most this much, and looking costs less
# than a thousandth of a core.
POLL_S = 0.02

# What a guard needs beyond the grace of its command: to kill what is left and to end itself.
GUARD_MARGIN_S = 5.0


class ProcessError(Exception):
    """A child could not be started, ended too early or was not ready in time."""


class Child:
    """One running command. `pid` is the command's own, not the guard's."""

    def __init__(
        self, name: str, log: Path, guard: subprocess.Popen[bytes], pid: int, grace_s: int
    ) -> None:
        self.name = name
        self.log = log
        self.pid = pid
        self._guard = guard
        self._grace_s = grace_s

    def poll(self) -> int | None:
        """None while it runs, else its exit status, 128+n when signal n ended it."""
        return self._guard.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command alone. After SIGKILL its orphans are killed by the guard."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """Its exit status, once it and all its descendants are gone."""
        try:
            return self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} still runs after {timeout_s:.0f} s") from None

    def ask_to_stop(self) -> None:
        """Begin the stop: the stop signal now, SIGKILL to all that is left after the grace."""
        if self._guard.stdin and not self._guard.stdin.closed:
            self._guard.stdin.close()

    def stop(self) -> int:
        """Stop it and wait until nothing of it is left; its exit status."""
        self.ask_to_stop()
        return self.wait(self._grace_s + GUARD_MARGIN_S)

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


class Supervisor:
    """Starts children whose logs lie in the state's `logs` directory; a context manager."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.logs = state.path / "logs"
        self.children: list[Child] = []

    def start(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        uid: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: int = 5,
        shown: bool = False,
    ) -> Child:
        """Start `command`; `env` is added to ours, standard input is empty.

        Output is appended to `logs/<name>.log`, or goes where ours goes when `shown`. The child is
        asked to end by `stop_signal`, and killed with all its descendants after `grace_s`.
        """
        words = [os.fspath(word) for word in command]
        self.logs.mkdir(exist_ok=True)
        log = self.logs / f"{name}.log"
        read_end, write_end = os.pipe()
        guarded = [
            *(sys.executable, "-I", "-S", guard.__file__),
            *(str(write_end), str(int(stop_signal)), str(grace_s), str(-1 if uid is None else uid)),
            *words,
        ]
        try:
            with log.open("ab") as output:
                output.write(f"$ {shlex.join(words)}\n".encode())
                output.flush()
                process = subprocess.Popen(
                    guarded,
                    stdin=subprocess.PIPE,
                    stdout=None if shown else output,
                    stderr=None if shown else output,
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    pass_fds=(write_end, self.state.lock_fd),
                    start_new_session=True,
                )
            os.close(write_end)
            write_end = -1
            reported = os.read(read_end, 32)
        finally:
            os.close(read_end)
            if write_end >= 0:
                os.close(write_end)
        if not reported:
            raise ProcessError(f"{name}: its guard did not start; see {log}")
        child = Child(name, log, process, int(reported), grace_s)
        self.children.append(child)
        return child

    def stop(self) -> None:
        """Stop all children, last started first. Bounded: each gets its grace, then is killed."""
        while self.children:
            self.children[-1].stop()
            self.children.pop()

    def ended(self) -> list[Child]:
        """Children that ended without having been stopped through this supervisor."""
        return [child for child in self.children if child.poll() is not None]

    def discard(self, child: Child) -> None:
        """Stop one child and forget it."""
        child.stop()
        self.children.remove(child)

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    child: Child | None = None,
    deadline_s: float = 30.0,
    poll_s: float = POLL_S,
) -> None:
    """Wait until `condition()` holds. ProcessError when `child` ends first or time runs out."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        if child and (code := child.poll()) is not None:
            raise ProcessError(
                f"{child.name} ended with status {code} before {what}:\n{child.tail()}"
            )
        if time.monotonic() >= deadline:
            log = f"; the end of its log:\n{child.tail()}" if child else ""
            raise ProcessError(f"not within {deadline_s:.0f} s: {what}{log}")
        time.sleep(poll_s)


def answers_on(port: int) -> Callable[[], bool]:
    """Condition: something accepts connections on 127.0.0.1:`port`."""

    def check() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return check


def answers_at(
    url: str, *, status: int = 200, context: ssl.SSLContext | None = None
) -> Callable[[], bool]:
    """Condition: a GET of `url` answers with `status`. Proxies of the environment are not used."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )

    def check() -> bool:
        try:
            with opener.open(url, timeout=2) as response:
                return bool(response.status == status)
        except urllib.error.HTTPError as error:
            return error.code == status
        except OSError:  # not listening yet, or not speaking TLS yet
            return False

    return check


def logged(child: Child, pattern: str) -> Callable[[], bool]:
    """Condition: a line of the child's log matches `pattern`, counted from now on."""
    begin = child.log.stat().st_size if child.log.exists() else 0
    compiled = re.compile(pattern.encode())

    def check() -> bool:
        with child.log.open("rb") as file:
            file.seek(begin)
            return bool(compiled.search(file.read()))

    return check
