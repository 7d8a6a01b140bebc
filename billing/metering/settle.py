"""One statement that charges windows and refills holds, whatever their number.

Everything that depends on rows happens in PostgreSQL: what comes through Python row by row takes
as long there as all that the database does with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from billing.contracts import UsageWindows
from billing.ledger.accounts import open_accounts
from billing.models import AccountKind
from billing.rating.funds import REFILL
from billing.rating.tax import MILLION, sql_seconds, sql_tax, sql_with_tax
from kernel.arrays import array
from kernel.money import CURRENCY


def _tax(net: str) -> str:
    return sql_tax(net, "tax_ppm")


def _net(paid: str) -> str:
    """The most net whose tax the rest of ``paid`` covers: x + tax(x) grows with each x."""
    whole = f"base + {_tax('base')} + {paid} + 1"
    return f"(div(({whole})::numeric * {MILLION} - 1, {MILLION} + tax_ppm)::bigint - base)"


_TO_HOLD = sql_with_tax("(price_micro_h * (%(refill)s + open) + 3599) / 3600", "tax_ppm")
_LASTS = sql_seconds("g.held_left + g.granted", "g.price_micro_h", "g.tax_ppm")

# The lines where no meter of the call is taxed: the hold pays, then the tenant, then nobody.
# ``due``: the net of the meter's lines so far.
_UNTAXED = """\
), held AS (
  SELECT *, least(due, held_micro) - least(due - amount, held_micro) AS from_hold FROM due
), line AS MATERIALIZED (
  SELECT *, amount - from_hold - from_tenant AS overrun, 0 AS tax
    FROM (SELECT *, least(owed, funds) - least(owed - (amount - from_hold), funds) AS from_tenant
            FROM (SELECT *, (sum(amount - from_hold) OVER
                             (PARTITION BY org_ref ORDER BY rental_ref, from_at))::bigint AS owed
                    FROM held) h) o
   ORDER BY rental_ref, from_at
"""

# The same with tax. ``base``: the net that the renter paid for the meter before. ``gross``: what is
# due with its tax, both counted from there. ``paid`` is what there is for it, ``net`` the most of
# it whose tax is paid as well: ``due`` unless somebody ran out of money. ``_0``: before this line.
# OFFSET 0 keeps each of them from being worked out again wherever it is named.
_TAXED = f"""\
), gross AS (
  SELECT *, {_tax("base")} AS tax_base, due + {_tax("base + due")} - {_tax("base")} AS gross,
         due - amount + {_tax("base + due - amount")} - {_tax("base")} AS gross_0
    FROM due OFFSET 0
), owed AS (
  SELECT *, greatest(gross - held_micro, 0) AS past, greatest(gross_0 - held_micro, 0) AS past_0,
         (sum(greatest(gross - held_micro, 0) - greatest(gross_0 - held_micro, 0)) OVER
           (PARTITION BY org_ref ORDER BY rental_ref, from_at))::bigint AS owed
    FROM gross
), paid AS (
  SELECT *, least(gross, held_micro) + least(owed, funds) - least(owed - past, funds) AS paid,
         least(gross_0, held_micro) + least(owed - past + past_0, funds)
           - least(owed - past, funds) AS paid_0
    FROM owed OFFSET 0
), net AS (
  SELECT *, CASE WHEN paid = gross THEN due ELSE {_net("paid")} END AS net,
         CASE WHEN paid_0 = gross_0 THEN due - amount ELSE {_net("paid_0")} END AS net_0
    FROM paid OFFSET 0
), line AS MATERIALIZED (
  SELECT *, net - net_0 + tax - from_hold AS from_tenant
    FROM (SELECT *, amount - net + net_0 AS overrun,
                 {_tax("base + net")} - {_tax("base + net_0")} AS tax,
                 least(net + {_tax("base + net")} - tax_base, held_micro)
                   - least(net_0 + {_tax("base + net_0")} - tax_base, held_micro) AS from_hold
            FROM net OFFSET 0) n
   ORDER BY rental_ref, from_at
"""  # noqa: S608 - texts of this module


def _statement(lines: str, tax_leg: str) -> str:
    """The statement with these lines.

    Every division is of what is never negative, so it rounds down; hold_for rounds up. What it
    writes is sorted by rental: rows that lie together in the indexes are written together, in a
    fifth of the time that the index of windows takes in another order. Meters are looked up one by
    one: a scan of all of them, which the planner prefers, grows with the rentals of the platform.
    """
    return f"""
WITH meter AS MATERIALIZED (
  SELECT m.*, t.id AS tenant_id, h.id AS hold_id, p.id AS provider_id,
         greatest(t.balance_micro - t.floor_micro, 0) AS funds
    FROM (SELECT unnest(%(rentals)s::uuid[]) UNION SELECT unnest(%(meters)s::uuid[])) AS f (ref),
         LATERAL (SELECT * FROM billing_rentalmeter WHERE rental_ref = f.ref OFFSET 0) AS m
    JOIN billing_account t
      ON t.kind = 'tenant' AND t.owner_ref = m.org_ref AND t.currency = %(currency)s
    JOIN billing_account h
      ON h.kind = 'tenant_hold' AND h.owner_ref = m.org_ref AND h.currency = %(currency)s
    LEFT JOIN billing_account p
      ON p.kind = 'provider_pending' AND p.owner_ref = m.provider_ref AND p.currency = %(currency)s
), given AS (
  SELECT g.*, coalesce(m.charged_until > g.from_at, false) AS late,
         range_agg(tstzrange(g.from_at, g.to_at)) OVER (
           PARTITION BY rental_ref ORDER BY g.from_at, g.to_at, g.number
           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM unnest(%(rentals)s::uuid[], %(sources)s::uuid[], %(begins)s::timestamptz[],
                %(ends)s::timestamptz[])
         WITH ORDINALITY AS g (rental_ref, source_ref, from_at, to_at, number)
    JOIN meter m USING (rental_ref)
), fresh AS MATERIALIZED (
  SELECT g.rental_ref, g.source_ref, lower(piece) AS from_at, upper(piece) AS to_at,
         app_new_id() AS line_id, app_new_id() AS txn_id
    FROM given g
    LEFT JOIN LATERAL (
      SELECT range_agg(tstzrange(u.from_at, u.to_at)) AS charged FROM billing_usageline u
       WHERE g.late AND u.rental_ref = g.rental_ref AND u.to_at > g.from_at
    ) AS u ON g.late,
    unnest(tstzmultirange(tstzrange(g.from_at, g.to_at))
           - coalesce(g.before, '{{}}') - coalesce(u.charged, '{{}}')) AS piece
), counted AS (
  SELECT g.*, extract(epoch FROM g.to_at - g.from_at)::bigint AS seconds,
         sum(extract(epoch FROM g.to_at - g.from_at)::bigint) OVER one::bigint AS upto,
         row_number() OVER one - 1 AS place
    FROM fresh g WINDOW one AS (PARTITION BY g.rental_ref ORDER BY g.from_at)
), rated AS (
  SELECT c.*, CASE m.kind WHEN 'disk' THEN 'disk_usage' ELSE 'usage' END AS kind,
         m.org_ref, m.gpus, m.price_micro_h, m.held_micro, m.funds, m.tax_ppm,
         m.charged_micro - m.overrun_micro AS base,
         m.tenant_id, m.hold_id, m.provider_id, m.next_seq + c.place AS seq,
         m.price_micro_h * (m.billable_seconds + c.upto) / 3600
           - m.price_micro_h * (m.billable_seconds + c.upto - c.seconds) / 3600 AS amount,
         m.provider_micro_h * (m.billable_seconds + c.upto) / 3600
           - m.provider_micro_h * (m.billable_seconds + c.upto - c.seconds) / 3600 AS share
    FROM counted c JOIN meter m USING (rental_ref)
), due AS (
  SELECT *, (sum(amount) OVER (PARTITION BY rental_ref ORDER BY from_at))::bigint AS due
    FROM rated
{lines}), charged AS (
  SELECT rental_ref, sum(seconds)::bigint AS seconds, sum(amount)::bigint AS amount,
         sum(share)::bigint AS share, sum(from_hold)::bigint AS from_hold,
         sum(from_tenant)::bigint AS from_tenant, sum(overrun)::bigint AS overrun,
         count(*) AS lines, max(to_at) AS until
    FROM line GROUP BY rental_ref
), after AS (
  SELECT m.*, coalesce(c.seconds, 0) AS seconds, coalesce(c.amount, 0) AS amount,
         coalesce(c.share, 0) AS share, coalesce(c.overrun, 0) AS overrun,
         coalesce(c.lines, 0) AS lines, m.held_micro - coalesce(c.from_hold, 0) AS held_left,
         greatest(m.charged_until, c.until) AS until,
         m.funds
           - coalesce(sum(c.from_tenant) OVER (PARTITION BY m.org_ref), 0)::bigint AS funds_left
    FROM meter m LEFT JOIN charged c USING (rental_ref)
   WHERE c.lines > 0 OR m.rental_ref = ANY(%(meters)s::uuid[])
), wished AS (
  SELECT *, CASE WHEN running_since IS NULL THEN 0
                 ELSE greatest(0, {_TO_HOLD} - held_left)
             END AS wish
    FROM (SELECT *, greatest(0, coalesce(floor(extract(
                   epoch FROM %(at)s::timestamptz - greatest(running_since, until)
                 ))::bigint + 1, 0)) AS open
            FROM after) a
), granted AS MATERIALIZED (
  SELECT *, least(wishes, funds_left) - least(wishes - wish, funds_left) AS granted,
         app_new_id() AS refill_id
    FROM (SELECT *, (sum(wish) OVER (PARTITION BY org_ref ORDER BY
                     coalesce(paid_until, created_at), rental_ref))::bigint AS wishes
            FROM wished) w
   ORDER BY rental_ref
), txn AS (
  INSERT INTO billing_transaction (id, kind, cause_type, cause_id)
  SELECT txn_id, kind, kind, line_id FROM line
  UNION ALL
  SELECT refill_id, 'hold_refill', 'rental', rental_ref FROM granted WHERE granted > 0
), posting AS (
  INSERT INTO billing_posting (txn_id, account_id, amount_micro, currency)
  SELECT p.*, %(currency)s FROM (
    SELECT leg.* FROM line, LATERAL (VALUES
      (txn_id, hold_id, -from_hold), (txn_id, tenant_id, -from_tenant),
      (txn_id, %(cost)s::uuid, -overrun), (txn_id, provider_id, share),
      (txn_id, %(revenue)s::uuid, amount - share){tax_leg})
      AS leg (txn_id, account_id, amount_micro)
    UNION ALL
    SELECT leg.* FROM granted, LATERAL (VALUES
      (refill_id, tenant_id, -granted), (refill_id, hold_id, granted))
      AS leg (txn_id, account_id, amount_micro)) p
   WHERE p.amount_micro <> 0
), usage AS (
  INSERT INTO billing_usageline
         (id, rental_ref, seq, source_ref, from_at, to_at, seconds, gpus, price_micro_h,
          amount_micro, provider_micro, fee_micro, overrun_micro, tax_micro, txn_id)
  SELECT line_id, rental_ref, seq, source_ref, from_at, to_at, seconds, gpus, price_micro_h,
         amount, share, amount - share, overrun, tax, txn_id
    FROM line
), settled AS (
  UPDATE billing_rentalmeter m
     SET billable_seconds = m.billable_seconds + g.seconds,
         charged_micro = m.charged_micro + g.amount,
         provider_charged_micro = m.provider_charged_micro + g.share,
         overrun_micro = m.overrun_micro + g.overrun,
         charged_until = g.until,
         next_seq = m.next_seq + g.lines,
         held_micro = g.held_left + g.granted,
         paid_until = CASE WHEN g.running_since IS NULL OR g.price_micro_h = 0 THEN NULL
           ELSE greatest(g.running_since, g.until)
                + make_interval(secs => {_LASTS}) END
    FROM granted g
   WHERE m.rental_ref = g.rental_ref
  RETURNING m.rental_ref, m.paid_until,
            CASE m.kind WHEN 'disk' THEN 0 ELSE g.overrun END AS overrun,
            m.ended_at IS NOT NULL AND g.lines > 0 AS ended
)
SELECT (SELECT count(*) FROM line), s.rental_ref, s.paid_until, s.overrun, s.ended
  FROM (VALUES (1)) AS once
  LEFT JOIN settled s ON s.overrun > 0 OR s.ended OR s.rental_ref = ANY(%(meters)s::uuid[])
"""  # noqa: S608 - texts of this module


_STATEMENT = {
    False: _statement(_UNTAXED, ""),
    True: _statement(_TAXED, ", (txn_id, %(tax)s::uuid, tax)"),
}


@dataclass(frozen=True)
class Settled:
    """A meter after the statement. ``overrun_micro``: what nobody could pay this time, which for a
    disk is no accident and not told; ``ended``: it was charged although its hold had been returned,
    which nobody may commit."""

    rental_ref: UUID
    paid_until: datetime | None
    overrun_micro: int
    ended: bool


@dataclass(frozen=True)
class Settlement:
    """``lines`` written; ``meters``: those asked for, and those about which there is to say."""

    lines: int
    meters: list[Settled]


_NONE = array(())


def settle(
    *,
    windows: UsageWindows | None = None,
    provider_refs: Iterable[UUID] = (),
    meters: Iterable[UUID] = (),
    taxed: bool,
    at: datetime | None = None,
) -> Settlement:
    """Charge what is new in the windows, then raise the holds of their rentals and of ``meters``,
    as far as they run, to 75 minutes.

    Cut out is what was charged before or lies in an earlier window of the call, so sending a window
    again costs nothing, and seconds proven late are charged late, whatever came after them. A
    charge with its tax is paid from the hold, then from the tenant down to its floor, in the order
    of rental and time where a tenant cannot pay all; the rest by the platform, without tax.
    Refills come after that, those that end first are served first. All meters are locked by the
    caller, and then their tenants.

    provider_refs: who earns from the windows.
    taxed: whether any of all these meters has a rate of tax.
    at: when given, the 75 minutes count from then and not from the last charged second.
    """
    cost, revenue = (AccountKind.PLATFORM_COST, None), (AccountKind.REVENUE, None)
    tax = (AccountKind.TAX_PAYABLE, None)
    pending = {(AccountKind.PROVIDER_PENDING, ref) for ref in provider_refs}
    accounts = open_accounts({cost, revenue, tax, *pending})
    with connection.cursor() as cursor:
        cursor.execute(
            _STATEMENT[taxed],
            {
                "rentals": windows.rental_refs if windows else _NONE,
                "sources": windows.source_refs if windows else _NONE,
                "begins": windows.from_at if windows else _NONE,
                "ends": windows.to_at if windows else _NONE,
                "meters": array(meters),
                "cost": accounts[cost],
                "revenue": accounts[revenue],
                "tax": accounts[tax],
                "currency": CURRENCY,
                "refill": REFILL,
                "at": at,
            },
        )
        rows = cursor.fetchall()
    return Settlement(rows[0][0], [Settled(*row[1:]) for row in rows if row[1] is not None])
