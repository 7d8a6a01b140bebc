"""The product broken on purpose, one way per invariant: each must be noticed by its own invariant.

A mutant patches product code from outside and, where the database would refuse the damage, drops
the constraint that does, inside the sandbox. Only the invariant under test counts meanwhile, so
none is proven by another one's alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from unittest import mock

from django.db import transaction

from billing import facade as billing
from billing.ledger import post as posting
from billing.ledger.accounts import Purse
from billing.metering import hold, usage
from billing.payments import converge
from billing.rating import rate
from kernel import clock
from kernel.ids import new_id
from marketplace.accounts import audit, idempotency
from marketplace.models import RentalEvent
from marketplace.rentals import charge, follow, start, timeline
from provisioner import facade as provisioner
from provisioner.contracts import InstanceState
from provisioner.instances import meter, release, reserve
from provisioner.models import InstanceEvent
from provisioner.reconcile import apply, brake, claim, decide, orphans, steps
from provisioner.reconcile.decide import Stay
from provisioner.reconcile.steps import Result
from tests.market import USD


@dataclass(frozen=True)
class Mutant:
    """``damage``: enters patches into the stack. ``sql``: run first. ``manner``: of the schedules
    in which the damage shows."""

    invariant: str
    damage: Callable[[Break], None]
    sql: str = ""
    manner: dict[str, Any] = field(default_factory=dict)


class Break(ExitStack):
    """Patches that end together."""

    def put(self, owner: Any, name: str, value: Any) -> None:
        self.enter_context(mock.patch.object(owner, name, value))

    def plain(self, owner: Any, name: str) -> Any:
        """What the product has there now, also where it only imported it."""
        return getattr(owner, name)

    def text(self, owner: Any, name: str, old: str, new: str) -> None:
        """Change a statement; KeyError when the product's text no longer has ``old``."""
        before = getattr(owner, name)
        if old not in before:
            raise KeyError(f"{owner.__name__}.{name} has no {old!r}")
        self.put(owner, name, before.replace(old, new))

    def nothing(self, owner: Any, name: str, answer: Any = None) -> None:
        self.put(owner, name, lambda *given, **named: answer)


MUTANTS: dict[str, Mutant] = {}


def mutant(
    invariant: str, sql: str = "", **manner: Any
) -> Callable[[Callable[[Break], None]], Callable[[Break], None]]:
    def add(damage: Callable[[Break], None]) -> Callable[[Break], None]:
        MUTANTS[damage.__name__] = Mutant(invariant, damage, sql, manner)
        return damage

    return add


@contextmanager
def damaged(one: Mutant) -> Iterator[None]:
    """The product with this damage; what ``sql`` changed is undone with the schedule."""
    with Break() as stack:
        one.damage(stack)
        yield


# --- cards and pods -------------------------------------------------------------------------------


