"""The pages about incidents: named, looked at, given; and what the renter sees of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from kernel.clock import hour_of, now
from kernel.ids import new_id, parse, public
from marketplace.models import Incident, IncidentLine, Rental, User
from marketplace.rentals.charge import charge
from marketplace.rentals.incident_posting import post_due
from provisioner.models import Cluster, Instance, ReadyInterval
from tests import market
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor
from tests.authenticator import make_staff

HOUR = timedelta(hours=1)


@pytest.fixture
def staff(supply: market.Supply) -> Visitor:
    make_staff(email="staff@example.com", password=PASSWORD)
    visitor = Visitor()
    visitor.client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return visitor


@pytest.fixture
def begin() -> datetime:
    return hour_of(now()) - 5 * HOUR


@pytest.fixture
def rental(renter: Visitor, supply: market.Supply, begin: datetime) -> str:
    """One card, proven and charged from five hours ago until two hours ago."""
    status, made = renter.person.call("POST", "/rentals", market.order(supply.offer))
    assert status == 202, made
    instance = Instance.objects.get(rental_ref=parse("rental", made["id"]))
    Cluster.objects.filter(pk=supply.cluster.pk).update(last_positive_at=now())
    ReadyInterval.objects.create(
        instance=instance,
        cluster_id=instance.cluster_id,
        rental_ref=instance.rental_ref,
        gpus=1,
        pod_uid="a",
        opened_at=begin,
        closed_at=begin + 3 * HOUR,
        good_until=begin + 3 * HOUR,
        final=True,
        charged_to=begin,
    )
    charge()
    return str(made["id"])


def test_named_looked_at_and_given(
    staff: Visitor, renter: Visitor, rental: str, begin: datetime
) -> None:
    page = staff.get("/staff/incidents")
    assert "None yet" in page.text
    cluster = Cluster.objects.get()
    assert f": {cluster.name}</option>" in page.text, "chosen by name, not typed"
    named = staff.send(
        page,
        "/staff/incidents",
        title="Slow <b>network</b>",
        cause="platform",
        basis="whole",
        percent="50",
        clusters=public("cluster", cluster.pk),
        from_at=f"{begin:%Y-%m-%dT%H:%M}",
        to_at=f"{begin + 2 * HOUR:%Y-%m-%dT%H:%M}",
    )
    path = f"/staff/incidents/{Incident.objects.get().public_id}"
    assert (named.status_code, named["Location"]) == (303, path)
    looked = staff.get(path)
    # Two hours at 2 USD and 50 %.
    assert "$2.00" in looked.text
    assert rental in looked.text
    assert "Slow &lt;b&gt;network" in looked.text
    assert not IncidentLine.objects.exists()
    assert staff.send(looked, f"{path}/post").status_code == 303
    assert staff.send(looked, f"{path}/post").status_code == 303  # a double click
    assert post_due() == 1
    assert 'data-state="posted"' in staff.get(path).text
    late = staff.post(f"{path}/withdraw", {"idempotency_key": "k", "reason": "too late"})
    assert late.status_code == 409
    own = renter.get(f"/rentals/{rental}")
    assert "Credit for an incident" in own.text
    assert "−$2.00" in own.text
    assert "Credit for an incident" in renter.get("/billing/transactions").text


def test_what_is_wrong_stands_at_its_field(staff: Visitor, begin: datetime) -> None:
    page = staff.get("/staff/incidents")
    answer = staff.send(
        page,
        "/staff/incidents",
        title="Slow network",
        cause="host",
        basis="measured",
        percent="50",
        from_at=f"{begin:%Y-%m-%dT%H:%M}",
        to_at=f"{begin - HOUR:%Y-%m-%dT%H:%M}",
    )
    assert answer.status_code == 422
    assert answer.text.count("field__error") == 2
    assert not Incident.objects.exists()


def test_two_hundred_rentals_cost_the_page_no_query_each(
    staff: Visitor, rental: str, begin: datetime, django_assert_max_num_queries: object
) -> None:
    incident = Incident.objects.create(
        title="Slow network",
        cause="platform",
        basis="whole",
        percent=50,
        from_at=begin,
        to_at=begin + HOUR,
        made_by="x",
        state="posting",
        ordered_at=now(),
    )
    first = Rental.objects.get()
    copies = [Rental.objects.get(pk=first.pk) for _ in range(200)]
    for copy in copies:  # the same one, under other ids
        copy.pk, copy.quote = new_id(), None
    Rental.objects.bulk_create(copies)
    IncidentLine.objects.bulk_create(
        IncidentLine(
            incident=incident, rental=copy, spans=[], seconds=1, amount_micro=1, provider_micro=0
        )
        for copy in copies
    )
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        assert staff.get(f"/staff/incidents/{incident.public_id}").text.count("ren_") >= 200
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        assert staff.get("/staff/incidents").status_code == 200
