"""Saved searches: kept strictly, told once when cards appear, and no more than once a day."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db.models import F

from marketplace.accounts.mail import deliver
from marketplace.catalog import saved
from marketplace.models import AuditEntry, EmailToken, Membership, SavedSearch
from provisioner.models import NodeShare
from tests.market import H100, USD, Renter, Supply, make_renter, make_supply

pytestmark = pytest.mark.django_db(transaction=True)


def save(renter: Renter, query: str = f"accelerator={H100}&gpus=4", **more: Any) -> Any:
    body = {"name": "four H100", "query": query, "notify": True, **more}
    return renter.call("POST", "/saved-searches", body)


def free(supply: Supply, count: int) -> None:
    """As if so many cards of its first node were free."""
    NodeShare.objects.filter(group=supply.group).update(slots_free=count)
    supply.group.slots_free = supply.group.largest_block = count
    supply.group.save()


def mails() -> list[str]:
    orders = EmailToken.objects.filter(purpose=EmailToken.Purpose.SEARCH).order_by("created_at")
    return [order.about for order in orders]


def test_filters_are_kept_as_an_address_has_them_and_nothing_else() -> None:
    renter = make_renter()
    status, made = save(renter, "?gpus=4&accelerator=" + H100)
    assert status == 201
    assert made["query"] == f"gpus=4&accelerator={H100}"
    assert (made["notify"], made["told_at"]) == (True, None)
    for wrong in ("acelerator=x", "gpus=0", "gpus", "gpus=", "gpus=1&gpus=2", "%FF=1", "cursor=x"):
        status, answer = save(renter, wrong)
        assert (status, list(answer["errors"])) == (422, ["query"]), wrong
    assert save(renter, "")[0] == 201, "everything on sale"
    assert save(renter, name=" ")[0] == 422
    found = renter.call("GET", "/saved-searches")[1]["items"]
    assert [row["query"] for row in found] == ["", made["query"]]
    assert make_renter().call("GET", f"/saved-searches/{made['id']}")[0] == 404
    assert renter.call("DELETE", f"/saved-searches/{made['id']}")[0] == 204
    assert renter.call("GET", f"/saved-searches/{made['id']}")[0] == 404
    actions = AuditEntry.objects.filter(action__startswith="saved_search").values_list("action")
    assert {row[0] for row in actions} == {"saved_search.create", "saved_search.delete"}


def test_there_is_an_end_to_them() -> None:
    renter = make_renter()
    for _ in range(saved.MOST):
        assert save(renter)[0] == 201
    assert save(renter)[0] == 422
    assert save(make_renter())[0] == 201


def test_a_mail_comes_when_cards_appear_and_not_again_while_they_stay() -> None:
    supply, renter = make_supply(8, price=2 * USD), make_renter()
    free(supply, 3)
    save(renter)
    assert (saved.sweep(), mails()) == (0, []), "three are not four"
    free(supply, 4)
    assert saved.sweep() == 1
    assert saved.sweep() == 0
    (about,) = mails()
    assert about.startswith("Free now: four H100\n")
    assert "2.0000 USD per GPU" in about
    assert f"/?accelerator={H100}&gpus=4" in about
    assert deliver() == 1
    assert mail.outbox[-1].to == [renter.principal.user.email]
    assert mail.outbox[-1].subject == "Free now: four H100"
    assert "/searches" in mail.outbox[-1].body


def test_what_was_there_when_it_was_saved_is_no_news() -> None:
    supply, renter = make_supply(8), make_renter()
    save(renter)
    assert saved.sweep() == 0
    free(supply, 0)
    assert saved.sweep() == 0
    free(supply, 8)
    assert saved.sweep() == 1


def test_twice_a_day_is_told_once_and_the_rest_when_the_day_is_over() -> None:
    supply, renter = make_supply(8), make_renter()
    free(supply, 0)
    save(renter)
    free(supply, 8)
    assert saved.sweep() == 1
    free(supply, 0)
    saved.sweep()
    free(supply, 8)
    assert saved.sweep() == 0, "within the day"
    SavedSearch.objects.update(told_at=F("told_at") - timedelta(days=1))
    assert saved.sweep() == 1, "it is still there"
    assert len(mails()) == 2


def test_who_did_not_ask_or_left_is_not_told() -> None:
    supply, quiet, gone = make_supply(8), make_renter(), make_renter()
    free(supply, 0)
    save(quiet, notify=False)
    save(gone)
    Membership.objects.filter(user=gone.principal.user).delete()
    free(supply, 8)
    assert (saved.sweep(), mails()) == (0, [])


def test_those_seen_longest_ago_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "_BATCH", 1)
    supply, renter = make_supply(8), make_renter()
    free(supply, 0)
    for name in ("first", "second", "third"):
        save(renter, name=name)
    free(supply, 8)
    assert [saved.sweep() for _ in range(4)] == [1, 1, 1, 0]
    assert [about.partition("\n")[0] for about in mails()] == [
        "Free now: first", "Free now: second", "Free now: third"
    ]  # fmt: skip
