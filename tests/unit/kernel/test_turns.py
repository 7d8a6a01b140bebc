"""A turn that fails keeps no other from its own, and the loop counts as failed all the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError
from structlog.testing import capture_logs

from kernel import turns as kernel_turns
from kernel.turns import each, in_turn, turns


def odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(str(number))
    return number * 10


def test_all_have_their_turn_and_the_first_failure_is_raised() -> None:
    with capture_logs() as logs, pytest.raises(ValueError, match="2"):
        each("count", [1, 2, 3, 4], odd)
    assert [(line["event"], line["row"]) for line in logs] == [
        ("count_failed", "2"),
        ("count_failed", "4"),
    ]
    assert all(line["log_level"] == "error" and line["exc_info"] for line in logs)


def test_what_works_gives_what_it_gave_in_order() -> None:
    assert each("count", (1, 3, 5), odd) == [10, 30, 50]
    assert each("count", (), odd) == []


def test_what_comes_after_a_failed_turn_is_done() -> None:
    done = []

    def work() -> None:
        with turns("steps") as turn:
            for name in ("a", "b", "c"):
                with turn(name):
                    if name == "a":
                        raise KeyError(name)
                    done.append(name)
            done.append("after all")

    with pytest.raises(KeyError):
        work()
    assert done == ["b", "c", "after all"]


def test_steps_of_a_task_do_not_wait_for_each_other() -> None:
    done = []

    def breaks() -> None:
        raise ValueError("first")

    with capture_logs() as logs, pytest.raises(ValueError, match="first"):
        in_turn("task", breaks, lambda: done.append("second"))
    assert done == ["second"]
    assert logs[0]["row"].endswith(
        "test_steps_of_a_task_do_not_wait_for_each_other.<locals>.breaks"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_whoever_is_told_to_stop_stops(error: type[BaseException]) -> None:
    done: list[int] = []

    def work(row: int) -> None:
        done.append(row)
        raise error

    with pytest.raises(error):
        each("count", [1, 2], work)
    assert done == [1]


@pytest.mark.parametrize(
    ("connection", "tried"),
    [(None, 1), (SimpleNamespace(closed=True), 1), (SimpleNamespace(closed=False), 3)],
    ids=["given up", "broken", "a lock of one row"],
)
def test_without_a_database_there_are_no_further_turns(
    connection: Any, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_turns, "connection", SimpleNamespace(connection=connection))
    done: list[int] = []

    def work(row: int) -> None:
        done.append(row)
        raise OperationalError("no")

    with pytest.raises(OperationalError):
        each("count", [1, 2, 3], work)
    assert len(done) == tried


def test_a_row_is_named_by_what_finds_it_again_and_by_nothing_else() -> None:
    key = uuid4()
    row = SimpleNamespace(id=key, email="person@example.com")

    def work(row: object) -> None:
        raise ValueError("no")

    with capture_logs() as logs, pytest.raises(ValueError, match="no"):
        each("mail", [row, (key, "rental.failed"), [row] * 100], work)
    names = [line["row"] for line in logs]
    assert names == [str(key), f"{key}, rental.failed", ", ".join([str(key)] * 20)]
