"""Billing meters: one per card type, and one event per customer, card type and settlement."""

from __future__ import annotations

from typing import Any

import stripe

from billing.metering import mirror
from billing.models import CallKind, MeterBatch, StripeCall, StripeMeter
from billing.stripe_gateway.client import call
from billing.stripe_gateway.errors import NotReady
from billing.stripe_gateway.steps import Step, customer_id, options
from kernel.errors import PermanentError


class CreateMeter(Step):
    kind = CallKind.METER

    def send(self, intent: StripeCall, key: str) -> stripe.billing.Meter:
        # Active event names are unique at Stripe: one made by an earlier installation is ours.
        found = self.look(intent)
        if found is not None:
            return found
        meter = StripeMeter.objects.get(accelerator=intent.subject)
        params: Any = {
            "display_name": f"GPU seconds, {meter.accelerator}"[:250],
            "event_name": meter.event_name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        }
        return call(lambda client: client.v1.billing.meters.create(params, options(key)))

    def look(self, intent: StripeCall) -> stripe.billing.Meter | None:
        meter = StripeMeter.objects.get(accelerator=intent.subject)
        params: Any = {"status": "active", "limit": 100}
        rows = call(lambda client: list(client.v1.billing.meters.list(params).auto_paging_iter()))
        return next((row for row in rows if row.event_name == meter.event_name), None)

    def apply(self, intent: StripeCall, found: stripe.billing.Meter) -> None:
        StripeMeter.objects.filter(accelerator=intent.subject).update(stripe_id=found.id)


class SendMeterEvent(Step):
    """Stripe refuses an identifier it knows for at least a day: a repeat within 23 h is safe."""

    kind = CallKind.METER_EVENT
    findable = False

    def send(self, intent: StripeCall, key: str) -> str:
        batch = MeterBatch.objects.get(id=intent.subject)
        meter = StripeMeter.objects.get(accelerator=batch.accelerator)
        if meter.stripe_id is None:
            raise NotReady("the meter is not at Stripe yet")
        params: Any = {
            "event_name": meter.event_name,
            "identifier": batch.identifier,
            "timestamp": int(batch.at.timestamp()),
            "payload": {
                "stripe_customer_id": customer_id(intent),
                "value": str(batch.gpu_seconds),
            },
        }
        try:
            call(lambda client: client.v1.billing.meter_events.create(params, options(key)))
        except PermanentError as error:
            if error.code not in {"invalid_identifier", "duplicate_meter_event"}:
                raise
        return batch.identifier

    def look(self, intent: StripeCall) -> None:
        return None

    def apply(self, intent: StripeCall, found: str) -> None:
        mirror.sent(found)
