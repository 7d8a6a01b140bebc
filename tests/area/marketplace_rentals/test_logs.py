"""Logs, metrics and the feed of events over the API: who may see what, and what is not there."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.test import Client

from kernel.clock import now
from kernel.grants import verify
from kernel.ids import new_id, parse, public
from provisioner.contracts.streaming import LOGS_FOLLOW, LOGS_TAIL
from provisioner.instances import logs
from provisioner.instances.logs import Fetched
from provisioner.models import Instance
from tests.market import Renter, make_renter, make_supply, order

pytestmark = pytest.mark.django_db

STAMP = b"2026-11-01T10:00:00.5Z "


@pytest.fixture
def renter() -> Renter:
    return make_renter()


@pytest.fixture
def rental(renter: Renter) -> str:
    return str(renter.call("POST", "/rentals", order(make_supply(2).offer))[1]["id"])


def get(renter: Renter, path: str, **headers: str) -> Any:
    """The whole answer: headers matter here."""
    client = Client(raise_request_exception=False)
    return client.get(
        f"/api/v1{path}", headers={"Authorization": f"Bearer {renter.secret}", **headers}
    )


def machine(rental: str) -> Instance:
    return Instance.objects.get(rental_ref=parse("rental", rental))


def ended(rental: str, *fetched: Fetched) -> Instance:
    row = machine(rental)
    Instance.objects.filter(pk=row.pk).update(state="gone")
    logs.keep(row.pk, fetched, at=now())
    return row


@pytest.mark.parametrize(("query", "verb"), [("", LOGS_TAIL), ("?follow=true&tail=7", LOGS_FOLLOW)])
def test_a_live_log_is_handed_to_the_streams_process(renter, rental, query, verb) -> None:
    answer = get(renter, f"/rentals/{rental}/logs{query}", Accept="text/event-stream")
    assert answer.status_code == 200
    handed = answer["X-Accel-Redirect"]
    assert answer.json()["stream_url"] == handed
    assert answer.json()["kind"] == "live"
    assert answer["Cache-Control"] == "no-store"
    given = parse_qs(urlsplit(handed).query)
    grant = verify(given["grant"][0], verb=verb, key=settings.GPUYARD_GRANT_KEY, now=time.time())
    assert (grant.subject, grant.owner) == (machine(rental).pk, renter.org)
    assert given["tail"] == ["7" if query else "200"]


def test_somebody_elses_log_is_not_found(renter, rental) -> None:
    other = make_renter("Other")
    theirs = str(other.call("POST", "/rentals", order(make_supply(2).offer))[1]["id"])
    foreign = public("instance", machine(theirs).pk)
    for path in (
        f"/rentals/{theirs}/logs",
        f"/rentals/{theirs}/logs?follow=true",
        f"/rentals/{theirs}/metrics",
        f"/rentals/{rental}/logs?instance={foreign}",
        f"/rentals/{rental}/logs?instance=x",
        f"/rentals/{rental}/logs?instance={public('instance', new_id())}",
        f"/events?rental={theirs}",
    ):
        answer = get(renter, path)
        assert answer.status_code == 404, path
        assert "X-Accel-Redirect" not in answer
    assert get(renter, f"/rentals/{rental}/logs?instance={public('instance', machine(rental).pk)}")[
        "X-Accel-Redirect"
    ]


def test_a_kept_log_is_answered_from_the_database(renter, rental) -> None:
    hostile = b"".join(
        STAMP + line + b"\n"
        for line in (b"a", b"\x1b[2J<script>alert(1)</script>", b"\xff\xfe", b"last")
    )
    ended(rental, Fetched(False, hostile), Fetched(True, STAMP + b"earlier\n"))
    answer = get(renter, f"/rentals/{rental}/logs?tail=3")
    assert "X-Accel-Redirect" not in answer
    shown = answer.json()
    assert (shown["kind"], shown["stream_url"], shown["truncated"]) == ("kept", None, True)
    assert [item["text"] for item in shown["items"]] == [
        "<script>alert(1)</script>",
        "\ufffd\ufffd",
        "last",
    ]
    assert answer["Content-Type"] == "application/json"
    before = get(renter, f"/rentals/{rental}/logs?previous=true").json()
    assert [item["text"] for item in before["items"]] == ["earlier"]


def test_a_log_that_will_not_grow_is_a_stream_that_ends(renter, rental) -> None:
    ended(rental, Fetched(False, STAMP + b"last\n"))
    answer = get(renter, f"/rentals/{rental}/logs?follow=true", Accept="text/event-stream")
    assert answer["Content-Type"].startswith("text/event-stream")
    events = answer.content.split(b"\n\n")
    assert b'"text":"last"' in events[0]
    assert events[-2] == b'event: end\ndata: {"code":"ended"}'


def test_no_log_says_why(renter, rental) -> None:
    ended(rental)
    shown = get(renter, f"/rentals/{rental}/logs").json()
    assert (shown["kind"], shown["items"]) == ("none", [])
    assert "on request" in shown["detail"]


def test_a_lost_log_says_so(renter, rental) -> None:
    ended(rental, Fetched(False, problem="timeout"))
    shown = get(renter, f"/rentals/{rental}/logs").json()
    assert (shown["kind"], shown["items"]) == ("none", [])
    assert "timeout" in shown["detail"]


@pytest.mark.parametrize(
    ("query", "slug", "name"),
    [
        ("tail=2001", "invalid_filter", "tail"),
        ("tail=x", "invalid_filter", "tail"),
        ("follow=1", "invalid_filter", "follow"),
        ("follow=true&previous=true", "invalid_filter", "previous"),
        ("lines=5", "unknown_filter", "lines"),
        ("tail=1&tail=2", "invalid_filter", "tail"),
    ],
)
def test_no_parameter_is_dropped(renter, rental, query, slug, name) -> None:
    answer = get(renter, f"/rentals/{rental}/logs?{query}")
    assert answer.status_code == 400
    assert answer.json()["type"] == f"/problems/{slug}"
    assert answer.json()["filter"] == name


def test_metrics_show_what_was_measured_and_null_for_the_rest(renter, rental) -> None:
    shown = get(renter, f"/rentals/{rental}/metrics").json()
    assert shown["totals"] == {"ready_seconds": 0, "charged_seconds": 0, "restarts": None}
    assert [point["value"] for point in shown["series"]["state"]] == ["provisioning"]
    assert (shown["reported"]["step"], shown["reported"]["series"]) == (30, [])


def test_the_feed_of_events_is_filtered_and_paged(renter) -> None:
    supply = make_supply(4)
    first, second = (
        str(renter.call("POST", "/rentals", order(supply.offer))[1]["id"]) for _ in range(2)
    )
    renter.call("DELETE", f"/rentals/{first}")
    found = get(renter, "/events").json()["items"]
    assert [event["type"] for event in found] == [
        "rental.terminating",
        "rental.provisioning",
        "rental.provisioning",
    ]
    ending = get(renter, "/events?type=rental.terminating").json()["items"]
    assert [event["rental"] for event in ending] == [first]
    one = get(renter, f"/events?rental={second}").json()["items"]
    assert {event["rental"] for event in one} == {second}
    assert get(renter, "/events?created_after=2099-01-01T00:00:00Z").json()["items"] == []
    old = (now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    page = get(renter, f"/events?created_after={old}&limit=2").json()
    rest = get(renter, f"/events?created_after={old}&cursor={page['next_cursor']}").json()
    assert [*page["items"], *rest["items"]] == found
    for bad in ("type=running", "created_after=yesterday", "created_after=2026-01-01T00:00:00"):
        assert get(renter, f"/events?{bad}").status_code == 400
