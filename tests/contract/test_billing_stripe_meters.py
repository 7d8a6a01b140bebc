"""Settled usage mirrored to Stripe's meters: the same seconds there as here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from billing.metering.mirror import collect
from billing.models import MeterBatch, MeterSpan, RentalMeter, StripeCall, UsageLine
from billing.stripe_gateway.client import call
from kernel.clock import hour_of, now
from tests.area.billing.conftest import USD, credit, open_org, rent, use, window
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    failing,
    hurry,
    send,
    stripe_account,
    stripe_simulator,
)

pytestmark = pytest.mark.django_db(transaction=True)
H100, ASCEND = "nvidia-h100-80gb-sxm", "huawei-ascend-910b"


def _summed(meter: str, params: Any) -> int:
    page = call(lambda client: client.v1.billing.meters.event_summaries.list(meter, params))
    return sum(int(row.aggregated_value) for row in page.data)


def seconds_at_stripe(stripe, accelerator):
    meters = {row["event_name"]: row["id"] for row in stripe.objects("billing.meter")}
    end = int(now().timestamp()) // 60 * 60 + 600
    name = "gpu_seconds_" + accelerator.replace("-", "_")
    total = 0
    for customer in stripe.objects("customer"):
        params: Any = {"customer": customer["id"], "start_time": end - 86400, "end_time": end}
        total += _summed(meters[name], params)
    return total


@pytest.fixture
def hour(stripe):
    return hour_of(now()) - timedelta(hours=2)


def test_one_event_per_customer_and_card_type_with_all_seconds(stripe, hour):
    orgs = [open_org(), open_org()]
    for org in orgs:
        credit(org, 100 * USD)
        for accelerator, gpus in ((H100, 2), (H100, 2), (ASCEND, 8)):
            rental = rent(org, accelerator=accelerator, gpus=gpus)
            use(window(rental, hour, 600), window(rental, hour + timedelta(hours=1), 60))
    assert collect() == 4
    assert collect() == 0
    send()
    assert len(stripe.objects("billing.meter")) == 2
    assert len(stripe.objects("billing.meter_event")) == 4
    assert not stripe.objects("meter_error")
    assert seconds_at_stripe(stripe, H100) == 2 * 2 * 2 * 660
    assert seconds_at_stripe(stripe, ASCEND) == 2 * 8 * 660
    assert set(MeterBatch.objects.filter(sent_at=None)) == set()


def test_later_lines_go_into_later_batches_and_none_is_left_out(stripe, hour):
    org = open_org()
    credit(org, 100 * USD)
    rental = rent(org)
    for minute in range(5):
        use(window(rental, hour + timedelta(minutes=minute), 60))
        collect()
    send()
    spans = MeterSpan.objects.order_by("first_seq").values_list("first_seq", "last_seq")
    assert list(spans) == [(n, n) for n in range(1, 6)]
    assert seconds_at_stripe(stripe, H100) == sum(
        line.seconds * line.gpus for line in UsageLine.objects.all()
    )
    assert RentalMeter.objects.get().mirrored_seq == 5


@pytest.mark.parametrize("fault", ["cut_after", "error_after", "cut_before"])
def test_an_event_whose_answer_was_lost_counts_once(stripe, hour, fault):
    org = open_org()
    credit(org, 100 * USD)
    use(window(rent(org), hour, 600))
    collect()
    with failing(stripe, fault, "/v1/billing/meter_events"):
        send()
        hurry()
        send()
    assert MeterBatch.objects.get().sent_at is not None
    assert seconds_at_stripe(stripe, H100) == 1200


def test_an_event_not_answered_for_23_hours_is_not_sent_again(stripe, hour):
    org = open_org()
    credit(org, 100 * USD)
    use(window(rent(org), hour, 600))
    send()
    collect()
    stripe.down("cut")
    send()
    hurry()
    send()
    event = StripeCall.objects.filter(kind="meter_event")
    event.update(first_sent_at=now() - timedelta(hours=23, minutes=1))
    stripe.down(None)
    hurry()
    send()
    assert event.get().state == "stuck"
    assert not stripe.objects("billing.meter_event")
