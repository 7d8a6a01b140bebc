"""Make our rows agree with what Stripe says now; saying it twice, late or shuffled is harmless.

Facts are the present state of an object, fetched, never the content of an event. Terminal states
stay, with one exception: money that did arrive is booked whatever we believed before.
"""

from __future__ import annotations

from uuid import UUID

import structlog
from django.db import transaction

from billing.contracts import PaymentState
from billing.ledger.accounts import account
from billing.ledger.post import Entry, Leg, post
from billing.models import (
    AccountKind,
    CardSetup,
    CauseType,
    Customer,
    Payment,
    PaymentMethod,
    TopUp,
    TransactionKind,
)
from billing.payments import topup_tax
from billing.payments.facts import CardFact, PaymentFact, SessionFact
from kernel.money import from_minor

log = structlog.get_logger(__name__)
FINAL = frozenset({PaymentState.SUCCEEDED, PaymentState.FAILED, PaymentState.CANCELED})


def topup_session(topup_id: UUID, fact: SessionFact) -> bool:
    """A top-up's Checkout session; False when there is no such top-up."""
    with transaction.atomic():
        topup = TopUp.objects.select_for_update().filter(id=topup_id).first()
        if topup is None:
            return False
        topup.stripe_id = topup.stripe_id or fact.stripe_id
        if topup.state not in FINAL:
            topup.checkout_url = fact.url
            topup.state = PaymentState.CANCELED if fact.status == "expired" else PaymentState.OPEN
        topup.save()
    return True


def topup_payment(topup_id: UUID, fact: PaymentFact) -> bool:
    """A top-up's PaymentIntent; credits it once. False when there is no such top-up."""
    with transaction.atomic():
        topup = TopUp.objects.select_for_update().filter(id=topup_id).first()
        if topup is None:
            return False
        payment = locked_payment(fact, org_ref=topup.customer_id, kind="topup", topup=topup)
        if fact.state == PaymentState.SUCCEEDED and payment.txn_id is None:
            payment.tax_minor = topup_tax.part_of(topup, fact.amount_minor)
            topup.tax_minor = payment.tax_minor or topup.tax_minor
            tax = from_minor(payment.tax_minor)
            amount = from_minor(fact.amount_minor) - tax
            legs = [(account(AccountKind.TENANT, topup.customer_id), amount)]
            if tax:
                legs.append((account(AccountKind.TAX_PAYABLE), tax))
            book(payment, TransactionKind.TOPUP, *legs)
            topup_tax.booked(topup)
            if amount != topup.amount_micro:
                log.error("topup_amount_differs", topup=str(topup.id), received=fact.amount_minor)
        settle_payment(payment, fact)
        _move_topup(topup, fact)
    return True


def topup_refused(topup_id: UUID, failure: str, code: str) -> None:
    """Stripe refused the top-up for good; nothing was charged. code: Stripe's word for why."""
    TopUp.objects.filter(id=topup_id).exclude(state__in=FINAL).update(
        state=PaymentState.FAILED, failure=failure[:500]
    )
    # Its event may have come first and does not carry the word.
    TopUp.objects.filter(id=topup_id, state=PaymentState.FAILED).update(failure_code=code[:100])


def setup_session(setup_id: UUID, session: SessionFact, card: CardFact | None) -> bool:
    """A card setup's session and, once complete, the card it saved."""
    with transaction.atomic():
        setup = CardSetup.objects.select_for_update().filter(id=setup_id).first()
        if setup is None:
            return False
        setup.stripe_id = setup.stripe_id or session.stripe_id
        if setup.state not in FINAL:
            setup.url = session.url
            if card is not None:
                setup.method = save_card(setup.customer, card)
                setup.state = PaymentState.SUCCEEDED
            elif session.status == "expired":
                setup.state = PaymentState.CANCELED
            else:
                setup.state = PaymentState.OPEN
        setup.save()
    return True


