"""Stripe's own pages: an intent, an address for minutes, and nothing for strangers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from billing.facade import portal as door
from billing.models import CallKind, StripeCall
from billing.payments import portal
from kernel.errors import InvalidRequest, NotFound
from tests.area.billing.conftest import DAY, open_org

pytestmark = pytest.mark.django_db


def test_a_visit_is_an_intent_and_its_address_is_shown_until_it_expires(at):
    at(DAY)
    org = open_org()
    with transaction.atomic():
        made = door.start_portal_session(org_ref=org, return_url="https://x.example/")
    assert (made.state, made.url, made.expires_at) == ("pending", None, None)
    intent = StripeCall.objects.get(kind=CallKind.PORTAL_SESSION)
    assert (intent.subject, intent.org_ref) == (str(made.id), org)
    portal.opened(made.id, "https://billing.stripe.example/p/1")
    portal.opened(made.id, "https://billing.stripe.example/p/2")
    open_ = door.portal_session(org_ref=org, session_id=made.id)
    assert (open_.state, open_.url) == ("open", "https://billing.stripe.example/p/1")
    assert open_.expires_at == DAY + portal.LIFE
    at(DAY + portal.LIFE)
    gone = door.portal_session(org_ref=org, session_id=made.id)
    assert (gone.state, gone.url) == ("canceled", None)
    with pytest.raises(NotFound):
        door.portal_session(org_ref=open_org("Other"), session_id=made.id)


def test_a_refusal_says_why_and_a_late_one_changes_nothing(at):
    at(DAY)
    org = open_org()
    with transaction.atomic():
        made = door.start_portal_session(org_ref=org, return_url="https://x.example/")
    portal.refused(made.id, "no configuration")
    failed = door.portal_session(org_ref=org, session_id=made.id)
    assert (failed.state, failed.failure) == ("failed", "no configuration")
    at(DAY + timedelta(seconds=1))
    with pytest.raises(InvalidRequest):
        door.start_portal_session(org_ref=org, return_url="javascript:alert(1)")
