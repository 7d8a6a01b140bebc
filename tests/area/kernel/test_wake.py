"""A transaction wakes each loop once, and only when it commits."""

from __future__ import annotations

import pytest
from django.db import transaction

from kernel import wake as waking
from kernel.wake import wake_on_commit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(waking, "wake", names.append)
    return names


def test_asked_for_often_it_is_sent_once_after_the_commit(sent: list[str]) -> None:
    with transaction.atomic():
        for task in ("a.task", "b.task", "a.task"):
            with transaction.atomic():
                wake_on_commit(task)
        assert sent == []
    assert sent == ["a.task", "b.task"]
    with transaction.atomic():
        wake_on_commit("a.task")
    assert sent == ["a.task", "b.task", "a.task"]


def test_what_is_rolled_back_wakes_nobody(sent: list[str]) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        wake_on_commit("a.task")
    assert sent == []


def test_a_wish_of_a_savepoint_that_is_rolled_back_does_not_stand_for_a_later_one(
    sent: list[str],
) -> None:
    with transaction.atomic():
        with transaction.atomic():
            wake_on_commit("a.task")
            transaction.set_rollback(True)
        wake_on_commit("a.task")
    assert sent == ["a.task"]