def setup_refused(setup_id: UUID, failure: str) -> None:
    """Stripe refused to open the page."""
    CardSetup.objects.filter(id=setup_id).exclude(state__in=FINAL).update(
        state=PaymentState.FAILED, failure=failure[:500]
    )


def save_card(customer: Customer, card: CardFact) -> PaymentMethod:
    """The card as ours; a detached card stays detached."""
    method, _ = PaymentMethod.objects.get_or_create(
        stripe_id=card.stripe_id,
        defaults={
            "customer": customer,
            "brand": card.brand[:50],
            "last4": card.last4[:4],
            "exp_month": card.exp_month,
            "exp_year": card.exp_year,
            "fingerprint": card.fingerprint[:64],
            "state": PaymentMethod.ACTIVE if card.customer else PaymentMethod.DETACHED,
        },
    )
    return method


def card_seen(card: CardFact) -> bool:
    """A card as Stripe has it now; False when it is none of ours."""
    if card.customer is not None:
        return PaymentMethod.objects.filter(stripe_id=card.stripe_id).exists()
    return bool(
        PaymentMethod.objects.filter(stripe_id=card.stripe_id).update(state=PaymentMethod.DETACHED)
    )


def customer_created(org_ref: UUID, stripe_id: str) -> None:
    """Stripe's id of the organization's customer; the first one stays."""
    Customer.objects.filter(org_ref=org_ref, stripe_id__isnull=True).update(stripe_id=stripe_id)


def locked_payment(fact: PaymentFact, **purpose: object) -> Payment:
    """The payment's row, made if new, locked: under this lock its money is booked once."""
    Payment.objects.bulk_create(
        [
            Payment(
                stripe_id=fact.stripe_id,
                amount_minor=fact.amount_minor,
                currency=fact.currency,
                state=PaymentState.PENDING,
                **purpose,
            )
        ],
        ignore_conflicts=True,
    )
    return Payment.objects.select_for_update().get(stripe_id=fact.stripe_id)


def book(payment: Payment, kind: TransactionKind, *legs: Leg) -> None:
    """Money came to our Stripe balance for the accounts of ``legs``."""
    cash = (account(AccountKind.STRIPE_CASH), -sum(amount for _, amount in legs))
    entry = Entry(kind, CauseType.PAYMENT, payment.id, (cash, *legs))
    post([entry])
    payment.txn_id = entry.id
    payment.state = PaymentState.SUCCEEDED


def settle_payment(payment: Payment, fact: PaymentFact) -> None:
    """Store the payment's state and book Stripe's fee once it is known."""
    if payment.state not in FINAL:
        payment.state = fact.state
    if payment.txn_id is not None and payment.fee_txn_id is None and fact.fee_minor:
        fee = from_minor(fact.fee_minor)
        legs = ((account(AccountKind.STRIPE_FEES), -fee), (account(AccountKind.STRIPE_CASH), fee))
        entry = Entry(
            TransactionKind.STRIPE_FEE,
            CauseType.PAYMENT,
            payment.id,
            legs,
            linked=payment.txn_id,
        )
        post([entry])
        payment.fee_txn_id = entry.id
    if payment.txn_id is not None:
        payment.amount_minor = fact.amount_minor
        if fact.card_last4:
            payment.card_brand, payment.card_last4 = fact.card_brand[:50], fact.card_last4[:4]
    payment.save()


def _move_topup(topup: TopUp, fact: PaymentFact) -> None:
    if fact.state == PaymentState.SUCCEEDED:
        topup.state, topup.failure, topup.checkout_url = PaymentState.SUCCEEDED, None, None
    elif topup.state in FINAL:
        return
    else:
        topup.failure = fact.failure and fact.failure[:500]
        # On Stripe's page the payer may try another card: there only the session's end is final.
        if topup.method_id is not None:
            topup.state = fact.state
    topup.save()
