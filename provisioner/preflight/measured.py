"""What probes tell, made plain, and what follows from it. PURE.

A probe's message comes out of a partner's cluster and may say anything: what is no figure of its
kind is not there. The figures are a claim of their owner's machines, never a base of money.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernel.text import clean

Json = dict[str, Any]

VERSION = 1
CPU_SINGLE, CPU_ALL = "cpu_single_sha256_mib_s", "cpu_all_sha256_mib_s"
MEMORY = "memory_copy_mib_s"
DISK_KIND, DISK_WRITE, DISK_READ = "disk_kind", "disk_write_mib_s", "disk_read_mib_s"
NET_DOWN, SECONDS, PULL = "net_down_mbps", "seconds", "pull_seconds"
FIGURES = (CPU_SINGLE, CPU_ALL, MEMORY, DISK_WRITE, DISK_READ, NET_DOWN, SECONDS)
# The slowest first: a group claims what the slowest of its nodes has.
DISK_KINDS = ("hdd", "ssd", "nvme")
# A machine with these figures scores 100. Any one of them doubled is a fifth more (the fourth root
# of two), so no single figure makes a machine fast.
REFERENCE: Mapping[str, float] = {
    CPU_ALL: 2000.0,
    MEMORY: 10000.0,
    DISK_WRITE: 500.0,
    DISK_READ: 500.0,
}
_MOST = 1e9
_CARDS = 64

FORBIDDEN = ("api", "kubelet", "node", "metadata")
_VERDICTS = ("open", "refused", "closed", "no_name", "")


def benchmark_of(message: str) -> Json | None:
    """The result in a benchmark's message; None when it is none of our version."""
    told = _told(message)
    if told is None:
        return None
    result: Json = {"version": VERSION, **{name: _figure(told.get(name)) for name in FIGURES}}
    kind = told.get(DISK_KIND)
    result[DISK_KIND] = kind if kind in DISK_KINDS else None
    cards = told.get("cards")
    result["cards"] = [_card(row) for row in (cards if isinstance(cards, list) else [])[:_CARDS]]
    return result


def score(result: Mapping[str, Any]) -> float | None:
    """100 for the reference, by the geometric mean; None where a figure of it is missing."""
    ratios = [(result.get(name) or 0.0) / usual for name, usual in REFERENCE.items()]
    if not all(ratios):
        return None
    return round(100 * math.prod(ratios) ** (1 / len(ratios)), 1)


@dataclass(frozen=True)
class Claim:
    """What a group of nodes is offered with; None: not measured on every node that was."""

    score: float | None = None
    disk_kind: str = ""
    disk_read_mib_s: float | None = None
    disk_write_mib_s: float | None = None
    net_down_mbps: float | None = None


def worst(results: Sequence[Mapping[str, Any]]) -> Claim:
    """The least of each figure: whoever rents may get the slowest node."""
    if not results:
        return Claim()
    kinds = [DISK_KINDS.index(result[DISK_KIND]) for result in results if result.get(DISK_KIND)]
    return Claim(
        score=_least([score(result) for result in results]),
        disk_kind=DISK_KINDS[min(kinds)] if len(kinds) == len(results) else "",
        disk_read_mib_s=_least([result.get(DISK_READ) for result in results]),
        disk_write_mib_s=_least([result.get(DISK_WRITE) for result in results]),
        net_down_mbps=_least([result.get(NET_DOWN) for result in results]),
    )


def network_of(message: str) -> Json | None:
    """What a network probe tried; None when it is no such result."""
    told = _told(message)
    rows = told.get("tries") if told else None
    if not isinstance(rows, list):
        return None
    tries = []
    for row in rows[:16]:
        if isinstance(row, dict) and row.get("verdict") in _VERDICTS:
            what, address = row.get("what"), row.get("address")
            tries.append(
                {"what": _text(what, 20), "address": _text(address, 80), "verdict": row["verdict"]}
            )
    return {"version": VERSION, "tries": tries}


def enforced(result: Mapping[str, Any]) -> bool | None:
    """Whether the policy held. API server and kubelet answer whoever reaches them, so the silence
    of both is the policy's; of one it may be a missing route, and where something refused nobody
    knows who."""
    verdicts = {row["what"]: row["verdict"] for row in result["tries"]}
    if any(verdicts.get(what) == "open" for what in FORBIDDEN):
        return False
    silent = all(verdicts.get(what) == "closed" for what in ("api", "kubelet"))
    return True if silent else None


def reached(result: Mapping[str, Any]) -> str:
    """What was open that must not be, in words."""
    found = [row for row in result["tries"] if row["verdict"] == "open"]
    named = [f"{row['what']} ({row['address']})" for row in found if row["what"] in FORBIDDEN]
    return ", ".join(named)


_PULLED = re.compile(r"Successfully pulled image .{1,500}? in ([0-9.hmsµun]{2,30})")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|µs|us|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}


def pull_seconds(events: Iterable[Mapping[str, Any]], pod_uid: str) -> float | None:
    """How long the node took to fetch the image, by its own word; None: it was there, or nobody
    said."""
    for event in events:
        of = event.get("involvedObject")
        if not isinstance(of, dict) or of.get("uid") != pod_uid or event.get("reason") != "Pulled":
            continue
        found = _PULLED.search(str(event.get("message"))[:1000])
        if found is not None:
            parts = _PART.findall(found[1])
            return round(sum(float(number) * _UNITS[unit] for number, unit in parts), 3)
    return None


def _told(message: str) -> Json | None:
    try:
        told = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.get("version") is True:
        return None
    return told if told.get("version") == VERSION else None


def _figure(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < _MOST else None


def _card(row: object) -> Json:
    given = row if isinstance(row, dict) else {}
    memory = _figure(given.get("memory_mib"))
    return {
        "uid": _text(given.get("uid"), 100),
        "model": _text(given.get("model"), 100),
        "memory_mib": None if memory is None else int(memory),
        "driver": _text(given.get("driver"), 40) or None,
    }


def _least(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None


def _text(value: object, limit: int) -> str:
    return clean(value, limit=limit) if isinstance(value, str) else ""
