"""A vital sign: one measured figure about how the platform fares. PURE.

Areas measure, the marketplace's room ``oncall`` judges. Names are those of the exposition without
its prefix and unit, so ``Vital("tick_lag", 12.0, ...)`` is ``gpuyard_tick_lag_seconds 12.0``.
"""

from __future__ import annotations

from dataclasses import dataclass

SECONDS = "seconds"
COUNT = ""


@dataclass(frozen=True)
class Vital:
    """value: in ``unit``. labels: (name, value) pairs that tell this one from its siblings.

    text: one sentence that says what is measured; the same for all vitals of one name.
    """

    name: str
    value: float
    text: str
    unit: str = SECONDS
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def metric(self) -> str:
        """Its name in the exposition."""
        return f"gpuyard_{self.name}_{self.unit}" if self.unit else f"gpuyard_{self.name}"