@mutant(
    "I1 a slot is held once at a time",
    "ALTER TABLE provisioner_hold DROP CONSTRAINT hold_never_overlaps; DROP INDEX hold_one_open",
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


@mutant("I8 never two pods for one rental", trouble=0.0)
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


@mutant("I18 a namespace is one tenant's")
def tenants_share_a_namespace(stack: Break) -> None:
    _share(stack)


@mutant("I18 pods of one tenant in a namespace", others=0.0, kill=0.0, trouble=0.0)
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


@mutant("a rental has at most one live instance", "DROP INDEX instance_one_alive")
def two_instances_are_reserved(stack: Break) -> None:
    plain = provisioner.reserve

    def twice(**given: Any) -> Any:
        plain(**given)
        return plain(**{**given, "instance_id": new_id()})

    stack.put(provisioner, "reserve", twice)


@mutant("strangers are never touched", others=0.0)
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
    plain = charge.split
    stack.put(charge, "split", lambda item: plain(item) * 2)
    stack.put(rate, "_uncovered", lambda span, taken: [span])


@mutant("I3 charged seconds lie in a proven interval", trouble=0.0)
def a_second_more_is_charged(stack: Break) -> None:
    plain = stack.plain(meter, "floor_second")
    stack.put(meter, "floor_second", lambda moment: plain(moment) + timedelta(seconds=1))


@mutant("I3 charged seconds are truly ready ones", watch=False, trouble=0.0)
def failures_close_when_they_are_found(stack: Break) -> None:
    stack.put(apply, "_closing", lambda row, at, blind: meter.Closing(at=at, good_until=at))
    stack.put(meter, "closing_at_last_proof", lambda row: meter.Closing(clock.now(), clock.now()))


@mutant("I3 every proven second of what ended is charged", trouble=0.0)
def a_second_less_is_charged(stack: Break) -> None:
    plain = stack.plain(meter, "floor_second")
    stack.put(meter, "floor_second", lambda moment: plain(moment) - timedelta(seconds=1))


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
    plain = stack.plain(meter, "floor_second")
    stack.put(meter, "floor_second", lambda moment: plain(moment) + timedelta(minutes=20))
    stack.put(usage, "now", lambda: clock.now() + timedelta(hours=2))


@mutant("an open meter is a ready instance", trouble=0.0)
def the_interval_stays_open(stack: Break) -> None:
    stack.nothing(meter, "close_interval")


# --- money ----------------------------------------------------------------------------------------


@mutant("I4 money is the floor of price times seconds", trouble=0.0)
def charges_are_rounded_up(stack: Break) -> None:
    stack.put(rate, "charged", lambda price, seconds: -(-price * seconds // 3600))


_UNGUARDED = "ALTER TABLE billing_posting DISABLE TRIGGER billing_posting_balance"


@mutant("I5 every transaction sums to zero", _UNGUARDED)
def a_leg_is_forgotten(stack: Break) -> None:
    plain = posting.post

    def post(entries: Any) -> None:
        plain([entry.__class__(**{**entry.__dict__, "legs": entry.legs[:1]}) for entry in entries])

    stack.put(hold, "post", post)


@mutant(
    "I6 no account below its floor",
    "ALTER TABLE billing_account DROP CONSTRAINT billing_account_floor",
)
def anybody_may_rent(stack: Break) -> None:
    stack.put(Purse, "available_micro", property(lambda self: 10**12))
    stack.put(hold, "hold_for", lambda price, seconds: 1000 * USD)


@mutant("R1 holds cover their rentals")
def a_hold_is_not_posted(stack: Break) -> None:
    stack.nothing(hold, "post")


@mutant("R1 nothing is held for what ended")
def the_hold_is_kept(stack: Break) -> None:
    stack.nothing(billing, "end_rental")


@mutant(
    "I9 no credit without its payment",
    "ALTER TABLE billing_payment DROP CONSTRAINT billing_payment_booked",
)
def a_payment_does_not_know_its_posting(stack: Break) -> None:
    plain = converge.settle_payment

    def settle(payment: Any, fact: Any) -> None:
        payment.txn_id = None
        plain(payment, fact)

    stack.put(converge, "settle_payment", settle)


@mutant("I10 no use without its line", trouble=0.0)
def lines_are_not_written(stack: Break) -> None:
    stack.nothing(usage, "_insert")


@mutant("I12 price is share plus fee", trouble=0.0)
def the_share_goes_elsewhere(stack: Break) -> None:
    plain = usage._entry

    def entry(line: Any, purse: Any, accounts: Any) -> Any:
        made = plain(line, purse, accounts)
        (provider, share), (revenue, fee) = made.legs[3:]
        legs = (*made.legs[:3], (provider, share - 1), (revenue, fee + 1))
        return made.__class__(**{**made.__dict__, "legs": legs})

    stack.put(usage, "_entry", entry)


# --- requests, events, progress -------------------------------------------------------------------


@mutant("I14 nothing stuck: instances")
def what_is_released_is_never_due_again(stack: Break) -> None:
    stack.text(
        claim, "_RELEASE", "THEN %(due)s ELSE", "THEN %(due)s::timestamptz + interval '1 year' ELSE"
    )


@mutant("I14 nothing stuck: rentals")
def nothing_is_settled(stack: Break) -> None:
    stack.nothing(charge, "settle", 0)
    stack.nothing(follow, "settle", 0)


@mutant("I14 nothing stuck: slots")
def dirty_slots_stay(stack: Break) -> None:
    stack.nothing(release, "recycle", 0)


@mutant("I15 the audit chain holds")
def a_seal_covers_something_else(stack: Break) -> None:
    plain, batch = audit.digest, audit._seal_batch

    def seal() -> int:
        with mock.patch.object(audit, "digest", lambda prev, seq, e: plain(prev, seq + 1, e)):
            return batch()

    stack.put(audit, "_seal_batch", seal)


@mutant("I16 a key has one rental", kill=0.0)
def keys_are_not_remembered(stack: Break) -> None:
    stack.nothing(idempotency, "_insert", answer=True)
    stack.nothing(start, "stored")


@mutant("I16 the same answer for the same key", kill=0.0)
def a_replay_says_something_else(stack: Break) -> None:
    plain = idempotency._answered

    def answered(row: Any, asked: Any) -> Any:
        given = plain(row, asked)
        return given.__class__(given.status, given.body + b" ", replayed=True)

    stack.put(idempotency, "_answered", answered)


@mutant("I21 every acknowledged request exists")
def an_answer_without_a_commit(stack: Break) -> None:
    def once(*given: Any) -> Any:
        with transaction.atomic():
            answer = given[2](given[1]())
            transaction.set_rollback(True)
        return idempotency.Rendered(answer[0], idempotency.encode(answer[1]))

    stack.put(start, "once", once)


@mutant("events of an instance have no gap")
def an_event_number_is_left_out(stack: Break) -> None:
    _skip_a_number(stack, InstanceEvent)


@mutant("events of a rental have no gap")
def a_rentals_event_number_is_left_out(stack: Break) -> None:
    _skip_a_number(stack, RentalEvent)


def _skip_a_number(stack: Break, model: Any) -> None:
    plain = model.objects.create
    stack.put(model.objects, "create", lambda **row: plain(**{**row, "seq": row["seq"] + 1}))


@mutant("fence", others=1.0, kill=0.0, hints_lost=0.0)
def a_lost_claim_is_given_back(stack: Break) -> None:
    stack.text(claim, "_RELEASE", "AND claim_token = %(token)s", "")


@mutant("nothing breaks")
def a_loop_breaks(stack: Break) -> None:
    def expire() -> None:
        raise RuntimeError("broken on purpose")

    stack.put(follow, "expire", expire)


@mutant("the product complains of itself")
def the_tables_disagree(stack: Break) -> None:
    stack.nothing(timeline, "may_move", answer=False)
