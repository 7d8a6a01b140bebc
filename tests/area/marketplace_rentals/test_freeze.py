"""A contested payment freezes its organization: a notice, a stop, and free again when won."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from billing.contracts.disputes import DisputeState
from billing.models import Payment
from billing.payments.dispute import dispute_seen
from billing.payments.return_facts import DisputeFact
from kernel.clock import now
from marketplace.models import AuditEntry, Organization, RentalEvent
from marketplace.rentals import follow as following
from marketplace.rentals import place as placing
from marketplace.rentals.freeze import freeze
from marketplace.rentals.notice import LEAD
from provisioner.inventory.summary import refresh
from tests.area.marketplace_rentals.test_life import NOON, Clock, World, clock, world  # noqa: F401
from tests.market import add_node, order

pytestmark = pytest.mark.django_db


def tell(org_ref: UUID, state: DisputeState, **changes: int) -> None:
    payment = Payment.objects.filter(org_ref=org_ref).earliest("id")
    values = {"withdrawn_minor": payment.amount_minor, "reinstated_minor": 0} | changes
    assert dispute_seen(
        DisputeFact(
            stripe_id=f"du_{org_ref.hex}",
            payment=payment.stripe_id,
            state=state,
            reason="fraudulent",
            amount_minor=payment.amount_minor,
            currency="USD",
            fee_minor=0,
            fee_back_minor=0,
            due_by=now() + timedelta(days=7),
            submitted=False,
            **values,
        )
    )


def organization(world: World) -> Organization:  # noqa: F811
    return Organization.objects.get(pk=world.rental.organization_id)


def test_a_running_rental_is_told_and_then_stopped(world: World) -> None:  # noqa: F811
    world.run()
    following.follow()
    org = organization(world)
    tell(org.id, DisputeState.NEEDS_RESPONSE)
    assert freeze() == 2
    assert freeze() == 0
    org.refresh_from_db()
    assert (org.state, org.frozen_for) == ("frozen", "dispute")
    shown = world.show()
    assert (shown["state"], world.rental.reason) == ("interrupting", "admin")
    assert org.frozen_at is not None
    assert world.rental.interrupt_at == org.frozen_at + LEAD
    status, problem = world.renter.call("POST", "/rentals", order(world.supply.offer))
    assert (status, problem["type"]) == (403, "/problems/account_frozen")
    world.clock.set(org.frozen_at + LEAD)
    assert freeze() == 1
    assert (world.rental.state, world.rental.reason) == ("stopping", "admin")
    assert freeze() == 0
    last = RentalEvent.objects.filter(rental=world.rental).latest("seq")
    assert "contested at its bank: stopped" in last.text


def test_won_in_time_nothing_is_stopped(world: World) -> None:  # noqa: F811
    world.run()
    following.follow()
    org = organization(world)
    tell(org.id, DisputeState.NEEDS_RESPONSE)
    freeze()
    tell(org.id, DisputeState.WON, reinstated_minor=100_000)
    assert freeze() == 2
    org.refresh_from_db()
    assert (org.state, org.reason, org.frozen_at) == ("active", "", None)
    assert world.rental.state == "running"
    assert set(
        AuditEntry.objects.filter(action__startswith="organization.").values_list(
            "action", flat=True
        )
    ) == {"organization.freeze", "organization.unfreeze"}


def test_after_a_lost_dispute_staff_decide(world: World) -> None:  # noqa: F811
    org = organization(world)
    tell(org.id, DisputeState.NEEDS_RESPONSE)
    freeze()
    tell(org.id, DisputeState.LOST)
    freeze()
    org.refresh_from_db()
    assert org.state == "frozen"


def test_what_staff_froze_is_left_alone(world: World) -> None:  # noqa: F811
    org = organization(world)
    Organization.objects.filter(pk=org.pk).update(state="frozen", reason="abuse")
    tell(org.id, DisputeState.NEEDS_RESPONSE)
    tell(org.id, DisputeState.WON, reinstated_minor=100_000)
    assert freeze() == 0
    org.refresh_from_db()
    assert (org.state, org.reason) == ("frozen", "abuse")


def test_what_a_frozen_organization_ordered_gets_no_cards(world: World) -> None:  # noqa: F811
    body = order(world.supply.offer, gpus=2, queue={"deadline_seconds": 3600})
    status, waiting = world.renter.call("POST", "/rentals", body)
    assert (status, waiting["state"]) == (202, "queued")
    org = Organization.objects.filter(pk=world.rental.organization_id)
    add_node(world.supply.group, 2)
    refresh()
    org.update(state="frozen")
    assert placing.place() == 0
    org.update(state="active")
    assert placing.place() == 1
