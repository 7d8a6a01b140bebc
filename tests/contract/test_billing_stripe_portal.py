"""Stripe's own pages through the real SDK: a session with our configuration, made once."""

from __future__ import annotations

import pytest
from django.db import transaction

from billing.facade import portal as door
from tests.area.billing.conftest import open_org
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    RETURN,
    failing,
    hurry,
    send,
    stripe_account,
    stripe_simulator,
)

pytestmark = pytest.mark.django_db(transaction=True)


def wish(org):
    with transaction.atomic():
        return door.start_portal_session(org_ref=org, return_url=RETURN).id


def test_stripes_pages_open_with_our_configuration_whatever_fails_on_the_way(stripe):
    org = open_org()
    send()
    first, second = wish(org), wish(org)
    with failing(stripe, "cut_after", "/v1/billing_portal/sessions"):
        send()
    hurry()
    send()
    for session in (first, second):
        view = door.portal_session(org_ref=org, session_id=session)
        assert view.state == "open"
        assert view.url
    (ours,) = stripe.objects("billing_portal.configuration")
    assert ours["metadata"] == {"gpuyard_portal": "1"}
    assert ours["features"]["payment_method_update"]["enabled"] is True
