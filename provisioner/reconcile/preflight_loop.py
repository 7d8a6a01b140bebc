"""Checking each cluster against the published rules: at registration, when its token changes, when
its provider asks, and some times a day, because what was right can be changed.

It says nothing about whether a cluster answers: that is health.py's, from the loops that ask all
the time. What it decides is whether a cluster takes new rentals; what runs there goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import connection, transaction

from kernel import clock
from kernel.errors import PermanentError, VendorError
from kernel.sealed import CannotOpen
from kernel.wake import wake
from provisioner.clusters import reaper
from provisioner.clusters.register import open_token
from provisioner.contracts import ClusterMode
from provisioner.kube.errors import code_of
from provisioner.kube.questions import Questions, connect_to_ask
from provisioner.models import Cluster, ClusterLoop, Namespace
from provisioner.preflight import judge, probing
from provisioner.preflight.facts import Facts, RowFacts, Unasked, nothing
from provisioner.preflight.judge import Result
from provisioner.preflight.probes import LOOK_SECONDS, Known, look, token_facts
from provisioner.preflight.store import store, waits_for_benchmark
from provisioner.reconcile import health
from provisioner.reconcile.claim import LoopClaim, claim_loops, release_loop
from provisioner.reconcile.pool import RUN_SECONDS, Calls

log = structlog.get_logger(__name__)

Connect = Callable[[Cluster], Questions]

# Rights and policies change by people's hands, a few times a year: four looks a day.
PERIOD = timedelta(hours=6)
# Somebody may be putting it right just now; a look is some 200 small questions.
WHILE_FAILING = timedelta(minutes=1)
# A cluster that just joined is being set up: its owner sits before the page.
WHILE_NEW, NEW = timedelta(seconds=10), timedelta(minutes=10)
# What was not answered is asked again before anybody wonders.
WHILE_UNKNOWN = timedelta(minutes=5)
# Longer than a whole look, whose last question may begin at its end.
CLAIM = timedelta(seconds=LOOK_SECONDS + 30)
# Each look has threads of its own, four of them.
_CLUSTERS_AT_ONCE = 4

# Clusters from before there was a preflight, or registered meanwhile by an older version.
_JOIN = """
INSERT INTO provisioner_clusterloop (id, cluster_id, kind, due_at)
SELECT gen_random_uuid(), c.id, 'preflight', app_now() FROM provisioner_cluster c
WHERE NOT EXISTS (
  SELECT FROM provisioner_clusterloop l WHERE l.cluster_id = c.id AND l.kind = 'preflight'
)
ON CONFLICT DO NOTHING
"""


def run(connect: Connect = connect_to_ask, seconds: float = RUN_SECONDS) -> int:
    """Look at every cluster that is due; the number of looks."""
    done, ends = 0, time.monotonic() + seconds
    with connection.cursor() as cursor:
        cursor.execute(_JOIN)
    with Calls[LoopClaim, Facts](threads=_CLUSTERS_AT_ONCE, per_cluster=1) as calls:
        while True:
            limit = calls.free() if time.monotonic() < ends else 0
            jobs = claim_loops(ClusterLoop.Kind.PREFLIGHT, limit=limit, hold=CLAIM, spare=1)
            for job in jobs:
                _begin(job, calls, connect)
            for job, result in calls.collect(timeout=0.1):
                done += 1
                with health.unstorable(job.cluster.pk):
                    _finish(job, result)
            if calls.idle() and (not jobs or len(jobs) < limit):
                return done


def _begin(job: LoopClaim, calls: Calls[LoopClaim, Facts], connect: Connect) -> None:
    known = _known(job.cluster)
    try:
        api = connect(job.cluster)
    except PermanentError as error:
        _finish(job, error)
        return
    calls.submit(job, job.cluster.pk, lambda: look(api, known))


def _known(cluster: Cluster) -> Known:
    names = Namespace.objects.filter(cluster=cluster).order_by("name")
    return Known(
        token=_token(cluster),
        namespaces=tuple(names.values_list("name", flat=True)),
        image=settings.GPUYARD_TOOLS_IMAGE,
        report_url=settings.GPUYARD_REPORT_URL,
        asked_at=clock.now(),
    )


def _token(cluster: Cluster) -> str:
    try:
        return open_token(cluster)
    except CannotOpen:
        return ""  # connecting says so


def _finish(job: LoopClaim, result: Facts | VendorError) -> None:
    at = clock.now()
    if isinstance(result, VendorError):
        result = nothing(token_facts(_token(job.cluster)), Unasked(code_of(result)), at=at)
    with transaction.atomic():
        # In this order a token that is replaced at the same time is seen: that locks the same row.
        cluster = Cluster.objects.select_for_update(no_key=True).get(pk=job.cluster.pk)
        loop = ClusterLoop.objects.filter(pk=job.id, claim_token=job.token).first()
        if loop is None:
            log.warning("claim_lost", cluster=str(cluster.pk))
            return
        asked_anew = loop.due_at != job.due_at
        results = judge.judge(result, _row(cluster, at))
        store(cluster, results, at=at, may_open=not asked_anew)
    release_loop(job, due_in=_pause(cluster, results, at))
    if asked_anew:
        wake("provisioner.preflight")  # whoever was woken by the wish found it claimed


def _row(cluster: Cluster, at: datetime) -> RowFacts:
    seen = cluster.relay_seen_at
    return RowFacts(
        storage_domain=cluster.storage_domain,
        storage_reason=cluster.storage_reason,
        reaper_state=reaper.condition(cluster, at).value,
        relay_age=None if seen is None else (at - seen).total_seconds(),
        by_agent=cluster.mode == ClusterMode.AGENT,
        network=probing.network_facts(cluster),
        pull=probing.pull_facts(cluster),
    )


def _pause(cluster: Cluster, results: Sequence[Result], at: datetime) -> timedelta:
    until = cluster.benchmark_until
    if until is not None and waits_for_benchmark(cluster, at) and judge.passes(results):
        return until - at  # woken when everything is measured
    if not cluster.preflight_passed:
        return WHILE_NEW if at - cluster.created_at < NEW else WHILE_FAILING
    return WHILE_UNKNOWN if any(map(judge.is_open_question, results)) else PERIOD
