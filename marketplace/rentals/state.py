"""The states of a rental as data: named sets, legal moves, actions. Pure.

One table serves the follower, the actions and the API's ``actions``. Moves that skip a step are
legal where an observation may be coarser than reality: a cached image is never seen pulling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

REQUESTED = "requested"
QUEUED = "queued"
PROVISIONING = "provisioning"
PULLING = "pulling"
STARTING = "starting"
RUNNING = "running"
DEGRADED = "degraded"
UNREACHABLE = "unreachable"
INTERRUPTING = "interrupting"
STOPPING = "stopping"
STOPPED = "stopped"
MIGRATING = "migrating"
FAILED = "failed"
TERMINATING = "terminating"
TERMINATED = "terminated"

# On the way to running: cards are bound, nothing was proven yet, nothing is charged.
COMING_UP: Final = frozenset({PROVISIONING, PULLING, STARTING})
# Cards are held for the renter until absence is observed.
HOLDS_CARDS: Final = frozenset(
    {*COMING_UP, RUNNING, DEGRADED, UNREACHABLE, INTERRUPTING, STOPPING, TERMINATING}
)
# The GPU meter may run. Degraded counts when the fault is the renter's: the interval decides.
BILLABLE: Final = frozenset({RUNNING, DEGRADED, INTERRUPTING})
# Waits for cards: nothing is reserved, nothing costs.
WAITING: Final = frozenset({REQUESTED, QUEUED})
# Has no machine and none on its way.
IDLE: Final = frozenset({*WAITING, STOPPED, FAILED})
# The end was asked for; nothing brings it back.
ENDING: Final = frozenset({TERMINATING, TERMINATED})
# Nothing will happen any more unless somebody asks.
TERMINAL: Final = frozenset({TERMINATED})
# Counts against quota and spend limit: it costs now or may in a moment.
COMMITTED: Final = frozenset({REQUESTED, QUEUED, MIGRATING, *HOLDS_CARDS})

_UP = {PROVISIONING, PULLING, STARTING}
_LIVE = {RUNNING, DEGRADED, UNREACHABLE}

MOVES: Final[Mapping[str, frozenset[str]]] = {
    REQUESTED: frozenset({PROVISIONING, QUEUED, FAILED, TERMINATING}),
    QUEUED: frozenset({PROVISIONING, FAILED, TERMINATING}),
    PROVISIONING: frozenset(
        {PULLING, STARTING, RUNNING, UNREACHABLE, REQUESTED, FAILED, STOPPING, TERMINATING}
    ),
    PULLING: frozenset({STARTING, RUNNING, UNREACHABLE, REQUESTED, FAILED, STOPPING, TERMINATING}),
    STARTING: frozenset(
        {PULLING, RUNNING, DEGRADED, UNREACHABLE, REQUESTED, FAILED, STOPPING, TERMINATING}
    ),
    RUNNING: frozenset(
        {DEGRADED, UNREACHABLE, STARTING, INTERRUPTING, STOPPING, FAILED, TERMINATING}
    ),
    # To requested: its pod was observed absent and the renter allowed failover.
    DEGRADED: frozenset(
        {RUNNING, UNREACHABLE, STARTING, INTERRUPTING, STOPPING, REQUESTED, FAILED, TERMINATING}
    ),
    UNREACHABLE: frozenset({*_UP, RUNNING, DEGRADED, REQUESTED, FAILED, STOPPING, TERMINATING}),
    INTERRUPTING: frozenset({STOPPING, RUNNING, DEGRADED, UNREACHABLE, FAILED, TERMINATING}),
    STOPPING: frozenset({STOPPED, FAILED, TERMINATING}),
    STOPPED: frozenset({PROVISIONING, QUEUED, MIGRATING, TERMINATING}),
    MIGRATING: frozenset({STOPPED, PROVISIONING, FAILED, TERMINATING}),
    FAILED: frozenset({PROVISIONING, QUEUED, TERMINATING}),
    TERMINATING: frozenset({TERMINATED}),
    TERMINATED: frozenset(),
}
STATES: Final = frozenset(MOVES)

# Where each action of the contract is legal by the table.
LEGAL: Final[Mapping[str, frozenset[str]]] = {
    "stop": frozenset({*_UP, *_LIVE, INTERRUPTING}),
    "start": frozenset({STOPPED}),
    "restart": frozenset({RUNNING, DEGRADED}),
    "retry": frozenset({FAILED}),
    "extend": STATES - TERMINAL - {TERMINATING},
    "terminate": STATES - TERMINAL - {TERMINATING},
}
# What a lock forbids: it protects against the people who may use the rental, not against its end
# date or an empty balance.
LOCKABLE: Final = frozenset({"stop", "terminate"})
# What needs that nothing of the last machine is left.
ANEW: Final = frozenset({"start", "retry"})


def may_move(source: str, target: str) -> bool:
    """Whether ``source`` -> ``target`` is a legal move."""
    return target in MOVES[source]


def actions(state: str, *, locked: bool = False, leaving: bool = False) -> list[str]:
    """The actions that can be asked for in ``state`` and will be carried out.

    leaving: its last machine was not observed absent yet.
    """
    legal = {name for name in LEGAL if state in LEGAL[name]}
    if locked:
        legal -= LOCKABLE
    if leaving:
        legal -= ANEW
    return sorted(legal)


class Held(Protocol):
    """What of a rental its legal actions depend on."""

    state: Any
    locked: Any
    leaving: Any


def actions_of(rental: Held) -> list[str]:
    """The same for a rental as it is now."""
    return actions(rental.state, locked=rental.locked, leaving=rental.leaving)
