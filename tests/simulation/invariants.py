"""What must hold after every step, asked of the tables through the facts views in one call.

The function is made inside the sandbox and vanishes with it. Each query names what breaks; the
names are those of the design's list of invariants. What needs the clusters' own truth is in
truth.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from provisioner.contracts import Fault
from provisioner.instances.reasons import REASONS

Found = tuple[str, str]

# Reasons by which a degraded machine is well and only its program is not: the meter goes on.
_RENTERS = ", ".join(f"'{code}'" for code, one in REASONS.items() if one.fault == Fault.RENTER)

# name -> a query of texts, empty while the invariant holds.
ALWAYS: dict[str, str] = {
    "I1 a slot is held once at a time": """
        SELECT a.slot_id::text FROM facts.hold a JOIN facts.hold b
          ON b.slot_id = a.slot_id AND b.hold_id > a.hold_id
         AND tstzrange(a.from_ts, a.to_ts) && tstzrange(b.from_ts, b.to_ts)""",
    "I3 a second is charged once": """
        SELECT a.rental_id::text FROM facts.usage a JOIN facts.usage b
          ON b.rental_id = a.rental_id AND b.usage_id > a.usage_id
         AND b.from_ts < a.to_ts AND a.from_ts < b.to_ts""",
    "I3 charged seconds lie in a proven interval": """
        SELECT u.rental_ref::text FROM billing_usageline u
          LEFT JOIN provisioner_readyinterval r ON r.id = u.source_ref
         WHERE r.id IS NULL OR r.rental_ref <> u.rental_ref OR u.from_at < r.opened_at
            OR (r.final AND u.to_at > r.good_until)""",
    "I4 money is the floor of price times seconds": """
        SELECT m.rental_ref::text FROM billing_rentalmeter m JOIN (
          SELECT rental_id, sum(amount_micro) AS amount, sum(provider_micro) AS share,
                 sum(extract(epoch FROM to_ts - from_ts))::bigint AS seconds
            FROM facts.usage GROUP BY rental_id) u ON u.rental_id = m.rental_ref
         WHERE u.amount <> m.price_micro_h * u.seconds / 3600
            OR u.share <> m.provider_micro_h * u.seconds / 3600""",
    "I5 every transaction sums to zero": """
        SELECT txn_id::text FROM facts.entry GROUP BY txn_id, currency
        HAVING sum(amount_micro) <> 0""",
    "I6 no account below its floor": """
        SELECT a.account_id::text FROM facts.account a JOIN facts.entry e USING (account_id)
         WHERE a.min_balance_micro IS NOT NULL
         GROUP BY a.account_id, a.min_balance_micro
        HAVING sum(e.amount_micro) < a.min_balance_micro""",
    "R1 holds cover their rentals": """
        SELECT a.id::text FROM billing_account a WHERE a.kind = 'tenant_hold'
           AND (a.balance_micro <> coalesce((SELECT sum(m.held_micro) FROM billing_rentalmeter m
                 WHERE m.org_ref = a.owner_ref), 0)
             OR a.balance_micro <> coalesce((SELECT sum(e.amount_micro) FROM facts.entry e
                 WHERE e.account_id = a.id), 0))""",
    "I9 no credit without its payment": """
        SELECT t.txn_id::text FROM facts.txn t LEFT JOIN facts.payment p ON p.txn_id = t.txn_id
         WHERE t.kind = 'topup' AND (p.payment_id IS NULL OR p.state <> 'succeeded')""",
    "I10 no use without its line": """
        SELECT t.txn_id::text FROM facts.txn t LEFT JOIN facts.usage u ON u.txn_id = t.txn_id
         WHERE t.kind = 'usage' AND u.usage_id IS NULL""",
    "I12 price is share plus fee": """
        SELECT u.usage_id::text FROM facts.usage u
         WHERE u.amount_micro <> u.provider_micro + u.fee_micro
            OR u.provider_micro <> coalesce((SELECT sum(e.amount_micro) FROM facts.entry e
                 JOIN facts.account a USING (account_id)
                WHERE e.txn_id = u.txn_id AND a.kind = 'provider_pending'), 0)""",
    "I13 nothing charged after an acknowledged stop or before ready": """
        SELECT u.rental_id::text FROM facts.usage u JOIN marketplace_rental r
          ON r.id = u.rental_id
         WHERE u.to_ts > r.stop_ack_at OR NOT EXISTS (
           SELECT 1 FROM provisioner_instanceevent e JOIN provisioner_instance i
               ON i.id = e.instance_id
            WHERE i.rental_ref = r.id AND e.state = 'ready' AND e.at <= u.from_ts
              AND e.at > coalesce((SELECT max(x.at) FROM marketplace_rentalevent x
                WHERE x.rental_id = r.id AND x.at < u.to_ts
                  AND (x.state IN ('stopping', 'terminating')
                    OR (x.state = 'starting' AND x.reason = 'restarted_by_user'))),
                '-infinity'))""",
    "I18 a namespace is one tenant's": """
        SELECT n.name FROM provisioner_instance i JOIN provisioner_namespace n
          ON n.id = i.namespace_id WHERE i.state <> 'gone'
         GROUP BY n.id, n.name HAVING count(DISTINCT i.tenant_ref) > 1
            OR bool_or(n.tenant_ref IS DISTINCT FROM i.tenant_ref)""",
    "I19 use ends after it starts and not in the future": """
        SELECT usage_id::text FROM facts.usage WHERE to_ts <= from_ts OR to_ts > app_now()""",
    "I20 slots are conserved": """
        SELECT n.name FROM provisioner_nodeshare h JOIN provisioner_node n ON n.id = h.node_id
          JOIN LATERAL (
            SELECT count(*) FILTER (WHERE s.reason <> 'device_gone') AS live,
                   count(*) FILTER (WHERE s.state = 'free') AS free,
                   count(*) FILTER (WHERE s.state = 'held') AS held,
                   count(*) FILTER (WHERE EXISTS (SELECT 1 FROM facts.hold o
                     WHERE o.slot_id = s.id AND o.to_ts IS NULL)) AS taken,
                   count(*) FILTER (WHERE s.state = 'held' AND NOT EXISTS (
                     SELECT 1 FROM facts.hold o WHERE o.slot_id = s.id AND o.to_ts IS NULL)) AS odd
              FROM provisioner_slot s WHERE s.share_id = h.id) c ON true
         WHERE h.slots_total <> c.live OR h.slots_free <> c.free OR c.held <> c.taken
            OR c.odd > 0""",
    "I20 a live instance holds what it ordered": """
        SELECT i.pod_name FROM provisioner_instance i
         WHERE (CASE i.state WHEN 'gone' THEN 0 ELSE i.gpus END) <> (
           SELECT count(*) FROM provisioner_hold h
            WHERE h.instance_id = i.id AND h.to_ts IS NULL)""",
    "I20 a restart keeps its cards without a gap": """
        SELECT a.pod_name FROM provisioner_instance a JOIN provisioner_instance b
          ON b.id = a.successor_id JOIN provisioner_hold h ON h.instance_id = a.id
         WHERE NOT EXISTS (SELECT 1 FROM provisioner_hold n WHERE n.instance_id = b.id
           AND n.slot_id = h.slot_id AND n.from_ts = h.to_ts)""",
    "events of an instance have no gap": """
        SELECT i.pod_name FROM provisioner_instance i JOIN provisioner_instanceevent e
          ON e.instance_id = i.id GROUP BY i.id, i.pod_name, i.event_seq
        HAVING count(*) <> i.event_seq OR max(e.seq) <> i.event_seq OR min(e.seq) <> 1""",
    "events of a rental have no gap": """
        SELECT rental_id::text FROM marketplace_rentalevent GROUP BY rental_id
        HAVING count(*) <> max(seq) OR min(seq) <> 1""",
    "an open meter is a ready instance": f"""
        SELECT i.pod_name FROM provisioner_instance i
         WHERE (i.state = 'ready' OR (i.state = 'degraded' AND i.reason IN ({_RENTERS})))
            <> EXISTS (SELECT 1 FROM provisioner_readyinterval r
           WHERE r.instance_id = i.id AND r.closed_at IS NULL)""",
    "a rental has at most one live instance": """
        SELECT rental_ref::text FROM provisioner_instance
         WHERE state <> 'gone' AND lapsed_at IS NULL GROUP BY rental_ref HAVING count(*) > 1""",
    "I16 a key has one rental": """
        SELECT min(idem_key) FROM facts.rental WHERE idem_key <> ''
         GROUP BY tenant_id, idem_key HAVING count(*) > 1""",
}

# What must hold as well when faults have stopped and some minutes have passed.
QUIET: dict[str, str] = {
    "I14 nothing stuck: instances": """
        SELECT pod_name || ' ' || state FROM provisioner_instance
         WHERE state NOT IN ('ready', 'gone') OR event_seq <> followed_seq
            OR (desired = 'end' AND state <> 'gone')""",
    "I14 nothing stuck: rentals": """
        SELECT id::text || ' ' || state FROM marketplace_rental
         WHERE state NOT IN
                 ('running', 'interrupting', 'queued', 'stopped', 'failed', 'terminated')
            OR (state = 'queued' AND queue_until <= app_now() - interval '1 minute')
            OR (state IN ('stopped', 'failed', 'terminated') AND settled_at IS NULL)
            OR leaving""",
    "I14 nothing stuck: slots": """
        SELECT id::text || ' ' || state FROM provisioner_slot
         WHERE state = 'dirty' AND free_at < app_now() - interval '1 minute'""",
    "I8 a rental is shown as its instance is": """
        SELECT r.id::text || ' ' || r.state || ' ' || i.state FROM marketplace_rental r
          JOIN provisioner_instance i ON i.id = r.instance_ref
         WHERE (r.state IN ('running', 'interrupting')) <> (i.state = 'ready')""",
    "I3 every proven second of what ended is charged": """
        SELECT r.rental_ref::text FROM provisioner_readyinterval r
          LEFT JOIN (SELECT source_ref, sum(seconds) AS seconds FROM billing_usageline
                      GROUP BY source_ref) u ON u.source_ref = r.id
         WHERE r.final AND coalesce(u.seconds, 0) <> greatest(0, extract(epoch FROM
           date_trunc('second', r.good_until)
           - date_trunc('second', r.opened_at + interval '999999 microseconds')))""",
    "R1 nothing is held for what ended": """
        SELECT m.rental_ref::text FROM billing_rentalmeter m JOIN marketplace_rental r
          ON r.id = m.rental_ref WHERE r.state IN ('stopped', 'failed', 'terminated')
           AND m.held_micro <> 0""",
}


@dataclass(frozen=True)
class Tables:
    """What the tables say at one moment, as far as the clusters' truth is held against it."""

    broken: list[Found]
    instances: dict[UUID, str]  # live ones with their states
    rentals: dict[UUID, str]
    usage: list[tuple[UUID, datetime, datetime]]
    queued: dict[UUID, tuple[str, str]]  # what each asked for, and its place
    absent: set[str]  # pods whose instances were given up because they were not there


