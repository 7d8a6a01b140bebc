"""Problems that renters report: stored as things stood, answered once, mailed, and bounded."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail
from django.db import transaction
from django.test import Client

from billing import facade as billing
from kernel.clock import hour_of, now
from kernel.ids import new_id, parse, public
from marketplace.accounts import mail as mailing
from marketplace.models import AuditEntry, ProblemReport
from marketplace.rentals import problems
from provisioner import facade as provisioner
from provisioner.models import Instance, ReadyInterval
from tests import market
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api
from tests.area.marketplace_portal.test_pages import rent
from tests.area.marketplace_portal.test_returns import member
from tests.area.marketplace_portal.visitors import Visitor, ids, visitor_of
from tests.columns import Window, columns


def api(visitor: Visitor) -> Api:
    """The same person over the API, each answer checked against its description."""
    return Api(Client(), visitor.person.secret)


def charged(rental: str) -> str:
    """A charge of the rental's first minute."""
    instance = Instance.objects.get(rental_ref=parse("rental", rental))
    start = hour_of(now()) - timedelta(hours=1)
    proven = ReadyInterval.objects.create(
        instance=instance,
        cluster_id=instance.cluster_id,
        rental_ref=instance.rental_ref,
        gpus=1,
        pod_uid="a",
        opened_at=start,
        charged_to=start,
    )
    window = Window(instance.rental_ref, proven.id, start, start + timedelta(seconds=60))
    with transaction.atomic():
        billing.meter_started(rental_ref=instance.rental_ref, at=start)
        billing.post_usage(windows=columns([window]))
    return public("charge", billing.charges(rental_ref=instance.rental_ref)[0].id)


def test_a_report_keeps_how_it_stood_and_the_answer_is_mailed(
    renter: Visitor, supply: market.Supply
) -> None:
    rental = rent(renter, supply)
    page = renter.get(f"/rentals/{rental}")
    assert f'href="/reports/new?rental={rental}"' in page.text
    form = renter.get(f"/reports/new?rental={rental}")
    said = "It is <b>slow</b>.\nThe fan too."
    sent = renter.send(form, "/reports/new", text=said)
    assert (sent.status_code, sent["Location"]) == (303, "/reports")
    assert renter.send(form, "/reports/new", text=said).status_code == 303, "a double click"
    row = ProblemReport.objects.get()
    assert row.text == said
    assert row.seen["rental"]["state"] == "provisioning"
    assert row.seen["rental"]["price_per_hour"] == "2.0000"
    assert [event["state"] for event in row.seen["rental"]["events"]] == ["provisioning"]
    node = provisioner.instances(rental_ref=parse("rental", rental))[0].node
    assert row.place["node"] == node

    ann = member("ann")
    queue = ann.get("/staff/reports")
    assert "It is &lt;b&gt;slow" in queue.text
    assert node in queue.text
    assert f"/staff/rentals/{rental}/explain" in queue.text
    assert "first proven ready" not in ann.get(f"/staff/rentals/{rental}/explain").text
    assert "ordered by usr_" in ann.get(f"/staff/rentals/{rental}/explain").text
    path = f"/staff/reports/{row.public_id}/answer"
    assert ann.post(path, {"idempotency_key": "blank", "answer": " "}).status_code == 422
    assert ann.send(queue, path, answer="A <i>fan</i> was\nreplaced.").status_code == 303
    late = ann.post(path, {"idempotency_key": "again", "answer": "no"})
    assert (late.status_code, "answered already" in late.text) == (409, True)

    shown = renter.get("/reports").text
    assert "A &lt;i&gt;fan&lt;/i&gt; was<br>replaced." in shown
    assert node not in shown, "which node it was is the owner's matter"
    mailing.deliver()
    (told,) = [one for one in mail.outbox if "was answered" in one.subject]
    assert told.to == [renter.person.principal.user.email]
    assert "A <i>fan</i> was\nreplaced." in told.body
    assert "/reports" in told.body
    actions = AuditEntry.objects.filter(action__startswith="problem.").order_by("id")
    assert [(one.action, one.organization_ref) for one in actions] == [
        ("problem.report", renter.person.org),
        ("problem.answered", renter.person.org),
    ]
    assert actions[1].actor.startswith("staff:")


