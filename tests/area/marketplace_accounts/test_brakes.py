"""Staff and the mass brake: seeing it, letting go, and the marks in the audit trail."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from kernel.clock import now
from kernel.ids import public
from marketplace.models import AuditEntry
from provisioner.models import Brake
from tests.area.marketplace_accounts.people import Api
from tests.area.provisioner.yard import make_yard

pytestmark = pytest.mark.django_db


def pull() -> Brake:
    return Brake.objects.create(
        cluster=make_yard().cluster,
        cause=Brake.Cause.LIST,
        tripped_at=now() - timedelta(minutes=5),
        wanted=50,
        limit=10,
        detail="one list makes 50 instances look bad",
    )


def command(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_staff_see_a_brake_and_let_go_once(staff: Api) -> None:
    brake = pull()
    (shown,) = staff.get("staff/brakes").data["items"]
    assert shown["id"] == public("brake", brake.pk)
    assert (shown["cause"], shown["wanted"], shown["limit"]) == ("list", 50, 10)
    assert shown["cluster"] == public("cluster", brake.cluster_id or brake.pk)
    assert shown["released_at"] is None

    address = f"staff/brakes/{shown['id']}/release"
    assert staff.post(address, {}).status_code == 422
    assert staff.post(address, {"note": "  "}).status_code == 422
    brake.refresh_from_db()
    assert brake.released_at is None

    answer = staff.post(address, {"note": "the rack is really gone"})
    assert (answer.status_code, answer.data["note"]) == (200, "the rack is really gone")
    assert answer.data["released_by"].startswith("staff:usr_")
    row = AuditEntry.objects.get(action="brake.release")
    assert (row.object, row.details["note"]) == (shown["id"], "the rack is really gone")

    again = staff.post(address, {"note": "me too"})
    assert (again.status_code, again.data["type"]) == (409, "/problems/invalid_transition")
    assert AuditEntry.objects.filter(action="brake.release").count() == 1


def test_an_open_brake_is_a_figure_that_pages(client: Client) -> None:
    brake = pull()
    sample = f'gpuyard_brake_held{{cause="list",cluster="{brake.cluster_id}"}} 50.0'
    assert sample in client.get("/metrics").content.decode()


def test_the_command_line_lists_and_lets_go() -> None:
    brake = pull()
    name = public("brake", brake.pk)
    assert f"{name} " in command("brake", "list")
    assert "OPEN; 50 wanted, limit 10" in command("brake", "list")
    for identifier in ("brk_x", public("brake", brake.cluster_id or brake.pk)):
        with pytest.raises(CommandError, match="no such brake"):
            call_command("brake", "release", identifier, "--note", "x")
    assert "by console" in command("brake", "release", name, "--note", "looked")
    assert AuditEntry.objects.get(action="brake.release").actor == "console"
    with pytest.raises(CommandError, match="was released by console"):
        call_command("brake", "release", name, "--note", "again")


def test_a_restore_is_marked_once_and_audited() -> None:
    backup_at = (now() - timedelta(hours=1)).isoformat()
    first = command("restored", "--backup-time", backup_at)
    assert "holds everywhere" in first
    assert command("restored", "--backup-time", backup_at)[:30] == first[:30]
    assert Brake.objects.get().cause == "restored"
    assert AuditEntry.objects.get(action="database.restored").details == {"backup_at": backup_at}
    assert "everywhere restored: OPEN" in command("brake", "list")
    assert "0 unknown pods, 0 unknown objects" in command("unknown")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("yesterday", "no ISO time"),
        ("2026-11-27T08:00:00", "time zone"),
        ("2999-01-01T00:00:00+00:00", "future"),
    ],
)
def test_a_wrong_backup_time_stores_nothing(text: str, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        call_command("restored", "--backup-time", text)
    assert not Brake.objects.exists()
