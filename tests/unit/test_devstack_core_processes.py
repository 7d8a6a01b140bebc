"""Nothing outlives its starter: guards, supervisor, state directories, ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack import guard
from devstack.ports import free_port, release
from devstack.process import ProcessError, Supervisor, answers_on, logged, wait_until
from devstack.state import State, StateBusyError

PYTHON = [sys.executable, "-I", "-S", "-c"]

# A command with a worker that left its session and process group, as a daemon does, and both deaf
# to polite requests. The ids of both are written to the file named as its argument.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = os.fork()
if worker == 0:
    os.setsid()
else:
    with open(sys.argv[1] + ".part", "w") as file:
        file.write(f"{os.getpid()} {worker}")
    os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""

# The guard's arguments when make starts it: nobody to report to, Ctrl-C as the wish to end, 1 s.
AROUND = ["-1", str(int(signal.SIGINT)), "1", "-1", *PYTHON]

# A starter that owns a state directory and starts a STUBBORN command, then waits to be killed.
STARTER = """
import sys, time
from pathlib import Path
from devstack.process import Supervisor
from devstack.state import State
supervisor = Supervisor(State.acquire(Path(sys.argv[1])))
supervisor.start("stubborn", [sys.executable, "-c", sys.argv[3], sys.argv[2]], grace_s=1)
time.sleep(600)
"""


def ids_in(file: Path) -> list[int]:
    wait_until(file.exists, f"{file.name} written", deadline_s=10)
    return [int(word) for word in file.read_text().split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_stop_takes_the_deaf_and_the_daemonized_along(state: State) -> None:
    ids = state.path / "ids"
    with Supervisor(state) as supervisor:
        child = supervisor.start("stubborn", [*PYTHON, STUBBORN, ids], grace_s=1)
        pids = ids_in(ids)
        assert child.pid == pids[0]
        assert all(alive(pid) for pid in pids)
        assert child.stop() == 128 + signal.SIGKILL
        assert not any(alive(pid) for pid in pids)


def test_kill_of_a_command_takes_its_orphans_along(state: State) -> None:
    ids = state.path / "ids"
    with Supervisor(state) as supervisor:
        child = supervisor.start("stubborn", [*PYTHON, STUBBORN, ids])
        pids = ids_in(ids)
        child.signal(signal.SIGKILL)
        assert child.wait(5) == 128 + signal.SIGKILL
        assert not any(alive(pid) for pid in pids)


def test_nothing_outlives_a_killed_starter_and_its_directory_can_be_owned_again(
    tmp_path: Path,
) -> None:
    ids = tmp_path / "ids"
    owned = tmp_path / "owned"
    starter = subprocess.Popen([sys.executable, "-c", STARTER, owned, ids, STUBBORN])
    try:
        pids = ids_in(ids)
        with pytest.raises(StateBusyError, match=str(starter.pid)):
            State.acquire(owned)
    finally:
        starter.kill()
        starter.wait()
    # Waits for the guard, which holds the lock until everything it guards is gone.
    State.acquire(owned).close()
    assert not any(alive(pid) for pid in pids)


def test_a_fork_that_keeps_the_lifeline_open_does_not_keep_the_command(tmp_path: Path) -> None:
    """A forked copy of the starter holds the pipe's end; the guard sees that its parent is gone."""
    ids = tmp_path / "ids"
    forking = STARTER.replace("time.sleep(600)", "import os; os.fork(); time.sleep(600)")
    starter = subprocess.Popen(
        [sys.executable, "-c", forking, tmp_path / "owned", ids, STUBBORN], start_new_session=True
    )
    try:
        pids = ids_in(ids)
        starter.kill()
        starter.wait()
        wait_until(lambda: not any(alive(pid) for pid in pids), "all gone", deadline_s=10)
    finally:
        os.killpg(starter.pid, signal.SIGKILL)  # the copy


@pytest.mark.parametrize("asked_by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_guard_around_a_whole_command_passes_the_wish_to_end_on_once(
    tmp_path: Path, asked_by: signal.Signals
) -> None:
    """As make starts it: no lifeline, and what the command left behind ends with it."""
    ids = tmp_path / "ids"
    polite = STUBBORN.replace("SIGTERM, signal.SIG_IGN", "SIGINT, lambda *_: sys.exit(7)")
    ended = subprocess.Popen([sys.executable, "-ISs", guard.__file__, *AROUND, polite, ids])
    pids = ids_in(ids)
    ended.send_signal(asked_by)
    assert ended.wait(10) == 7, "the exit status is the command's own"
    assert not any(alive(pid) for pid in pids)


def test_a_guard_around_a_whole_command_ends_when_make_is_killed(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    words = [sys.executable, "-ISs", guard.__file__, *AROUND, STUBBORN, str(ids)]
    make = subprocess.Popen(
        [*PYTHON, f"import subprocess; subprocess.run({words!r})"], start_new_session=True
    )
    pids = ids_in(ids)
    make.kill()
    make.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), "all gone", deadline_s=10)


