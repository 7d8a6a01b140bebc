"""Runs one command so that neither it nor any of its descendants outlives the one who started it.

A script of its own, standard library only, one guard per command:

    guard.py PID_FD STOP_SIGNAL GRACE_SECONDS UID COMMAND...

When its starter is gone, or asks for it, the guard sends STOP_SIGNAL to the command and, after the
grace, kills everything left. Being a child subreaper, it stays an ancestor of daemonized and
orphaned descendants, so a pool worker whose parent was killed ends too, as it would in a container.

Started by devstack.process, PID_FD is where it reports the command's process id, and its standard
input is the lifeline: the starter holds the other end, which closes on purpose or with the starter.
It sits in a session of its own, so Ctrl-C and a kill of the starter's group pass it by. Started by
devstack.bootstrap, PID_FD is -1, there is no lifeline, and Ctrl-C is what asks for the stop.

With GPUYARD_BEHIND in the environment, the guard and all below it run behind everything else.

What a guard cannot survive is being killed itself; then the kernel signals the command alone.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# How often the guard looks whether its starter still is its parent: needed without a lifeline, and
# when a fork of the starter holds the lifeline open after the starter's death.
PARENT_CHECK_S = 2.0

# The most a command gets when its starter was killed. Its neighbours are being stopped in the same
# moment, so what it still wants to tidy up fails anyway; a database needs a second or two.
ORPHAN_GRACE_S = 5.0


# With a weight of a thirtieth one leaves the processors to others, and is not starved for minutes.
BEHIND = 15


def step_back() -> None:
    """Run behind everything else. Where the kernel groups processes by session, priorities count
    within a group alone, so the group of this session steps back as well."""
    os.setpriority(os.PRIO_PROCESS, 0, BEHIND)
    while True:
        try:
            with open("/proc/self/autogroup", "w") as group:
                group.write(str(BEHIND))
        except FileNotFoundError:
            return  # a kernel without such groups
        except BlockingIOError:
            time.sleep(0.05)  # one may ask ten times a second, all users together
        else:
            return


def prctl(option: int, value: int) -> None:
    """Set a process attribute; OSError when the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl refused")


def descendants(root: int) -> set[int]:
    """Ids of all living descendants of `root`, zombies left out."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command name may hold spaces and brackets: fields count from its last bracket.
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
        children.setdefault(int(parent), []).append(0 if state == b"Z" else int(name))
    found: set[int] = set()
    todo = [root]
    while todo:
        for pid in children.get(todo.pop(), []):
            if pid and pid not in found:
                found.add(pid)
                todo.append(pid)
    return found


def start(command: list[str], uid: int, stop_signal: int) -> int:
    """Fork and exec the command, as `uid` when that is not negative; its process id."""
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        if uid >= 0:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        # After the change of user, which clears it. Should the guard be gone already, the signal
        # would never come.
        prctl(PR_SET_PDEATHSIG, stop_signal)
        if os.getppid() != guard:
            os._exit(1)
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def kill_all() -> None:
    """SIGKILL every descendant, until none is left: they may fork while being counted."""
    while left := descendants(os.getpid()):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        # The kernel needs a moment to make zombies of them. They are left to the main loop, which
        # must see the exit status of the command.
        time.sleep(0.005)


def reap() -> dict[int, int]:
    """Collect ended children: process id -> exit code, negative for a signal."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def main(arguments: list[str]) -> int:
    """Run until the command ended or its starter did; its exit status, 128+n for signal n."""
    pid_fd, stop_signal, grace, uid = (int(text) for text in arguments[:4])
    starter = os.getppid()
    if os.environ.get("GPUYARD_BEHIND"):
        step_back()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, stop)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop if pid_fd < 0 else signal.SIG_IGN)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Whatever else the starter passed on (a lock that lives as long as the guard) stays here.
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:  # the descriptor of the listing itself, closed by now
                continue

    child = start(arguments[4:], uid, stop_signal)
    watched = select.poll()
    watched.register(wake_read, select.POLLIN)
    if pid_fd >= 0:
        os.write(pid_fd, str(child).encode())
        os.close(pid_fd)
        watched.register(0, select.POLLIN)
    begun: float | None = None  # when the command was asked to stop
    patience: float = grace
    while True:
        ended = reap()
        if child in ended:
            kill_all()
            code = ended[child]
            return code if code >= 0 else 128 - code
        timeout = PARENT_CHECK_S
        if begun is not None:
            timeout = min(timeout, begun + patience - time.monotonic())
            if timeout <= 0:
                kill_all()
                continue
        for fd, _ in watched.poll(timeout * 1000):
            if fd == wake_read:
                os.read(wake_read, 4096)
            elif not os.read(0, 4096):
                watched.unregister(0)
                stopping = True
        orphaned = os.getppid() != starter
        if orphaned and pid_fd >= 0:
            patience = min(grace, ORPHAN_GRACE_S)
        if (stopping or orphaned) and begun is None:
            begun = time.monotonic()
            try:
                os.kill(child, stop_signal)
            except ProcessLookupError:
                continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