def test_a_report_about_a_charge_leads_to_the_form_that_gives_it_back(
    renter: Visitor, supply: market.Supply
) -> None:
    charge = charged(rent(renter, supply))
    assert f'href="/reports/new?charge={charge}"' in renter.get(f"/charges/{charge}").text
    form = renter.get(f"/reports/new?charge={charge}")
    assert renter.send(form, "/reports/new", text="I was not there").status_code == 303
    row = ProblemReport.objects.get()
    seen = row.seen["charge"]
    assert (seen["seconds"], seen["amount"]) == (60, "0.033333")
    assert row.rental is not None, "the charge's rental is known as well"
    ann = member("ann")
    assert "/staff/returns?organization=" in ann.get("/staff/reports").text
    filled = ann.get(
        f"/staff/returns?organization={renter.person.principal.org.public_id}&amount=0.033333"
        f"&transaction={seen['transaction']}&reason=Problem+report"
    )
    assert f'value="{seen["transaction"]}"' in filled.text
    assert 'value="0.033333"' in filled.text
    closing = {"idempotency_key": "c", "answer": "You were.", "decision": "close"}
    ann.post(f"/staff/reports/{row.public_id}/answer", closing)
    row.refresh_from_db()
    assert row.state == ProblemReport.State.CLOSED


def test_over_the_api(renter: Visitor, supply: market.Supply) -> None:
    rental = rent(renter, supply)
    caller = api(renter)
    made = caller.post("problem-reports", {"rental": rental, "text": "slow"})
    assert made.status_code == 201
    assert (made.data["rental"], made.data["state"], made.data["answer"]) == (rental, "open", None)
    about = caller.post("problem-reports", {"charge": charged(rental), "text": "too much"})
    assert about.data["seen"]["charge"]["seconds"] == 60
    both = caller.post("problem-reports", {"rental": rental, "charge": "chg_x", "text": "x"})
    assert (both.status_code, caller.post("problem-reports", {"text": "x"}).status_code) == (
        422,
        422,
    )
    assert caller.post("problem-reports", {"rental": rental, "text": " "}).status_code == 422
    listed = caller.get("problem-reports").data["items"]
    assert [one["id"] for one in listed] == [about.data["id"], made.data["id"]]
    assert "place" not in listed[0]
    other = visitor_of(market.make_renter("Other"))
    assert api(other).get("problem-reports").data["items"] == []
    stranger = api(other).post("problem-reports", {"rental": rental, "text": "x"})
    assert stranger.status_code == 404
    assert other.get(f"/reports/new?rental={rental}").status_code == 404
    assert other.get("/reports/new").status_code == 404


def test_staff_read_and_answer_over_the_api(
    renter: Visitor, supply: market.Supply, staff_api: Api
) -> None:
    report = api(renter).post("problem-reports", {"rental": rent(renter, supply), "text": "slow"})
    (shown,) = staff_api.get("staff/problem-reports?state=open").data["items"]
    assert shown["id"] == report.data["id"]
    assert shown["organization"] == renter.person.principal.org.public_id
    assert shown["place"]["cluster_name"] == supply.cluster.name
    answered = staff_api.post(
        f"staff/problem-reports/{shown['id']}/answer", {"answer": "Right.", "close": False}
    )
    assert (answered.status_code, answered.data["state"]) == (200, "answered")
    assert staff_api.get("staff/problem-reports?state=open").data["items"] == []


def test_an_organization_has_twenty_open_at_most(renter: Visitor, supply: market.Supply) -> None:
    caller, rental = api(renter), rent(renter, supply)
    body = {"rental": rental, "text": "slow"}
    for _ in range(problems.MOST_OPEN):
        assert caller.post("problem-reports", body).status_code == 201
    more = caller.post("problem-reports", body)
    assert (more.status_code, more.data["type"]) == (403, "/problems/quota_exceeded")
    assert ProblemReport.objects.count() == problems.MOST_OPEN
    row = ProblemReport.objects.earliest("id")
    ann = member("ann")
    ann.post(f"/staff/reports/{row.public_id}/answer", {"idempotency_key": "a", "answer": "ok"})
    assert caller.post("problem-reports", body).status_code == 201


def test_the_queue_is_oldest_first_and_costs_the_same_for_many(
    renter: Visitor, supply: market.Supply, django_assert_max_num_queries
) -> None:
    api(renter).post("problem-reports", {"rental": rent(renter, supply), "text": "slow"})
    first = ProblemReport.objects.get()
    for number in range(60):
        ProblemReport.objects.create(
            id=new_id(),
            organization=first.organization,
            reporter=first.reporter,
            rental=first.rental,
            text=f"number {number}",
            seen=first.seen,
            place=first.place,
        )
    ann = member("ann")
    with django_assert_max_num_queries(12):
        page = ann.get("/staff/reports")
    assert ids("rep", page.text)[0] == first.public_id
    with django_assert_max_num_queries(12):
        renter.get("/reports")


@pytest.fixture
def staff_api(transactional_db: None) -> Api:
    return people.api_of(people.staff())
