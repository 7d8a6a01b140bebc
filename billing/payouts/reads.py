"""Payouts, runs and earnings for the door, no locks."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Sum

from billing.contracts.payouts import (
    EarnedStretches,
    EarningsDay,
    EarningsView,
    LineState,
    PayoutRunView,
    PayoutView,
    RunState,
)
from billing.models import AccountKind, PayoutLine, PayoutRun, Posting, RentalMeter
from billing.payouts import rules
from billing.payouts.breaks import open_breaks
from billing.payouts.plan import plans
from kernel.clock import now
from kernel.errors import NotFound
from kernel.money import CURRENCY

# Shares of renters on review, as far as they were not given back.
_ON_REVIEW = """
SELECT coalesce(sum(m.provider_charged_micro), 0)::bigint FROM billing_rentalmeter m
 WHERE m.provider_ref = %s
   AND NOT EXISTS (SELECT FROM billing_clearedrenter c WHERE c.org_ref = m.org_ref)
"""

# What each payout line of a provider has in clearing, and what of it left our cash.
_UNDER_WAY = """
SELECT coalesce(sum(p.amount_micro) FILTER (WHERE a.kind = 'provider_clearing'), 0)::bigint,
       coalesce(sum(p.amount_micro) FILTER (WHERE a.kind = 'stripe_cash'), 0)::bigint
  FROM billing_payoutline l
  JOIN billing_transaction t ON t.cause_type = 'payout' AND t.cause_id = l.id
       AND t.kind = ANY('{payout,payout_sent,payout_returned}')
  JOIN billing_posting p ON p.txn_id = t.id
  JOIN billing_account a ON a.id = p.account_id
 WHERE l.provider_ref = %s
"""

_DAYS = """
SELECT (u.from_at AT TIME ZONE 'UTC')::date AS day, m.kind, m.accelerator,
       sum(u.seconds::bigint * u.gpus)::bigint, sum(u.provider_micro)::bigint
  FROM billing_rentalmeter m JOIN billing_usageline u USING (rental_ref)
 WHERE m.provider_ref = %s AND m.charged_until > %s AND u.from_at >= %s AND u.from_at < %s
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""

_STRETCHES = """
WITH used AS (
  SELECT u.source_ref, (u.from_at AT TIME ZONE 'UTC')::date AS day, m.gpus,
         sum(u.seconds)::bigint AS seconds, sum(u.provider_micro)::bigint AS share
    FROM billing_rentalmeter m JOIN billing_usageline u USING (rental_ref)
   WHERE m.provider_ref = %s AND m.kind = 'gpu'
     AND m.charged_until > %s AND u.from_at >= %s AND u.from_at < %s
   GROUP BY 1, 2, 3
)
SELECT count(*), coalesce(array_agg(source_ref), '{}')::text, coalesce(array_agg(day), '{}')::text,
       coalesce(array_agg(gpus), '{}')::text, coalesce(array_agg(seconds), '{}')::text,
       coalesce(array_agg(share), '{}')::text
  FROM used
"""


def earnings(*, provider_ref: UUID) -> EarningsView:
    """A provider's shares by how far they are on their way, and what the next run would pay."""
    sums = dict(
        Posting.objects.filter(account__owner_ref=provider_ref, currency=CURRENCY)
        .values_list("account__kind")
        .annotate(Sum("amount_micro"))
        .values_list("account__kind", "amount_micro__sum")
    )
    with connection.cursor() as cursor:
        cursor.execute(_ON_REVIEW, [provider_ref])
        (on_review,) = cursor.fetchone()
        cursor.execute(_UNDER_WAY, [provider_ref])
        clearing, paid = cursor.fetchone()
    plan = next(iter(plans([provider_ref])), None)
    against = open_breaks()
    return EarningsView(
        provider_ref=provider_ref,
        currency=CURRENCY,
        pending_micro=sums.get(AccountKind.PROVIDER_PENDING, 0),
        on_review_micro=on_review,
        due_micro=sums.get(AccountKind.PROVIDER_DUE, 0),
        reserve_micro=plan.reserve_micro if plan else 0,
        clearing_micro=clearing,
        paid_micro=paid,
        next_run_at=rules.next_run(now()),
        next_micro=plan.amount_micro if plan and not against else 0,
        blocked_by=(*against, *(plan.blocked_by if plan else (rules.too_little(),))),
    )


