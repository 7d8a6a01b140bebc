"""A payout run: decided once, approved where it is large, started once, line by line.

Starting is one transaction for all its lines: what is due moves to provider_clearing and the
intent of its transfer is stored with it. A worker killed before the commit leaves nothing, one
killed after it leaves intents that any worker executes; and each of them is one transfer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction

from billing.contracts.payouts import LineState, PayoutRunView, RunState
from billing.ledger.accounts import account, open_accounts
from billing.ledger.post import Entry, post
from billing.models import (
    AccountKind,
    CallKind,
    CauseType,
    PayoutApproval,
    PayoutHold,
    PayoutLine,
    PayoutRun,
    TransactionKind,
)
from billing.payments.intents import intend
from billing.payouts import rules
from billing.payouts.breaks import open_breaks
from billing.payouts.mature import lock_due
from billing.payouts.plan import Plan, plans
from billing.payouts.reads import run_view
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.lanes import lane
from kernel.turns import each

log = structlog.get_logger(__name__)
PLATFORM = "platform"


def run_due() -> int:
    """Make this week's run when its time has come, and start those that waited out their day; how
    many started."""
    with lane("payouts") as free:
        if not free:
            return 0
        _make_scheduled()
        present = now()
        waiting = PayoutRun.objects.filter(state=RunState.WAITING, starts_at__lte=present)
        return sum(each("payout_run", [run.id for run in waiting], _start_later))


def _make_scheduled() -> None:
    present = now()
    week = rules.week_of(present)
    if present < week or PayoutRun.objects.filter(week=week.date()).exists():
        return
    try:
        with transaction.atomic():
            make_run(actor=PLATFORM, person=False, sole=False, week=week.date())
    except Refusal as refusal:
        # Nothing to pay, something stands against all of it, or one waits: looked at again.
        log.debug("no_payout_run", why=refusal.detail)


def _start_later(run_id: UUID) -> bool:
    with transaction.atomic():
        run = _locked(run_id)
        if run.state != RunState.WAITING or open_breaks():
            return False
        _start(run)
        return True


def make_run(*, actor: str, person: bool, sole: bool, week: date | None = None) -> PayoutRunView:
    """In a transaction: decide what every provider gets now, and start unless it needs approval.

    person: a member of staff asked for it, and is the first who agrees. sole: there is no other.
    Refusal invalid_transition: nothing to pay, another run waits, open breaks.
    """
    if against := open_breaks():
        raise _illegal(" ".join(against), "blocked")
    if PayoutRun.objects.filter(state=RunState.WAITING).exists():
        raise _illegal("Another run waits for approval. Approve or cancel it first.", "waiting")
    decided = [plan for plan in _locked_plans(None) if plan.amount_micro]
    total = sum(plan.amount_micro for plan in decided)
    if not decided:
        raise _illegal("No provider can be paid now; the preview says why.", "nothing_to_pay")
    needed = rules.approvals_needed(
        total_micro=total, limit_micro=settings.GPUYARD_PAYOUT_APPROVAL_MICRO
    )
    run = PayoutRun.objects.create(
        state=RunState.WAITING,
        week=week,
        actor=actor[:100],
        total_micro=total,
        approvals_needed=needed,
    )
    run.refresh_from_db(fields=["created_at"])
    expected = now() + rules.TO_BANK
    PayoutLine.objects.bulk_create(
        PayoutLine(
            run=run,
            provider_ref=plan.provider_ref,
            amount_micro=plan.amount_micro,
            due_micro=plan.due_micro,
            reserve_micro=plan.reserve_micro,
            expected_at=expected,
        )
        for plan in decided
    )
    if person:
        _agree(run, actor)
    _start_or_wait(run, sole=sole and person)
    return run_view(run)


def approve(*, run_id: UUID, actor: str, sole: bool) -> PayoutRunView:
    """In a transaction: one more person agrees; the run starts when it has as many as it needs.

    ``sole``: there is no second person, so it starts a day after the first agreed.
    Refusal invalid_transition: it does not wait, this person agreed already, open breaks.
    """
    run = _locked(run_id)
    if run.state != RunState.WAITING:
        raise _illegal(f"This run is {run.state}; it waits for nobody.", run.state)
    if against := open_breaks():
        raise _illegal(" ".join(against), "blocked")
    if run.approvals.filter(actor=actor).exists():
        raise _illegal("You agreed already. It needs somebody else.", run.state)
    _agree(run, actor)
    _start_or_wait(run, sole=sole)
    return run_view(run)


def cancel(*, run_id: UUID, reason: str) -> PayoutRunView:
    """In a transaction: give up a run that waits; what is due stays due."""
    run = _locked(run_id)
    if run.state != RunState.WAITING:
        raise _illegal(f"This run is {run.state}: it can not be given up.", run.state)
    run.lines.update(
        state=LineState.CANCELED, reason=f"The run was given up. {reason}".strip()[:500]
    )
    run.state, run.starts_at = RunState.CANCELED, None
    run.save()
    return run_view(run)


def wait_for_second() -> int:
    """In a transaction: runs that were to start after a day, since there was nobody else, wait for
    the person who joined; how many."""
    return PayoutRun.objects.filter(state=RunState.WAITING).update(starts_at=None)


def hold(*, provider_ref: UUID, actor: str, reason: str) -> bool:
    """In a transaction: pay this provider nothing until released; False when it is held already.
    What is on its way goes on."""
    if not reason:
        raise InvalidRequest({"reason": ["say why"]})
    made = PayoutHold.objects.bulk_create(
        [PayoutHold(provider_ref=provider_ref, reason=reason[:500], placed_by=actor[:100])],
        ignore_conflicts=True,
    )
    placed = PayoutHold.objects.filter(id=made[0].id).exists()
    # Whoever decides over this provider's money right now is waited for, or sees the hold.
    due = account(AccountKind.PROVIDER_DUE, provider_ref)
    lock_due([due])
    return placed


def release(*, provider_ref: UUID, actor: str) -> bool:
    """In a transaction: end the hold; False when there is none."""
    return bool(
        PayoutHold.objects.filter(provider_ref=provider_ref, released_at=None).update(
            released_by=actor[:100], released_at=now()
        )
    )


def _agree(run: PayoutRun, actor: str) -> None:
    PayoutApproval.objects.create(run=run, actor=actor[:100])


def _start_or_wait(run: PayoutRun, *, sole: bool) -> None:
    if run.approvals.count() >= run.approvals_needed:
        _start(run)
    elif sole and run.starts_at is None:
        run.starts_at = now() + rules.ALONE
        run.save(update_fields=["starts_at"])


def _start(run: PayoutRun) -> None:
    """Take each line's money out of what is due and order its transfer; a line that can not be
    paid any more, or not as much, is left out."""
    lines = list(run.lines.order_by("id"))
    refs = [line.provider_ref for line in lines]
    decided = {plan.provider_ref: plan for plan in _locked_plans(refs)}
    clearing = account(AccountKind.PROVIDER_CLEARING)
    due = open_accounts({(AccountKind.PROVIDER_DUE, line.provider_ref) for line in lines})
    entries = []
    for line in lines:
        plan = decided.get(line.provider_ref)
        if why := _why_not(line, plan):
            line.state, line.reason = LineState.CANCELED, why
        else:
            assert plan is not None
            line.state, line.account = LineState.CLEARING, plan.account
            own = due[AccountKind.PROVIDER_DUE, line.provider_ref]
            legs = ((own, -line.amount_micro), (clearing, line.amount_micro))
            entries.append(Entry(TransactionKind.PAYOUT, CauseType.PAYOUT, line.id, legs))
            intend(CallKind.TRANSFER, key=f"payout:{line.id}", subject=line.id)
    post(entries)
    PayoutLine.objects.bulk_update(lines, ["state", "reason", "account"], batch_size=500)
    run.state, run.started_at, run.starts_at = RunState.STARTED, now(), None
    run.save(update_fields=["state", "started_at", "starts_at"])


def _why_not(line: PayoutLine, plan: Plan | None) -> str:
    if plan is None or plan.amount_micro < line.amount_micro:
        against = plan.blocked_by if plan else ()
        return " ".join(against)[:500] or "Less is due now than when the run was decided."
    return ""


def _locked_plans(provider_refs: Sequence[UUID] | None) -> list[Plan]:
    """Decisions that hold until the commit. Locked first, then read: another run, a maturing or a
    claw-back that was under way is waited for and counted."""
    first = plans(provider_refs)
    owners = {(AccountKind.PROVIDER_DUE, plan.provider_ref) for plan in first}
    lock_due(list(open_accounts(owners).values()))
    return plans([plan.provider_ref for plan in first])


def _locked(run_id: UUID) -> PayoutRun:
    run = PayoutRun.objects.select_for_update().filter(id=run_id).first()
    if run is None:
        raise NotFound("payout run")
    return run


def _illegal(why: str, state: str) -> Refusal:
    return Refusal("invalid_transition", why, state=state, actions=[])
