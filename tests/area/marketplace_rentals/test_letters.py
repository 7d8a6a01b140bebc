"""Mails about what happens to rentals: whose, once, together, and only what nobody asked for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail
from django.db import transaction

from kernel.clock import now
from kernel.text import rfc3339
from marketplace.accounts import letters
from marketplace.accounts import mail as mailing
from marketplace.models import Letter, Rental, RentalEvent, User
from marketplace.rentals import state as states
from marketplace.rentals import telling
from marketplace.rentals.notice import give
from marketplace.rentals.stop import end_for, halt_for
from marketplace.rentals.timeline import move
from tests import market
from tests.area.marketplace_accounts import people
from tests.market import Renter, Supply


@pytest.fixture
def supply(transactional_db: None) -> Supply:
    return market.make_supply(32, 8)


@pytest.fixture
def renter(supply: Supply) -> Renter:
    made = market.make_renter()
    Letter.objects.all().delete()
    return made


def rented(renter: Renter, supply: Supply, count: int, state: str = "running") -> list[Rental]:
    for _number in range(count):
        status, answer = renter.call("POST", "/rentals", market.order(supply.offer))
        assert status == 202, answer
    Rental.objects.filter(state="provisioning").update(
        state=state, ready_at=now(), state_since=now()
    )
    return list(Rental.objects.order_by("id"))


def lost(rental: Rental) -> None:
    with transaction.atomic():
        move(
            rental, states.FAILED, at=now(), reason="host_lost", actor="host",
            text="The host is lost. You were not charged since.",
        )  # fmt: skip


def sent() -> list[mail.EmailMessage]:
    """What goes out now, once its facts have waited."""
    mail.outbox.clear()
    Letter.objects.filter(posted_at=None).update(created_at=now() - letters.WAIT)
    letters.post()
    mailing.deliver()
    return [message for message in mail.outbox if "Confirm" not in str(message.subject)]


def test_an_outage_of_twenty_rentals_is_one_mail_to_each_reader(
    renter: Renter, supply: Supply
) -> None:
    boss = renter.principal.user
    second = people.join_as(renter.principal.org, "owner")
    people.join_as(renter.principal.org, "viewer")
    for rental in rented(renter, supply, 20):
        lost(rental)
    assert Letter.objects.filter(posted_at=None).count() == 20
    assert letters.post() == 0, "they wait for each other"
    mails = sent()
    assert sorted(message.to[0] for message in mails) == sorted([boss.email, second.email])
    assert {str(message.subject) for message in mails} == {"20 rentals failed"}
    text = str(mails[0].body)
    assert text.count("The host is lost") == 20
    assert text.count("Whose matter: the host's.") == 20
    assert "Nothing is charged" in text
    assert all(rental.public_id in text for rental in Rental.objects.all())
    assert sent() == [], "told once"


def test_one_is_told_with_its_name_and_its_own_page(renter: Renter, supply: Supply) -> None:
    (rental,) = rented(renter, supply, 1)
    lost(rental)
    (message,) = sent()
    assert str(message.subject) == f"Rental {rental.name} failed"
    assert f"/rentals/{rental.public_id}" in str(message.body)


def test_who_ordered_is_told_whatever_their_role_and_others_are_not(
    renter: Renter, supply: Supply
) -> None:
    member = people.join_as(renter.principal.org, "member")
    people.join_as(renter.principal.org, "billing")
    mine, theirs = rented(renter, supply, 2)
    Rental.objects.filter(pk=theirs.pk).update(created_by=member)
    theirs.refresh_from_db()
    lost(mine)
    lost(theirs)
    by_reader = {message.to[0]: message for message in sent()}
    assert set(by_reader) == {renter.principal.user.email, member.email}
    assert mine.public_id not in str(by_reader[member.email].body)
    assert "2 rentals failed" in str(by_reader[renter.principal.user.email].subject)


@pytest.mark.parametrize(
    ("reason", "told"),
    [("idle", True), ("budget", True), ("maintenance", True), ("funds", False)],
)
def test_stops_that_nobody_asked_for_are_told(
    renter: Renter, supply: Supply, reason: str, told: bool
) -> None:
    (rental,) = rented(renter, supply, 1)
    with transaction.atomic():
        halt_for(rental, reason)
    assert [row.event for row in Letter.objects.all()] == (["rental.stopped"] if told else [])


def test_a_stop_and_an_end_by_button_are_not_told(renter: Renter, supply: Supply) -> None:
    (rental,) = rented(renter, supply, 1)
    path = f"/rentals/{rental.public_id}/actions"
    assert renter.call("POST", path, {"action": "terminate"})[0] < 300
    assert Letter.objects.count() == 0


def test_an_end_date_is_told_before_and_after(renter: Renter, supply: Supply) -> None:
    (rental,) = rented(renter, supply, 1)
    with transaction.atomic():
        give(rental, "end_date", at=now() + timedelta(minutes=10))
    (before,) = sent()
    assert "will be stopped" in str(before.subject)
    assert "Extend it to keep it" in " ".join(str(before.body).split())
    with transaction.atomic():
        end_for(rental, "end_date")
    assert [row.event for row in Letter.objects.filter(posted_at=None)] == ["rental.ended"]


def test_each_reads_one_fact_in_their_own_language(renter: Renter, supply: Supply) -> None:
    """What is stored for everybody stays English: the timeline, and facts until they are told."""
    other = people.join_as(renter.principal.org, "owner")
    User.objects.filter(pk=other.pk).update(language="zh-hans")
    (rental,) = rented(renter, supply, 1)
    with transaction.atomic():
        give(rental, "end_date", at=now() + timedelta(minutes=10))
    told = {message.to[0]: message for message in sent()}
    ends = rfc3339(rental.interrupt_at) or ""
    english, chinese = (
        " ".join(str(told[who.email].body).split()) for who in (renter.principal.user, other)
    )
    assert f"Its end date is near: it will be ended at {ends}." in english
    assert str(told[other.email].subject) == f"实例 {rental.name} 即将停止"
    assert "结束日期临近" in chinese
    assert ends in chinese
    assert "Extend" not in chinese
    said = RentalEvent.objects.filter(rental=rental).latest("seq").text
    assert said == f"Its end date is near: it will be ended at {ends}. Extend it to keep it."


def test_unreachable_is_told_after_ten_minutes_once(renter: Renter, supply: Supply) -> None:
    (rental,) = rented(renter, supply, 1, states.UNREACHABLE)
    Rental.objects.update(reason="cluster_unreachable")
    assert telling.sweep() == 0
    Rental.objects.update(state_since=now() - telling.GRACE - timedelta(seconds=1))
    assert telling.sweep() == telling.sweep() == 1
    (message,) = sent()
    assert "cannot be reached" in str(message.subject)
    assert "We cannot reach the data centre" in str(message.body)
    assert rental.public_id in str(message.body)
    telling.sweep()
    assert sent() == []


def test_a_host_lost_on_the_way_up_is_no_mail_and_later_is_one(
    renter: Renter, supply: Supply
) -> None:
    first, second = rented(renter, supply, 2, states.DEGRADED)
    first.ready_at = None
    for rental in (first, second):
        with transaction.atomic():
            move(rental, states.REQUESTED, at=now(), reason="host_lost", actor="host", text="x")
    (letter,) = Letter.objects.all()
    assert (letter.event, letter.facts["name"]) == ("rental.elsewhere", second.name)


def test_a_kind_is_switched_off_and_security_is_not(renter: Renter, supply: Supply) -> None:
    status, answer = renter.call("PUT", "/mail-preferences", {"off": ["trouble"]})
    assert status == 200, answer
    on = {row["kind"]: row["on"] for row in answer["items"]}
    assert (on["trouble"], on["stops"], on["security"]) == (False, True, True)
    assert renter.call("PUT", "/mail-preferences", {"off": ["security"]})[0] == 422
    (rental,) = rented(renter, supply, 1)
    lost(rental)
    key = {"name": "robot", "scopes": ["account:read"]}
    assert renter.call("POST", "/api-keys", key)[0] == 201
    (message,) = sent()
    assert str(message.subject) == "A new API key: robot"
    assert "account:read" in str(message.body)
    assert User.objects.get(pk=renter.principal.user.pk).mail_off == ["trouble"]


def test_old_letters_are_forgotten(renter: Renter, supply: Supply) -> None:
    (rental,) = rented(renter, supply, 1)
    lost(rental)
    sent()
    assert letters.forget() == 0
    Letter.objects.update(posted_at=now() - timedelta(days=31))
    assert letters.forget() == 1
