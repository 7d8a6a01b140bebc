"""Receivers on loopback, which the operator's setting allows here, and time that tests set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from marketplace.http import ratelimit
from tests.market import Renter, make_renter
from tests.receivers import LOOPBACK, Receiver


@pytest.fixture(autouse=True)
def fresh_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets())


@pytest.fixture
def receive(tmp_path: Path, settings) -> Iterator[Callable[..., Receiver]]:
    """Starts a receiver that the product may reach and whose certificate it trusts."""
    started: list[Receiver] = []
    settings.GPUYARD_WEBHOOK_NETWORKS = LOOPBACK

    def start(decide: Any = None) -> Receiver:
        receiver = Receiver(tmp_path, decide)
        started.append(receiver)
        trusted = tmp_path / f"trusted-{len(started)}.pem"
        trusted.write_text("".join(each.ca_file.read_text() for each in started))
        settings.GPUYARD_WEBHOOK_CA_FILE = str(trusted)
        return receiver

    yield start
    for receiver in started:
        receiver.close()


@pytest.fixture
def renter(transactional_db: None) -> Renter:
    return make_renter()


@pytest.fixture
def at(transactional_db: None) -> Iterator[Callable[[datetime], None]]:
    """Set the platform's clock of this connection."""

    def set_clock(moment: datetime) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [moment.isoformat()])

    yield set_clock
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', '', false)")
