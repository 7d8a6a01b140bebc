"""R2: charged is what is proven, to the second and the micro-unit; what staff see of a break."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from billing.facade import reconciliation as billing
from billing.models import UsageLine
from billing.reconciliation.reads import BOOKS, STRIPE, mark
from kernel.clock import hour_of, now
from marketplace.models import AuditEntry, User
from marketplace.rentals.charge import charge
from marketplace.rentals.reconcile import _less, nightly, reconcile
from provisioner.models import Cluster, Instance, ReadyInterval
from tests.area.billing.conftest import corrupt
from tests.area.marketplace_accounts import people
from tests.authenticator import make_staff
from tests.market import make_renter, make_supply, order

pytestmark = pytest.mark.django_db(transaction=True)

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


@pytest.fixture
def begin() -> datetime:
    return hour_of(now()) - 5 * HOUR


@pytest.fixture
def rental(begin: datetime) -> UUID:
    """Proven and charged: an interval that ended, one in parts of seconds, one that goes on."""
    supply = make_supply(2)
    status, made = make_renter().call("POST", "/rentals", order(supply.offer))
    assert status == 202, made
    instance = Instance.objects.get(cluster=supply.cluster)
    Cluster.objects.filter(pk=supply.cluster.pk).update(last_positive_at=now())
    part = timedelta(milliseconds=400)
    _interval(instance, begin, begin + 100 * SECOND)
    _interval(instance, begin + 110 * SECOND + part, begin + 2 * HOUR + part)
    _interval(instance, begin + 3 * HOUR, None)
    charge()
    return instance.rental_ref


def _interval(instance: Instance, opened: datetime, closed: datetime | None) -> None:
    ReadyInterval.objects.create(
        instance=instance,
        cluster_id=instance.cluster_id,
        rental_ref=instance.rental_ref,
        gpus=1,
        pod_uid="a",
        opened_at=opened,
        closed_at=closed,
        good_until=closed,
        final=closed is not None,
        charged_to=opened if not opened.microsecond else opened.replace(microsecond=0) + SECOND,
    )


def texts() -> list[str]:
    return [view.text.partition(": ")[2] for view in billing.breaks(state="open")]


def test_what_is_charged_is_what_is_proven(rental: UUID) -> None:
    assert reconcile(full=True) == 0
    assert reconcile() == 0
    assert texts() == []


def last(rental: UUID) -> int:
    return UsageLine.objects.filter(meter=rental).count()


def _proof(change: str) -> Callable[[UUID, datetime], str]:
    def corrupted(rental: UUID, begin: datetime) -> str:
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE provisioner_readyinterval SET {change} WHERE id ="
                " (SELECT id FROM provisioner_readyinterval ORDER BY opened_at LIMIT 1)"
            )
        return ""

    return corrupted


def _line(change: str, text: str) -> Callable[[UUID, datetime], str]:
    def corrupted(rental: UUID, begin: datetime) -> str:
        which = f"rental_ref = '{rental}' AND seq = 2"
        corrupt("billing_usageline", f"UPDATE billing_usageline SET {change} WHERE {which}")
        return text

    return corrupted


def _meter(change: str, text: str) -> Callable[[UUID, datetime], str]:
    def corrupted(rental: UUID, begin: datetime) -> str:
        corrupt("billing_rentalmeter", f"UPDATE billing_rentalmeter SET {change}")
        return text

    return corrupted


@pytest.mark.parametrize(
    "corrupted",
    [
        _proof("good_until = good_until - interval '10 s', closed_at = closed_at - interval '5 s'"),
        _proof("good_until = good_until + interval '5 s', closed_at = closed_at + interval '9 s'"),
        _line(
            "amount_micro = amount_micro + 1, fee_micro = fee_micro + 1",
            "charge 2 does not cost what its seconds cost",
        ),
        _line(
            "provider_micro = provider_micro + 1, fee_micro = fee_micro - 1",
            "charge 2 does not cost what its seconds cost",
        ),
        _meter("charged_micro = charged_micro - 1", "its total is not what its seconds cost"),
        _meter("provider_charged_micro = 0", "its provider's total is not what its seconds cost"),
    ],
)
def test_one_corrupted_row_names_its_rental_and_nothing_else(
    rental: UUID, begin: datetime, corrupted: Callable[[UUID, datetime], str]
) -> None:
    text = corrupted(rental, begin)
    assert reconcile(full=True) == 1
    ((subject, said),) = [(one.subject, one.text) for one in billing.breaks(state="open")]
    assert subject == f"rental:{rental}"
    assert text in said
    assert text or "charged" in said


def test_a_charge_whose_window_nobody_proved_is_named(rental: UUID, begin: datetime) -> None:
    ReadyInterval.objects.order_by("opened_at")[0].delete()
    reconcile(full=True)
    stamp = f"{begin:%Y-%m-%d %H:%M:%S} to {begin + 100 * SECOND:%H:%M:%S}"
    assert texts() == [f"charged and not proven {stamp}"]


def test_proof_that_is_not_charged_is_named_and_gone_when_it_is(
    rental: UUID, begin: datetime
) -> None:
    instance = Instance.objects.get(rental_ref=rental)
    _interval(instance, begin + 2 * HOUR + 10 * SECOND, begin + 2 * HOUR + 70 * SECOND)
    assert reconcile(full=True) == 1
    assert texts() == [
        f"not charged {begin + 2 * HOUR + 10 * SECOND:%Y-%m-%d %H:%M:%S} "
        f"to {begin + 2 * HOUR + 70 * SECOND:%H:%M:%S}"
    ]
    charge()  # late, and after later hours were charged
    assert reconcile() == 0
    assert texts() == []


def test_a_night_is_compared_once(rental: UUID, begin: datetime) -> None:
    nightly()
    first = billing.reconciled().usage_to
    assert first is not None
    ReadyInterval.objects.order_by("opened_at")[0].delete()
    nightly()
    assert texts() == [], "it is still the same night"
    reconcile()
    assert len(texts()) == 1


def test_parts_of_windows_that_lie_in_no_other() -> None:
    day = datetime(2026, 3, 1)

    def at(*spans: tuple[int, int]) -> list[tuple[datetime, datetime]]:
        return [(day + low * SECOND, day + high * SECOND) for low, high in spans]

    assert _less(at((0, 10)), at()) == at((0, 10))
    assert _less(at((0, 10)), at((0, 10))) == []
    assert _less(at((0, 10), (20, 30)), at((5, 25))) == at((0, 5), (25, 30))
    assert _less(at((0, 10)), at((2, 3), (5, 6))) == at((0, 2), (3, 5), (6, 10))


def test_staff_look_after_a_break_over_the_api(rental: UUID) -> None:
    staff = people.api_of(people.staff())
    ReadyInterval.objects.order_by("opened_at")[0].delete()
    reconcile()
    (row,) = staff.get("staff/breaks?state=open").data["items"]
    assert (row["rule"], row["check"], row["state"]) == ("R2", "usage_proven", "open")
    assert staff.post(f"staff/breaks/{row['id']}/owner", {"owner": "Ada"}).data["owner"] == "Ada"
    noted = staff.post(f"staff/breaks/{row['id']}/note", {"note": "an interval is gone"})
    assert (noted.status_code, noted.data["note"]) == (200, "an interval is gone")
    detail = staff.get(f"staff/breaks/{row['id']}").data
    kinds = {one["kind"] for one in detail["transactions"]}
    assert "hold" in kinds
    done = staff.post(f"staff/breaks/{row['id']}/resolve", {"note": "given back by hand"})
    assert (done.data["state"], done.data["resolved_by"][:6]) == ("resolved", "staff:")
    assert staff.post(f"staff/breaks/{row['id']}/resolve", {"note": "x"}).status_code == 409
    actions = AuditEntry.objects.filter(object=row["id"]).values_list("action", flat=True)
    assert sorted(actions) == ["break.note", "break.owner", "break.resolve"]
    assert staff.get("staff/breaks?state=open").data["items"] == []
    about = staff.get("staff/reconciliation").data
    assert (about["payouts_blocked"], about["stripe_to"]) == (False, None)
    assert about["coverage"]["cash"] == "1000.0000"


def test_the_books_page_is_green_then_red_and_leads_down_to_the_postings(rental: UUID) -> None:
    make_staff(email="staff@example.com", password="a long word for staff 1")
    client = Client()
    client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    reconcile()
    page = client.get("/staff/books").text
    assert "Not compared yet" in page, "of what was never held against Stripe nobody knows"
    assert "Right" not in page
    for name in (BOOKS, STRIPE):
        mark(name, now())
    assert "Right" in client.get("/staff/books").text
    ReadyInterval.objects.order_by("opened_at")[0].delete()
    reconcile()
    page = client.get("/staff/books").text
    assert "Broken" in page
    assert "charged and not proven" in page
    (view,) = billing.breaks()
    path = page.partition('href="/staff/books/bre_')[2].partition('"')[0]
    address = f"/staff/books/bre_{path}"
    shown = client.get(address).text
    assert "2010 Customers&#x27; credit held for rentals" in shown
    form = {"owner": "Ada", "note": "", "done": "1", "idempotency_key": "a"}
    assert client.post(f"{address}/look", form).status_code == 422, "resolved without a word"
    form |= {"note": "an interval was lost", "idempotency_key": "b"}
    assert client.post(f"{address}/look", form).status_code == 303
    assert billing.one_break(break_id=view.id).state == "resolved"
    assert "Right" in client.get("/staff/books").text
    txn = shown.partition('href="/staff/transactions/')[2].partition('"')[0]
    page = client.get(f"/staff/transactions/{txn}").text
    assert "2010 Customers&#x27; credit held for rentals" in page
    assert 'href="/staff/organizations/org_' in page
    assert client.get("/staff/transactions/txn_x").status_code == 404


def test_the_command_prints_a_table_and_fails(
    rental: UUID, capsys: pytest.CaptureFixture[str], settings
) -> None:
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"  # nobody answers there
    ReadyInterval.objects.order_by("opened_at")[0].delete()
    with pytest.raises(CommandError, match="Stripe did not answer"):
        call_command("reconcile")
    out = capsys.readouterr().out
    assert f"R2  {now():%Y-%m-%d}" in out
    assert f"rental:{rental}" in out
    assert "1 open breaks" in out
