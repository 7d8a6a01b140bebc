"""The platform's fee: which one holds for an owner's cards at a time.

The most specific rule wins, and of two alike the one that began later. From specific to general:
the owner's own for a card, for a vendor's cards, for all its cards; what was agreed when it was
approved (``Provider.fee_bps``); everybody's for a card, for a vendor's cards, for all; the setting
``GPUYARD_FEE_BPS``. A price keeps the fee that it was rented with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from kernel.clock import AppNow, now
from marketplace.catalog.registry import by_slug
from marketplace.models import FeeChange, Provider

ALL: Final = ""  # a scope of cards: every card, and volumes


@dataclass(frozen=True)
class Coming:
    """A fee that will be another one. accelerator: a slug or a vendor, empty for all cards."""

    accelerator: str
    from_bps: int
    to_bps: int
    valid_from: datetime


@dataclass(frozen=True)
class Outlook:
    """What an owner pays. cards: kinds of card for which another fee holds than in general."""

    bps: int
    cards: dict[str, int]
    coming: tuple[Coming, ...]


class FeeTable:
    """Changes that were not withdrawn, read at once: any number of fees for one query."""

    def __init__(self, rows: Iterable[FeeChange]) -> None:
        self._rows = list(rows)
        self._vendors = {slug: card.vendor for slug, card in by_slug().items()}

    def rule(
        self, provider: Provider | None, accelerator: str = ALL, at: datetime | None = None
    ) -> FeeChange | None:
        """The change that decides; None where it is the owner's agreement or the setting.

        at: None takes every row as in force. provider: None is whoever agreed nothing.
        """
        found = self._latest(provider.pk, accelerator, at) if provider else None
        if found is None and (provider is None or provider.fee_bps is None):
            found = self._latest(None, accelerator, at)
        return found

    def of(
        self, provider: Provider | None, accelerator: str = ALL, at: datetime | None = None
    ) -> int:
        """The fee in basis points."""
        rule = self.rule(provider, accelerator, at)
        if rule is not None:
            return rule.fee_bps
        if provider is not None and provider.fee_bps is not None:
            return provider.fee_bps
        base: int = settings.GPUYARD_FEE_BPS
        return base

    def outlook(self, provider: Provider, at: datetime) -> Outlook:
        """What holds at ``at``, and each change after it."""
        own = [row for row in self._rows if row.provider_id in (None, provider.pk)]
        scopes = sorted({ALL, *(row.accelerator for row in own)})
        general = self.of(provider, ALL, at)
        present = {scope: self.of(provider, scope, at) for scope in scopes}
        return Outlook(
            bps=general,
            cards={scope: bps for scope, bps in present.items() if bps != general},
            coming=tuple(self._coming(provider, own, present, at)),
        )

    def _coming(
        self, provider: Provider, own: list[FeeChange], held: dict[str, int], at: datetime
    ) -> Iterator[Coming]:
        held = dict(held)
        for moment in sorted({row.valid_from for row in own if row.valid_from > at}):
            for scope, before in list(held.items()):
                after = self.of(provider, scope, moment)
                # A card's fee that only follows the general one is not told twice.
                follows = (
                    scope != ALL and before == held[ALL] and after == self.of(provider, ALL, moment)
                )
                if after != before and not follows:
                    yield Coming(scope, before, after, moment)
            held = {scope: self.of(provider, scope, moment) for scope in held}

    def _latest(
        self, provider_id: UUID | None, accelerator: str, at: datetime | None
    ) -> FeeChange | None:
        scopes = [accelerator, self._vendors.get(accelerator, ALL), ALL]
        rows = [
            row
            for row in self._rows
            if row.provider_id == provider_id
            and row.accelerator in scopes
            and (at is None or row.valid_from <= at)
        ]
        best = lambda row: (-scopes.index(row.accelerator), row.valid_from, row.id)  # noqa: E731
        return max(rows, key=best, default=None)


def standing() -> QuerySet[FeeChange]:
    """Changes that hold, held or will hold."""
    return FeeChange.objects.filter(withdrawn_at=None)


def fee_of(provider: Provider | None, accelerator: str = ALL) -> int:
    """The fee that holds now, in basis points; one query. None: of whoever has agreed nothing."""
    rows = standing().filter(valid_from__lte=AppNow())
    return FeeTable(_about(rows, provider)).of(provider, accelerator)


def outlook(provider: Provider) -> Outlook:
    """What an owner pays now and will pay; nothing for cards of the platform itself."""
    if provider.ownership == Provider.Ownership.OWNED:
        return Outlook(0, {}, ())
    return FeeTable(_about(standing(), provider)).outlook(provider, now())


def _about(rows: QuerySet[FeeChange], provider: Provider | None) -> QuerySet[FeeChange]:
    own = Q(provider=None)
    return rows.filter(own | Q(provider=provider) if provider else own)
