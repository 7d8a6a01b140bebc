"""What operators and their tools ask: alive, ready, metrics. No credentials, nothing about tenants.

/readyz is 503 only when requests cannot be served (no database). A dead broker is shown and does
not take the process out of rotation: what is accepted then is done seconds later by beat.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.utils import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from kernel.clock import now
from marketplace.accounts import audit, mail
from marketplace.rentals import read
from provisioner import facade as provisioner
from provisioner.contracts import ClusterState

# One probe may take this long in all: probes come every few seconds and must not pile up.
_BROKER_TIMEOUT_S = 0.3
_DATABASE_TIMEOUT_MS = 1000


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


class Probe:
    """A check that remembers when it last succeeded, in this process."""

    def __init__(self, check: Callable[[], None], errors: tuple[type[Exception], ...]) -> None:
        self._check = check
        self._errors = errors
        self._lock = threading.Lock()
        self._last_ok: float | None = None

    def result(self) -> dict[str, Any]:
        """``{"ok", "age_seconds", "error"}``; age: since it last succeeded, None if never."""
        error = None
        try:
            self._check()
        except self._errors as failure:
            error = type(failure).__name__  # the text may hold an address or a password
        with self._lock:
            if error is None:
                self._last_ok = time.monotonic()
            last = self._last_ok
        age = None if last is None else round(time.monotonic() - last, 1)
        return {"ok": error is None, "age_seconds": age, "error": error}


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {_DATABASE_TIMEOUT_MS}")
        try:
            cursor.execute("SELECT 1")
        finally:
            cursor.execute("RESET statement_timeout")


def _ask_broker() -> None:
    client = Redis.from_url(
        settings.CELERY_BROKER_URL,
        socket_timeout=_BROKER_TIMEOUT_S,
        socket_connect_timeout=_BROKER_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()
    finally:
        client.close()


_database = Probe(_ask_database, (DatabaseError, InterfaceError))
_broker = Probe(_ask_broker, (RedisError, OSError))


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Database, broker and clusters, each with the age of its last success."""
    database = _database.result()
    body: dict[str, Any] = {"database": database, "broker": _broker.result(), "clusters": []}
    if database["ok"]:
        body["clusters"] = _clusters()
    serving = database["ok"]
    well = serving and body["broker"]["ok"] and all(row["ok"] for row in body["clusters"])
    body = {"status": "ok" if well else "degraded" if serving else "down", **body}
    return JsonResponse(body, status=200 if serving else 503)


def _clusters() -> list[dict[str, Any]]:
    present = now()
    rows = []
    for cluster in provisioner.clusters():
        if cluster.state == ClusterState.RETIRED:
            continue
        seen = cluster.last_observed_at
        rows.append(
            {
                "id": str(cluster.id),
                "state": cluster.state.value,
                "ok": cluster.state in (ClusterState.READY, ClusterState.DRAINING),
                "reason": cluster.reason,
                "age_seconds": round((present - seen).total_seconds(), 1) if seen else None,
            }
        )
    return rows


def _reapers() -> Iterable[Metric]:
    """Alarms: any state but running, and a silence of minutes. A cluster that does not answer
    shows a growing silence as well."""
    counts = GaugeMetricFamily("gpuyard_reapers", "Reapers by state", labels=["state"])
    silence = GaugeMetricFamily(
        "gpuyard_reaper_silence_seconds", "Since a reaper's last heartbeat", labels=["cluster"]
    )
    present, shown = now(), provisioner.clusters()
    for state, number in Counter(c.reaper_state.value for c in shown).items():
        counts.add_metric([state], number)
    for cluster in shown:
        if cluster.reaper_seen_at is not None and cluster.state != ClusterState.RETIRED:
            age = (present - cluster.reaper_seen_at).total_seconds()
            silence.add_metric([str(cluster.id)], age)
    return counts, silence


class _Facts:
    """Gauges read from the database at each scrape: the same whichever process is asked."""

    def collect(self) -> Iterable[Metric]:
        rentals = GaugeMetricFamily("gpuyard_rentals", "Rentals by state", labels=["state"])
        for state, count in read.by_state().items():
            rentals.add_metric([state], count)
        yield rentals
        clusters = GaugeMetricFamily("gpuyard_clusters", "Clusters by state", labels=["state"])
        for found, number in Counter(c.state.value for c in provisioner.clusters()).items():
            clusters.add_metric([found], number)
        yield clusters
        yield _brakes()
        yield from _reapers()
        yield GaugeMetricFamily(
            "gpuyard_audit_unsealed",
            "Audit rows not chained yet",
            audit.unsealed(),
        )
        yield GaugeMetricFamily(
            "gpuyard_mail_unsent",
            "E-mails ordered and not sent",
            mail.unsent(),
        )


def _brakes() -> Metric:
    """Any sample pages somebody: what it counts waits for a person or for a good look."""
    family = GaugeMetricFamily(
        "gpuyard_brake_held", "What an open mass brake holds", labels=["cluster", "cause"]
    )
    for brake in provisioner.brakes():
        if brake.released_at is None:
            family.add_metric([str(brake.cluster_id or "everywhere"), brake.cause], brake.wanted)
    return family


class _Both:
    """This process's own counters and the facts of the database, for one exposition."""

    def collect(self) -> Iterable[Metric]:
        yield from REGISTRY.collect()
        yield from _Facts().collect()


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text. Counters are this process's; gauges come from the database."""
    return HttpResponse(generate_latest(_Both()), content_type=CONTENT_TYPE_LATEST)
