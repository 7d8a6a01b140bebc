"""How far a cluster is on its way to being listed, as other areas see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Joining:
    """``benchmark_until``: its cards are kept back for their first benchmark until then, at the
    latest; ``probation_until``: on probation until then, or ``starts_left`` good starts before;
    ``probe_failure``: why the last probe told nothing."""

    benchmark_until: datetime | None = None
    probation_until: datetime | None = None
    starts_left: int = 0
    probe_failure: str = ""


NOT_JOINING = Joining()
