"""Whether all cards of a rental are of one kind, with what that rests on. Reads only.

Only what a machine's check read is called measured. A driver is what the node's labels said when
the machine was proven; a machine's shape is what was reserved with its cards.
"""

from __future__ import annotations

from typing import Any, Final

from kernel.ids import public
from kernel.text import rfc3339
from marketplace.catalog.registry import by_slug
from marketplace.models import Rental
from provisioner.contracts.homogeneity import ProvenMachine
from provisioner.facade.homogeneity import certificate

_BASIS: Final = {
    "model": "measured",
    "memory": "measured",
    "driver": "label",
    "cuda_max": "label",
    "interconnect": "registry",
    "shape": "reserved",
}


def certify(rental: Rental) -> dict[str, Any]:
    """The certificate of a loaded rental, for people and programs."""
    found = certificate(rental_refs=[rental.id])
    card = by_slug().get(rental.accelerator)
    partition = card.partition if card else None
    kinds = {machine.fingerprint for machine in found.machines}
    return {
        "rental": public("rental", rental.id),
        "homogeneous": found.homogeneous,
        "differences": list(found.differences),
        "fingerprint": kinds.pop() if len(kinds) == 1 else None,
        "accelerator": rental.accelerator,
        "partition": partition,
        "interconnect": card.interconnect if card else None,
        "gpus": rental.gpus,
        # The size of a part follows from its profile, which is measured.
        "basis": {**_BASIS, "memory": "profile"} if partition else dict(_BASIS),
        "machines": [_machine(machine) for machine in found.machines],
    }


def _machine(machine: ProvenMachine) -> dict[str, Any]:
    return {
        "instance": public("instance", machine.instance_id),
        "fingerprint": machine.fingerprint,
        "driver": machine.driver,
        "cuda_max": machine.toolkit_max,
        "proven_at": rfc3339(machine.proven_at),
        "cards": [
            {"uid": card.uid, "model": card.model, "memory_mib": card.memory_mib}
            for card in machine.cards
        ],
    }
