"""The simulator as a process: ready line, memory across a kill, end with its parent."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stripe

from devstack.stripe.control import Control
from devstack.stripe.server import StripeSim

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk_test_process"


def _start(*more: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "devstack.stripe", "--api-key", KEY, *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"ready at (http://127\.0\.0\.1:\d+)", line)
    assert found, line
    return process, found[1]


def _client(url: str) -> Any:
    return stripe.StripeClient(KEY, base_addresses={"api": url}).v1


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_it_starts_soon_serves_and_ends_on_sigterm() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process, url = _start()
    assert _client(url).customers.create({"name": "x"}).name == "x"
    process.terminate()
    assert process.wait(10) == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU time, since other work on the machine is no fault of the start: building the oracle
    # must not make the demo wait.
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 3


def test_a_killed_simulator_remembers_everything_it_answered(tmp_path: Path) -> None:
    process, url = _start("--state", str(tmp_path))
    v1 = _client(url)
    owner = v1.customers.create({"name": "x"}, {"idempotency_key": "cust:1"})
    card = v1.payment_methods.attach("pm_card_visa", {"customer": owner.id})
    v1.payment_intents.create(
        {
            "amount": 1000,
            "currency": "usd",
            "customer": owner.id,
            "payment_method": card.id,
            "off_session": True,
            "confirm": True,
        }
    )
    Control(url).advance(5000)
    before = Control(url).state()
    process.kill()
    process.wait(10)
    # A kill in mid-write leaves a torn last line: that write was never answered.
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('["customer", "cus_torn", {"id":')
    process, url = _start("--state", str(tmp_path))
    try:
        after = Control(url).state()
        assert after["objects"] == before["objects"]
        assert after["balance"] == before["balance"]
        assert after["now"] >= before["now"]
        v1 = _client(url)
        again = v1.customers.create({"name": "x"}, {"idempotency_key": "cust:1"})
        assert again.id == owner.id
        assert v1.payment_methods.list({"customer": owner.id}).data[0].id == card.id
    finally:
        process.terminate()
        process.wait(10)


def test_a_restart_on_another_address_of_the_shop_forgets_the_old_one(tmp_path: Path) -> None:
    for port in (9, 10):
        url = f"http://127.0.0.1:{port}/webhook"
        with StripeSim(state=tmp_path, webhook_url=url, webhook_secret="whsec_1") as sim:
            assert [e["url"] for e in sim.control.objects("webhook_endpoint")] == [url]


def test_a_busy_port_is_a_clear_error() -> None:
    process, url = _start()
    try:
        port = url.rsplit(":", 1)[1]
        other = subprocess.run(
            [sys.executable, "-m", "devstack.stripe", "--port", port],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert other.returncode != 0
        assert f"port {port}" in other.stderr
        assert "Traceback" not in other.stderr
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_it_ends_with_its_parent() -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'devstack.stripe'],"
        " stdout=subprocess.PIPE, text=True)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)

    def gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return status == "Z"

    _until(gone, "the simulator outlived its parent")
