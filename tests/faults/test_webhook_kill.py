"""A worker killed with -9 around a sending: the event comes, and comes again with the same id only
where it had left before the kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from kernel.clock import now
from marketplace.models import WebhookDelivery, WebhookEvent
from marketplace.webhooks import deliver
from marketplace.webhooks.claim import CLAIM
from tests.area.marketplace_webhooks.hooks import make_hook, states, tell
from tests.market import make_renter
from tests.receivers import LOOPBACK, Receiver

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def receiver(tmp_path: Path, settings) -> Iterator[Receiver]:
    started = Receiver(tmp_path)
    settings.GPUYARD_WEBHOOK_NETWORKS = LOOPBACK
    settings.GPUYARD_WEBHOOK_CA_FILE = str(started.ca_file)
    yield started
    started.close()


@pytest.mark.parametrize(("moment", "copies"), [("before", 1), ("after", 2)])
def test_killed_around_a_sending(
    receiver: Receiver, database_url: str, moment: str, copies: int
) -> None:
    renter = make_renter()
    hook = make_hook(renter, receiver.url)
    tell(renter, "topup.succeeded", "top_1")
    assert _run_worker(moment, receiver, database_url) == -signal.SIGKILL
    row = WebhookDelivery.objects.get()
    assert (row.state, row.attempts) == ("pending", 0)
    assert row.claim_token is not None, "it died holding its claim"
    tell(renter, "topup.succeeded", "top_1")  # whoever applied the fact does it again
    assert deliver.run() == 0, "nobody takes the claim before its time"
    assert row.claim_until is not None
    assert row.claim_until <= now() + CLAIM
    WebhookDelivery.objects.update(claim_until=now() - timedelta(seconds=1))
    assert deliver.run() == 1
    assert receiver.events() == [WebhookEvent.objects.get().public_id] * copies
    assert len({request.body for request in receiver.requests}) == 1
    assert all(request.signed_by(hook["secret"]) for request in receiver.requests)
    assert states() == ["succeeded"]


def _run_worker(moment: str, receiver: Receiver, database_url: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.webhook_worker", moment],
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "GPUYARD_WEBHOOK_NETWORKS": "127.0.0.0/8",
            "GPUYARD_WEBHOOK_CA_FILE": str(receiver.ca_file),
        },
        cwd=ROOT,
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    return done.returncode
