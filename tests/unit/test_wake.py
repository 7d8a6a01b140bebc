"""A dead broker costs a request next to nothing, and never its answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from celery import Celery
from django.conf import settings

from devstack.ports import free_port
from kernel import wake


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers: a stopped broker, a hung machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def send_to(port: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that a wake-up takes towards this port; asserts that it was counted as lost."""
    app = Celery("test", broker=f"redis://127.0.0.1:{port}/0", set_as_current=False)
    app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    monkeypatch.setattr(wake, "current_app", app)
    lost = wake.LOST.labels("test.task")
    before = lost._value.get()
    started = time.monotonic()
    wake.wake("test.task")
    took = time.monotonic() - started
    assert lost._value.get() == before + 1
    return took


def test_a_refused_connection_is_not_tried_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert send_to(free_port(), monkeypatch) < 1.0


def test_a_silent_broker_is_given_up(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert send_to(silent_port, monkeypatch) < 1.5
