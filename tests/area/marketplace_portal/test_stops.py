"""What a rental's page says of stops that nobody pressed a button for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kernel.clock import now
from kernel.text import rfc3339
from marketplace.http.portal.stops import STOPS
from marketplace.http.portal.tags import timed
from marketplace.models import FundsWatch, Rental, RentalEvent
from marketplace.rentals import notice
from tests import market
from tests.area.marketplace_portal.test_rent import order
from tests.area.marketplace_portal.visitors import Visitor, visitor_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def renter() -> Visitor:
    return visitor_of(market.make_renter())


@pytest.fixture
def rental(renter: Visitor) -> Rental:
    supply = market.make_supply(8)
    order(renter, supply)
    return Rental.objects.get()


def put(rental: Rental, **fields: Any) -> None:
    Rental.objects.filter(pk=rental.pk).update(**fields)


def head(renter: Visitor, rental: Rental) -> str:
    page: str = renter.get(f"/rentals/{rental.public_id}").text
    return page.split('id="rental-head"')[1].split("</header>", maxsplit=1)[0]


def test_every_notice_has_words_for_its_page() -> None:
    assert STOPS.keys() == notice._TEXTS.keys()


@pytest.mark.parametrize("reason", STOPS)
def test_a_notice_says_why_when_and_where_to_go(
    renter: Visitor, rental: Rental, reason: str
) -> None:
    at = now() + timedelta(minutes=5)
    put(rental, state="interrupting", reason=reason, interrupt_at=at)
    said = head(renter, rental)
    assert str(STOPS[reason].before) in said
    assert f'datetime="{rfc3339(at)}"' in said
    assert ("Will be ended at" in said) == (reason == "end_date")
    place = STOPS[reason].place.format(id=rental.public_id)
    assert not place or f'<a href="{place}">{STOPS[reason].label}</a>' in said


def test_a_page_to_which_a_notice_leads_is_there(renter: Visitor, rental: Rental) -> None:
    places = {words.place.format(id=rental.public_id) for words in STOPS.values()} - {""}
    assert {place: renter.get(place.partition("#")[0]).status_code for place in places} == (
        dict.fromkeys(places, 200)
    )


def test_after_the_stop_the_page_says_why_and_what_it_costs(
    renter: Visitor, rental: Rental
) -> None:
    put(rental, state="stopped", reason="idle", expires_at=now() + timedelta(days=1))
    assert str(STOPS["idle"].after) in head(renter, rental)
    page = renter.get(f"/rentals/{rental.public_id}").text
    stats = page.split('id="rental-stats"')[1].split("</section>")[0]
    assert "Per hour while stopped" in stats
    assert '<div class="stat__value">$0.00</div>' in stats
    assert "nothing is charged" in stats
    assert "Ended" not in stats, "it may be started again"
    assert f'href="/rentals/{rental.public_id}/edit"' in page.split('id="rental-facts"')[1]


def test_a_stop_that_was_asked_for_needs_no_reason(renter: Visitor, rental: Rental) -> None:
    put(rental, state="stopped", reason="stopped_by_user")
    assert "Why it was stopped" not in head(renter, rental)


def test_without_money_the_page_waits_for_the_date_until_which_data_is_kept(
    renter: Visitor, rental: Rental
) -> None:
    put(rental, state="stopped", reason="funds", settled_at=now())
    page = renter.get(f"/rentals/{rental.public_id}").text
    assert f'hx-get="/rentals/{rental.public_id}/live' in page, "it looks again"
    assert "It is kept" not in head(renter, rental)
    until = now() + timedelta(days=7)
    FundsWatch.objects.create(
        organization_id=rental.organization_id, emptied_at=now(), grace_until=until
    )
    assert f'It is kept, with its volumes, until <time datetime="{rfc3339(until)}"' in head(
        renter, rental
    )
    page = renter.get(f"/rentals/{rental.public_id}").text
    assert f'hx-get="/rentals/{rental.public_id}/live' not in page
    put(rental, reason="idle")
    assert "It is kept" not in head(renter, rental)
    page = renter.get(f"/rentals/{rental.public_id}").text
    assert f'hx-get="/rentals/{rental.public_id}/live' not in page


def test_a_notice_does_not_begin_the_estimate_anew(renter: Visitor, rental: Rental) -> None:
    steps = [("starting", 90), ("running", 60), ("interrupting", 30), ("running", 20)]
    for seq, (state, minutes) in enumerate([*steps, ("interrupting", 10)], start=2):
        RentalEvent.objects.create(
            rental=rental,
            seq=seq,
            at=now() - timedelta(minutes=minutes),
            state=state,
            reason="idle",
            actor="renter",
            text="",
        )
    put(rental, state="interrupting", reason="idle", ready_at=now() - timedelta(hours=3))
    page = renter.get(f"/rentals/{rental.public_id}").text
    assert "and about $2.00 not settled yet" in page, "an hour since it runs"


def test_moments_in_a_text_are_times_and_the_rest_stays_text() -> None:
    shown = timed("<b> until 2026-03-01T12:00:00Z: pay")
    assert shown.startswith('&lt;b&gt; until <time datetime="2026-03-01T12:00:00Z"')
    assert shown.endswith("1 Mar 2026, 12:00 UTC</time>: pay")
    assert timed("no moment") == "no moment"


def test_an_action_that_is_not_possible_leads_back_without_a_button(
    renter: Visitor, rental: Rental
) -> None:
    path = f"/rentals/{rental.public_id}"
    answer = renter.get(f"{path}/retry")
    assert answer.status_code == 409
    assert f'<a class="button" href="{path}">' in answer.text
    assert f'action="{path}/retry"' not in answer.text
