"""How a cluster stands: from the results of calls to a state, a sentence and a breaker.

One failed call says little; a credential or a certificate that is refused says everything at once.
A cluster in trouble is left alone for a growing while, so that it takes no time from the others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import DataError, transaction
from django.db.models import F

from kernel import clock
from kernel.errors import VendorError
from kernel.retry import backoff
from provisioner.clusters.register import note_cluster_change
from provisioner.contracts import ClusterState
from provisioner.kube.errors import CREDENTIAL, SENTENCES, TLS, Unsure, code_of
from provisioner.models import Cluster

log = structlog.get_logger(__name__)

# A ready cluster stays on sale this long after its last full list although a call failed: two
# periods of the list and its retries. Longer sells cards nobody can start.
GRACE = timedelta(seconds=15)
# Twice the freshness that the meter asks for: our own restart is not an outage of every cluster.
BLIND_AFTER = timedelta(seconds=120)
# First and longest pause after failures. A longer one would let a cluster that was away for half a
# minute miss the sixty seconds within which its meters go on; a shorter one costs every run a
# connect timeout.
PAUSE, LONGEST_PAUSE = 1.0, 15.0


def failed(cluster_id: UUID, error: VendorError, *, at: datetime) -> timedelta:
    """Note a call that failed for reasons of the whole cluster; the pause until the next."""
    code = code_of(error)
    with transaction.atomic():
        row = Cluster.objects.select_for_update(no_key=True).get(pk=cluster_id)
        pause = timedelta(
            seconds=backoff(
                row.failures,
                base=PAUSE,
                cap=LONGEST_PAUSE,
                fraction=random.random(),  # noqa: S311  (spreads retries, guards nothing)
            )
        )
        changes = {"failures": F("failures") + 1, "retry_at": at + pause, "last_attempt_at": at}
        Cluster.objects.filter(pk=row.pk).update(**changes)
        state = _state(row, code, at)
        sentence = SENTENCES.get(code, "The server's answers cannot be used.")
        _become(row, state, code, f"{sentence} ({error})", at)
    return pause


@contextmanager
def unstorable(cluster_id: UUID) -> Iterator[None]:
    """What a cluster says and no table takes (NUL, half a character) is the cluster's failure: it
    must not end the run that serves the others as well. The claim runs out by itself."""
    try:
        yield
    except (DataError, UnicodeError) as error:
        log.exception("answer_not_storable", cluster=str(cluster_id))
        failed(cluster_id, Unsure("not_json", f"no text: {error}"), at=clock.now())


def answered(cluster_id: UUID, *, at: datetime) -> None:
    """Note that a call of any kind was answered properly: the breaker closes."""
    Cluster.objects.filter(pk=cluster_id, failures__gt=0).update(failures=0, retry_at=None)


def ready(row: Cluster, *, at: datetime) -> None:
    """Note a full list of a cluster whose row the caller has locked."""
    Cluster.objects.filter(pk=row.pk).update(
        failures=0, retry_at=None, last_attempt_at=at, last_positive_at=at
    )
    _become(row, ClusterState.READY, "ready", "The cluster answers.", at)


def we_are_blind(*, at: datetime) -> bool:
    """Whether none of several clusters gave a fresh sign: then the fault is ours, not theirs."""
    watched = Cluster.objects.exclude(last_positive_at=None).filter(drain_requested_at=None)
    newest = watched.order_by("-last_positive_at").values_list("last_positive_at", flat=True)
    last = [moment for moment in newest[:2] if moment is not None]
    return len(last) == 2 and at - last[0] > BLIND_AFTER


def incomplete(cluster_id: UUID, reason: str, detail: str, *, at: datetime) -> None:
    """The cluster answers but cannot be used yet, e.g. without any namespace."""
    with transaction.atomic():
        row = Cluster.objects.select_for_update(no_key=True).get(pk=cluster_id)
        _become(row, ClusterState.CONNECTING, reason, detail, at)


def _state(row: Cluster, code: str, at: datetime) -> ClusterState:
    if code in CREDENTIAL:
        return ClusterState.CREDENTIAL_REJECTED
    if code in TLS:
        return ClusterState.TLS_REJECTED
    fresh = row.last_positive_at is not None and at - row.last_positive_at < GRACE
    if row.state == ClusterState.READY and fresh:
        return ClusterState.READY
    return ClusterState.UNREACHABLE


def _become(row: Cluster, state: ClusterState, reason: str, detail: str, at: datetime) -> None:
    if state == ClusterState.READY and reason != "ready":
        return  # within its grace: still ready, and nothing new to tell
    if row.state == state and row.reason == reason:
        return
    changes = {"reason": reason, "detail": detail[:500]}
    if row.state != state:
        Cluster.objects.filter(pk=row.pk).update(state=state.value, state_since=at, **changes)
        note_cluster_change(row.pk)
        log.info("cluster_state", cluster=str(row.pk), state=state.value, reason=reason)
    else:
        Cluster.objects.filter(pk=row.pk).update(**changes)
    row.state, row.reason, row.detail = state.value, reason, detail[:500]
