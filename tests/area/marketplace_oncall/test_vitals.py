"""Each kind of lateness makes its own alarm and no other, and a scrape stays cheap."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.models import CallKind, StripeCall, StripeEvent
from config.schedules import BEAT
from kernel.clock import now
from kernel.ids import new_id
from kernel.vitals import Vital
from marketplace.accounts import audit, letters
from marketplace.models import (
    AbuseReport,
    AuditEntry,
    EmailToken,
    Incident,
    Letter,
    ProblemReport,
    Rental,
)
from marketplace.oncall.alarms import Level, judge
from marketplace.oncall.table import TABLE
from marketplace.oncall.vitals import everything
from provisioner.contracts import InstanceState
from provisioner.instances.move import move
from provisioner.models import Brake, Cluster, ClusterLoop, Instance, ReadyInterval
from tests.area.provisioner.yard import Yard, make_yard, rent, row_of
from tests.market import make_renter, make_supply, order

pytestmark = pytest.mark.django_db

# A scrape asks so many questions, whatever exists; another one costs every scrape of every process.
QUERIES = 27


def ago(**span: float) -> datetime:
    return now() - timedelta(**span)


def raised() -> dict[str, str]:
    """The alarms that are not quiet, with their level."""
    return {
        reading.alarm.name: reading.level.value
        for reading in judge(everything())
        if reading.level != Level.OK
    }


def measured(name: str) -> Vital:
    (found,) = [vital for vital in everything() if vital.name == name]
    return found


@pytest.fixture
def yard() -> Yard:
    return make_yard()


def settled(yard: Yard, **changes: Any) -> Instance:
    """An instance with nothing to do and nothing to tell; ``changes`` make it late."""
    view = rent(yard)
    Instance.objects.filter(pk=view.id).update(
        **{"followed_seq": 1, "due_at": None, "worked_at": None, **changes}
    )
    return row_of(view)


def test_a_quiet_platform_raises_nothing(yard: Yard) -> None:
    settled(yard)
    assert raised() == {}


def test_a_stale_cluster_pages(yard: Yard) -> None:
    Cluster.objects.filter(pk=yard.cluster.pk).update(last_positive_at=ago(seconds=40))
    assert raised() == {"list_old": "warn"}
    Cluster.objects.filter(pk=yard.cluster.pk).update(last_positive_at=ago(seconds=90))
    assert raised() == {"list_old": "page"}
    Cluster.objects.filter(pk=yard.cluster.pk).update(drain_requested_at=now())
    assert raised() == {}, "nobody waits for a retired cluster"


def test_a_dark_cluster_pages_only_with_machines_on_it(yard: Yard) -> None:
    dark = {
        "state": "unreachable",
        "state_since": ago(hours=2),
        "last_positive_at": ago(hours=2),
    }
    row = settled(yard, state=InstanceState.UNREACHABLE.value, state_since=ago(hours=2))
    Cluster.objects.filter(pk=yard.cluster.pk).update(**dark)
    assert raised() == {"cluster_dark": "page"}, "its instances are the dark cluster's, told once"
    Instance.objects.filter(pk=row.pk).update(state=InstanceState.GONE.value)
    assert raised() == {"cluster_unusable": "warn"}


def test_a_stuck_operation_pages(yard: Yard) -> None:
    row = settled(yard, state_since=ago(minutes=10))
    assert raised() == {"op_stuck": "page"}
    assert dict(measured("op_age").labels) == {"state": "reserved"}
    Instance.objects.filter(pk=row.pk).update(worked_at=now())
    assert raised() == {}, "an attempt is a sign of life"


def test_an_instance_that_runs_is_no_operation(yard: Yard) -> None:
    settled(yard, state=InstanceState.READY.value, state_since=ago(days=3))
    assert [vital for vital in everything() if vital.name == "op_age"] == []
    assert raised() == {}


def test_due_and_unclaimed_and_a_dead_workers_claim_are_told_apart(yard: Yard) -> None:
    row = settled(yard, due_at=ago(minutes=3))
    assert raised() == {"instances_due": "page"}
    assert measured("instances_due").value == 1
    claim = {"claim_token": new_id(), "claim_until": now() + timedelta(seconds=20)}
    Instance.objects.filter(pk=row.pk).update(**claim)
    assert raised() == {}, "somebody works at it"
    Instance.objects.filter(pk=row.pk).update(claim_until=ago(minutes=2))
    assert raised() == {"claims_expired": "warn"}
    Cluster.objects.filter(pk=yard.cluster.pk).update(retry_at=now() + timedelta(minutes=1))
    assert raised() == {}, "nobody may call that cluster now"


@pytest.mark.parametrize(
    ("loop", "alarm"), [("observe", {"loop_late": "page"}), ("watch", {"watcher_gone": "warn"})]
)
def test_a_loop_that_nobody_runs(yard: Yard, loop: str, alarm: dict[str, str]) -> None:
    ClusterLoop.objects.filter(kind=loop).update(due_at=ago(minutes=4))
    assert raised() == alarm
    ClusterLoop.objects.filter(kind=loop).update(
        claim_token=new_id(), claim_until=now() + timedelta(seconds=15)
    )
    assert raised() == {}


def test_loops_run_more_often_than_their_alarm_waits() -> None:
    """A period of an hour would call somebody for an hour after each cluster that joins."""
    late = next(alarm for alarm in TABLE if alarm.name == "loop_late")
    assert late.only is not None
    for kind in late.only["loop"]:
        assert BEAT[kind]["schedule"] < late.warn, kind


def test_events_that_no_rental_shows(yard: Yard) -> None:
    settled(yard, followed_seq=0, state_since=ago(seconds=90))
    assert raised() == {"events_behind": "warn"}


def interval(row: Instance, **changes: Any) -> None:
    opened = ago(hours=3)
    ReadyInterval.objects.create(
        **{
            "instance": row,
            "cluster_id": row.cluster_id,
            "rental_ref": row.rental_ref,
            "gpus": 1,
            "pod_uid": "a",
            "opened_at": opened,
            "charged_to": opened,
            **changes,
        }
    )


def test_proven_hours_that_are_not_charged(yard: Yard) -> None:
    row = settled(yard, state=InstanceState.READY.value)
    interval(row)
    assert raised() == {"tick_lag": "page"}
    ReadyInterval.objects.update(charged_to=now().replace(minute=0, second=0, microsecond=0))
    assert raised() == {}, "the present hour is charged at its end"


def test_a_closed_interval_is_late_from_its_end(yard: Yard) -> None:
    row = settled(yard, state=InstanceState.READY.value)
    end = ago(minutes=6)
    ended = {"closed_at": end, "good_until": end, "close_reason": "x"}
    interval(row, **ended, charged_to=ago(minutes=8))
    assert raised() == {}
    assert 300 < measured("intervals_unfinished_age").value < 420
    ReadyInterval.objects.update(final=True)
    assert raised() == {"tick_lag": "warn"}
    assert 300 < measured("tick_lag").value < 420
    ReadyInterval.objects.update(settled=True)
    assert raised() == {}


def test_a_pulled_brake_pages_at_once(yard: Yard) -> None:
    Brake.objects.create(
        cluster=yard.cluster, cause="list", tripped_at=ago(seconds=2), wanted=50, limit=10
    )
    assert raised() == {"brake_pulled": "page"}


def test_an_old_intent_and_an_old_event(db: None) -> None:
    intent = StripeCall.objects.create(
        kind=CallKind.CUSTOMER, key="cust:x", subject="x", created_at=ago(minutes=10)
    )
    assert raised() == {"outbox_old": "warn"}
    StripeCall.objects.filter(pk=intent.pk).update(created_at=ago(minutes=40))
    assert raised() == {"outbox_old": "page"}
    StripeCall.objects.filter(pk=intent.pk).update(state="stuck")
    assert raised() == {"stripe_stuck": "warn"}
    StripeCall.objects.filter(pk=intent.pk).update(
        state="pending", kind=CallKind.TRANSFER, error_code="not_ready", created_at=ago(hours=7)
    )
    assert raised() == {"payout_waits": "warn"}
    StripeCall.objects.filter(pk=intent.pk).update(state="done")
    StripeEvent.objects.create(
        id="evt_1", type="invoice.paid", raw="{}", source="poll", received_at=ago(minutes=31)
    )
    assert raised() == {"inbox_old": "page"}


def test_a_rental_that_does_not_move_and_one_that_waits(db: None) -> None:
    supply, renter = make_supply(2), make_renter()
    assert renter.call("POST", "/rentals", order(supply.offer))[0] == 202
    Instance.objects.update(followed_seq=1, due_at=None)
    StripeCall.objects.all().delete()
    audit.seal()
    assert raised() == {}
    Rental.objects.update(state_since=ago(minutes=20))
    assert raised() == {"rental_stuck": "warn"}
    Rental.objects.update(state="queued", queued_at=ago(hours=7))
    assert raised() == {"queue_long": "warn"}


def test_credits_that_were_agreed_to_and_are_not_booked(db: None) -> None:
    row = Incident.objects.create(
        title="Slow network", cause="platform", basis="whole", percent=50, made_by="x",
        from_at=ago(days=2), to_at=ago(days=1),
    )  # fmt: skip
    assert raised() == {}, "a draft promises nothing"
    Incident.objects.filter(pk=row.pk).update(state="posting", ordered_at=ago(minutes=9))
    assert raised() == {}
    Incident.objects.filter(pk=row.pk).update(ordered_at=ago(minutes=11))
    assert raised() == {"incident_unposted": "warn"}
    agreed = {"approved_at": ago(minutes=1), "approved_by": "y", "ordered_by": "x"}
    Incident.objects.filter(pk=row.pk).update(**agreed, needs_second=True)
    assert raised() == {}, "the second person has only just agreed"


def test_reports_that_nobody_answers(db: None) -> None:
    supply, renter = make_supply(2), make_renter()
    renter.call("POST", "/rentals", order(supply.offer))
    rental = Rental.objects.get()
    report = {"text": "Slow.", "rental": rental.public_id}
    assert renter.call("POST", "/problem-reports", report)[0] == 201
    Rental.objects.update(state="running")
    Instance.objects.update(followed_seq=1, due_at=None)
    audit.seal()
    assert raised() == {}
    ProblemReport.objects.update(created_at=ago(hours=25))
    assert raised() == {"report_waits": "warn"}
    answered = {"answered_at": now(), "answer": "Mended."}
    ProblemReport.objects.update(state="answered", **answered)
    assert raised() == {}
    AbuseReport.objects.create(provider=supply.offer.provider, rental=rental, text="It mines.")
    AbuseReport.objects.update(created_at=ago(hours=25))
    assert raised() == {"report_waits": "warn"}


def test_facts_that_no_mail_is_ordered_about(db: None) -> None:
    renter = make_renter()
    Letter.objects.all().delete()
    facts = {"name": "trainer", "at": "now", "text": "", "fault": "", "path": "/"}
    letters.tell(renter.org, "rental.failed", cause="x", facts=facts)
    EmailToken.objects.all().delete()
    audit.seal()
    assert raised() == {}
    Letter.objects.update(created_at=ago(minutes=11))
    assert raised() == {"mail_unsent": "warn"}
    letters.post()
    EmailToken.objects.update(sent_at=now())
    assert raised() == {}


def test_audit_rows_behind_the_chains_end_are_found(db: None) -> None:
    def record() -> None:
        audit.record(acting="platform", action="x.y", object="z", organization_ref=None)

    assert audit.unsealed() == (0, None)
    record()
    audit.seal()
    record()
    count, oldest = audit.unsealed()
    assert (count, oldest) == (1, AuditEntry.objects.order_by("-id")[0].ts)
    audit.seal()
    assert audit.unsealed() == (0, None)
    with transaction.atomic():
        AuditEntry.objects.create(actor="platform", action="x.y", object="z", ts=ago(minutes=2))
    assert raised() == {"audit_unsealed": "warn"}


def test_every_vital_is_a_gauge_and_every_alarm_too(yard: Yard) -> None:
    Cluster.objects.filter(pk=yard.cluster.pk).update(last_positive_at=ago(minutes=3))
    text = Client().get("/metrics").content.decode()
    for vital in everything():
        assert f"\n# TYPE {vital.metric} gauge\n" in text, vital.name
    assert f'gpuyard_cluster_list_age_seconds{{cluster="{yard.cluster.pk}"}}' in text
    assert 'gpuyard_alarm{level="page",name="list_old"} 1.0' in text
    assert 'gpuyard_alarm{level="warn",name="list_old"} 0.0' in text
    assert 'gpuyard_alarm{level="page",name="op_stuck"} 0.0' in text
    assert 'level="page",name="mail_unsent"' not in text, "what waits never pages"


def test_the_number_of_questions_is_fixed(yard: Yard) -> None:
    everything()  # the switches are read now and kept for two seconds
    with CaptureQueriesContext(connection) as few:
        everything()
    for _ in range(2):
        row = settled(make_yard())
        assert move(row, to=InstanceState.STOPPING, reason="host_lost", at=now())
    with CaptureQueriesContext(connection) as more:
        everything()
    assert len(few) == len(more) == QUERIES, [query["sql"][:90] for query in more]
