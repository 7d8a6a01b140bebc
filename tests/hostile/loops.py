"""The product's own loops over hostile clusters and a healthy one at the same time."""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kernel import clock
from kernel.ids import public
from provisioner.kube.connections import connect
from provisioner.kube.questions import connect_to_ask
from provisioner.models import Cluster, ClusterLoop
from provisioner.reconcile import node_loop, observe, preflight_loop, tokens
from provisioner.reconcile.pool import RUN_SECONDS

if TYPE_CHECKING:
    from tests.hostile.stage import Clusters, Stage

# Beside the healthy cluster: what holds a call, fills memory, or says what a table cannot hold.
_BESIDE = (
    *("silent", "a body in drips", "a million objects", "thousands of nodes", "pages without end"),
    "full pages without end",
    *("words: NUL", "words: half a character", "words: line breaks", "words: long", "words: HTML"),
    *("a long integer", "deep JSON", "wrong types", "a redirect", "an empty object"),
)
_ROUNDS: tuple[tuple[str, Callable[..., int], Any], ...] = (
    ("inventory", node_loop.run, connect),
    ("list", observe.run, connect),
    ("tokens", tokens.run, connect),
)


class _Timed:
    """An API that remembers when its last call ended."""

    def __init__(self, api: Any) -> None:
        self._api, self.ended = api, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._api, name)

        def call(*args: Any, **given: Any) -> Any:
            try:
                return found(*args, **given)
            finally:
                self.ended = time.monotonic()

        return call


# In a short campaign a run claims for so long, and preflight looks at those that answer at once.
_SHORT_S = 2.0


def run(stage: Stage, direct: Clusters, agents: Clusters, *, rounds: int, short: bool) -> None:
    """``rounds`` of each loop with the healthy cluster alone, then as many beside hostile ones."""
    seconds = _SHORT_S if short else RUN_SECONDS
    healthy = Cluster.objects.get(name="healthy")
    beside = [direct[name].pk for name in _BESIDE if name in direct]
    beside += [cluster.pk for cluster in agents.values()]
    # The others are not part of this: they would only make each round longer.
    ClusterLoop.objects.exclude(cluster_id__in=[healthy.pk, *beside]).delete()
    times: dict[str, list[float]] = {"alone": [], "beside": []}
    for number in range(2 * rounds):
        kind = "alone" if number < rounds else "beside"
        due = [healthy.pk] if kind == "alone" else [healthy.pk, *beside]
        for name, loop, way in _ROUNDS:
            took = _round(stage, name, partial(loop, seconds=seconds), way, due, healthy.pk)
            if name != "tokens":
                times[kind].append(took)
    quick = [direct[name].pk for name in _BESIDE if name.startswith("words")]
    looked = [healthy.pk, *(quick if short else beside)]
    preflight = partial(preflight_loop.run, seconds=seconds)
    _round(stage, "preflight", preflight, connect_to_ask, looked, None)
    _shown(stage, beside)
    alone, besides = statistics.median(times["alone"]), statistics.median(times["beside"])
    stage.report.figures |= {
        "loops_healthy_ms_alone": round(alone * 1000, 1),
        "loops_healthy_ms_beside": round(besides * 1000, 1),
        "loops_healthy_worst_ms": round(max(times["beside"]) * 1000, 1),
        "loops_hostile_clusters": len(beside),
    }


def _round(
    stage: Stage, name: str, loop: Callable[..., int], way: Any, due: list[Any], healthy: Any
) -> float:
    """Seconds from the beginning until the healthy cluster was done for the first time; a run goes
    on, and comes to it again, while hostile ones hang."""
    at = clock.now()
    ClusterLoop.objects.filter(cluster_id__in=due).update(
        due_at=at, claim_token=None, claim_until=None
    )
    Cluster.objects.filter(pk__in=due).update(retry_at=None, token_renew_at=at)
    kept: list[_Timed] = []

    def timed(cluster: Cluster) -> Any:
        made = _Timed(way(cluster))
        if cluster.pk == healthy:
            kept.append(made)
        return made

    began = time.monotonic()
    try:
        loop(timed)
    except Exception:  # noqa: BLE001  (whatever ends a loop is a finding)
        stage.report.problem(f"the {name} loop ended: {traceback.format_exc(limit=-3)}")
    if healthy is None:
        return 0.0
    if not kept or not kept[0].ended:
        stage.report.problem(f"the {name} loop did not come to the healthy cluster")
        return time.monotonic() - began
    return kept[0].ended - began


def _shown(stage: Stage, clusters: list[Any]) -> None:
    """What the owner sees of them is text, and there is always something to see."""
    for key in clusters:
        path = f"/provider/clusters/{public('cluster', key)}"
        for each in (path, f"{path}/nodes", f"{path}/slots", f"{path}/preflight"):
            status, content = stage.owner.raw("GET", each)
            text = content.decode()
            if status != 200 or not text.isprintable():
                stage.report.problem(f"{each}: {status} {text[:200]!r}")
