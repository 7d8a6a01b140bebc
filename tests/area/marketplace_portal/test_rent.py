"""From an offer to a followed rental and its end, through the forms."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import transaction

from billing.models import TopUp
from kernel.clock import now
from marketplace.models import Quote, Rental
from marketplace.rentals.timeline import move
from provisioner.instances import logs
from provisioner.models import Instance
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, visitor_of


def quote_of(visitor: Visitor, supply: market.Supply, gpus: int = 1, disk: str = "50") -> str:
    path = f"/offers/{supply.offer.public_id}/quote"
    piece = visitor.post(path, {"gpus": str(gpus), "disk_gib": disk}, htmx=True)
    assert piece.status_code == 200, piece.text
    found = re.search(r'name="quote" value="([^"]+)"', piece.text)
    assert found
    return found[1]


def order(visitor: Visitor, supply: market.Supply, gpus: int = 1, **changes: Any) -> Any:
    page = visitor.get(f"/offers/{supply.offer.public_id}?gpus={gpus}")
    assert page.status_code == 200
    quote = quote_of(visitor, supply, gpus)
    fields = {"quote": quote, "ssh": "none", **changes}
    return visitor.send(page, f"/offers/{supply.offer.public_id}/rent", **fields)


def test_a_stranger_sees_the_offer_and_is_asked_to_sign_up(
    stranger: Visitor, supply: market.Supply
) -> None:
    page = stranger.get(f"/offers/{supply.offer.public_id}?gpus=2")
    assert page.status_code == 200
    assert "$4.00" in page.text
    assert f"/sign-up?next=/offers/{supply.offer.public_id}%3Fgpus%3D2" in page.text


def test_looking_stores_nothing(renter: Visitor, supply: market.Supply) -> None:
    renter.get(f"/offers/{supply.offer.public_id}")
    assert not Quote.objects.exists()


def test_the_quote_shows_the_whole_price(renter: Visitor, supply: market.Supply) -> None:
    path = f"/offers/{supply.offer.public_id}/quote"
    piece = renter.post(path, {"gpus": "2", "disk_gib": "50"}, htmx=True)
    assert "$4.00" in piece.text
    assert "$96.00" in piece.text, "per day running"
    assert "Balance lasts until" in piece.text
    assert "<html" not in piece.text


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"gpus": "0", "disk_gib": "50"}, 422, "gpus"),
        ({"gpus": "1", "disk_gib": "999999"}, 422, "disk_gib"),
        ({"gpus": "5", "disk_gib": "50"}, 409, "No card is free for this order now"),
    ],
)
def test_a_refused_quote_stands_where_the_price_would(
    renter: Visitor, supply: market.Supply, fields: dict[str, str], status: int, said: str
) -> None:
    piece = renter.post(f"/offers/{supply.offer.public_id}/quote", fields, htmx=True)
    assert piece.status_code == status
    assert said in piece.text
    assert 'id="quote"' in piece.text
    assert not Quote.objects.exists()


def test_renting_leads_to_the_rental(renter: Visitor, supply: market.Supply) -> None:
    answer = order(renter, supply, gpus=2, name="trial", lifetime="8")
    rental = Rental.objects.get()
    assert (answer.status_code, answer["Location"]) == (303, f"/rentals/{rental.public_id}")
    assert (rental.gpus, rental.name, rental.ssh) == (2, "trial", False)
    assert rental.expires_at is not None
    page = renter.get(answer["Location"])
    assert 'data-state="provisioning"' in page.text
    assert "Cards are reserved" in page.text
    assert "every 1s" in page.text
    assert "This rental was ordered without SSH." in page.text


def test_the_same_form_sent_twice_rents_once(renter: Visitor, supply: market.Supply) -> None:
    page = renter.get(f"/offers/{supply.offer.public_id}")
    path = f"/offers/{supply.offer.public_id}/rent"
    fields = {"quote": quote_of(renter, supply), "ssh": "none"}
    first, second = (renter.send(page, path, **fields) for _ in range(2))
    assert first["Location"] == second["Location"]
    assert Rental.objects.count() == 1
    other = renter.send(page, path, **{**fields, "name": "changed"})
    assert other.status_code == 422
    assert "sent before with other content" in other.text
    assert Rental.objects.count() == 1


def test_keys_are_chosen_or_pasted(renter: Visitor, supply: market.Supply) -> None:
    refused = order(renter, supply, ssh="paste", public_key="ssh-rsa nonsense")
    assert refused.status_code == 422
    assert "This SSH key cannot be used" in refused.text
    assert "ssh-rsa nonsense" in refused.text, "what was filled in stays"
    missing = order(renter, supply, ssh="paste", public_key="")
    assert missing.status_code == 422
    assert not Rental.objects.exists()
    order(renter, supply, ssh="paste", public_key=market.SSH_KEY)
    assert Rental.objects.get().ssh_keys == [" ".join(market.SSH_KEY.split()[:2])]
    stored = renter.send(
        renter.get("/ssh-keys"), "/ssh-keys", name="laptop", public_key=market.SSH_KEY
    )
    assert stored["Location"] == "/ssh-keys"
    key_id = renter.person.call("GET", "/ssh-keys")[1]["items"][0]["id"]
    assert order(renter, supply, ssh=key_id).status_code == 303


def test_too_little_money_leads_to_the_top_up(supply: market.Supply) -> None:
    poor = visitor_of(market.make_renter(credit=1 * market.USD))
    answer = order(poor, supply)
    assert answer.status_code == 402
    assert "/billing#top-up" in answer.text
    assert not Rental.objects.exists()
    started = poor.send(poor.get("/billing"), "/billing/topups", amount="50.00")
    TopUp.objects.filter(state="pending").update(state="succeeded")
    done = poor.get(started["Location"])
    assert f"/offers/{supply.offer.public_id}?gpus=1" in done.text, "back to the order"


def test_without_a_script_the_price_comes_with_the_page(
    renter: Visitor, supply: market.Supply
) -> None:
    page = renter.get(f"/offers/{supply.offer.public_id}")
    priced = renter.send(page, f"/offers/{supply.offer.public_id}/rent", ssh="none")
    assert priced.status_code == 200
    assert 'name="quote" value="quo_' in priced.text, "the price comes first"
    assert not Rental.objects.exists()
    fields = {"gpus": "2", "disk_gib": "50", "ssh": "none", "lifetime": "8"}
    priced = renter.post(f"/offers/{supply.offer.public_id}/price", fields)
    assert priced.status_code == 200
    assert 'name="quote" value="quo_' in priced.text


def test_a_template_that_does_not_fit_cannot_be_chosen(renter: Visitor) -> None:
    ascend = market.make_supply(1, accelerator="ascend-910b", region="ap-east")
    page = renter.get(f"/offers/{ascend.offer.public_id}")
    assert "Not for this card: needs" in page.text
    choices = {row["slug"]: row["missing"] for row in page.context["templates"]}
    assert choices["ubuntu"] == []
    assert choices["pytorch"]


def rented(renter: Visitor, supply: market.Supply) -> Rental:
    order(renter, supply)
    return Rental.objects.get()


def seen(page: Any) -> str:
    found = re.search(r'hx-get="[^"]+/live\?([^"]+)"', page.text)
    assert found, "the page does not look again"
    return found[1].replace("&amp;", "&")


def test_a_machine_that_fails_says_why_at_its_head(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    Rental.objects.filter(pk=rental.pk).update(state="degraded", reason="node_not_ready")
    head = renter.get(f"/rentals/{rental.public_id}").text.split('id="rental-head"')[1]
    assert "The host stopped answering. The meter stands." in head.split("</header>")[0]


def test_a_look_sends_only_what_changed(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    url = f"/rentals/{rental.public_id}"
    known = seen(renter.get(url))
    assert renter.get(f"{url}/live?{known}", htmx=True).status_code == 204
    with transaction.atomic():
        text = "Cards are checked and the image is downloaded; this is free."
        move(rental, "pulling", at=now(), reason="image_pulling", actor="platform", text=text)
    piece = renter.get(f"{url}/live?{known}", htmx=True)
    assert piece.status_code == 200
    assert 'id="rental-head"' in piece.text
    assert 'id="rental-timeline"' in piece.text
    assert 'id="rental-facts"' not in piece.text
    assert text in piece.text
    assert renter.get(f"{url}/live?{seen(piece)}", htmx=True).status_code == 204


def test_a_settled_rental_is_not_asked_about_any_more(
    renter: Visitor, supply: market.Supply
) -> None:
    rental = rented(renter, supply)
    with transaction.atomic():
        move(rental, "terminating", at=now(), reason="admin", actor="admin", text="x")
        rental.ended_at = now()
        move(rental, "terminated", at=now(), reason="admin", actor="admin", text="x")
    page = renter.get(f"/rentals/{rental.public_id}")
    assert "every 3s" in page.text, "the last seconds are still being settled"
    Rental.objects.update(settled_at=now())
    page = renter.get(f"/rentals/{rental.public_id}")
    assert "/live?" not in page.text
    assert "Nothing was charged." in page.text


def test_terminate_asks_first_and_counts_once(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    url = f"/rentals/{rental.public_id}/terminate"
    dialog = renter.get(url, htmx=True)
    assert "<dialog" in dialog.text
    assert "This cannot be undone" in dialog.text
    assert Rental.objects.get().state == "provisioning"
    page = renter.get(url)
    assert "<html" in page.text
    first, second = (renter.send(page, url) for _ in range(2))
    assert first["Location"] == second["Location"] == f"/rentals/{rental.public_id}"
    assert Rental.objects.get().state == "terminating"
    assert 'id="terminate"' not in renter.get(f"/rentals/{rental.public_id}").text


def test_a_viewer_may_look_and_not_rent(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    renter.person.principal.user.memberships.update(role="viewer")
    page = renter.get(f"/offers/{supply.offer.public_id}")
    assert "Your role may look" in page.text
    answer = renter.post(f"/rentals/{rental.public_id}/terminate")
    assert answer.status_code == 403
    assert Rental.objects.get().state == "provisioning"


def test_hostile_text_in_a_timeline_stays_text(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    with transaction.atomic():
        move(
            rental,
            "failed",
            at=now(),
            reason="host_rejected",
            actor="host",
            text="<img src=x onerror=alert(1)>",
        )
    page = renter.get(f"/rentals/{rental.public_id}")
    assert "<img" not in page.text
    assert "&lt;img" in page.text
    assert "The host&#x27;s fault" in page.text


def test_the_log_of_a_live_machine_is_left_to_the_script(
    renter: Visitor, supply: market.Supply
) -> None:
    placed = order(renter, supply, max_hours="2")
    page = renter.get(placed["Location"])
    rental = Rental.objects.get()
    address = f"/api/v1/rentals/{rental.public_id}/logs?tail=200"
    assert f'data-log="{address}&amp;follow=true"' in page.text
    assert f'<a href="{address}">' in page.text, "without a script there is a link"
    assert "grant=" not in page.text, "no right lies about in a page"


def test_a_kept_log_is_shown_as_text(renter: Visitor, supply: market.Supply) -> None:
    placed = order(renter, supply, max_hours="2")
    row = Instance.objects.get()
    Instance.objects.filter(pk=row.pk).update(state="gone")
    hostile = b"2026-11-01T10:00:00Z \x1b[31m<script>alert(1)</script>\x1b[0m\n"
    logs.keep(row.pk, [logs.Fetched(False, hostile)], at=now())
    page = renter.get(placed["Location"])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script>alert" not in page.text
    assert "\x1b" not in page.text
    assert "data-log=" not in page.text


def test_interruptible_use_is_a_choice_with_its_price_and_what_it_means(
    renter: Visitor, stranger: Visitor, supply: market.Supply
) -> None:
    path = f"/offers/{supply.offer.public_id}"
    assert "nterruptible" not in renter.get(path).text
    owned = f"/provider/offers/{supply.offer.public_id}"
    set_to = {"interruptible_price_per_gpu_hour": "0.5000"}
    assert supply.owner.call("PATCH", owned, set_to)[0] == 200
    page = renter.get(path).text
    assert "Interruptible, for $0.50 per GPU and hour" in page
    assert "you are told two minutes before" in page
    assert "$0.50" in stranger.get(path).text
    assert "$0.50 interruptible" in stranger.get("/").text
    found = stranger.get("/?interruptible=true&gpus=2").text
    assert f"{path}?gpus=2&amp;interruptible=true" in found
    assert "$1.00" in found
    chosen = renter.get(f"{path}?interruptible=true").text
    assert re.search(r'name="interruptible" value="true"\s+checked', chosen)
    shape = {"gpus": "2", "disk_gib": "50", "interruptible": "true"}
    piece = renter.post(f"{path}/quote", shape, htmx=True)
    assert "$1.00" in piece.text
    assert "two minutes" in piece.text
    quote = re.search(r'name="quote" value="([^"]+)"', piece.text)
    assert quote
    fields = {"quote": quote[1], "ssh": "none", "interruptible": "true"}
    answer = renter.send(renter.get(f"{path}?gpus=2"), f"{path}/rent", **fields)
    assert answer.status_code == 303
    rental = Rental.objects.get()
    assert (rental.interruptible, rental.price_micro_h) == (True, market.USD)
    assert "two minutes" in renter.get(f"/rentals/{rental.public_id}").text
