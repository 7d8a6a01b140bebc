"""What a campaign found, against its limits."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

# trust.md, T12.
MEMORY_MIB = 64.0
CALL_SECONDS = 15.0
# A healthy cluster's median beside hostile ones. On two cores that hostile servers, agents and this
# process share, a tenth cannot be told from noise (bench/dark_cluster.py shows it on launches);
# what one hang costs is a thousand times more.
HEALTHY_RATIO = 2.0


@dataclass
class Report:
    """Safe for threads. ``problems``: everything that must not have happened, in words."""

    seed: str
    tried: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    slowest_walk: tuple[float, str] = (0.0, "")
    figures: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, part: str, outcome: str) -> None:
        with self._lock:
            self.tried[part] += 1
            self.outcomes[outcome] += 1

    def problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text[:500])

    def took(self, seconds: float, what: str, *, walk: bool = False) -> None:
        with self._lock:
            if walk:
                self.slowest_walk = max(self.slowest_walk, (seconds, what))
            else:
                self.slowest = max(self.slowest, (seconds, what))

    def broken(self) -> list[str]:
        """Names of the limits that were passed."""
        found = self.figures
        limits = {
            "problems": len(self.problems) == 0,
            "processes_started": found["processes_started"] == 0,
            "forbidden_connections": found["forbidden_connections"] == 0,
            "canary_bytes": found["canary_bytes"] == 0 and found["canary_connections"] == 0,
            "files_opened": found["files_opened"] == 0,
            "memory_mib": max(found["memory_mib"], found["web_memory_mib"]) <= MEMORY_MIB,
            "slowest_call_s": self.slowest[0] <= CALL_SECONDS,
            "healthy_failures": found["healthy_failures"] == 0,
            "healthy_ratio": found["healthy_ratio"] <= HEALTHY_RATIO,
            "agents_listen": found["agents_listen"] == 0,
            "agents_alive": found["agents_alive"] == found["agents"],
        }
        return [name for name, held in limits.items() if not held]

    def as_json(self) -> str:
        broken = self.broken()
        return json.dumps(
            {
                "campaign": "hostile",
                "seed": self.seed,
                "inputs": sum(self.tried.values()),
                **{f"inputs_{part}": count for part, count in sorted(self.tried.items())},
                "slowest_call_s": round(self.slowest[0], 2),
                "slowest_call": self.slowest[1],
                "slowest_walk_s": round(self.slowest_walk[0], 2),
                **self.figures,
                "limits": {
                    "memory_mib": MEMORY_MIB,
                    "slowest_call_s": CALL_SECONDS,
                    "healthy_ratio": HEALTHY_RATIO,
                },
                "problems": len(self.problems),
                "broken": broken,
                "ok": not broken,
            }
        )
