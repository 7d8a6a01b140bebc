"""How the provisioner fares, as figures: what is late, since when. Reads only, no lock.

Each source is one statement over partial indexes that hold unfinished work only, so a scrape costs
the same with ten rentals and with ten thousand. Trouble of a cluster is told once, as
``cluster_dark``: work that waits for a cluster that cannot be called is nobody's lateness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection

from kernel.vitals import COUNT, Vital
from provisioner.contracts import ClusterState
from provisioner.instances.shut import SHUT_AFTER

# Full lists are the base of every charge. Ready clusters answer, so the list's age is our lateness;
# the others are dark, with machines on them or without. Retired ones are nobody's business.
_CLUSTERS = """
SELECT c.id::text, c.state,
  extract(epoch FROM app_now() - coalesce(c.last_positive_at, c.state_since))::float8,
  extract(epoch FROM app_now() - c.state_since)::float8,
  EXISTS (SELECT FROM provisioner_instance i WHERE i.cluster_id = c.id AND i.state <> 'gone')
FROM provisioner_cluster c
WHERE c.drain_requested_at IS NULL
   OR EXISTS (SELECT FROM provisioner_instance i WHERE i.cluster_id = c.id AND i.state <> 'gone')
ORDER BY c.id
"""

# The notion of facts.op: neither done nor moved since the last step or attempt. The condition is
# that of the index instance_unfinished.
_OPERATIONS = """
SELECT i.state, extract(epoch FROM app_now() - min(greatest(i.state_since, i.worked_at)))::float8
FROM provisioner_instance i JOIN provisioner_cluster c ON c.id = i.cluster_id
WHERE i.state <> 'gone' AND NOT (i.desired = 'run' AND i.state = 'ready') AND c.state = 'ready'
GROUP BY i.state ORDER BY i.state
"""

# A claim leaves due_at as it was: claimed rows are among the due ones, and one index serves both.
_CLAIMS = """
SELECT count(*) FILTER (WHERE i.claim_token IS NULL),
  coalesce(extract(epoch FROM app_now() - min(i.due_at)
    FILTER (WHERE i.claim_token IS NULL)), 0)::float8,
  count(*) FILTER (WHERE i.claim_until < app_now()),
  coalesce(extract(epoch FROM app_now() - min(i.claim_until)
    FILTER (WHERE i.claim_until < app_now())), 0)::float8
FROM provisioner_instance i JOIN provisioner_cluster c ON c.id = i.cluster_id
WHERE i.due_at <= app_now() AND (c.retry_at IS NULL OR c.retry_at <= app_now())
"""

# By kind of loop: how late the latest cluster's job is. A job under a live claim is being done.
_LOOPS = """
SELECT l.kind, greatest(0, max(extract(epoch FROM
    app_now() - greatest(l.due_at, coalesce(l.claim_until, l.due_at)))))::float8
FROM provisioner_clusterloop l JOIN provisioner_cluster c ON c.id = l.cluster_id
WHERE c.retry_at IS NULL OR c.retry_at <= app_now()
GROUP BY l.kind ORDER BY l.kind
"""

# Events that the reader has not applied: a move sets state_since, so the row itself knows the age.
_EVENTS = """
SELECT count(*), coalesce(extract(epoch FROM app_now() - min(state_since)), 0)::float8
FROM provisioner_instance WHERE event_seq > followed_seq
"""

# Proven and not charged: the end of a closed interval, or the end of the hour that an open one has
# proven beyond. The first is read from readyinterval_to_settle, the second from the head of
# readyinterval_unsettled: what is charged into the present hour is not looked at.
_TICK = """
SELECT coalesce(extract(epoch FROM app_now() - min(late.since)), 0)::float8 FROM (
  SELECT min(r.good_until) AS since FROM provisioner_readyinterval r WHERE r.final AND NOT r.settled
  UNION ALL
  SELECT min(date_trunc('hour', r.charged_to, 'UTC') + interval '1 hour')
  FROM provisioner_readyinterval r JOIN provisioner_cluster c ON c.id = r.cluster_id
  WHERE NOT r.settled AND r.closed_at IS NULL
    AND r.charged_to < date_trunc('hour', app_now(), 'UTC')
    AND c.last_positive_at >= date_trunc('hour', r.charged_to, 'UTC') + interval '1 hour'
) late
"""

_UNFINISHED = """
SELECT count(*), coalesce(extract(epoch FROM app_now() - min(closed_at)), 0)::float8
FROM provisioner_readyinterval WHERE NOT final AND closed_at IS NOT NULL
"""

_BRAKES = """
SELECT count(*), coalesce(extract(epoch FROM app_now() - min(tripped_at)), 0)::float8
FROM provisioner_brake WHERE released_at IS NULL
"""


# One that never gave a sign is silent since the cluster joined: its owner has an older bundle.
_REAPERS = """
SELECT id::text, extract(epoch FROM app_now() - coalesce(reaper_seen_at, created_at))::float8
FROM provisioner_cluster WHERE state = 'ready' AND drain_requested_at IS NULL ORDER BY created_at
"""

# Clusters that had one: without it nobody gets in to what runs there.
_RELAYS = """
SELECT c.id::text, extract(epoch FROM app_now() - c.relay_seen_at)::float8
FROM provisioner_cluster c
WHERE c.state = 'ready' AND c.relay_seen_at IS NOT NULL
  AND EXISTS (SELECT FROM provisioner_instance i WHERE i.cluster_id = c.id AND i.state <> 'gone')
