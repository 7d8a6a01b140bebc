"""A receipt for each payment: once, with what the ledger says, whatever crashes in between."""

from __future__ import annotations

import smtplib
from typing import Any

import pytest
from django.core.mail import EmailMessage

from billing.contracts import PaymentState
from billing.ledger.accounts import account
from billing.ledger.post import Entry, post
from billing.models import AccountKind, CauseType, Payment, TopUp, TransactionKind
from billing.payments.converge import topup_payment
from billing.payments.facts import PaymentFact
from kernel.clock import now
from kernel.ids import new_id, public
from marketplace.accounts import mail as mailing
from marketplace.accounts import receipts
from marketplace.models import EmailToken, Membership, User
from tests.area.marketplace_accounts import people
from tests.market import USD, Renter, make_renter

pytestmark = pytest.mark.django_db


@pytest.fixture
def renter() -> Renter:
    return make_renter(credit=0)


def pay(renter: Renter, micro: int) -> TopUp:
    """A settled top-up, seen twice as Stripe tells it."""
    row = TopUp.objects.create(
        customer_id=renter.org, amount_micro=micro, currency="USD", return_url="https://x.example/"
    )
    fact = PaymentFact(
        stripe_id=f"pi_{row.id.hex}",
        state=PaymentState.SUCCEEDED,
        amount_minor=micro // 10_000,
        currency="USD",
        fee_minor=None,
        failure=None,
        card_brand="visa",
        card_last4="4242",
    )
    assert topup_payment(row.id, fact)
    assert topup_payment(row.id, fact)
    return row


def sent(mailoutbox: list[EmailMessage]) -> EmailMessage:
    receipts.order()
    mailing.deliver()
    (only,) = mailoutbox
    return only


def test_a_payment_is_receipted_once_with_what_the_ledger_says(
    renter: Renter, mailoutbox: list[EmailMessage]
) -> None:
    topup = pay(renter, 25 * USD)
    mail = sent(mailoutbox)
    assert mail.to == [renter.principal.user.email]
    assert mail.subject == "Your receipt"
    for text in (
        "Paid to: gpuyard",
        "Amount: $25.00",
        "Paid with: Visa ···· 4242",
        "Balance after it: $25.00",
        f"GPU rental credit ({public('topup', topup.id)})",
        f"Date: {now():%Y-%m-%d}",
    ):
        assert text in mail.body
    assert "Tax" not in mail.body
    assert receipts.order() == mailing.deliver() == 0


def test_the_balance_after_it_is_that_of_then(
    renter: Renter, mailoutbox: list[EmailMessage]
) -> None:
    pay(renter, 25 * USD)
    assert receipts.order() == 1
    pay(renter, 40 * USD)
    mailing.deliver()
    assert "Balance after it: $25.00" in mailoutbox[0].body
    receipts.order()
    mailing.deliver()
    assert "Balance after it: $65.00" in mailoutbox[1].body


def test_tax_in_a_payment_has_its_line(renter: Renter, mailoutbox: list[EmailMessage]) -> None:
    topup = pay(renter, 25 * USD)
    payment = Payment.objects.get(topup=topup)
    tax = account(AccountKind.TAX_PAYABLE)
    legs = ((account(AccountKind.STRIPE_CASH), -5 * USD), (tax, 5 * USD))
    entry = Entry(TransactionKind.TOPUP, CauseType.PAYMENT, new_id(), legs)
    post([entry])
    payment.txn_id = entry.id
    payment.save()
    assert "Tax in it: $5.00" in sent(mailoutbox).body


def test_one_mail_goes_to_all_who_look_after_the_money(
    renter: Renter, mailoutbox: list[EmailMessage]
) -> None:
    biller = people.join_as(renter.principal.org, Membership.Role.BILLING)
    people.join_as(renter.principal.org, Membership.Role.MEMBER)
    pay(renter, 25 * USD)
    assert set(sent(mailoutbox).to) == {renter.principal.user.email, biller.email}


def test_a_crash_between_mark_and_order_orders_it_later(
    renter: Renter, mailoutbox: list[EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    pay(renter, 25 * USD)

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(receipts, "order_notice", crash)
        with pytest.raises(KeyboardInterrupt):
            receipts.order()
    assert EmailToken.objects.filter(purpose="receipt").count() == 0
    assert "$25.00" in sent(mailoutbox).body


def test_a_refused_mail_is_sent_later_and_once(
    renter: Renter, mailoutbox: list[EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    pay(renter, 25 * USD)
    receipts.order()

    def refuse(*_: Any, **__: Any) -> int:
        raise smtplib.SMTPServerDisconnected

    with monkeypatch.context() as patch:
        patch.setattr(mailing, "send_mail", refuse)
        assert mailing.deliver() == 0
    EmailToken.objects.update(send_after=now())
    assert sent(mailoutbox)
    EmailToken.objects.update(send_after=now())
    assert mailing.deliver() == 0


def test_a_payment_of_nobody_here_stops_no_other(
    renter: Renter, mailoutbox: list[EmailMessage]
) -> None:
    left = make_renter(credit=0)
    pay(left, 25 * USD)
    User.objects.get(pk=left.principal.user.pk).memberships.all().delete()
    pay(renter, 30 * USD)
    assert "$30.00" in sent(mailoutbox).body