def earnings_days(*, provider_ref: UUID, from_at: datetime, to_at: datetime) -> list[EarningsDay]:
    """Shares of the use in [from_at, to_at), per day and card type, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_DAYS, [provider_ref, from_at, from_at, to_at])
        return [EarningsDay(*row) for row in cursor.fetchall()]


def earned_stretches(*, provider_ref: UUID, from_at: datetime, to_at: datetime) -> EarnedStretches:
    """The same of cards alone, by what proves it."""
    with connection.cursor() as cursor:
        cursor.execute(_STRETCHES, [provider_ref, from_at, from_at, to_at])
        return EarnedStretches(*cursor.fetchone())


def payouts(*, provider_ref: UUID) -> list[PayoutView]:
    """A provider's payouts, newest first; those that never began are left out."""
    lines = PayoutLine.objects.filter(provider_ref=provider_ref)
    lines = lines.exclude(state__in=[LineState.PLANNED, LineState.CANCELED])
    return [line_view(line) for line in lines.order_by("-id")]


def ended(*, since: datetime) -> list[PayoutView]:
    """Payouts of runs made since then that the bank has, or that did not get there."""
    over = [LineState.PAID, LineState.FAILED, LineState.RETURNED]
    lines = PayoutLine.objects.filter(state__in=over, created_at__gte=since)
    return [line_view(line) for line in lines.order_by("id")]


def earners(*, since: datetime) -> list[UUID]:
    """Providers with a share of use that was charged after this moment."""
    meters = RentalMeter.objects.filter(charged_until__gt=since, provider_charged_micro__gt=0)
    return list(meters.order_by().values_list("provider_ref", flat=True).distinct())


def runs() -> list[PayoutRunView]:
    """The runs of the last two years at the most, newest first."""
    rows = PayoutRun.objects.order_by("-id").prefetch_related("approvals", "lines")
    return [run_view(row) for row in rows[:200]]


def run(*, run_id: UUID) -> PayoutRunView:
    """One run with its lines."""
    row = PayoutRun.objects.filter(id=run_id).first()
    if row is None:
        raise NotFound("payout run")
    return run_view(row)


def run_view(row: PayoutRun) -> PayoutRunView:
    """A run as it crosses the door."""
    return PayoutRunView(
        id=row.id,
        state=RunState(row.state),
        week=row.week,
        actor=row.actor,
        total_micro=row.total_micro,
        currency=CURRENCY,
        approvals=tuple(one.actor for one in row.approvals.all()),
        approvals_needed=row.approvals_needed,
        starts_at=row.starts_at,
        created_at=row.created_at,
        started_at=row.started_at,
        lines=tuple(line_view(line) for line in sorted(row.lines.all(), key=lambda one: one.id)),
    )


def line_view(line: PayoutLine) -> PayoutView:
    """A line as it crosses the door."""
    return PayoutView(
        id=line.id,
        run_id=line.run_id,
        provider_ref=line.provider_ref,
        state=LineState(line.state),
        amount_micro=line.amount_micro,
        due_micro=line.due_micro,
        reserve_micro=line.reserve_micro,
        returned_micro=line.returned_micro,
        currency=CURRENCY,
        reason=line.reason,
        stripe_id=line.stripe_id,
        expected_at=line.expected_at,
        created_at=line.created_at,
        sent_at=line.sent_at,
        paid_at=line.paid_at,
    )