ORDER BY c.id
"""

# Of one renter it is their own doing (instances/shut.py).
_SHUT = """
SELECT i.cluster_id::text, count(DISTINCT i.tenant_ref)
FROM provisioner_wayin w JOIN provisioner_instance i ON i.id = w.instance_id
WHERE w.failures >= %s AND w.proven_at IS NOT NULL AND i.state IN ('ready', 'degraded')
  AND i.desired = 'run'
GROUP BY i.cluster_id HAVING count(DISTINCT i.tenant_ref) > 1 ORDER BY i.cluster_id
"""


def vitals() -> list[Vital]:
    """Everything measured here, in a fixed order."""
    return [vital for source in _SOURCES for vital in source()]


def _rows(statement: str, *values: int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall())


def _clusters() -> list[Vital]:
    found = []
    for cluster, state, listed, since, busy in _rows(_CLUSTERS):
        labels = (("cluster", cluster),)
        if state == ClusterState.READY:
            text = "Since the last full list of a ready cluster"
            found.append(Vital("cluster_list_age", listed, text, labels=labels))
        elif busy:
            text = "Since a cluster with machines on it cannot be used"
            found.append(Vital("cluster_dark", since, text, labels=(*labels, ("state", state))))
        else:
            text = "Since a cluster without machines cannot be used"
            found.append(Vital("cluster_unusable", since, text, labels=(*labels, ("state", state))))
    return found


def _operations() -> list[Vital]:
    text = "Longest that an instance's work was neither done, moved nor tried, by its state"
    return [
        Vital("op_age", max(age, 0.0), text, labels=(("state", state),))
        for state, age in _rows(_OPERATIONS)
    ]


def _claims() -> list[Vital]:
    due, due_age, expired, expired_age = _rows(_CLAIMS)[0]
    return [
        Vital("instances_due", due, "Instances that are due and unclaimed", COUNT),
        Vital("instances_due_age", due_age, "Since the oldest instance is due and unclaimed"),
        Vital("claims_expired", expired, "Claims whose worker is gone", COUNT),
        Vital("claims_expired_age", expired_age, "Since the oldest claim expired untaken"),
    ]


def _loops() -> list[Vital]:
    text = "How late the latest cluster's loop of a kind is"
    return [Vital("loop_late", age, text, labels=(("loop", kind),)) for kind, age in _rows(_LOOPS)]


def _events() -> list[Vital]:
    return _counted(_EVENTS, "events_behind", "Instances with events that no rental shows yet")


def _tick() -> list[Vital]:
    text = "Since the oldest proven second that is not charged could have been"
    return [Vital("tick_lag", max(_rows(_TICK)[0][0], 0.0), text)]


def _unfinished() -> list[Vital]:
    text = "Closed intervals that wait for their last proof"
    return _counted(_UNFINISHED, "intervals_unfinished", text)


def _brakes() -> list[Vital]:
    return _counted(_BRAKES, "brakes_open", "Pulls of the mass brake that hold")


def _counted(statement: str, name: str, text: str) -> list[Vital]:
    count, age = _rows(statement)[0]
    return [
        Vital(name, count, text, COUNT),
        Vital(f"{name}_age", max(age, 0.0), f"{text}: age of the oldest"),
    ]


def _reapers() -> list[Vital]:
    text = "Since a ready cluster's reaper gave a sign of life"
    return [
        Vital("reaper_silence", silence, text, labels=(("cluster", cluster),))
        for cluster, silence in _rows(_REAPERS)
    ]


def _ways_in() -> list[Vital]:
    silence = "Since a relay of a cluster with machines was connected"
    shut = "Renters in one cluster whose machines cannot be entered any more"
    return [
        Vital("relay_silence", age, silence, labels=(("cluster", cluster),))
        for cluster, age in _rows(_RELAYS)
    ] + [
        Vital("ways_shut", renters, shut, COUNT, labels=(("cluster", cluster),))
        for cluster, renters in _rows(_SHUT, SHUT_AFTER)
    ]


# One line for each source of vitals.
_SOURCES: tuple[Callable[[], list[Vital]], ...] = (
    _clusters,
    _operations,
    _claims,
    _loops,
    _events,
    _tick,
    _unfinished,
    _brakes,
    _reapers,
    _ways_in,
)