# One call and one answer: a query of its own for each would cost more than what is simulated.
_LOOK = """
CREATE FUNCTION simulation_look() RETURNS TABLE (kind text, key text, a text, b text)
LANGUAGE plpgsql AS $simulation$ BEGIN
{checks}
RETURN QUERY SELECT 'instance', id::text, state::text, '' FROM provisioner_instance
  WHERE state <> 'gone';
RETURN QUERY SELECT 'rental', id::text, state::text, '' FROM marketplace_rental;
RETURN QUERY SELECT 'usage', rental_ref::text, from_at::text, to_at::text FROM billing_usageline
  ORDER BY from_at;
RETURN QUERY SELECT 'queued', id::text, concat_ws(' ', offer_id, gpus, wanted), concat(
    to_char(queued_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), ' ', id)
  FROM marketplace_rental WHERE state = 'queued';
RETURN QUERY SELECT 'absent', evidence->>'pod_uid', '', '' FROM provisioner_instanceevent
  WHERE state = 'stopping' AND reason = 'host_lost' AND evidence ? 'pod_uid'
    AND NOT evidence ? 'since';
END $simulation$
"""
_QUIET = """
CREATE FUNCTION simulation_quiet() RETURNS TABLE (kind text, key text, a text, b text)
LANGUAGE plpgsql AS $simulation$ BEGIN
{checks}
END $simulation$
"""


