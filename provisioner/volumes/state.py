"""States of a volume as data: one transition table, named sets, and the closed list of reasons.
PURE.

The database constrains the values; move.py is the only writer and refuses any other move.
"""

from __future__ import annotations

from provisioner.contracts import VolumeState as S

# From -> where it may go. One way out: through DELETING, which ends with an observed absence. What
# is attached is not deleted, so there is no way from ATTACHED to DELETING.
MOVES: dict[S, frozenset[S]] = {
    S.REQUESTED: frozenset({S.CREATING, S.DELETING}),
    S.CREATING: frozenset({S.AVAILABLE, S.ATTACHED, S.LOST, S.DELETING}),
    S.AVAILABLE: frozenset({S.ATTACHED, S.RESIZING, S.LOST, S.DELETING}),
    S.ATTACHED: frozenset({S.AVAILABLE, S.RESIZING, S.LOST}),
    S.RESIZING: frozenset({S.AVAILABLE, S.ATTACHED, S.LOST, S.DELETING}),
    S.DELETING: frozenset({S.DELETED}),
    S.DELETED: frozenset(),
    S.LOST: frozenset({S.DELETING}),
}

# A new instance may be given the volume. Not yet bound ones are among them: most classes for local
# disks bind at the first use only, and a larger file system may need a use to become visible.
ATTACHABLE = frozenset({S.REQUESTED, S.CREATING, S.AVAILABLE, S.RESIZING})
# A larger size can be asked for: Kubernetes grows bound claims only.
GROWABLE = frozenset({S.AVAILABLE, S.ATTACHED})
# The end was asked for; nothing brings it back.
ENDING = frozenset({S.DELETING, S.DELETED})
TERMINAL = frozenset({S.DELETED})

# Why a volume is as it is, with a text for people.
REASONS: dict[str, str] = {
    "requested": "Asked for; it is about to be created.",
    "creating": "It is being created on its cluster.",
    "waits_for_use": "It comes into being with the first machine that uses it.",
    "binding": "Its cluster is setting up the storage.",
    "refused": "Its cluster refuses to create it; it is tried again every minute.",
    "available": "Ready to be attached to a machine.",
    "attached": "A machine has it.",
    "detached": "The machine that had it is gone; the data is kept.",
    "resize_requested": "A larger size was asked for.",
    "resized": "It has the larger size.",
    "resize_refused": "Its cluster refuses to enlarge it; it keeps its size and its data.",
    "delete_requested": "It is being deleted with its data.",
    "funds_grace_over": "It is being deleted: the money ended and the time to pay is over.",
    "deleted": "It is gone from its cluster.",
    "lost": "Its cluster reports that the storage behind it is gone.",
    "vanished": "It disappeared from its cluster although nobody here deleted it.",
}


def may_move(old: S, new: S) -> bool:
    """Whether the table knows the move; a new reason in the same state is always legal."""
    return old == new or new in MOVES[old]
