"""The planner decides from figures alone."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from provisioner.contracts import PlacementRequest
from provisioner.placement import planner
from provisioner.placement.planner import CANDIDATES, NodeFigures

GROUPS = [UUID(int=1), UUID(int=2), UUID(int=3)]
TENANT = UUID(int=99)


def request(gpus: int = 1, groups: tuple[UUID, ...] = tuple(GROUPS), **more) -> PlacementRequest:
    return PlacementRequest(group_ids=groups, gpus=gpus, disk_mib=0, tenant_ref=TENANT, **more)


def node(number: int, free: int, total: int = 8, group: UUID = GROUPS[0]) -> NodeFigures:
    return NodeFigures(UUID(int=number), UUID(int=1000 + number), group, UUID(int=7), free, total)


def test_the_tightest_node_comes_first() -> None:
    plan = planner.plan(request(2), [node(1, 8), node(2, 2), node(3, 3)], {})
    assert [c.share_id.int for c in plan.candidates] == [2, 3, 1]
    assert plan.candidates[0].why == "exact fit: uses all 2 free of 8 cards"


def test_of_equals_the_smaller_node_comes_first() -> None:
    plan = planner.plan(request(1), [node(1, 2, total=8), node(2, 2, total=2)], {})
    assert [c.share_id.int for c in plan.candidates] == [2, 1]


def test_a_cheaper_group_wins_over_a_better_fit() -> None:
    figures = [node(1, 1, group=GROUPS[1]), node(2, 8, group=GROUPS[0])]
    plan = planner.plan(request(1), figures, {})
    assert [c.share_id.int for c in plan.candidates] == [2, 1]


def test_no_candidate_keeps_the_reasons() -> None:
    plan = planner.plan(request(4), [node(1, 3)], {"too_few_free": 1})
    assert plan.candidates == ()
    assert plan.rejections == {"too_few_free": 1}


figures = st.lists(
    st.builds(
        NodeFigures,
        st.uuids(),
        st.uuids(),
        st.sampled_from([*GROUPS, UUID(int=4)]),
        st.uuids(),
        st.integers(0, 16),
        st.integers(16, 16),
    ),
    max_size=300,
    unique_by=lambda row: row.share_id,
)


@given(figures, st.integers(1, 16), st.lists(st.uuids(), max_size=3))
def test_candidates_fit_are_wanted_and_ordered(rows, gpus, excluded) -> None:
    wanted = request(gpus, exclude_nodes=tuple(excluded) + tuple(r.node_id for r in rows[:2]))
    plan = planner.plan(wanted, rows, {})
    by_share = {row.share_id: row for row in rows}
    for candidate in plan.candidates:
        row = by_share[candidate.share_id]
        assert row.free >= gpus
        assert row.group_id in GROUPS
        assert row.node_id not in wanted.exclude_nodes
    keys = [
        (GROUPS.index(c.group_id), c.score, by_share[c.share_id].total, c.share_id)
        for c in plan.candidates
    ]
    assert keys == sorted(keys)
    fitting = [
        r
        for r in rows
        if r.free >= gpus and r.group_id in GROUPS and r.node_id not in wanted.exclude_nodes
    ]
    assert len(plan.candidates) == min(len(fitting), CANDIDATES)


@given(figures, st.randoms())
def test_the_order_of_the_figures_does_not_matter(rows, random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert planner.plan(request(), rows, {}) == planner.plan(request(), shuffled, {})