def test_an_orphaned_command_gets_five_seconds_at_most(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    patient = STARTER.replace("grace_s=1", "grace_s=60")
    starter = subprocess.Popen([sys.executable, "-c", patient, tmp_path / "owned", ids, STUBBORN])
    try:
        pids = ids_in(ids)
    finally:
        starter.kill()
        starter.wait()
    assert alive(pids[0])
    most = guard.ORPHAN_GRACE_S + guard.PARENT_CHECK_S + 5
    wait_until(lambda: not any(alive(pid) for pid in pids), "all gone", deadline_s=most)


def test_a_command_that_does_not_exist_is_told_with_its_name(state: State) -> None:
    with Supervisor(state) as supervisor:
        child = supervisor.start("missing", ["no-such-program"])
        with pytest.raises(ProcessError, match="cannot run no-such-program"):
            wait_until(lambda: False, "never", child=child, deadline_s=10)
        assert child.poll() == 127


def test_waiting_ends_when_the_child_dies_and_shows_its_last_words(state: State) -> None:
    with Supervisor(state) as supervisor:
        child = supervisor.start("short", [*PYTHON, "print('out of cards'); raise SystemExit(3)"])
        with pytest.raises(ProcessError, match=r"(?s)short ended with status 3.*out of cards"):
            wait_until(lambda: False, "ready", child=child, deadline_s=10)
        assert supervisor.ended() == [child]


def test_waiting_ends_at_its_deadline(state: State) -> None:
    began = time.monotonic()
    with pytest.raises(ProcessError, match="not within 0 s: the impossible"):
        wait_until(lambda: False, "the impossible", deadline_s=0.1)
    assert time.monotonic() - began < 5


def test_children_get_signals_as_programs_expect_and_no_terminal(state: State) -> None:
    """The guard ignores Ctrl-C; a command that inherited that could not be interrupted."""
    report = (
        "import signal, sys;"
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler,"
        " signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, repr(sys.stdin.read()))"
    )
    with Supervisor(state) as supervisor:
        child = supervisor.start("signals", [*PYTHON, report])
        assert child.wait(10) == 0
        assert child.tail().endswith("True True ''")


def test_log_lines_are_waited_for(state: State) -> None:
    code = "import time; print('listening on 7', flush=True); time.sleep(600)"
    with Supervisor(state) as supervisor:
        child = supervisor.start("talker", [*PYTHON, code])
        wait_until(logged(child, r"^listening on \d+$"), "listening", child=child)


def test_temporary_state_is_removed_with_what_was_put_elsewhere() -> None:
    state = State.temporary("test")
    inside = state.directory_for("ours", None)
    outside = state.directory_for("theirs", 65534) if os.geteuid() == 0 else inside
    (inside / "file").write_text("x")
    state.close()
    assert not state.path.exists()
    assert not outside.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as another user")
def test_a_server_of_another_user_gets_a_directory_that_it_can_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with State.acquire(closed / "state") as state:
        made = state.directory_for("server", 65534)
        assert closed not in made.parents
        done = subprocess.run(["touch", made / "file"], check=False, user=65534, group=65534)
        assert done.returncode == 0
    State.acquire(closed / "state").close()  # a new owner begins with an empty directory
    assert not made.exists()


def test_what_a_killed_owner_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, signal, tempfile; tempfile.tempdir = __import__('sys').argv[1]\n"
        "from devstack.state import State\n"
        "State.temporary('test'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    with State.temporary("test") as one, State.temporary("test") as other:
        assert not left.exists()
        assert one.path.exists(), "a directory in use was swept"
        assert one.path != other.path


def test_ports_are_given_out_once_even_before_anyone_listens() -> None:
    code = "from devstack.ports import free_port; import time; print(free_port()); time.sleep(600)"
    given = free_port()
    other = subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        reserved = int(other.stdout.readline())
        assert reserved != given
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("devstack.ports.LOWEST", reserved)
            patch.setattr("devstack.ports.HIGHEST", reserved)
            with pytest.raises(OSError, match="no free port"):
                free_port()
            other.kill()
            other.wait()
            assert free_port() == reserved, "a dead holder's reservation was kept"
        release(reserved)
    finally:
        other.kill()
        other.wait()
        other.stdout.close() if other.stdout else None
        release(given)
    assert not answers_on(given)()


def test_a_command_behind_everything_else_is_last_among_all_sessions(state: State) -> None:
    tell = "import os, pathlib; group = pathlib.Path('/proc/self/autogroup');"
    tell += (
        "print(os.nice(0), group.read_text().strip() if group.exists() else 'nice 15', flush=True)"
    )
    with Supervisor(state) as supervisor:
        behind = supervisor.start("behind", [*PYTHON, tell], env={"GPUYARD_BEHIND": "1"})
        usual = supervisor.start("usual", [*PYTHON, tell])
        assert behind.wait(10) == usual.wait(10) == 0
    assert behind.tail(1).startswith(f"{guard.BEHIND} ")
    assert behind.tail(1).endswith(f"nice {guard.BEHIND}")
    assert usual.tail(1).startswith(f"{os.nice(0)} ")
