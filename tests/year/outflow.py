"""Money that goes out in the year: refunds, credit for lost hosts, providers' payouts and the banks
that send some of them back. What is decided here is drawn; who pays what is the product's."""

from __future__ import annotations

from random import Random
from uuid import UUID

from django.db import transaction

from billing import facade as billing
from billing.contracts.payouts import LineState, RunState
from billing.contracts.refunds import OrderKind
from billing.facade import payouts, refunds
from billing.models import PayoutAccount, PayoutLine
from billing.payouts.mature import mature_all
from billing.payouts.run import run_due
from billing.stripe_gateway.follow import follow
from kernel.errors import Refusal
from kernel.ids import new_id
from tests.year.oracle import Lost
from tests.year.stripe_year import StripeYear

USD = 1_000_000
RETURN = "https://example.com/provider"


def sign_up(stripe: StripeYear, provider: UUID) -> None:
    """A payout account that Stripe's page was gone through for."""
    with transaction.atomic():
        payouts.open_account_page(
            provider_ref=provider,
            name="Cards Ltd",
            email="pay@example.com",
            country="US",
            return_url=RETURN,
        )
    stripe.work()
    name = PayoutAccount.objects.get(provider_ref=provider).stripe_id
    stripe.sim.control.order("onboard", account=name, bank="000123456789")
    follow()


def credit(rental: UUID, lost: Lost) -> None:
    """Credit for the time between the last proof and the next."""
    with transaction.atomic():
        billing.outage(
            case_ref=new_id(),
            rental_ref=rental,
            from_at=lost.begin,
            to_at=lost.end,
            by_provider=lost.by_provider,
        )


def refund(org: UUID, rng: Random) -> None:
    """Somebody wants a part of an unspent top-up back; above a limit a second person says yes."""
    amount = rng.randrange(100, 60_000) * 10_000
    try:
        with transaction.atomic():
            order = refunds.order_refund(
                org_ref=org,
                amount_micro=amount,
                reason="asked for it",
                ordered_by="staff:1",
                by_renter=False,
            )
            if order.state == "waiting":
                refunds.approve(kind=OrderKind.REFUND, order_id=order.id, approved_by="staff:2")
    except Refusal:
        return  # less than that is unspent


def pay_providers() -> None:
    """What is mature goes out once a week; two people agree to a run above the limit."""
    mature_all()
    run_due()
    for run in payouts.runs():
        for actor in ("staff:1", "staff:2"):
            if payouts.run(run_id=run.id).state == RunState.WAITING:
                with transaction.atomic():
                    payouts.approve_run(run_id=run.id, actor=actor, sole=False)


def banks(stripe: StripeYear, rng: Random) -> None:
    """Stripe pays on what providers have there; now and then a bank sends it back."""
    sent = PayoutLine.objects.filter(state=LineState.SENT).order_by("account")
    for name in sent.values_list("account", flat=True).distinct():
        how = {"status": "paid"}
        if rng.random() < 0.1:
            how = {"status": "failed", "code": "account_closed"}
        stripe.sim.control.order("payout", account=name, **how)
    follow()
