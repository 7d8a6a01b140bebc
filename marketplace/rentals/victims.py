"""Which interruptible rentals make room for which waiting orders. Pure.

Orders are served in their turn. Each goes where the fewest rentals have to be interrupted for it:
first cards that come free anyway, then rentals that have their notice already, then the fewest
others, of these the youngest, which lose the least. An order never interrupts rentals of its own
organization: who pays for both can end the cheaper one without us, and may not want to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from provisioner.contracts import Room


@dataclass(frozen=True)
class Wish:
    """An order at the full price that waits, and where it could be. promised: the node where room
    is being made for it already."""

    id: UUID
    tenant: UUID
    gpus: int
    rooms: Sequence[Room]
    promised: UUID | None = None


@dataclass(frozen=True)
class Held:
    """An interruptible rental that runs. machine: its present one, whose id grows with time;
    until: when its notice takes effect, None without one."""

    id: UUID
    tenant: UUID
    machine: UUID
    until: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """interrupt: in this order. keep and withdraw: rentals with a notice. promised: by order."""

    interrupt: tuple[UUID, ...]
    keep: frozenset[UUID]
    withdraw: frozenset[UUID]
    promised: Mapping[UUID, UUID]
    served: frozenset[UUID]


@dataclass
class _Node:
    """What is given out of one node's cards so far."""

    left: int  # of those that come back, less what orders took
    asked: set[UUID] = field(default_factory=set)  # rentals that make room here


def decide(wishes: Sequence[Wish], held: Mapping[UUID, Held]) -> Decision:
    """For the orders in their turn. Repeated with what came of it, it decides nothing new."""
    nodes: dict[UUID, _Node] = {}
    promised: dict[UUID, UUID] = {}
    served, fresh = set(), []
    for wish in wishes:
        best: tuple[tuple[int, bool, int, int, int], Room, list[tuple[UUID, int]]] | None = None
        groups = list(dict.fromkeys(room.group_id for room in wish.rooms))  # best first
        for room in wish.rooms:
            node = nodes.setdefault(room.share_id, _Node(room.coming))
            more = _ask(room, node, wish, held)
            if more is None:
                continue
            left = node.left + sum(gpus for _, gpus in more) - wish.gpus
            new = sum(held[ref].until is None for ref, _ in more)
            elsewhere, group = room.node_id != wish.promised, groups.index(room.group_id)
            rank = (new, elsewhere, len(more), group, left)
            if best is None or rank < best[0]:
                best = (rank, room, more)
        if best is None:
            continue
        (_, elsewhere, *_, left), room, more = best
        node = nodes[room.share_id]
        node.left = left
        node.asked.update(ref for ref, _ in more)
        fresh += [ref for ref, _ in more if held[ref].until is None]
        served.add(wish.id)
        if node.asked or not elsewhere:
            promised[wish.id] = room.node_id
    asked = {ref for node in nodes.values() for ref in node.asked}
    told = {ref for ref, rental in held.items() if rental.until is not None}
    return Decision(
        tuple(fresh), frozenset(told & asked), frozenset(told - asked), promised, frozenset(served)
    )


def _ask(
    room: Room, node: _Node, wish: Wish, held: Mapping[UUID, Held]
) -> list[tuple[UUID, int]] | None:
    """The rentals that have to make room here besides those that do already; None: it will not
    fit. Those with a notice come first and are never exchanged for others."""
    lack = wish.gpus - node.left
    if lack <= 0:
        return []
    free = [
        (held[ref], gpus)
        for ref, gpus in room.held
        if ref in held and ref not in node.asked and held[ref].tenant != wish.tenant
    ]
    # One order for both, or a repetition would choose others among those with a notice.
    free.sort(key=lambda item: item[0].machine, reverse=True)
    told = [(rental, gpus) for rental, gpus in free if rental.until is not None]
    others = [(rental, gpus) for rental, gpus in free if rental.until is None]
    ready = sum(gpus for _, gpus in told)
    chosen = _fewest(told, lack) if ready >= lack else told + _fewest(others, lack - ready)
    if sum(gpus for _, gpus in chosen) < lack:
        return None
    return [(rental.id, gpus) for rental, gpus in chosen]


def _fewest(rentals: Sequence[tuple[Held, int]], lack: int) -> list[tuple[Held, int]]:
    """As few as possible with ``lack`` cards together, the earlier in the list the better."""
    sizes = sorted((gpus for _, gpus in rentals), reverse=True)
    count = next((n for n in range(len(sizes) + 1) if sum(sizes[:n]) >= lack), 0)
    chosen: list[tuple[Held, int]] = []
    for place, (rental, gpus) in enumerate(rentals):
        if len(chosen) == count:
            break
        largest = sorted((size for _, size in rentals[place + 1 :]), reverse=True)
        if gpus + sum(largest[: count - len(chosen) - 1]) >= lack:
            chosen.append((rental, gpus))
            lack -= gpus
    return chosen
