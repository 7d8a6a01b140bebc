"""Mutants of cards, pods, the queue and the meter."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from billing import facade as billing
from billing.metering import settle, usage
from kernel import clock
from kernel.ids import new_id
from marketplace.rentals import follow, place, stop
from provisioner import facade as provisioner
from provisioner.contracts import InstanceState
from provisioner.instances import lease, meter, release, reserve
from provisioner.reconcile import apply, brake, decide, observe, orphans, steps
from provisioner.reconcile.decide import Stay
from provisioner.reconcile.steps import Result
from tests.simulation import scenes
from tests.simulation.breaking import Break, mutant

# --- cards and pods -------------------------------------------------------------------------------


@mutant(
    "I1 a slot is held once at a time",
    "ALTER TABLE provisioner_hold DROP CONSTRAINT hold_never_overlaps; DROP INDEX hold_one_open",
    script=(scenes.one_after_the_other,),
)
def a_held_slot_is_taken_again(stack: Break) -> None:
    stack.text(reserve, "_TAKE", "AND state = 'free' ORDER", "AND state IN ('free', 'held') ORDER")


@mutant("I2 a pod's cards stay held while it exists")
def gone_without_seeing_absence(stack: Break) -> None:
    plain = steps.Step._delete

    def deleted(self: steps.Step, api: Any) -> Result:
        plain(self, api)
        return Result(None)

    stack.put(steps.Step, "_delete", deleted)


@mutant("I7 a pod without a live rental ends in 120 s")
def nobody_deletes(stack: Break) -> None:
    stack.put(steps.Step, "_delete", lambda self, api: Result(None))
    stack.nothing(orphans, "_delete")


@mutant("I8 a live rental has its pod", calm=True, trouble=0.0, others=0.0)
def live_pods_are_swept_and_not_missed(stack: Break) -> None:
    stack.put(orphans, "_judge", lambda cluster, swept, at: list(swept.pods))
    stack.nothing(decide, "absent", Stay())
    stack.nothing(decide, "unseen", Stay())


@mutant("I8 never two pods for one rental", trouble=0.0, script=(scenes.one_after_the_other,))
def every_create_makes_two(stack: Break) -> None:
    plain = steps.Step._create

    def created(self: steps.Step, api: Any) -> Result:
        other = replace(self.spec, pod_name=f"gy-{new_id().hex}")
        plain(replace(self, spec=other), api)
        return plain(self, api)

    stack.put(steps.Step, "_create", created)


@mutant("I8 a rental is shown as its instance is", calm=True, trouble=0.0)
def running_is_not_shown(stack: Break) -> None:
    stack.put(follow, "_SHOWN_AS", {**follow._SHOWN_AS, InstanceState.READY: "starting"})


@mutant("I18 a namespace is one tenant's", script=(scenes.one_after_the_other,))
def tenants_share_a_namespace(stack: Break) -> None:
    _share(stack)


@mutant(
    "I18 pods of one tenant in a namespace",
    others=0.0,
    kill=0.0,
    trouble=0.0,
    script=(scenes.one_after_the_other,),
)
def tenants_pods_share_a_namespace(stack: Break) -> None:
    _share(stack)


def _share(stack: Break) -> None:
    for name in ("_SKIP", "_WAIT"):
        stack.text(reserve, name, "b.tenant_ref = %(tenant)s AND", "b.name = 'gpuyard-r-01' AND")
    stack.text(reserve, "_TAKE", "%(namespace)s AND tenant_ref = %(tenant)s", "%(namespace)s")


@mutant("I20 slots are conserved")
def the_counter_of_free_slots_is_not_raised(stack: Break) -> None:
    stack.text(release, "_RECYCLE", "slots_free + sums.freed", "slots_free")


@mutant("I20 a live instance holds what it ordered")
def an_instance_without_holds(stack: Break) -> None:
    stack.text(
        reserve,
        "_TAKE",
        "AS ids(id, place) USING (place)",
        "AS ids(id, place) USING (place) WHERE false",
    )


@mutant("I20 a restart keeps its cards without a gap", trouble=0.0, others=0.0)
def a_restart_frees_the_cards_for_a_moment(stack: Break) -> None:
    plain = stack.plain(release, "succeed")

    def succeed(row: Any, *, slots: Any, at: Any) -> None:
        plain(row, slots=slots, at=at + timedelta(seconds=1))

    stack.put(release, "succeed", succeed)


@mutant(
    "a rental has at most one live instance",
    "DROP INDEX instance_one_alive",
    script=(scenes.one_after_the_other,),
)
def two_instances_are_reserved(stack: Break) -> None:
    plain = provisioner.reserve

    def twice(**given: Any) -> Any:
        plain(**given)
        return plain(**{**given, "instance_id": new_id()})

    stack.put(provisioner, "reserve", twice)


@mutant("strangers are never touched", others=0.0, script=(scenes.a_stranger,))
def unknown_pods_are_deleted(stack: Break) -> None:
    plain = orphans._judge

    def judged(cluster: Any, swept: Any, at: Any) -> Any:
        plain(cluster, swept, at)
        return list(swept.pods)

    stack.put(orphans, "_judge", judged)
    stack.nothing(brake, "may_delete", answer=True)


# --- the meter ------------------------------------------------------------------------------------


@mutant(
    "I3 a second is charged once",
    "ALTER TABLE billing_usageline DROP CONSTRAINT billing_usage_no_overlap",
)
def a_window_is_charged_twice(stack: Break) -> None:
    stack.text(
        meter,
        "_DUE",
        "FROM due WHERE to_at",
        "FROM (TABLE due UNION ALL TABLE due) due WHERE to_at",
    )
    stack.text(settle, "_STATEMENT", "- coalesce(g.before, '{}')", "")


@mutant("I3 charged seconds lie in a proven interval", trouble=0.0)
def a_second_more_is_charged(stack: Break) -> None:
    _prove(stack, "interval '1 second'")


@mutant(
    "I3 charged seconds are truly ready ones", watch=False, trouble=0.0, script=(scenes.found_late,)
)
def failures_close_when_they_are_found(stack: Break) -> None:
    stack.put(apply, "_closing", lambda row, at, blind: meter.Closing(at=at, good_until=at))
    stack.put(
        meter, "closing_at_last_proof", lambda instance: meter.Closing(clock.now(), clock.now())
    )


@mutant("I3 every proven second of what ended is charged", trouble=0.0)
def a_second_less_is_charged(stack: Break) -> None:
    _prove(stack, "interval '-1 second'")


@mutant("I3 ready seconds are charged", calm=True, trouble=0.0, hints_lost=0.0)
def nothing_is_charged(stack: Break) -> None:
    stack.nothing(billing, "post_usage", 0)


@mutant("I13 nothing charged after an acknowledged stop or before ready", trouble=0.0)
def the_meter_runs_on_after_the_request(stack: Break) -> None:
    def later(row: Any, at: Any, *, renters_wish: bool) -> meter.Closing:
        end = at + timedelta(seconds=3)
        return meter.Closing(at=end, good_until=end, final=True)

    stack.put(release, "_closing", later)


@mutant("I19 use ends after it starts and not in the future", trouble=0.0)
def the_future_is_charged(stack: Break) -> None:
    _prove(stack, "interval '20 minutes'")
    stack.text(usage, "_WRONG", "OR to_at > present", "")


def _prove(stack: Break, more: str) -> None:
    stack.text(meter, "_DUE", "date_trunc('second', CASE", f"{more} + date_trunc('second', CASE")


@mutant("an open meter is a ready instance", trouble=0.0)
def the_interval_stays_open(stack: Break) -> None:
    stack.nothing(meter, "close_interval")


@mutant(
    "I13 nothing charged after an acknowledged stop or before ready",
    calm=True,
    script=(scenes.a_stop,),
)
def a_stop_keeps_charging(stack: Break) -> None:
    plain = stack.plain(stop, "_let_go")

    def let_go(rental: Any, reason: str, **named: Any) -> bool:
        return False if rental.state == "stopping" else plain(rental, reason, **named)

    stack.put(stop, "_let_go", let_go)


# --- going elsewhere, waiting ---------------------------------------------------------------------


@mutant(
    "I8 never two pods for one rental",
    calm=True,
    one_cluster=False,
    short_holds=False,
    script=(scenes.a_free_card, scenes.dark_with_failover),
)
def failover_does_not_wait_for_the_lease(stack: Break) -> None:
    stack.put(lease, "OVER_AFTER", timedelta(hours=-1))
    stack.nothing(apply, "grace", timedelta(minutes=1))


@mutant("only what is absent is given up as absent", script=(scenes.lying_lists,))
def a_list_alone_ends_instances(stack: Break) -> None:
    def unseen(row: Any, *, at: Any) -> None:
        if row.desired == "run":
            apply.carry_out(row, decide.absent(apply.known(row)), at=at, blind=True)

    stack.put(observe, "_unseen", unseen)


@mutant("the queue is served in its order", calm=True, script=(scenes.two_in_the_queue,))
def the_queue_is_jumped(stack: Break) -> None:
    stack.put(place, "list", lambda rows: [*rows][::-1])