def install() -> None:
    """Make both functions; in the sandbox."""
    with connection.cursor() as cursor:
        for frame, checks in ((_LOOK, ALWAYS), (_QUIET, QUIET)):
            body = "\n".join(
                f"RETURN QUERY SELECT 'broken', {_quoted(title)}, q.row::text, ''"
                f" FROM ({query}) q(row);"
                for title, query in checks.items()
            )
            cursor.execute(frame.format(checks=body))


def look() -> Tables:
    """Every invariant of ALWAYS, and what truth.py needs."""
    rows = _rows("simulation_look")
    return Tables(
        broken=[(key, what) for kind, key, what, _ in rows if kind == "broken"],
        instances={UUID(key): state for kind, key, state, _ in rows if kind == "instance"},
        rentals={UUID(key): state for kind, key, state, _ in rows if kind == "rental"},
        usage=[
            (UUID(key), datetime.fromisoformat(start), datetime.fromisoformat(end))
            for kind, key, start, end in rows
            if kind == "usage"
        ],
        queued={UUID(key): (what, place) for kind, key, what, place in rows if kind == "queued"},
        absent={key for kind, key, _, _ in rows if kind == "absent"},
    )


def unsettled() -> list[Found]:
    """Every invariant of QUIET that does not hold."""
    return [(key, what) for _, key, what, _ in _rows("simulation_quiet")]


def _rows(function: str) -> list[tuple[str, str, str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT kind, key, a, b FROM {function}()")
        rows: list[tuple[str, str, str, str]] = cursor.fetchall()
        return rows


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
