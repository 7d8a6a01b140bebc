"""Logs of simulated containers: written, rotated, followed, and given out as kubelets do."""

from __future__ import annotations

import itertools
import threading

import pytest

from devstack.kube import podlogs
from devstack.kube.faults import Orders
from devstack.kube.podlogs import ContainerLog, PodLogs


def lines(log: ContainerLog | None, **asked) -> list[bytes]:
    assert log is not None
    return b"".join(log.read(**asked)).splitlines()


def test_a_log_is_read_whole_from_its_tail_or_since_a_time() -> None:
    log = ContainerLog()
    log.write(b"a", b"b", b"\xff\x00", b"d")
    assert lines(log) == [b"a", b"b", b"\xff\x00", b"d"]
    assert lines(log, tail=2) == [b"\xff\x00", b"d"]
    assert lines(log, tail=0) == []
    assert lines(log, since_ns=2**63) == []
    stamped = lines(log, tail=1, timestamps=True)[0]
    assert stamped.endswith(b"Z d")
    assert stamped.startswith(b"20")


def test_a_follower_sees_every_line_up_to_the_end() -> None:
    log = ContainerLog()
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.extend(lines(log, follow=True)))
    reader.start()
    for number in range(500):
        log.write(str(number).encode())
    log.end()
    reader.join(20)
    assert not reader.is_alive(), "the end of the container ends its followers"
    assert seen == [str(number).encode() for number in range(500)]


def test_what_is_written_with_the_end_is_still_read() -> None:
    """The last words and the end come at once; a waiting follower must see both."""
    for _ in range(50):
        log = ContainerLog()
        pieces = log.read(follow=True)
        got: list[bytes] = []
        reader = threading.Thread(target=lambda g=got, p=pieces: g.extend(p))
        reader.start()
        log.write(b"last words")
        log.end()
        reader.join(20)
        assert b"".join(got) == b"last words\n"


def test_old_lines_are_rotated_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podlogs, "_MOST_BYTES", 1000)
    log = ContainerLog()
    reader = log.read(follow=True)
    for number in range(100):
        log.write(b"%03d" % number + b"x" * 97)
    kept = lines(log)
    assert [line[:3] for line in kept] == [b"%03d" % number for number in range(90, 100)]
    assert next(reader).startswith(b"090"), "a follower that came too late goes on where it can"


def test_the_previous_run_is_the_one_that_ended() -> None:
    logs = PodLogs()
    assert logs.of("main", previous=False) is None
    logs.begin("main", ["GPU-1"])
    assert logs.of("main", previous=True) is None
    logs.end("fatal")
    assert lines(logs.of("main", previous=True))[-1] == b"fatal", "between two runs"
    logs.begin("main", [])
    assert lines(logs.of("main", previous=False)) == [b"main started; cards: none"]
    assert lines(logs.of("main", previous=True))[-1] == b"fatal"


def test_an_order_prints_text_bytes_and_floods() -> None:
    logs, orders = PodLogs(), Orders()
    logs.begin("main", [])
    for _ in logs.printing(orders.place("log", {}, {"text": "step {n}", "lines": 3})):
        pass
    for _ in logs.printing(orders.place("log", {}, {"hex": "ff0a1b5b", "lines": 1})):
        pass
    printed = lines(logs.of("main", previous=False))[1:]
    assert printed == [b"step 0", b"step 1", b"step 2", b"\xff", b"\x1b["]
    flood = logs.printing(orders.place("log", {}, {"lines": 100_000}))
    assert sum(1 for _ in flood) == 100, "in steps, so that the other pods go on"
    slow = logs.printing(orders.place("log", {}, {"lines": 5, "per_second": 4.0}))
    assert list(itertools.islice(slow, 2)) == [0.25, 0.25]
