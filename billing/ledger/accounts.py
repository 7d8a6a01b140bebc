"""Find or open accounts, and lock tenants in the one order that cannot deadlock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import Q

from billing.models import STORED, Account, AccountKind
from kernel.errors import NotFound
from kernel.money import CURRENCY

Key = tuple[AccountKind, UUID | None]


@dataclass(frozen=True)
class Purse:
    """A tenant's two stored accounts, locked. available: what may be taken before the floor."""

    org_ref: UUID
    tenant: UUID
    hold: UUID
    balance_micro: int
    floor_micro: int
    credit_limit_micro: int
    receivable_micro: int

    @property
    def available_micro(self) -> int:
        return self.balance_micro - self.floor_micro


def open_accounts(keys: Iterable[Key]) -> dict[Key, UUID]:
    """The ids of the accounts, opened where missing; safe when others open the same."""
    wanted = set(keys)
    found = _find(wanted)
    absent = wanted - found.keys()
    if absent:
        Account.objects.bulk_create([_fresh(*key) for key in absent], ignore_conflicts=True)
        found |= _find(absent)
    return found


def account(kind: AccountKind, owner_ref: UUID | None = None) -> UUID:
    """One account's id, opened where missing."""
    return open_accounts([(kind, owner_ref)])[(kind, owner_ref)]


def lock_purses(org_refs: Iterable[UUID]) -> dict[UUID, Purse]:
    """Lock the tenants' accounts in id order; the tenant's row also guards its hold account.

    Every transaction that touches a hold takes the tenant's lock first, so two never meet in
    opposite order. NotFound when an organization was never opened here.
    """
    wanted = set(org_refs)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT t.owner_ref, t.id, h.id, t.balance_micro, t.floor_micro,
                   t.credit_limit_micro, t.receivable_micro
              FROM billing_account t
              JOIN billing_account h
                ON h.kind = 'tenant_hold' AND h.owner_ref = t.owner_ref
               AND h.currency = t.currency
             WHERE t.kind = 'tenant' AND t.owner_ref = ANY(%s) AND t.currency = %s
             ORDER BY t.id
               FOR NO KEY UPDATE OF t
            """,
            [list(wanted), CURRENCY],
        )
        purses = {row[0]: Purse(*row) for row in cursor.fetchall()}
    if purses.keys() != wanted:
        raise NotFound("organization")
    return purses


def lock_purse(org_ref: UUID) -> Purse:
    """The same for one tenant."""
    return lock_purses([org_ref])[org_ref]


def _find(keys: set[Key]) -> dict[Key, UUID]:
    if not keys:
        return {}
    owners = [owner for _, owner in keys if owner is not None]
    rows = Account.objects.filter(
        Q(owner_ref__in=owners) | Q(owner_ref__isnull=True),
        currency=CURRENCY,
        kind__in={kind for kind, _ in keys},
    )
    found = {(AccountKind(row.kind), row.owner_ref): row.id for row in rows}
    return {key: found[key] for key in keys if key in found}


def _fresh(kind: AccountKind, owner_ref: UUID | None) -> Account:
    start = 0 if kind in STORED else None
    return Account(
        kind=kind,
        owner_ref=owner_ref,
        currency=CURRENCY,
        balance_micro=start,
        credit_limit_micro=start,
        receivable_micro=start,
    )
