"""Mutants of money, requests and events; with broken_machines.py all of them."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.db import transaction

from billing import facade as billing
from billing.ledger import post as posting
from billing.ledger.accounts import Purse
from billing.metering import hold, settle
from billing.payments import converge
from marketplace.accounts import audit, idempotency
from marketplace.models import RentalEvent
from marketplace.rentals import charge, follow, start, timeline
from provisioner.instances import release
from provisioner.models import InstanceEvent
from provisioner.reconcile import claim
from tests.market import USD
from tests.simulation import broken_machines, people, scenes
from tests.simulation.breaking import MUTANTS, Break, Mutant, damaged, mutant

__all__ = ["MUTANTS", "Mutant", "broken_machines", "damaged"]


# --- money ----------------------------------------------------------------------------------------


@mutant("I4 money is the floor of price times seconds", trouble=0.0)
def charges_are_rounded_up(stack: Break) -> None:
    exact = "m.price_micro_h * (m.billable_seconds + c.upto)"
    stack.text(settle, "_STATEMENT", f"{exact} / 3600", f"({exact} + 3599) / 3600")


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
    stack.put(hold, "hold_for", lambda rate_micro_h, seconds: 1000 * USD)


@mutant("R1 holds cover their rentals")
def a_hold_is_not_posted(stack: Break) -> None:
    stack.nothing(hold, "post")


@mutant("R1 nothing is held for what ended")
def the_hold_is_kept(stack: Break) -> None:
    stack.nothing(billing, "end_rental")


@mutant(
    "I9 no credit without its payment",
    "ALTER TABLE billing_payment DROP CONSTRAINT billing_payment_booked",
    script=(people.top_up,),
)
def a_payment_does_not_know_its_posting(stack: Break) -> None:
    plain = converge.settle_payment

    def settle(payment: Any, fact: Any) -> None:
        payment.txn_id = None
        plain(payment, fact)

    stack.put(converge, "settle_payment", settle)


_ALL_LINES = "amount - share, overrun, tax, txn_id\n    FROM line"


@mutant("I10 no use without its line", trouble=0.0)
def lines_are_not_written(stack: Break) -> None:
    stack.text(settle, "_STATEMENT", _ALL_LINES, _ALL_LINES + " WHERE false")


@mutant("I12 price is share plus fee", trouble=0.0)
def the_share_goes_elsewhere(stack: Break) -> None:
    stack.text(settle, "_STATEMENT", "provider_id, share)", "provider_id, share - 1)")
    stack.text(settle, "_STATEMENT", "::uuid, amount - share)", "::uuid, amount - share + 1)")


# --- requests, events, progress -------------------------------------------------------------------


@mutant("I14 nothing stuck: instances", script=(scenes.out_of_reach,))
def what_is_released_is_never_due_again(stack: Break) -> None:
    stack.text(
        claim, "_RELEASE", "THEN %(due)s ELSE", "THEN %(due)s::timestamptz + interval '1 year' ELSE"
    )


@mutant("I14 nothing stuck: rentals")
def nothing_is_settled(stack: Break) -> None:
    stack.nothing(charge, "settle", 0)
    stack.nothing(follow, "settle", 0)


@mutant("I14 nothing stuck: slots", script=(scenes.a_free_card,))
def dirty_slots_stay(stack: Break) -> None:
    stack.nothing(release, "recycle", 0)


@mutant("I15 the audit chain holds")
def a_seal_covers_something_else(stack: Break) -> None:
    plain, batch = audit.digest, audit._seal_batch

    def seal() -> int:
        with mock.patch.object(audit, "digest", lambda prev, seq, e: plain(prev, seq + 1, e)):
            return batch()

    stack.put(audit, "_seal_batch", seal)


@mutant("I16 a key has one rental", kill=0.0, script=(scenes.asked_twice,))
def keys_are_not_remembered(stack: Break) -> None:
    stack.nothing(idempotency, "_insert", answer=True)
    stack.nothing(start, "stored")


@mutant("I16 the same answer for the same key", kill=0.0, script=(scenes.asked_twice,))
def a_replay_says_something_else(stack: Break) -> None:
    plain = idempotency._answered

    def answered(row: Any, claim: Any) -> Any:
        given = plain(row, claim)
        return given.__class__(given.status, given.body + b" ", replayed=True)

    stack.put(idempotency, "_answered", answered)


@mutant("I21 every acknowledged request exists")
def an_answer_without_a_commit(stack: Break) -> None:
    def once(claim: Any, act: Any, render: Any, **named: Any) -> Any:
        with transaction.atomic():
            answer = render(act())
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
    def expire(limit: int = 0) -> int:
        raise RuntimeError("broken on purpose")

    stack.put(follow, "expire", expire)


@mutant("the product complains of itself")
def the_tables_disagree(stack: Break) -> None:
    stack.nothing(timeline, "may_move", answer=False)
