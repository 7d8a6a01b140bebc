"""Whatever is seen and wished, in whatever order: a model of one rental's instances.

Sightings come new, doubled, late and out of order, from lists and watches, blindly or not, mixed
with wishes of the renter and with the passing of time. After every step the promises of the state
machine and the meter must hold. ROUNDS in the environment raises the number of examples.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kernel import clock
from kernel.ids import public
from provisioner import facade
from provisioner.contracts import Fault
from provisioner.contracts import InstanceState as S
from provisioner.instances import release
from provisioner.instances.move import move
from provisioner.instances.state import COMING_UP, TERMINAL, metered
from provisioner.kube.pods import PodFacts
from provisioner.models import Instance, NodeShare, ReadyInterval
from provisioner.reconcile import apply, decide, observe
from provisioner.reconcile.observe import Listing
from tests.area.provisioner.yard import at_time, conserved, make_yard, rent
from tests.columns import ack
from tests.unit.provisioner.pods import checked, pod, report

START = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)
CRASH = {"terminated": {"exitCode": 1, "reason": "Error"}}
LOST_SIGHT = {"terminated": {"exitCode": 255, "reason": "Unknown"}}
CONDITIONS: dict[str, dict[str, Any]] = {
    "pending": {},
    "pulling": {"check": {"waiting": {"reason": "PodInitializing"}}},
    "checking": {"check": {"running": {}}},
    "wrong cards": {"check": checked(report(2)), "main": {"running": {}}, "ready": True},
    "no image": {"check": checked(report()), "main": {"waiting": {"reason": "ErrImagePull"}}},
    "ready": {"check": checked(report()), "main": {"running": {}}, "ready": True},
    "not ready": {"check": checked(report()), "main": {"running": {}}},
    "crashed": {"check": checked(report()), "main": CRASH},
    "lost sight": {"check": checked(report()), "main": LOST_SIGHT},
    "evicted": {"phase": "Failed", "reason": "Evicted"},
    "leaving": {"check": checked(report()), "main": {"running": {}}, "deleting": True},
}


class Life(RuleBasedStateMachine):
    """One rental on one node of two cards, another node beside it."""

    def __init__(self) -> None:
        super().__init__()
        self._savepoint = transaction.savepoint()
        self.now = START
        self.version = 10
        self.seen: list[PodFacts] = []

    @initialize()
    def rented(self) -> None:
        at_time(self.now.isoformat())
        self.yard = make_yard(nodes=2, cards=2)
        self.view = rent(self.yard, 1)

    def teardown(self) -> None:
        transaction.savepoint_rollback(self._savepoint)

    # --- what there is --------------------------------------------------------------------------

    @property
    def row(self) -> Instance:
        """The instance that lives, else the last one."""
        rows = Instance.objects.filter(rental_ref=self.view.rental_ref)
        rows = rows.select_related(*apply.RELATED, "cluster").order_by("-created_at", "-id")
        return rows.exclude(state__in=TERMINAL).first() or rows[0]

    @property
    def lives(self) -> bool:
        return self.row.state not in TERMINAL

    def _sight(self, facts: PodFacts, blind: bool) -> None:
        row = self.row
        wanted = row.desired == Instance.Desired.RUN and row.state not in (S.RESERVED, *TERMINAL)
        if wanted and row.pod_uid in (None, facts.uid):
            apply.observed(row, facts, at=clock.now(), blind=blind)

    # --- what happens ---------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.3, 1, 5, 30, 61, 700]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        at_time(self.now.isoformat())

    @precondition(lambda self: self.row.state == S.RESERVED)
    @rule()
    def create_is_announced(self) -> None:
        row = self.row
        move(row, to=S.CREATING, reason="creating", at=clock.now())

    @rule(condition=st.sampled_from(sorted(CONDITIONS)), blind=st.booleans(), again=st.booleans())
    def seen_anew(self, condition: str, blind: bool, again: bool) -> None:
        """A new picture of the pod; ``again``: its container was restarted before."""
        self.version += 1
        row = self.row
        given = {"phase": "Running", **CONDITIONS[condition]}
        facts = pod(
            **given,
            uid=f"uid-{row.pk}",
            version=self.version,
            restarts=1 if again else 0,
            container=f"containerd://{again}",
        )
        self.seen.append(facts)
        self._sight(facts, blind)

    @precondition(lambda self: self.seen)
    @rule(which=st.integers(0, 30), blind=st.booleans())
    def seen_late_or_twice(self, which: int, blind: bool) -> None:
        self._sight(self.seen[which % len(self.seen)], blind)

    @rule(there=st.booleans())
    def full_list(self, there: bool) -> None:
        row = self.row
        mine = [facts for facts in self.seen if facts.uid == row.pod_uid]
        pods = {public("instance", row.pk): mine[-1]} if there and mine else {}
        names = frozenset([row.namespace.name])
        listing = Listing(pods, names, sent_at=clock.now(), took=0.01)
        observe.apply_list(self.yard.cluster.pk, listing, at=clock.now())

    @rule()
    def nobody_looked(self) -> None:
        observe.expire()

    @precondition(lambda self: self.lives)
    @rule()
    def given_up_by_age(self) -> None:
        row, at = self.row, clock.now()
        if row.desired != Instance.Desired.RUN:
            return
        known = apply.known(row)
        late = decide.overdue(known, at) if row.state in COMING_UP else decide.given_up(known, at)
        apply.carry_out(row, late, at=at, blind=True)

    @rule(short=st.booleans())
    def cards_are_counted(self, short: bool) -> None:
        NodeShare.objects.filter(pk=self.row.share_id).update(short=short)

    @rule()
    def asked_to_end(self) -> None:
        facade.request_end(
            rental_ref=self.view.rental_ref, reason="terminated_by_user", fault=Fault.NONE
        )

    @rule()
    def asked_to_restart(self) -> None:
        facade.request_restart(
            rental_ref=self.view.rental_ref, reason="restarted_by_user", fault=Fault.NONE
        )

    @precondition(lambda self: self.row.state == S.STOPPING)
    @rule()
    def absence_is_observed(self) -> None:
        assert release.finish(self.row, at=clock.now(), claim=None)

    @rule()
    def charged(self) -> None:
        while (found := facade.chargeable(limit=10)).count:
            ack(found)

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def the_meter_runs_exactly_while_it_may(self) -> None:
        if not hasattr(self, "view"):
            return
        for row in Instance.objects.filter(rental_ref=self.view.rental_ref):
            running = ReadyInterval.objects.filter(instance=row, closed_at=None).count()
            assert running == metered(S(row.state), row.reason), (row.state, row.reason)

    @invariant()
    def seconds_are_counted_once_and_never_ahead(self) -> None:
        if not hasattr(self, "view"):
            return
        intervals = ReadyInterval.objects.filter(rental_ref=self.view.rental_ref)
        rows = list(intervals.order_by("opened_at", "closed_at"))
        for row in rows:
            if row.closed_at is None or row.good_until is None:
                assert row.closed_at is row.good_until is None
                continue
            assert row.opened_at <= row.good_until <= row.closed_at <= clock.now()
            if row.settled:
                assert row.charged_to <= max(row.good_until, row.opened_at) + timedelta(seconds=1)
        for first, second in pairwise(rows):
            assert first.closed_at is not None
            assert first.closed_at <= second.opened_at

    @invariant()
    def cards_and_events_are_conserved(self) -> None:
        if hasattr(self, "view"):
            conserved(self.yard)

    @invariant()
    def one_lives_and_nothing_is_stuck(self) -> None:
        if not hasattr(self, "view"):
            return
        rows = Instance.objects.filter(rental_ref=self.view.rental_ref)
        assert rows.exclude(state__in=TERMINAL).count() <= 1
        for row in rows.exclude(state__in=TERMINAL):
            ending = row.desired == Instance.Desired.END
            assert ending == (row.state == S.STOPPING)
            # Nobody watches for its time to come: it must be due, or be well.
            assert row.due_at is not None or metered(S(row.state), row.reason), row.state


@pytest.mark.django_db
def test_in_any_order_the_promises_hold() -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=int(os.environ.get("ROUNDS", "30")),
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
