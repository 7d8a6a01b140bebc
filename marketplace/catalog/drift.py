"""Why cards wait for a price: often they were on sale until a label changed. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from marketplace.catalog.needs import whole_gib
from provisioner.contracts import GroupView

_LIMIT: Final = 200  # of the offer's reason
# Of cards that nothing like was ever offered of: nothing drifted.
NO_PRICE: Final = "has no price yet"


def why_draft(group: GroupView, groups: Sequence[GroupView], offers: Mapping[UUID, str]) -> str:
    """``offers``: public ids by group, of those that have one. Names the nearest offer of the same
    cards in the same cluster, and what is different."""
    near = min(
        (
            (len(differences), offers[other.id], differences)
            for other in groups
            if other.id in offers
            and (other.cluster_id, other.accelerator) == (group.cluster_id, group.accelerator)
            and (differences := _differences(group, other))
        ),
        default=None,
    )
    if near is None:
        return NO_PRICE
    return f"{NO_PRICE}; like {near[1]}, but {', '.join(near[2])}"[:_LIMIT]


def _differences(now: GroupView, before: GroupView) -> list[str]:
    told = {
        "driver": (now.driver or "unknown", before.driver or "unknown"),
        "CUDA": (now.cuda_max or "unknown", before.cuda_max or "unknown"),
        "sharing": (now.sharing_mode, before.sharing_mode),
        "GiB per card": (whole_gib(now.memory_mib), whole_gib(before.memory_mib)),
        "vCPU per card": (now.vcpus_milli_per_gpu / 1000, before.vcpus_milli_per_gpu / 1000),
        "GiB RAM per card": (whole_gib(now.ram_mib_per_gpu), whole_gib(before.ram_mib_per_gpu)),
        "GiB disk per card": (whole_gib(now.disk_mib_per_gpu), whole_gib(before.disk_mib_per_gpu)),
    }
    return [f"{what} {new} instead of {old}" for what, (new, old) in told.items() if new != old]
