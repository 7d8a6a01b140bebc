"""Intents about money that goes back: refunds, credit notes, evidence for disputes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import stripe

from billing.invoicing import credit_note as notes
from billing.models import CallKind, CreditNote, Dispute, Refund, StripeCall
from billing.payments import dispute as disputes
from billing.payments import evidence, refund_converge
from billing.stripe_gateway import read_returns
from billing.stripe_gateway.client import call
from billing.stripe_gateway.steps import Step, adopt, options, since
from kernel.errors import PermanentError
from kernel.money import to_minor


class SendRefund(Step):
    kind = CallKind.REFUND

    def send(self, intent: StripeCall, key: str) -> stripe.Refund:
        row = Refund.objects.select_related("payment").get(id=intent.subject)
        params: Any = {
            "payment_intent": row.payment.stripe_id,
            "amount": row.amount_minor,
            "reason": "requested_by_customer",
            "metadata": {read_returns.REFUND: intent.subject},
        }
        return call(lambda client: client.v1.refunds.create(params, options(key)))

    def look(self, intent: StripeCall) -> stripe.Refund | None:
        row = Refund.objects.select_related("payment").get(id=intent.subject)
        params: Any = {
            "payment_intent": row.payment.stripe_id,
            "created": since(intent),
            "limit": 100,
        }
        return call(
            lambda client: adopt(
                client.v1.refunds.list(params).auto_paging_iter(),
                read_returns.REFUND,
                intent.subject,
            )
        )

    def apply(self, intent: StripeCall, found: stripe.Refund) -> None:
        refund_converge.refund_seen(UUID(intent.subject), read_returns.refund_fact(found))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        refund_converge.refund_refused(UUID(intent.subject), str(error))


class WriteCreditNote(Step):
    kind = CallKind.CREDIT_NOTE

    def send(self, intent: StripeCall, key: str) -> stripe.CreditNote:
        note = CreditNote.objects.select_related("invoice").get(id=intent.subject)
        amount = to_minor(note.amount_micro)
        params: Any = {
            "invoice": note.invoice.stripe_id,
            "amount": amount,
            "email_type": "none",
            "metadata": {read_returns.CREDIT_NOTE: intent.subject},
        }
        if note.paid:
            # It becomes credit with us; Stripe itself pays nothing back.
            params["out_of_band_amount"] = amount
        return call(lambda client: client.v1.credit_notes.create(params, options(key)))

    def look(self, intent: StripeCall) -> stripe.CreditNote | None:
        note = CreditNote.objects.select_related("invoice").get(id=intent.subject)
        params: Any = {"invoice": note.invoice.stripe_id, "limit": 100}
        return call(
            lambda client: adopt(
                client.v1.credit_notes.list(params).auto_paging_iter(),
                read_returns.CREDIT_NOTE,
                intent.subject,
            )
        )

    def apply(self, intent: StripeCall, found: stripe.CreditNote) -> None:
        notes.note_seen(UUID(intent.subject), read_returns.credit_note_fact(found))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        notes.note_refused(UUID(intent.subject), str(error))


class SubmitEvidence(Step):
    kind = CallKind.DISPUTE_EVIDENCE

    def send(self, intent: StripeCall, key: str) -> stripe.Dispute:
        row = Dispute.objects.get(id=intent.subject)
        params: Any = {"evidence": row.evidence, "submit": True}
        return call(lambda client: client.v1.disputes.update(row.stripe_id, params, options(key)))

    def look(self, intent: StripeCall) -> stripe.Dispute | None:
        there = read_returns.dispute(Dispute.objects.get(id=intent.subject).stripe_id)
        return there if read_returns.answered(there) else None

    def apply(self, intent: StripeCall, found: stripe.Dispute) -> None:
        evidence.evidence_submitted(UUID(intent.subject))
        disputes.dispute_seen(read_returns.dispute_fact(found))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        evidence.evidence_refused(UUID(intent.subject), str(error))
