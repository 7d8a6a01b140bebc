"""Why an instance is as it is: the closed list, with whose fault it was and a text for people.

PURE data. A reason that is not here cannot be stored (move.py looks it up).
"""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.contracts import Fault


@dataclass(frozen=True)
class Reason:
    fault: Fault
    text: str


REASONS: dict[str, Reason] = {
    "placed": Reason(Fault.NONE, "Cards are reserved; the machine is about to be created."),
    "creating": Reason(Fault.NONE, "The machine is being created on its cluster."),
    "pulling": Reason(Fault.NONE, "The cards are checked and the image is downloaded."),
    "starting": Reason(Fault.NONE, "The container is up; it is not ready yet."),
    "ready": Reason(Fault.NONE, "The cards were proven to be as ordered and the machine runs."),
    "recovered": Reason(Fault.NONE, "The machine is back, with the same cards."),
    "host_rejected": Reason(Fault.HOST, "The host had no room although it offered it."),
    "volume_error": Reason(Fault.HOST, "The host's cluster could not mount the volume."),
    "image_not_found": Reason(Fault.RENTER, "The registry does not know this image."),
    "image_auth": Reason(Fault.RENTER, "The registry refuses access to this image."),
    "image_pull_timeout": Reason(Fault.UNKNOWN, "The image could not be downloaded in time."),
    "bad_command": Reason(Fault.RENTER, "The command of the image could not be started."),
    "container_exited": Reason(Fault.RENTER, "The program in the image ended again and again."),
    "ssh_down": Reason(Fault.RENTER, "SSH of the machine does not answer; its cards are well."),
    "config_error": Reason(Fault.PLATFORM, "The cluster refused the machine's description."),
    "start_timeout": Reason(Fault.HOST, "The machine did not become ready in time."),
    "no_way_in": Reason(Fault.PLATFORM, "Nobody could get into the machine by SSH."),
    "order_mismatch": Reason(Fault.HOST, "The cards found are not those that were ordered."),
    "card_in_use": Reason(Fault.HOST, "Another program already used memory of a card."),
    "gpu_lost": Reason(Fault.HOST, "The host lost a card of this machine."),
    "node_not_ready": Reason(Fault.HOST, "The host stopped answering inside its cluster."),
    "not_ready": Reason(Fault.UNKNOWN, "The machine reports that it is not ready."),
    "cluster_unreachable": Reason(
        Fault.UNKNOWN, "The cluster gives no fresh sign of this machine; nothing is charged."
    ),
    "not_seen": Reason(
        Fault.UNKNOWN,
        "A list of the cluster did not show the machine; it is being looked for. Nothing is"
        " charged.",
    ),
    "platform_incident": Reason(
        Fault.PLATFORM,
        "Many machines look bad at the same time, which is more likely our fault than theirs: this"
        " one is left alone until we know. Nothing is charged.",
    ),
    "host_lost": Reason(Fault.HOST, "The machine disappeared from its host."),
    "lease_over": Reason(
        Fault.UNKNOWN, "Its lease in the cluster ran out: the pod is ended there without us."
    ),
    "lapsed": Reason(
        Fault.UNKNOWN, "Its lease ran out while its cluster is dark: it does not run any more."
    ),
    "stopped_by_user": Reason(Fault.NONE, "Stopped on request of the renter."),
    "terminated_by_user": Reason(Fault.NONE, "Ended on request of the renter."),
    "outbid": Reason(Fault.NONE, "Ended after its notice: an order needed its cards."),
    "maintenance": Reason(Fault.HOST, "Ended for maintenance of the host."),
    "funds": Reason(Fault.FUNDS, "Ended because the balance was used up."),
    "funds_grace_over": Reason(Fault.FUNDS, "Ended because the time to pay was over."),
    "overdue": Reason(Fault.FUNDS, "Ended because an invoice was two weeks overdue."),
    "budget": Reason(Fault.FUNDS, "Ended because its budget was used up."),
    "end_date": Reason(Fault.NONE, "Ended at the agreed time."),
    "idle": Reason(Fault.NONE, "Ended because it was idle."),
    "abuse": Reason(Fault.RENTER, "Ended because of abuse."),
    "admin": Reason(Fault.NONE, "Ended by staff."),
    "contract_end": Reason(Fault.NONE, "Ended with the contract."),
    "restarted_by_user": Reason(Fault.NONE, "Restarted on request of the renter."),
    "moved": Reason(Fault.NONE, "Moved to another host."),
}

# A list lacks it: a reason to look, not to act.
NOT_SEEN = "not_seen"
# The mass brake holds what would have been done to it.
HELD = "platform_incident"
# Decided by the next look at the pod.
LOOK_FIRST = frozenset({NOT_SEEN, HELD})
# Ends that we decide by ourselves from what we see, as opposed to wishes and dates. Maintenance is
# the host's doing, but somebody asked for it. The mass brake counts these.
_NOT_THE_RENTERS = (Fault.HOST, Fault.PLATFORM, Fault.UNKNOWN)
_ANNOUNCED = frozenset({"maintenance"})
DECIDED = (
    frozenset(code for code, reason in REASONS.items() if reason.fault in _NOT_THE_RENTERS)
    - _ANNOUNCED
)


def is_interruption(reason: str, fault: Fault) -> bool:
    """Whether work that ends so was broken off by a fault: not by its renter, nor as announced."""
    return fault in _NOT_THE_RENTERS and reason not in _ANNOUNCED
