"""Intents about tax: where a customer is, its rate, and the tax of what a saved card is charged.

Stripe lists no calculations. One charges nothing, so an attempt whose outcome is unknown is simply
followed by another.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import stripe
from django.conf import settings

from billing.models import CallKind, Refund, StripeCall, TaxProfile, TaxRate, TopUp
from billing.payments import tax, topup_tax
from billing.stripe_gateway.client import call
from billing.stripe_gateway.errors import NotReady
from billing.stripe_gateway.steps import Step, customer_id, options
from kernel.errors import PermanentError
from kernel.money import to_minor

# The rate is what Stripe asks for a million dollars, to a hundredth of a part per million: all
# jurisdictions, each for what it taxes, which the percentages in the answer do not add up to.
_PROBE_MINOR = 100_000_000
_EXEMPT = {"exempt": "customer_exempt", "reverse": "reverse_charge"}


class TellCustomer(Step):
    """Stripe's customer gets the address and exactly these tax ids."""

    kind = CallKind.CUSTOMER_TAX

    def send(self, intent: StripeCall, key: str) -> stripe.Customer:
        profile = TaxProfile.objects.get(id=intent.subject)
        customer = customer_id(intent)
        told: Any = {"address": _address(profile), "tax_exempt": profile.exempt}

        def tell(client: stripe.StripeClient) -> stripe.Customer:
            found = client.v1.customers.update(customer, told, options(key))
            known = client.v1.customers.tax_ids
            wanted = [(one.type, one.value) for one in tax.ids_of(profile)]
            for there in known.list(customer, {"limit": 100}).data:
                if (there.type, there.value) in wanted:
                    wanted.remove((there.type, there.value))
                else:
                    known.delete(customer, there.id, options=options(f"{key}:drop:{there.id}"))
            for number, (kind, value) in enumerate(wanted, start=1):
                given: Any = {"type": kind, "value": value}
                known.create(customer, given, options(f"{key}:id:{number}:{kind}:{value}"))
            return found

        return call(tell)

    def look(self, intent: StripeCall) -> None:
        """Telling it again changes nothing."""

    def apply(self, intent: StripeCall, found: stripe.Customer) -> None:
        """Nothing here depends on it but what waits for the intent itself."""

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        tax.customer_refused(UUID(intent.subject), str(error))


class AskRate(Step):
    kind = CallKind.TAX_RATE

    def send(self, intent: StripeCall, key: str) -> stripe.tax.Calculation:
        rate = TaxRate.objects.select_related("profile").get(id=intent.subject)
        return _calculate(rate.profile, _PROBE_MINOR, "usd", intent.subject, key)

    def look(self, intent: StripeCall) -> None:
        """Stripe lists no calculations."""

    def apply(self, intent: StripeCall, found: stripe.tax.Calculation) -> None:
        tax.rate_found(
            UUID(intent.subject),
            ppm=found.tax_amount_exclusive * 1_000_000 // _PROBE_MINOR,
            reason=_reason(found),
            stripe_id=found.id or "",
        )

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        tax.rate_refused(UUID(intent.subject), str(error))


class TaxTopUp(Step):
    """The tax on credit that a saved card is to pay; the charge follows with it."""

    kind = CallKind.TOPUP_TAX

    def send(self, intent: StripeCall, key: str) -> stripe.tax.Calculation:
        topup = TopUp.objects.get(id=intent.subject)
        profile = TaxProfile.objects.filter(org_ref=topup.customer_id).order_by("-id").first()
        if profile is None:
            raise NotReady("where the customer is was never said")
        net = to_minor(topup.amount_micro)
        return _calculate(profile, net, topup.currency.lower(), intent.subject, key)

    def look(self, intent: StripeCall) -> None:
        """Stripe lists no calculations."""

    def apply(self, intent: StripeCall, found: stripe.tax.Calculation) -> None:
        topup_tax.calculated(
            UUID(intent.subject), tax_minor=found.tax_amount_exclusive, stripe_id=found.id or ""
        )

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        topup_tax.refused(UUID(intent.subject), str(error), error.code)


class RecordTax(Step):
    """The calculation of a charge that succeeded becomes a transaction in Stripe's tax reports."""

    kind = CallKind.TAX_TRANSACTION

    def send(self, intent: StripeCall, key: str) -> stripe.tax.Transaction:
        topup = TopUp.objects.get(id=intent.subject)
        params: Any = {
            "calculation": topup.tax_calculation,
            "reference": f"topup:{topup.id}",
            "metadata": {"gpuyard_topup": intent.subject},
        }
        return call(
            lambda client: client.v1.tax.transactions.create_from_calculation(params, options(key))
        )

    def look(self, intent: StripeCall) -> None:
        """Stripe refuses the same reference twice, so a second attempt harms nobody."""

    def apply(self, intent: StripeCall, found: stripe.tax.Transaction) -> None:
        topup_tax.recorded(UUID(intent.subject), found.id)


class ReverseTax(Step):
    """A refund takes its part of the tax out of Stripe's reports."""

    kind = CallKind.TAX_REVERSAL

    def send(self, intent: StripeCall, key: str) -> stripe.tax.Transaction:
        row = Refund.objects.select_related("payment__topup").get(id=intent.subject)
        topup = row.payment.topup
        if topup is None or topup.tax_transaction is None:
            raise NotReady("the tax transaction of the top-up is not made yet")
        params: Any = {
            "mode": "partial",
            "original_transaction": topup.tax_transaction,
            "reference": f"refund:{row.id}",
            "flat_amount": -row.amount_minor,
            "metadata": {"gpuyard_refund": intent.subject},
        }
        return call(lambda client: client.v1.tax.transactions.create_reversal(params, options(key)))

    def look(self, intent: StripeCall) -> None:
        """Stripe refuses the same reference twice, so a second attempt harms nobody."""

    def apply(self, intent: StripeCall, found: stripe.tax.Transaction) -> None:
        """It is there for Stripe's reports only."""


def _calculate(
    profile: TaxProfile, minor: int, currency: str, reference: str, key: str
) -> stripe.tax.Calculation:
    line: dict[str, Any] = {
        "amount": minor,
        "reference": reference,
        "tax_behavior": "exclusive",
    }
    if settings.GPUYARD_TAX_CODE:
        line["tax_code"] = settings.GPUYARD_TAX_CODE
    details: dict[str, Any] = {
        "address": _address(profile),
        "address_source": "billing",
        "tax_ids": [{"type": one.type, "value": one.value} for one in tax.ids_of(profile)],
    }
    if profile.exempt in _EXEMPT:
        details["taxability_override"] = _EXEMPT[profile.exempt]
    params: Any = {"currency": currency, "line_items": [line], "customer_details": details}
    return call(lambda client: client.v1.tax.calculations.create(params, options(key)))


def _address(profile: TaxProfile) -> dict[str, str]:
    names = ("country", "postal_code", "state", "city", "line1")
    return {name: getattr(profile, name) for name in names if getattr(profile, name)}


def _reason(found: stripe.tax.Calculation) -> str:
    """Stripe's word for why: of what is taxed if anything is, else of what is not."""
    parts = sorted(found.tax_breakdown, key=lambda part: -part.amount)
    return parts[0].taxability_reason if parts else "not_collecting"
