"""Billing's door to the standing order: top up by itself when money runs low."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from billing.contracts.autotopup import AutoTopUpNews, AutoTopUpView, AutoTopUpWish
from billing.payments import autotopup as _autotopup


def set_order(*, org_ref: UUID, wish: AutoTopUpWish) -> AutoTopUpView:
    """In a transaction: the order from now on; what failed before is forgotten.

    InvalidRequest for figures that do not fit together, or enabled without a saved card; NotFound
    for another organization's card.
    """
    return _autotopup.set_order(org_ref=org_ref, wish=wish)


def order(*, org_ref: UUID) -> AutoTopUpView:
    """The order as it stands; off with the usual figures for who never set one."""
    return _autotopup.view(org_ref=org_ref)


def run(*, besides: Collection[UUID]) -> int:
    """Start the charges that are due, but those of organizations in ``besides``; how many."""
    return _autotopup.run(besides=besides)


def take_news(*, limit: int) -> list[AutoTopUpNews]:
    """In a transaction: what people have to be told, handed out once."""
    return _autotopup.take_news(limit=limit)
