"""Who makes room for whom: the fewest, then the youngest, never one's own, and it settles."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from marketplace.rentals.victims import Decision, Held, Wish, decide
from provisioner.contracts import Room

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
GROUP = UUID(int=1)


def ref(number: int) -> UUID:
    return UUID(int=number)


def room(number: int, coming: int = 0, **held: int) -> Room:
    """Node ``number``; held: ``r7=2`` is rental 7 with two cards."""
    rentals = tuple((ref(int(name[1:])), gpus) for name, gpus in held.items())
    return Room(ref(number), ref(number), GROUP, coming, rentals)


def rentals(*numbers: int, told: tuple[int, ...] = (), tenant: int = 900) -> dict[UUID, Held]:
    return {ref(n): Held(ref(n), ref(tenant), ref(n), NOON if n in told else None) for n in numbers}


def wish(number: int, gpus: int, *rooms: Room, tenant: int = 901, promised: int = 0) -> Wish:
    return Wish(ref(number), ref(tenant), gpus, rooms, ref(promised) if promised else None)


def interrupted(decision: Decision) -> list[int]:
    return [one.int for one in decision.interrupt]


def test_cards_that_come_free_anyway_cost_nobody_anything() -> None:
    node = room(10, coming=2, r1=2)
    decision = decide([wish(50, 2, node)], rentals(1))
    assert interrupted(decision) == []
    assert not decision.promised
    assert decision.served == {ref(50)}
    # They are given out once.
    decision = decide([wish(50, 2, node), wish(51, 1, node)], rentals(1))
    assert interrupted(decision) == [1]
    assert decision.promised == {ref(51): ref(10)}


def test_the_node_with_the_fewest_and_there_the_youngest() -> None:
    many, few = room(10, r1=1, r2=1, r3=1), room(11, r4=2, r5=1, r6=1)
    assert interrupted(decide([wish(50, 2, many, few)], rentals(*range(1, 7)))) == [4]
    assert interrupted(decide([wish(50, 1, many)], rentals(1, 2, 3))) == [3]
    assert interrupted(decide([wish(50, 3, few)], rentals(4, 5, 6))) == [6, 4]


def test_never_ones_own_and_never_more_than_there_is() -> None:
    node = room(10, r1=2)
    assert interrupted(decide([wish(50, 2, node, tenant=900)], rentals(1))) == []
    decision = decide([wish(50, 3, node)], rentals(1))
    assert interrupted(decision) == []
    assert not decision.served


def test_a_notice_that_nobody_needs_is_withdrawn_and_one_that_is_needed_stays() -> None:
    node = room(10, r1=1, r2=1)
    decision = decide([wish(50, 1, node)], rentals(1, 2, told=(1, 2)))
    assert (len(decision.keep), len(decision.withdraw)) == (1, 1)
    assert decide([], rentals(1, told=(1,))).withdraw == {ref(1)}
    # Two with a notice are not exchanged for one without.
    larger = room(10, r1=1, r2=1, r3=2)
    decision = decide([wish(50, 2, larger)], rentals(1, 2, 3, told=(1, 2)))
    assert interrupted(decision) == []
    assert decision.keep == {ref(1), ref(2)}


def test_what_one_gives_up_beyond_need_serves_the_next() -> None:
    node = room(10, r1=8, r2=1)
    decision = decide([wish(50, 2, node), wish(51, 6, node)], rentals(1, 2))
    assert interrupted(decision) == [1], "the one that is large enough alone"
    assert decision.served == {ref(50), ref(51)}


def test_an_order_stays_where_room_is_made_for_it() -> None:
    here, there = room(10, coming=2), room(11, coming=2)
    decision = decide([wish(50, 2, here, there, promised=11)], {})
    assert decision.promised == {ref(50): ref(11)}


_WORLDS = st.tuples(
    st.lists(  # nodes: what comes free, and the sizes of rentals on them
        st.tuples(st.integers(0, 3), st.lists(st.integers(1, 4), max_size=5)), max_size=4
    ),
    st.lists(st.tuples(st.integers(1, 8), st.integers(900, 902)), max_size=5),
)


@given(_WORLDS)
def test_repeated_with_what_came_of_it_nothing_new_is_decided(
    world: tuple[list[tuple[int, list[int]]], list[tuple[int, int]]],
) -> None:
    nodes, orders = world
    rooms, held, number = [], {}, 1
    for place, (coming, sizes) in enumerate(nodes):
        on_node = []
        for size in sizes:
            held[ref(number)] = Held(ref(number), ref(900 + number % 3), ref(number))
            on_node.append((ref(number), size))
            number += 1
        rooms.append(Room(ref(500 + place), ref(500 + place), GROUP, coming, tuple(on_node)))
    wishes = [
        Wish(ref(700 + place), ref(tenant), gpus, rooms)
        for place, (gpus, tenant) in enumerate(orders)
    ]
    first = decide(wishes, held)
    sizes_of = {key: gpus for one in rooms for key, gpus in one.held}
    for one in first.interrupt:
        assert any(wish.tenant != held[one].tenant for wish in wishes)
    need = sum(wish.gpus for wish in wishes if wish.id in first.served)
    assert sum(sizes_of[one] for one in first.interrupt) + sum(r.coming for r in rooms) >= need
    later = {
        key: replace(one, until=NOON + timedelta(seconds=key.int))
        if key in first.interrupt
        else one
        for key, one in held.items()
    }
    again = decide([replace(wish, promised=first.promised.get(wish.id)) for wish in wishes], later)
    assert again.interrupt == ()
    assert again.served == first.served
    assert again.withdraw == frozenset()
