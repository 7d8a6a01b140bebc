"""The desk of staff: queues, what rings, unknown objects, switches, brakes, signs of fraud."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.contracts.disputes import DisputeState
from billing.models import Break, Dispute, Payment, UnknownObject
from kernel.clock import now
from kernel.ids import new_id, public
from marketplace.accounts import switches
from marketplace.accounts.access import Principal, principal_of
from marketplace.models import AuditEntry, Organization, Provider, Switch, User
from marketplace.oncall import desk
from provisioner.models import Brake, Cluster, PreflightResult, UnknownPod, UnknownVolume
from tests import market
from tests.area.marketplace_accounts import people
from tests.area.marketplace_portal.test_pages import rent
from tests.area.marketplace_portal.test_returns import member
from tests.area.marketplace_portal.visitors import Visitor, read


@pytest.fixture(autouse=True)
def fresh_switches() -> None:
    switches.forget()


def ann_acts() -> Principal:
    return principal_of(User.objects.get(email="ann@example.com"))


def counts() -> dict[str, int]:
    return {queue.name: queue.count for queue in desk.queues(ann_acts())}


def stranger_in(cluster: Cluster, model: type[UnknownPod] | type[UnknownVolume], name: str) -> None:
    model.objects.create(
        cluster=cluster,
        namespace="gpuyard-t1",
        name=name,
        uid=name,
        label=f"<b>{name}</b>",
        first_seen_at=now() - timedelta(days=2),
        last_seen_at=now(),
    )


def test_a_calm_desk_says_so(supply: market.Supply) -> None:
    page = member("ann").get("/staff/")
    assert "Nothing waits" in page.text
    assert set(counts().values()) == {0}


def test_every_queue_counts_what_waits_and_how_long(
    renter: Visitor, supply: market.Supply, settings: Any
) -> None:
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    ann, old = member("ann"), now() - timedelta(days=2)
    rental = rent(renter, supply)
    org = Organization.objects.filter(pk=renter.person.org)
    said = {"rental": rental, "text": "slow"}
    assert renter.person.call("POST", "/problem-reports", said)[0] == 201
    assert supply.owner.call("POST", "/provider/abuse-reports", said)[0] == 201
    org.update(state="frozen", frozen_at=old)
    Provider.objects.filter(pk=supply.provider.pk).update(
        state=Provider.State.APPLIED, created_at=old
    )
    Brake.objects.create(
        cluster=supply.cluster, cause="list", tripped_at=old, wanted=50, limit=10, detail="many"
    )
    Break.objects.create(
        rule="R1", name="balance_stored", subject="x", expected="1", found="2", text="x"
    )
    stranger_in(supply.cluster, UnknownPod, "pod-a")
    stranger_in(supply.cluster, UnknownVolume, "vol-a")
    UnknownObject.objects.create(
        stripe_id="pi_x", type="payment_intent", status="succeeded", currency="usd",
        customer="cus_x", names="topup", claimed_ref=new_id(), last_seen_at=now(),
    )  # fmt: skip
    Cluster.objects.filter(pk=supply.cluster.pk).update(preflight_state="failed")
    PreflightResult.objects.create(
        cluster=supply.cluster, rule="role", table_version=1, outcome="fail",
        measured="may <i>exec</i>", since=old, checked_at=now(),
    )  # fmt: skip
    payment = Payment.objects.latest("id")
    Dispute.objects.create(
        org_ref=payment.org_ref, payment=payment, stripe_id="du_1", reason="fraudulent",
        state=DisputeState.NEEDS_RESPONSE, amount_minor=100, due_by=now() + timedelta(days=7),
    )  # fmt: skip
    order = {"organization": renter.person.principal.org.public_id, "amount": "5.00"}
    order |= {"against": "revenue", "reason": "a slip", "idempotency_key": "order"}
    assert ann.post("/staff/returns/adjustment", order).status_code == 303
    found = counts()
    waiting = {name for name, count in found.items() if count}
    assert waiting == set(found) - {"reviews"}
    assert found["unknown"] == 2
    page = ann.get("/staff/")
    assert "48 h 0" in page.text
    assert "/staff/fraud?state=frozen" in page.text
    preflights = ann.get("/staff/preflights").text
    assert "may &lt;i&gt;exec" in preflights
    assert supply.cluster.name in preflights
    strangers = ann.get("/staff/unknown").text
    assert "&lt;b&gt;pod-a" in strangers
    assert "only copy" in strangers
    assert "pi_x" in strangers
    UnknownPod.objects.update(last_seen_at=old)
    assert counts()["unknown"] == 1, "what no sweep sees any more waits for nobody"
    assert "no sweep has seen it lately" in ann.get("/staff/unknown").text


def test_each_queue_is_one_query(supply: market.Supply) -> None:
    member("ann")
    acting = ann_acts()
    with CaptureQueriesContext(connection) as captured:
        found = desk.queues(acting)
    # The strangers' list asks the clock first.
    assert len(captured) <= len(found) + 1


def test_switches_are_turned_here_also_while_the_platform_only_shows(renter: Visitor) -> None:
    ann = member("ann")
    page = ann.get("/staff/switches")
    bare = ann.send(page, "/staff/switches", name="read_only", turn="on")
    assert (bare.status_code, "say why" in bare.text) == (422, True)
    sent = ann.post(
        "/staff/switches",
        {"idempotency_key": "on", "name": "read_only", "turn": "on", "note": "<u>tests</u>"},
    )
    assert sent.status_code == 303
    assert renter.post("/ssh-keys", {"name": "x"}).status_code == 503
    shown = ann.get("/staff/switches")
    assert "&lt;u&gt;tests" in shown.text
    assert "read_only" in ann.get("/staff/").text
    off = [form for form in read(shown.text).forms if form["fields"].get("name") == "read_only"]
    assert ann.post("/staff/switches", {**off[0]["fields"], "turn": "off"}).status_code == 303
    assert Switch.objects.get().off_at is not None
    late = ann.post("/staff/switches", {"idempotency_key": "l", "name": "read_only", "turn": "off"})
    assert (late.status_code, "is not on" in late.text) == (409, True)
    assert ann.get("/staff/switches").text.count("read_only") > 1, "history, and the form's choice"


def test_a_switch_may_be_for_one_cluster(supply: market.Supply) -> None:
    ann = member("ann")
    where = public("cluster", supply.cluster.pk)
    given = {"idempotency_key": "a", "name": "stop_rentals", "cluster": where, "note": "fire"}
    assert ann.post("/staff/switches", given).status_code == 303
    assert supply.cluster.name in ann.get("/staff/switches").text
    assert Switch.objects.get().cluster_ref == supply.cluster.pk
    wrong = {**given, "idempotency_key": "b", "name": "read_only"}
    refused = ann.post("/staff/switches", wrong)
    assert (refused.status_code, "only stop_rentals" in refused.text) == (422, True)


def test_a_brake_is_let_go_with_a_note(supply: market.Supply) -> None:
    ann = member("ann")
    brake = Brake.objects.create(
        cluster=supply.cluster, cause="list", tripped_at=now(), wanted=50, limit=10, detail="<b>"
    )
    page = ann.get("/staff/brakes")
    assert "&lt;b&gt;" in page.text
    path = f"/staff/brakes/{public('brake', brake.pk)}/release"
    assert ann.post(path, {"idempotency_key": "x", "note": " "}).status_code == 422
    assert ann.send(page, path, note="the rack is gone").status_code == 303
    brake.refresh_from_db()
    assert brake.released_by.startswith("staff:")
    assert "No brake holds anything" in ann.get("/staff/brakes").text


def test_one_click_limits_freezes_and_lets_go(renter: Visitor, supply: market.Supply) -> None:
    ann, org = member("ann"), renter.person.principal.org
    path = f"/staff/fraud/{org.public_id}"
    assert "Acme" in ann.get("/staff/fraud").text
    assert "Acme" not in ann.get("/staff/fraud?state=frozen").text

    def decide(decision: str, **more: str) -> int:
        given = {"idempotency_key": f"{decision}{len(more)}", "decision": decision, **more}
        return int(ann.post(path, given).status_code)

    assert decide("pardon") == 422
    assert decide("limit") == 303
    org.refresh_from_db()
    assert (org.quota_gpus, org.spend_limit_micro_h) == (1, 10_000_000)
    assert decide("freeze") == 422, "its people are owed a reason"
    assert decide("freeze", reason="a stolen card") == 303
    org.refresh_from_db()
    assert (org.state, org.reason, org.frozen_for) == ("frozen", "a stolen card", "")
    status, refusal = renter.person.call("POST", "/rentals", market.order(supply.offer))
    assert (status, "a stolen card" in refusal["detail"]) == (403, True)
    assert "a stolen card" in ann.get("/staff/fraud?state=frozen").text
    assert (
        ann.post(
            path, {"idempotency_key": "again", "decision": "freeze", "reason": "x"}
        ).status_code
        == 409
    )
    assert decide("unfreeze") == 303
    org.refresh_from_db()
    assert org.state == "active"
    actions = AuditEntry.objects.filter(action__startswith="organization.").order_by("id")
    assert [entry.action for entry in actions] == [
        "organization.limit",
        "organization.freeze",
        "organization.unfreeze",
    ]


def test_queues_and_strangers_over_the_api(supply: market.Supply) -> None:
    stranger_in(supply.cluster, UnknownPod, "pod-a")
    staff = people.api_of(people.staff())
    queues = {row["name"]: row for row in staff.get("staff/queues").data["queues"]}
    assert (queues["unknown"]["count"], queues["abuse"]["count"]) == (1, 0)
    assert queues["unknown"]["oldest_at"] is not None
    assert queues["abuse"]["oldest_at"] is None
    (found,) = staff.get("staff/strangers").data["strangers"]
    assert (found["kind"], found["name"], found["here"]) == ("pod", "pod-a", True)
    assert found["cluster"] == public("cluster", supply.cluster.pk)
