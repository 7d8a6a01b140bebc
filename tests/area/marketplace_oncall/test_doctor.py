"""manage.py doctor: one line a check, and an exit status that says how bad it is."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import OperationalError

from devstack.ports import free_port
from kernel.clock import now
from kernel.sealed import parse_key
from marketplace.accounts import switches
from marketplace.oncall import probes
from marketplace.oncall.table import TABLE
from provisioner.models import Cluster
from tests.area.provisioner.yard import make_yard

pytestmark = pytest.mark.django_db


def doctor(*words: str) -> tuple[int, str]:
    """(exit status, what it printed)."""
    out = StringIO()
    try:
        call_command("doctor", *words, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def findings() -> dict[str, dict[str, str]]:
    status, printed = doctor("--json")
    rows = json.loads(printed)
    worst = max(({"ok": 0, "warn": 1, "FAIL": 2}[row["verdict"]] for row in rows), default=0)
    assert status == worst
    return {row["check"]: row for row in rows}


def test_all_well_is_status_0_with_a_line_for_each_check() -> None:
    make_yard()
    status, printed = doctor()
    lines = printed.splitlines()
    assert (status, [line for line in lines if not line.startswith("ok ")]) == (0, [])
    names = [line.split(":")[0].split(maxsplit=1)[1] for line in lines]
    base = ["database", "clock", "migrations", "broker", "Stripe", "sealing key", "switches"]
    assert names == [*base, *(alarm.name for alarm in TABLE)]


def test_a_warning_is_status_1_and_says_what_to_do() -> None:
    yard = make_yard()
    Cluster.objects.filter(pk=yard.cluster.pk).update(
        last_positive_at=now() - timedelta(seconds=40)
    )
    status, printed = doctor()
    (line,) = [line for line in printed.splitlines() if not line.startswith("ok ")]
    assert status == 1
    assert line.startswith("warn list_old: 4")
    assert f"cluster={yard.cluster.pk}" in line
    assert "threshold 30 / 60" in line
    assert line.endswith("See docs/runbooks/cluster-dark.md")


def test_a_page_is_status_2_whatever_else_is_well() -> None:
    yard = make_yard()
    Cluster.objects.filter(pk=yard.cluster.pk).update(last_positive_at=now() - timedelta(hours=1))
    status, printed = doctor()
    assert status == 2
    assert "\nFAIL list_old: " in printed


def test_another_sealing_key_is_found_before_a_cluster_is_called(settings: Any) -> None:
    make_yard()
    settings.GPUYARD_SEALING_KEY = parse_key("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")
    found = findings()["sealing key"]
    assert (found["verdict"], found["measured"]) == ("FAIL", "does not open a token")


@pytest.mark.parametrize(
    ("key", "base", "verdict"),
    [
        ("sk_live_x", "https://api.stripe.com", "ok"),
        ("sk_test_x", "https://api.stripe.com", "ok"),
        ("sk_test_x", "http://127.0.0.1:9", "ok"),
        ("sk_live_x", "http://127.0.0.1:9", "FAIL"),
        ("pk_live_x", "https://api.stripe.com", "FAIL"),
    ],
)
def test_the_key_and_the_address_of_stripe(
    settings: Any, key: str, base: str, verdict: str
) -> None:
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = key, base
    found = findings()["Stripe"]
    assert found["verdict"] == verdict
    assert key not in json.dumps(found)


def test_a_dead_broker(settings: Any) -> None:
    settings.CELERY_BROKER_URL = f"redis://:secret@127.0.0.1:{free_port()}/0"
    found = findings()["broker"]
    assert (found["verdict"], found["measured"]) == ("FAIL", "ConnectionError")
    assert "secret" not in json.dumps(found)


def test_a_pending_migration_is_named() -> None:
    last = MigrationRecorder.Migration.objects.filter(app="marketplace").latest("id")
    last.delete()
    found = findings()["migrations"]
    assert (found["verdict"], found["measured"]) == (
        "FAIL",
        f"1 pending: marketplace.{last.name}",
    )


@pytest.mark.parametrize(("seconds", "verdict"), [(1, "ok"), (5, "warn"), (60, "FAIL")])
def test_clocks_apart(seconds: int, verdict: str) -> None:
    with patch("marketplace.oncall.doctor.now", lambda: now() + timedelta(seconds=seconds)):
        assert findings()["clock"]["verdict"] == verdict


def test_a_switch_that_is_on_is_a_warning() -> None:
    switches.turn(acting="console", name="stop_charging", on=True, note="Prices are wrong")
    switches.forget()
    found = findings()["switch stop_charging"]
    assert found["verdict"] == "warn"
    assert "by console: Prices are wrong." in found["measured"]


def test_without_a_database_the_rest_is_still_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead() -> None:
        raise OperationalError("password=secret")

    monkeypatch.setattr(probes, "ask_database", dead)
    found = findings()
    assert set(found) == {"database", "broker", "Stripe"}
    assert found["database"]["measured"] == "OperationalError"
