"""What goes wrong with the answers of a cluster in a storm: each fault at a seeded rate.

Rates are per request and add up to about a fifth; a busy API server in a bad hour is at a
hundredth. Higher and nothing is ever under way when an answer goes wrong; lower and a minute sees
few of the pairs of faults that matter. Faults of watches are drawn by event.
"""

from __future__ import annotations

from random import Random
from typing import Any

from devstack.kube.sim.stack import SimPlane

_MAIN: tuple[tuple[str, dict[str, Any], float, dict[str, Any]], ...] = (
    ("conflict", {"method": "POST"}, 0.03, {}),
    ("conflict", {"method": "PUT"}, 0.03, {"reason": "Conflict"}),
    ("expired", {"method": "GET"}, 0.01, {}),
    ("expired", {"method": "WATCH"}, 0.03, {}),
    ("throttle", {}, 0.03, {"retry_after": 1}),
    ("error", {}, 0.03, {"status": 500}),
    ("error", {}, 0.01, {"status": 503, "reason": "ServiceUnavailable"}),
    ("error_after", {}, 0.03, {"status": 504, "reason": "Timeout"}),
    ("cut_before", {}, 0.02, {}),
    ("cut_after", {}, 0.03, {}),
    ("hang_before", {}, 0.01, {"seconds": 30.0}),
    ("hang_after", {}, 0.015, {"seconds": 30.0}),
    ("empty_list", {"method": "GET", "path": "*/pods"}, 0.05, {}),
    ("redirect", {}, 0.005, {}),
    ("drop_watch", {"method": "WATCH"}, 0.05, {}),
    ("lose_event", {"method": "WATCH"}, 0.10, {}),
    ("double_event", {"method": "WATCH"}, 0.05, {}),
)


def begin(plane: SimPlane, seed: int) -> None:
    """Place every order for as long as the storm lasts."""
    for number, (kind, match, rate, params) in enumerate(_MAIN):
        drawn = {**match, "times": 0, "rate": rate, "seed": seed * 1000 + number}
        plane.http.faults.place(kind, drawn, params)


def gust(plane: SimPlane, dice: Random) -> str:
    """Something that lasts: watches fall silent, or the whole server is unreachable; its name.

    ``calm`` ends it. Silenced connections stay so until somebody gives them up.
    """
    kind = dice.choice(("silent_watch", "cut_before", "throttle"))
    match = {"times": 0, "method": "WATCH" if kind == "silent_watch" else "*"}
    plane.http.faults.place(kind, match, {})
    return kind


def calm(plane: SimPlane, seed: int) -> None:
    """The gust is over, the storm goes on with another seed."""
    plane.http.faults.clear()
    begin(plane, seed)


def count(plane: SimPlane) -> dict[str, int]:
    """How often each kind of fault that stands has hit so far."""
    hits: dict[str, int] = {}
    for fault in plane.http.faults.standing():
        hits[fault.kind] = hits.get(fault.kind, 0) + fault.hits
    return hits
