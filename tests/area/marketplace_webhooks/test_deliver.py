"""Facts to receivers over real HTTPS: signed, once per cause, at least once, fair to all."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from django.db import connection, transaction

from kernel.clock import now
from kernel.ids import parse
from marketplace.catalog.templates import load_curated
from marketplace.models import RentalEvent, WebhookDelivery, WebhookEndpoint, WebhookEvent
from marketplace.webhooks import claim as claims
from marketplace.webhooks import deliver
from marketplace.webhooks.claim import claim, finish
from marketplace.webhooks.events import emit
from marketplace.webhooks.send import CALL_SECONDS, Message, Outcome
from tests.area.marketplace_webhooks.hooks import make_hook, states, tell
from tests.market import Renter, make_renter, make_supply, order
from tests.receivers import Answer, Receiver

Receive = Callable[..., Receiver]
START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_a_rental_is_told_in_the_contracts_words(receive: Receive, renter: Renter) -> None:
    receiver = receive()
    hook = make_hook(renter, receiver.url + "?team=a", "rental.*")
    load_curated()
    status, rental = renter.call("POST", "/rentals", order(make_supply(2).offer))
    assert status == 202, rental
    assert renter.call("POST", f"/rentals/{rental['id']}/actions", {"action": "terminate"})[0] < 300
    assert deliver.run() == 2
    told = [request.event for request in receiver.requests]
    assert {event["type"] for event in told} == {"rental.provisioning", "rental.terminating"}
    for request, event in zip(receiver.requests, told, strict=True):
        assert set(event) == {"id", "type", "created_at", "organization", "data", "version"}
        assert list(event["data"]) == ["object"]
        assert event["version"] == 1
        assert event["organization"] == renter.principal.org.public_id
        assert event["created_at"].endswith("Z")
        assert parse("event", event["id"])
        thing = event["data"]["object"]
        assert (thing["id"], f"rental.{thing['state']}") == (rental["id"], event["type"])
        assert set(thing) == set(rental)
        assert request.path == "/hooks?team=a"
        assert request.headers["Content-Type"] == "application/json"
        assert request.signed_by(hook["secret"])
        assert not request.signed_by(hook["secret"] + "x")
        sent = int(request.headers["Gpuyard-Signature"].split(",")[0].removeprefix("t="))
        assert abs(sent - now().timestamp()) < 30
    assert states() == ["succeeded", "succeeded"]
    row = WebhookDelivery.objects.first()
    assert row is not None
    assert (row.attempts, row.response_code, row.response_body) == (1, 200, "thanks")


def test_every_change_of_state_is_an_event_and_a_mere_note_is_none(renter: Renter) -> None:
    from marketplace.models import Rental
    from marketplace.rentals.timeline import move

    make_hook(renter, "https://93.184.215.14/x", "rental.*")
    load_curated()
    renter.call("POST", "/rentals", order(make_supply(2).offer))
    with transaction.atomic():
        row = Rental.objects.select_for_update().get()
        for target, reason in [
            ("pulling", "pulling"),
            ("pulling", "image_pull_slow"),
            ("starting", "starting"),
            ("running", "ready"),
        ]:
            move(row, target, at=now(), reason=reason, actor="platform", text="x")
    types = WebhookEvent.objects.order_by("id").values_list("type", flat=True)
    assert list(types) == [
        f"rental.{state}" for state in ("provisioning", "pulling", "starting", "running")
    ]
    assert RentalEvent.objects.count() == 5


def test_no_fact_no_event_and_no_event_without_its_fact(renter: Renter) -> None:
    """Both are of one transaction: what is rolled back was never told."""
    make_hook(renter, "https://93.184.215.14/x")
    with transaction.atomic():
        emit(organization=renter.org, type="balance.low", object={}, cause="a")
        assert WebhookEvent.objects.count() == 1
        transaction.set_rollback(True)
    assert not WebhookEvent.objects.exists()
    load_curated()
    poor = make_renter(credit=0)
    make_hook(poor, "https://93.184.215.14/x")
    status, _ = poor.call("POST", "/rentals", order(make_supply(2).offer))
    assert status == 402
    assert not WebhookEvent.objects.filter(organization=poor.org).exists()


def test_a_cause_is_told_once_however_often_it_is_applied(renter: Renter) -> None:
    make_hook(renter, "https://93.184.215.14/x")
    for _ in range(3):
        tell(renter, "topup.succeeded", "top_1")
    tell(renter, "topup.failed", "top_1")
    tell(renter, "topup.succeeded", "top_2")
    assert (WebhookEvent.objects.count(), WebhookDelivery.objects.count()) == (3, 3)


def test_a_cause_is_told_once_by_many_at_once(renter: Renter) -> None:
    make_hook(renter, "https://93.184.215.14/x")
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        try:
            tell(renter, "balance.empty", "one")
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert WebhookDelivery.objects.count() == 1


def test_only_what_is_wanted_is_kept_and_only_for_its_organization(renter: Renter) -> None:
    other = make_renter("Other")
    make_hook(renter, "https://93.184.215.14/a", "topup.*")
    make_hook(renter, "https://93.184.215.14/b", "balance.low", "topup.failed")
    make_hook(other, "https://93.184.215.14/c")
    for type in ("topup.succeeded", "topup.failed", "balance.low", "invoice.paid"):
        tell(renter, type)
    kept = WebhookDelivery.objects.order_by("event_id", "endpoint__url").values_list(
        "endpoint__url", "event__type"
    )
    assert [(url[-1], type) for url, type in kept] == [
        ("a", "topup.succeeded"), ("a", "topup.failed"), ("b", "topup.failed"),
        ("b", "balance.low"),
    ]  # fmt: skip


def test_a_type_outside_the_list_is_a_mistake_of_ours(renter: Renter) -> None:
    with pytest.raises(ValueError, match="no event type"):
        tell(renter, "rental.runing")


def test_an_object_nobody_wants_is_not_even_described(renter: Renter) -> None:
    def describe() -> dict[str, str]:
        raise AssertionError("described for nobody")

    with transaction.atomic():
        emit(organization=renter.org, type="balance.low", object=describe, cause="x")


def test_the_same_bytes_at_each_attempt_under_a_fresh_time(
    receive: Receive, renter: Renter, at: Callable[[datetime], None]
) -> None:
    failing = iter([500, 503, 200])
    receiver = receive(lambda _: Answer(next(failing)))
    hook = make_hook(renter, receiver.url)
    at(START)
    tell(renter, text="Grüße, “quotes” and \x1b[31mcolours\u0000")
    for hours in range(3):
        at(START + timedelta(hours=hours))
        deliver.run()
    assert len(receiver.requests) == 3
    assert len({request.body for request in receiver.requests}) == 1
    assert len({request.headers["Gpuyard-Signature"] for request in receiver.requests}) == 3
    assert all(request.signed_by(hook["secret"]) for request in receiver.requests)
    assert states() == ["succeeded"]


def test_three_days_of_attempts_then_failed(
    receive: Receive, renter: Renter, at: Callable[[datetime], None]
) -> None:
    """Every attempt at the time that the row itself names, until there is no next one."""
    receiver = receive(lambda _: Answer(500, b"broken \x1b[31m\x00<script>" + b"x" * 9000))
    make_hook(renter, receiver.url)
    at(START)
    tell(renter)
    moment, moments = START, []
    while True:
        row = WebhookDelivery.objects.get()
        if row.state != "pending":
            break
        rest = WebhookEndpoint.objects.get().rest_until
        moment = max(row.next_at, rest or row.next_at)
        at(moment)
        assert deliver.run() == 1
        moments.append(moment)
    assert (row.state, row.reason, row.response_code) == ("failed", "status", 500)
    assert row.attempts == len(receiver.requests) == len(moments)
    gaps = [after - before for before, after in pairwise(moments)]
    assert gaps[0] <= timedelta(seconds=10)
    assert max(gaps) <= timedelta(hours=4, minutes=5)
    assert timedelta(days=3) <= moments[-1] - START < timedelta(days=3, minutes=6)
    assert 20 < len(moments) < 60
    assert len(row.response_body) <= 1000
    assert row.response_body.startswith("broken  <script>xxx")
    at(moment + timedelta(days=1))
    assert deliver.run() == 0
    assert receiver.events() == [receiver.events()[0]] * len(moments)
    assert WebhookEndpoint.objects.get().state == "disabled"


def test_a_redirect_is_refused_and_followed_nowhere(receive: Receive, renter: Renter) -> None:
    elsewhere = receive()
    target = (("Location", elsewhere.url),)
    for status in (301, 302, 307, 308):
        receiver = receive(lambda _, status=status: Answer(status, b"", target))
        make_hook(renter, receiver.url)
    tell(renter)
    assert deliver.run() == 4
    assert elsewhere.connections == 0
    reasons = WebhookDelivery.objects.values_list("reason", "response_code")
    assert sorted(reasons) == [("redirect", code) for code in (301, 302, 307, 308)]


def test_an_answer_that_never_comes_ends_at_the_deadline(
    receive: Receive, renter: Renter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marketplace.webhooks.send.CALL_SECONDS", 0.5)
    over = threading.Event()
    receiver = receive(lambda _: Answer(wait=over))
    make_hook(renter, receiver.url)
    tell(renter)
    began = time.monotonic()
    deliver.run()
    assert time.monotonic() - began < 5
    over.set()
    row = WebhookDelivery.objects.get()
    assert (row.state, row.reason, row.response_code) == ("pending", "timeout", None)


def test_a_certificate_that_nobody_vouches_for_gets_no_body(
    receive: Receive, renter: Renter, settings
) -> None:
    receiver = receive()
    settings.GPUYARD_WEBHOOK_CA_FILE = ""
    make_hook(renter, receiver.url)
    tell(renter)
    deliver.run()
    assert WebhookDelivery.objects.get().reason == "certificate"
    assert receiver.requests == []
    assert receiver.connections == 1


def test_proxies_of_the_environment_are_not_used(
    receive: Receive, renter: Renter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    receiver = receive()
    make_hook(renter, receiver.url)
    tell(renter)
    deliver.run()
    assert states() == ["succeeded"]


def test_a_worker_that_lost_its_claim_writes_nothing(renter: Renter) -> None:
    make_hook(renter, "https://93.184.215.14/x")
    tell(renter)
    (mine,) = claim(slow=True, limit=8)
    assert claim(slow=True, limit=8) == [], "nobody takes it before its time"
    WebhookDelivery.objects.update(claim_until=now() - timedelta(seconds=1))
    (theirs,) = claim(slow=True, limit=8)
    assert finish(mine, Outcome("", 200)) is False
    assert states() == ["pending"]
    assert finish(theirs, Outcome("status", 500)) is True
    row = WebhookDelivery.objects.get()
    assert (row.attempts, row.reason, row.claim_token) == (1, "status", None)
    assert WebhookEndpoint.objects.get().failures == 1


def test_claims_never_overlap_between_workers(renter: Renter) -> None:
    """Eight claimers at once take each sending once and no endpoint more often than its share."""
    for number in range(4):
        make_hook(renter, f"https://93.184.215.14/{number}")
    for _ in range(10):
        tell(renter)
    WebhookEndpoint.objects.update(slow=False)
    taken: list[UUID] = []
    barrier, lock = threading.Barrier(8), threading.Lock()

    def work() -> None:
        barrier.wait()
        try:
            got = claim(slow=False, limit=2)
        finally:
            connection.close()
        with lock:
            taken.extend(job.id for job in got)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken
    assert len(taken) == len(set(taken))


def test_an_organization_has_its_share_of_the_attempts_and_first_come_first(
    renter: Renter,
) -> None:
    for number in range(6):
        make_hook(renter, f"https://93.184.215.14/{number}")
    for _ in range(10):
        tell(renter)
    WebhookEndpoint.objects.update(slow=False)
    first = claim(slow=False, limit=8)
    assert len(first) == claims.PER_ORGANIZATION
    assert len({job.endpoint_id for job in first}) == 4, "each endpoint's first before a second"
    assert claim(slow=False, limit=8, running={renter.org: 4}) == []
    other = make_renter("Other")
    make_hook(other, "https://93.184.215.14/other")
    tell(other)
    WebhookEndpoint.objects.update(slow=False)
    (late,) = claim(slow=False, limit=8, running={renter.org: 4})
    assert late.endpoint.organization_id == other.org


@pytest.mark.slow
@pytest.mark.timeout(900)  # the usual limit is too near where many suites share few cores
def test_a_thousand_events_for_a_dead_and_a_good_endpoint(renter: Renter) -> None:
    """The good one has them all in one run; the dead one is tried a few times and rests."""
    good, dead = "https://93.184.215.14/good", "https://93.184.215.14/dead"
    make_hook(renter, good)
    make_hook(renter, dead)
    with transaction.atomic():
        for number in range(1000):
            emit(organization=renter.org, type="balance.low", object={}, cause=str(number))
    sent: Counter[tuple[str, str]] = Counter()

    def send(message: Message) -> Outcome:
        sent[message.url, json.loads(message.body)["id"]] += 1
        return Outcome("" if message.url == good else "connect")

    deliver.run(seconds=200, send=send)
    counted = Counter(WebhookDelivery.objects.values_list("endpoint__url", "state"))
    assert counted == {(good, "succeeded"): 1000, (dead, "pending"): 1000}
    assert Counter(url for url, _ in sent)[good] == 1000
    assert max(sent.values()) == 1
    assert 1 <= Counter(url for url, _ in sent)[dead] <= 15


def test_an_endpoint_that_hangs_delays_nobody_elses(receive: Receive, renter: Renter) -> None:
    """Twenty hanging endpoints of one organization, and one that answers, of another."""
    over = threading.Event()
    hanging = receive(lambda _: Answer(wait=over))
    for number in range(20):
        make_hook(renter, f"{hanging.url}/{number}")
    tell(renter)
    other = make_renter("Other")
    good = receive()
    make_hook(other, good.url)
    tell(other)
    runner = threading.Thread(target=_run, args=(2.0,))
    runner.start()
    good.wait_for(1, seconds=CALL_SECONDS - 1)  # before the first of the others is given up
    hanging.wait_for(claims.PER_ORGANIZATION)
    over.set()
    runner.join()


def _run(seconds: float) -> None:
    try:
        deliver.run(seconds=seconds)
    finally:
        connection.close()


def test_one_run_sends_at_a_time(receive: Receive, renter: Renter) -> None:
    """A wake-up per event must not take every worker."""
    over = threading.Event()
    receiver = receive(lambda _: Answer(wait=over))
    make_hook(renter, receiver.url)
    tell(renter)
    runner = threading.Thread(target=_run, args=(20.0,))
    runner.start()
    receiver.wait_for(1)
    tell(renter)
    assert deliver.run() == 0
    over.set()
    runner.join()
    assert states() == ["succeeded", "succeeded"], "the run that was there took what came"


def test_what_waited_is_sent_at_once_when_the_receiver_is_back(
    receive: Receive, renter: Renter, at: Callable[[datetime], None]
) -> None:
    down = [True]
    receiver = receive(lambda _: Answer(500 if down[0] else 200))
    make_hook(renter, receiver.url)
    at(START)
    for _ in range(5):
        tell(renter)
    for minutes in range(0, 300, 10):
        at(START + timedelta(minutes=minutes))
        deliver.run()
    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.failures > 3
    assert endpoint.failing_since is not None
    down[0] = False
    present = START + timedelta(hours=9)
    at(present)
    deliver.run()
    assert states() == ["succeeded"] * 5
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.failures, endpoint.failing_since, endpoint.rest_until) == (0, None, None)


def test_a_body_is_stored_as_json_text_that_any_reader_can_take(renter: Renter) -> None:
    make_hook(renter, "https://93.184.215.14/x")
    tell(renter, text="a\u0000b\U0001f600")
    body = WebhookEvent.objects.get().body
    assert json.loads(body)["data"]["object"]["text"] == "a\u0000b\U0001f600"
