"""States of an instance as data: one transition table and named sets. PURE.

The database constrains the values; move.py is the only writer and refuses any other move.
"""

from __future__ import annotations

from provisioner.contracts import Fault
from provisioner.contracts import InstanceState as S
from provisioner.instances.reasons import REASONS

# From -> where it may go. STOPPING is reachable from every live state and GONE only from it: there
# is one way out, and it passes through an observed absence.
MOVES: dict[S, frozenset[S]] = {
    S.RESERVED: frozenset({S.CREATING, S.STOPPING}),
    S.CREATING: frozenset({S.PULLING, S.STARTING, S.READY, S.STOPPING}),
    S.PULLING: frozenset({S.STARTING, S.READY, S.STOPPING}),
    S.STARTING: frozenset({S.PULLING, S.READY, S.STOPPING}),
    S.READY: frozenset({S.DEGRADED, S.UNREACHABLE, S.STOPPING}),
    # To itself: another cause may take over, and with it whose fault it is.
    S.DEGRADED: frozenset({S.READY, S.DEGRADED, S.UNREACHABLE, S.STOPPING}),
    S.UNREACHABLE: frozenset({S.READY, S.DEGRADED, S.STOPPING}),
    # To itself: its lease ran out while nobody can observe its absence.
    S.STOPPING: frozenset({S.STOPPING, S.GONE}),
    S.GONE: frozenset(),
}

# Cards are held: everything but GONE, because a card is given back only at observed absence.
HOLDS_CARDS = frozenset(S) - {S.GONE}
# The pod may exist, so a full list is compared with it.
MAY_HAVE_POD = HOLDS_CARDS - {S.RESERVED}
# On the way to ready; each has a deadline.
COMING_UP = frozenset({S.RESERVED, S.CREATING, S.PULLING, S.STARTING})
# Was ready once: what a lost cluster makes unreachable and a recovery makes ready again.
SERVING = frozenset({S.READY, S.DEGRADED, S.UNREACHABLE})
# Served and may stop doing so without anybody's wish: each has a grace, then it is given up.
TROUBLED = frozenset({S.DEGRADED, S.UNREACHABLE})
TERMINAL = frozenset({S.GONE})


# The one trouble in which a pod that is metered shows nothing of its node: whether its host still
# answers, each look at the nodes has to say.
PROGRAM_DOWN = "container_exited"


def metered(state: S, reason: str) -> bool:
    """Whether an open ready interval exists: while ready, and while only the renter's own program
    fails on healthy cards. Ending one's program does not end the meter; ending the rental does."""
    return state == S.READY or (state == S.DEGRADED and REASONS[reason].fault == Fault.RENTER)


def may_move(old: S, new: S) -> bool:
    return new in MOVES[old]
