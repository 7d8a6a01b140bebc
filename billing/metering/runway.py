"""How long the money of organizations lasts when certain rentals run: set-based, no locks.

The same arithmetic as the balance that people see; here for many organizations in two queries.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Q

from billing.contracts import LastingView
from billing.contracts.meters import MeterKind
from billing.models import Account, AccountKind, RentalMeter
from billing.rating.funds import Burning, lasts_until
from billing.rating.tax import sql_with_tax, with_tax
from kernel.clock import now
from kernel.money import CURRENCY


def lasting(*, rental_refs: Sequence[UUID]) -> dict[UUID, LastingView]:
    """By organization: when holds and balance are used up if exactly these rentals run.

    Those that do not run yet burn as well: their first second may come at any time. So do disks.
    """
    burning: dict[UUID, list[Burning]] = {}
    wanted = RentalMeter.objects.filter(rental_ref__in=rental_refs, ended_at__isnull=True)
    disks = Q(
        kind=MeterKind.DISK, running_since__isnull=False, org_ref__in=wanted.values("org_ref")
    )
    meters = RentalMeter.objects.filter(Q(pk__in=wanted.values("pk")) | disks)
    for org, price, ppm, held, running_since, charged_until in meters.values_list(
        "org_ref", "price_micro_h", "tax_ppm", "held_micro", "running_since", "charged_until"
    ):
        one = Burning(with_tax(price, ppm), held, running_since, charged_until)
        burning.setdefault(org, []).append(one)
    tenants = Account.objects.filter(
        kind=AccountKind.TENANT, currency=CURRENCY, owner_ref__in=list(burning)
    ).values_list("owner_ref", "balance_micro", "floor_micro", "credit_limit_micro")
    at, found = now(), {}
    for owner, balance, floor, limit in tenants:
        if owner is not None:  # a tenant's account is always somebody's, which types do not know
            spendable = (balance or 0) - (floor or 0)
            ends_at = lasts_until(burning[owner], spendable_micro=spendable, at=at)
            found[owner] = LastingView(post_paid=bool(limit), ends_at=ends_at)
    return found


# Holds less what runs and is not charged, and the balance above its floor, as lasts_until adds up.
_GROSS = sql_with_tax("m.price_micro_h", "m.tax_ppm")
_ENDS = f"""
SELECT org_ref, app_now() + make_interval(
         secs => least(greatest(funds, 0)::numeric * 3600 / burn, 3153600000)::bigint)
  FROM (SELECT m.org_ref, sum({_GROSS})::bigint AS burn,
               t.balance_micro - t.floor_micro + sum(m.held_micro - {_GROSS} * greatest(0,
                 floor(extract(epoch FROM app_now() - greatest(m.running_since, m.charged_until))
                 )::bigint) / 3600)::bigint AS funds
          FROM billing_rentalmeter m
          JOIN billing_account t
            ON t.kind = 'tenant' AND t.owner_ref = m.org_ref AND t.currency = m.currency
         WHERE m.running_since IS NOT NULL AND m.price_micro_h > 0
         GROUP BY m.org_ref, t.balance_micro, t.floor_micro) AS one
"""  # noqa: S608 - texts of this module


def ends() -> dict[UUID, datetime]:
    """By organization that uses up money: when it has none left; a century for longer."""
    with connection.cursor() as cursor:
        cursor.execute(_ENDS)
        return dict(cursor.fetchall())


def spendable(*, org_refs: Collection[UUID]) -> dict[UUID, int]:
    """By organization: its balance above its floor."""
    rows = Account.objects.filter(
        kind=AccountKind.TENANT, currency=CURRENCY, owner_ref__in=list(org_refs)
    ).values_list("owner_ref", "balance_micro", "floor_micro")
    return {owner: (balance or 0) - (floor or 0) for owner, balance, floor in rows if owner}
