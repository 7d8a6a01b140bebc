"""What a pod of the platform's tools tells on a simulated node (podtools/bench.go, probe.go).

The figures are the simulated machine's own, the same each time; the message has the tools' form. A
NetworkPolicy is stored and not enforced here, so a probe reaches what it must not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from devstack.kube.fleet import Card

PROBE_CONTAINER = "gpuyard-probe"
# Of every simulated machine: SHA-256 of a core, copying, and an NVMe disk.
CORE_MIB_S, COPY_MIB_S, WRITE_MIB_S, READ_MIB_S, DOWN_MBPS = 480.0, 14000.0, 1800.0, 2600.0, 940.0
# What kubelets put into every pod for the service of the API server.
API_SERVICE = "10.96.0.1:443"


def is_probe(spec: Mapping[str, Any]) -> bool:
    return [container["name"] for container in spec["containers"]] == [PROBE_CONTAINER]


def message(spec: Mapping[str, Any], card: Card, uids: Sequence[str], node: str) -> str:
    """The termination message of its only container."""
    words = list(spec["containers"][0]["command"][1:])
    told = _network(words, node) if words[0] == "probe" else _benchmark(words, card, uids)
    return json.dumps({"version": 1, **told}, separators=(",", ":"))


def _benchmark(words: Sequence[str], card: Card, uids: Sequence[str]) -> dict[str, Any]:
    given = dict(zip(words[1::2], words[2::2], strict=True))
    measured = int(given["-disk-mib"]) > 0
    named = [
        {"uid": uid, "model": card.model, "memory_mib": card.memory_mib, "driver": card.driver}
        for uid in uids
    ]
    return {
        "seconds": 20.0,
        "cpu_single_sha256_mib_s": CORE_MIB_S,
        "cpu_all_sha256_mib_s": CORE_MIB_S * int(given["-cpus"]),
        "memory_copy_mib_s": COPY_MIB_S,
        "disk_kind": "nvme" if measured else None,
        "disk_write_mib_s": WRITE_MIB_S if measured else None,
        "disk_read_mib_s": READ_MIB_S if measured else None,
        "net_down_mbps": DOWN_MBPS if given["-url"] else None,
        "cards": named if given.get("-check") else [],
    }


def _network(words: Sequence[str], node: str) -> dict[str, Any]:
    """The metadata address is nobody's here."""
    tries = [
        ("api", API_SERVICE, "open"),
        ("kubelet", f"{node}:10250", "open"),
        ("node", f"{node}:22", "refused"),
        ("metadata", "169.254.169.254:80", "closed"),
        ("outside", words[words.index("-outside") + 1], "open"),
    ]
    return {"tries": [dict(zip(("what", "address", "verdict"), row, strict=True)) for row in tries]}
