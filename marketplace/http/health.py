"""What operators and their tools ask: alive, ready, metrics. No credentials, nothing about tenants.

/readyz is 503 only when requests cannot be served (no database). A dead broker is shown and does
not take the process out of rotation: what is accepted then is done seconds later by beat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from kernel.clock import now
from kernel.vitals import Vital
from marketplace.oncall import probes
from marketplace.oncall.alarms import Level, Reading, judge
from marketplace.oncall.probes import Probe
from marketplace.oncall.vitals import everything
from marketplace.rentals import read
from provisioner import facade as provisioner
from provisioner.contracts import ClusterState


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


_database = Probe(probes.ask_database, probes.DATABASE_ERRORS)
_broker = Probe(probes.ask_broker, probes.BROKER_ERRORS)


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
        vitals = everything()
        yield from _gauges(vitals)
        yield _alarms(judge(vitals))


def _gauges(vitals: Sequence[Vital]) -> Iterable[Metric]:
    """One family for each name; its vitals differ by their labels."""
    families: dict[str, GaugeMetricFamily] = {}
    for vital in vitals:
        names = [name for name, _ in vital.labels]
        family = families.setdefault(
            vital.metric, GaugeMetricFamily(vital.metric, vital.text, labels=names)
        )
        family.add_metric([value for _, value in vital.labels], vital.value)
    return families.values()


def _alarms(readings: Sequence[Reading]) -> Metric:
    """1 for the level that an alarm has reached: warn is read in the morning, page wakes people."""
    family = GaugeMetricFamily("gpuyard_alarm", "Alarms", labels=["name", "level"])
    for reading in readings:
        family.add_metric([reading.alarm.name, Level.WARN], reading.level == Level.WARN)
        if reading.alarm.page is not None:
            family.add_metric([reading.alarm.name, Level.PAGE], reading.level == Level.PAGE)
    return family


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
