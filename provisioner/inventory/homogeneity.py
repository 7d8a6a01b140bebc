"""What makes devices one kind: a fingerprint of each group, and a certificate over machines.

The fingerprint is a digest of everything that a group is split by, so equal fingerprints mean equal
offers, in one cluster or in two. It rests on labels; the certificate adds what was measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from provisioner.contracts.homogeneity import Certificate, ProvenCard, ProvenMachine
from provisioner.inventory.accelerators import by_slug
from provisioner.models import DeviceGroup, Instance, ReadyInterval

# 64 bits: two of a million kinds collide with a chance of one in 40 million.
_DIGITS = 16
UNPROVEN = "Not every machine has been proven yet."


def fingerprint(group: DeviceGroup) -> str:
    """Stable over restarts and clusters; changes with anything that a renter could tell apart."""
    known = by_slug().get(group.accelerator)
    return _digest(
        accelerator=group.accelerator,
        memory_mib=group.memory_mib,
        driver=group.driver,
        toolkit=group.cuda_max,
        sharing=group.sharing_mode,
        partition=known[1].partition if known else "",
        interconnect=known[1].interconnect if known else "",
        shape=(group.vcpus_milli_per_gpu, group.ram_mib_per_gpu, group.disk_mib_per_gpu),
    )


# A page of the catalogue shows 200 of a few hundred kinds; each costs a digest once.
@lru_cache(maxsize=4096)
def _digest(**kind: object) -> str:
    text = json.dumps(kind, sort_keys=True, separators=(",", ":"))
    return f"fp-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"


def as_proof(group: DeviceGroup) -> dict[str, Any]:
    """What is kept beside the proof of a machine: the kind that its node claimed to have then."""
    return {
        "fingerprint": fingerprint(group),
        "driver": group.driver,
        "toolkit_max": group.cuda_max,
    }


def certificate(rental_refs: Sequence[UUID]) -> Certificate:
    """Over the latest machine of each rental, from the proof with which it last began to run."""
    latest = Instance.objects.filter(rental_ref__in=rental_refs).order_by("rental_ref", "-id")
    rows = list(latest.distinct("rental_ref").select_related("share__group"))
    found = [machine for row in rows if (machine := _proven(row)) is not None]
    return certify(found, of=len(rental_refs))


def certify(machines: Iterable[ProvenMachine], *, of: int) -> Certificate:
    """PURE. Whether all of so many machines are one kind."""
    proven = tuple(machines)
    if not proven or len(proven) < of or not all(machine.cards for machine in proven):
        return Certificate(None, (UNPROVEN,), proven)
    cards = [card for machine in proven for card in machine.cards]
    told = {
        "fingerprint": {machine.fingerprint for machine in proven},
        "model": {card.model for card in cards},
        "memory": {_size(card) for card in cards},
    }
    differences = [
        f"More than one {what}: {', '.join(sorted(values))}."
        for what, values in told.items()
        if len(values) > 1
    ]
    if len({card.uid for card in cards}) < len(cards):
        differences.append("One card was proven by more than one machine.")
    return Certificate(not differences, tuple(differences), proven)


def _size(card: ProvenCard) -> str:
    return "its profile's" if card.memory_mib is None else f"{card.memory_mib} MiB"


def _proven(row: Instance) -> ProvenMachine | None:
    interval = ReadyInterval.objects.filter(instance=row).order_by("opened_at", "id").last()
    if interval is None:
        return None
    # Proofs from before fingerprints were kept: the kind is the one the node claims now.
    claimed = {**as_proof(row.share.group), **interval.proof}
    return ProvenMachine(
        instance_id=row.pk,
        fingerprint=str(claimed["fingerprint"]),
        driver=claimed["driver"] or None,
        toolkit_max=claimed["toolkit_max"] or None,
        proven_at=interval.opened_at,
        cards=tuple(
            ProvenCard(str(card["uid"]), str(card["model"]), card.get("memory_mib"))
            for card in interval.proof.get("devices", ())
        ),
    )
