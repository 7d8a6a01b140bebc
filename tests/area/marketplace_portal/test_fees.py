"""The pages about the fee: staff change it in two steps, owners see what they pay."""

from __future__ import annotations

import pytest

from kernel.clock import now
from marketplace.models import FeeChange, User
from tests import market
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor
from tests.authenticator import make_staff


@pytest.fixture
def staff(supply: market.Supply) -> Visitor:
    make_staff(email="staff@example.com", password=PASSWORD)
    visitor = Visitor()
    visitor.client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return visitor


def test_a_change_is_looked_at_and_then_made(staff: Visitor, provider: Visitor) -> None:
    page = staff.get("/staff/fees")
    assert "15 %" in page.text
    looked = staff.send(page, "/staff/fees/preview", fee_bps="12.5", reason="more cards")
    assert looked.status_code == 200
    assert "Nothing is stored yet" in looked.text
    assert "Owner" in looked.text
    assert not FeeChange.objects.exists()
    made = staff.send(looked, "/staff/fees")
    assert (made.status_code, made["Location"]) == (303, "/staff/fees")
    twice = staff.send(looked, "/staff/fees")
    assert twice.status_code == 303
    change = FeeChange.objects.get()
    assert (change.fee_bps, change.reason, change.provider) == (1250, "more cards", None)
    assert "12.5 %" in staff.get("/staff/fees").text
    assert "Fee: 12.5 %" in provider.get("/provider").text


def test_what_is_wrong_stands_at_its_field_and_nothing_is_looked_at(staff: Visitor) -> None:
    page = staff.get("/staff/fees")
    for fields in ({"fee_bps": "51"}, {"fee_bps": "16"}, {"fee_bps": "x"}):
        answer = staff.send(page, "/staff/fees/preview", reason="dearer power", **fields)
        assert answer.status_code == 422
        assert "field__error" in answer.text
    assert "14 days" in staff.send(
        page, "/staff/fees/preview", fee_bps="16", reason="dearer power"
    ).text  # fmt: skip


def test_a_change_that_comes_is_seen_by_its_owner_and_withdrawn(
    staff: Visitor, provider: Visitor
) -> None:
    when = now().replace(year=now().year + 1, month=12, day=1)
    page = staff.get("/staff/fees")
    looked = staff.send(
        page,
        "/staff/fees/preview",
        fee_bps="16",
        reason="dearer power",
        valid_from=f"{when:%Y-%m-%dT00:00}",
    )
    assert staff.send(looked, "/staff/fees").status_code == 303
    seen = " ".join(provider.get("/provider").text.split())
    assert "Fee: 15 %" in seen
    assert f"1 Dec {when:%Y}</time> 16 %" in seen
    listed = staff.get("/staff/fees")
    path = f"/staff/fees/{FeeChange.objects.get().public_id}/withdraw"
    assert staff.send(listed, path).status_code == 303
    assert FeeChange.objects.get().withdrawn_at is not None
    assert "16 %" not in provider.get("/provider").text


def test_two_hundred_changes_cost_the_page_no_query_each(
    staff: Visitor, supply: market.Supply, django_assert_max_num_queries: object
) -> None:
    FeeChange.objects.bulk_create(
        FeeChange(
            provider=supply.provider, fee_bps=1000 + n, valid_from=now(), reason="x", made_by="x"
        )
        for n in range(200)
    )
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        assert staff.get("/staff/fees").text.count("10.0") > 5
