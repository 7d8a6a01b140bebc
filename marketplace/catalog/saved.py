"""Saved searches: filters to look at again, and a mail when cards that fit them become free.

The mail goes to whoever saved it, when a match with free cards appears where there was none, and
once a day at most; what appears within that day is told at its end, if it is still there. Limit: it
is looked at once a minute, so cards that come and go in between are missed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Min

from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest, Refusal
from kernel.money import CURRENCY, format_micro
from kernel.text import clean, rfc3339
from kernel.turns import each
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, get_visible
from marketplace.accounts.money_mail import order_said
from marketplace.accounts.phrases import phrase
from marketplace.catalog.search import parse
from marketplace.catalog.stock import fitting, price_column
from marketplace.models import EmailToken, Membership, SavedSearch

# More than anybody reads; each is a question a minute.
MOST: Final = 20
LONGEST: Final = 2000
_QUIET: Final = timedelta(days=1)
# Looked at in one run, the longest unseen first: some milliseconds each.
_BATCH: Final = 500


class _Match:
    """What a search finds now: offers with enough free cards, and the lowest price of those."""

    def __init__(self, query: str) -> None:
        asked = parse(parse_qs(query))
        found = (
            fitting(asked)
            .filter(group__largest_block__gte=F("n"))
            .order_by()
            .aggregate(offers=Count("id"), lowest=Min(price_column(asked)))
        )
        self.offers: int = found["offers"]
        self.lowest_micro: int | None = found["lowest"]


def create(*, acting: Principal, name: str, query: str, notify: bool) -> SavedSearch:
    """Keep filters as an address has them, without "?"; joins the caller's transaction.

    Raises InvalidRequest (name, query): filters that the catalogue does not take, or too many.
    """
    acting.require_verified()
    name = clean(name, limit=80)
    if not name:
        raise InvalidRequest({"name": ["give it a name"]})
    if SavedSearch.objects.filter(organization=acting.org).count() >= MOST:
        raise InvalidRequest({"name": [f"at most {MOST} searches are kept; delete one first"]})
    query = _plain(query)
    saved = SavedSearch.objects.create(
        organization=acting.org,
        created_by=acting.user,
        name=name,
        query=query,
        notify=notify,
        is_there=_Match(query).offers > 0,
    )
    _audit(acting, "saved_search.create", saved)
    return saved


def remove(*, acting: Principal, search_id: str) -> None:
    """Joins the caller's transaction. Raises NotFound."""
    saved = get_visible(SavedSearch.objects.select_for_update(of=("self",)), acting, search_id)
    _audit(acting, "saved_search.delete", saved)
    saved.delete()


def describe(saved: SavedSearch) -> dict[str, Any]:
    return {
        "id": saved.public_id,
        "name": saved.name,
        "query": saved.query,
        "notify": saved.notify,
        "told_at": rfc3339(saved.told_at),
        "created_at": rfc3339(saved.created_at),
        "version": saved.version,
    }


def sweep() -> int:
    """Look at those whose people want to be told; how many mails were ordered."""
    found = cache(_Match)  # many save the same
    due = SavedSearch.objects.filter(notify=True).order_by("looked_at")
    rows = list(due.select_related("created_by")[:_BATCH])
    # Before the looks: what fails comes again behind all others, not in front of them.
    SavedSearch.objects.filter(pk__in=[row.pk for row in rows]).update(looked_at=AppNow())
    return sum(each("saved_search", rows, lambda saved: _look(saved, found)))


def _look(saved: SavedSearch, found: Callable[[str], _Match]) -> bool:
    """Write down whether it finds something, and order the mail if that is news."""
    try:
        match = found(saved.query)
    except Refusal:
        return False  # a card or filter that is not known any more finds nothing
    there = match.offers > 0
    if there == saved.is_there:
        return False
    if there and saved.told_at is not None and saved.told_at > now() - _QUIET:
        return False  # stays "not there", so that it is told when the day is over
    change: dict[str, Any] = {"is_there": there} | ({"told_at": AppNow()} if there else {})
    with transaction.atomic(durable=True):
        mine = SavedSearch.objects.filter(pk=saved.pk, is_there=not there)
        return bool(mine.update(**change)) and there and _tell(saved, match)


def _tell(saved: SavedSearch, match: _Match) -> bool:
    """Whoever left the organization is not told about its searches."""
    member = Membership.objects.filter(organization=saved.organization_id, user=saved.created_by_id)
    if not member.exists():
        return False
    price = f"{format_micro(match.lowest_micro or 0)} {CURRENCY}"
    order_said(
        saved.created_by,
        EmailToken.Purpose.SEARCH,
        subject=phrase("Free now: {name}", name=saved.name),
        text=phrase(
            'Your search "{name}" finds cards that are free now: {offers} offers, from {price} per '
            "GPU and hour. Nothing is reserved for you.\n\n{url}",
            name=saved.name,
            offers=match.offers,
            price=price,
            url=f"{settings.GPUYARD_BASE_URL}/?{saved.query}",
        ),
    )
    return True


def _plain(query: str) -> str:
    """The filters written the one way that an address of ours has them."""
    try:
        text = query.removeprefix("?")
        given = parse_qs(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
        parse(given)
    except Refusal as refusal:
        raise InvalidRequest({"query": [refusal.detail]}) from refusal
    except ValueError as error:
        message = "give filters as an address has them, such as gpus=4&region=eu-central"
        raise InvalidRequest({"query": [message]}) from error
    plain = urlencode(given, doseq=True)
    if len(plain) > LONGEST:
        raise InvalidRequest({"query": [f"at most {LONGEST} characters"]})
    return plain


def _audit(acting: Principal, action: str, saved: SavedSearch) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=saved.public_id,
        organization_ref=saved.organization_id,
        details={"name": saved.name, "query": saved.query, "notify": saved.notify},
    )
