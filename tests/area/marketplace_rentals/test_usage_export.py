"""Cost exports over HTTP: exact, escaped, of one organization, and what FOCUS asks for."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client

from billing import facade as billing
from kernel.clock import hour_of, now
from kernel.ids import new_id, parse, public
from marketplace.models import Project, Rental
from marketplace.rentals import focus
from tests.columns import Window, columns
from tests.market import Renter, make_renter, make_supply, order

pytestmark = pytest.mark.django_db
# Of version 1.3 of the specification; these must be there, and not be null but for the second row.
MANDATORY = (
    *("BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargePeriodEnd", "ChargePeriodStart"),
    *("ContractedCost", "EffectiveCost", "HostProviderName", "InvoiceIssuerName", "ListCost"),
    *("ServiceCategory", "ServiceName", "ServiceProviderName"),
    *("BillingAccountName", "ChargeDescription", "PricingQuantity", "PricingUnit"),
    *("ProviderName", "PublisherName"),
)
NULLABLE = ("ChargeClass",)


@dataclass
class Case:
    renter: Renter
    rental: str
    project: str


@pytest.fixture
def case() -> Case:
    """A rental with a hostile name, three charged windows and one of them given back."""
    supply, renter = make_supply(4, price=1_234_567), make_renter("=Acme")
    project = Project.objects.create(organization=renter.principal.org, name="@team")
    body = order(supply.offer, 2, name="=HYPERLINK(1)", labels={"team": "vision"})
    status, made = renter.call("POST", "/rentals", body)
    assert status == 202, made
    ref = parse("rental", made["id"])
    Rental.objects.filter(id=ref).update(project=project)
    begin = hour_of(now()) - timedelta(hours=3)
    windows = [
        Window(ref, new_id(), begin + timedelta(hours=n), begin + timedelta(hours=n, seconds=s))
        for n, s in enumerate((3600, 7, 1801))
    ]
    with transaction.atomic():
        billing.meter_started(rental_ref=ref, at=begin)
        assert billing.post_usage(windows=columns(windows)) == 3
        until = begin + timedelta(seconds=1000)
        assert billing.credit(rental_ref=ref, from_at=begin, to_at=until, by_provider=True)
    return Case(renter, made["id"], project.public_id)


def fetch(renter: Renter, path: str) -> list[dict[str, str]]:
    answer = Client().get(
        f"/api/v1/billing/usage/{path}", headers={"Authorization": f"Bearer {renter.secret}"}
    )
    assert answer.status_code == 200
    assert answer.streaming
    assert answer["Content-Type"].startswith("text/csv")
    assert "attachment" in answer["Content-Disposition"]
    text = b"".join(answer).decode()
    return list(csv.DictReader(io.StringIO(text)))


def spent(case: Case) -> Decimal:
    rental: Any = case.renter.call("GET", f"/rentals/{case.rental}")[1]
    return Decimal(rental["spent"])


def test_the_csv_adds_up_to_what_was_spent_and_runs_nothing(case: Case) -> None:
    rows = fetch(case.renter, "export.csv")
    assert [row["category"] for row in rows] == ["Usage", "Usage", "Usage", "Credit"]
    assert sum(Decimal(row["amount"]) for row in rows) == spent(case)
    assert {row["rental_name"] for row in rows} == {"'=HYPERLINK(1)"}
    assert {row["project_name"] for row in rows} == {"'@team"}
    assert {row["rental"] for row in rows} == {case.rental}
    assert (rows[1]["seconds"], rows[1]["quantity"], rows[1]["unit"]) == ("7", "2", "GPU")
    assert len(rows[1]["amount"].partition(".")[2]) == 6
    assert Decimal(rows[3]["amount"]) < 0
    nobody = make_renter()
    assert fetch(nobody, "export.csv") == []


def test_focus_has_its_mandatory_columns_and_its_rules_hold(case: Case) -> None:
    rows = fetch(case.renter, "focus.csv")
    assert focus.VERSION == "1.3"
    assert sum(Decimal(row["BilledCost"]) for row in rows) == spent(case)
    for row in rows:
        assert set(MANDATORY + NULLABLE) <= row.keys()
        use = row["ChargeCategory"] == "Usage"
        priced = ("PricingQuantity", "PricingUnit", "SkuId", "SkuPriceId", "ConsumedQuantity")
        assert not [name for name in MANDATORY if name not in priced and not row[name]]
        assert all(bool(row[name]) is use for name in priced if name != "SkuId")
        assert row["BillingAccountName"] == "'=Acme"
        assert row["ServiceProviderName"] == "Owner", "a partner sells its compute itself"
        assert row["InvoiceIssuerName"] == "gpuyard"
        assert json.loads(row["Tags"]) == {"team": "vision"}
        assert row["SubAccountId"] == case.project
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"]
        assert row["ChargePeriodStart"] < row["BillingPeriodEnd"]
        if use:
            product = Decimal(row["ListUnitPrice"]) * Decimal(row["PricingQuantity"])
            assert abs(product - Decimal(row["ListCost"])) < Decimal("0.000002")
            assert row["BilledCost"] == row["EffectiveCost"] == row["ListCost"]


def test_columns_come_as_the_specification_asks(case: Case) -> None:
    """Custom columns after its own, each name once, no cell but of its columns."""
    custom = [name.startswith("x_") for name in focus.COLUMNS]
    assert custom == sorted(custom)
    assert len(set(focus.COLUMNS)) == len(focus.COLUMNS)
    assert None not in fetch(case.renter, "focus.csv")[0]


def test_windows_and_groups(case: Case) -> None:
    first = fetch(case.renter, "export.csv")[0]
    begins, ends = first["from"], first["to"]
    inside = fetch(case.renter, f"export.csv?from={begins}&to={ends}")
    assert [row["charge"] for row in inside] == [first["charge"]]
    for by, key in (("rental", case.rental), ("project", case.project)):
        page = case.renter.call("GET", f"/billing/usage?group_by={by}")[1]
        (only,) = page["items"]
        assert only["key"] == key
        assert Decimal(only["total"]) == spent(case)
        assert Decimal(only["credits"]) < 0
    assert case.renter.call("GET", "/billing/usage?group_by=day&to=2026-01-01")[1]["items"] == []


@pytest.mark.parametrize(
    ("query", "filter_name"),
    [
        ("group_by=colour", "group_by"),
        ("from=2026-01-01", "from"),
        ("group_by=day&rental=" + public("rental", UUID(int=7)), "rental"),
        ("group_by=day&from=yesterday", "from"),
        ("group_by=day&to=2026-02-30", "to"),
    ],
)
def test_a_bad_window_or_group_is_named(query: str, filter_name: str) -> None:
    status, answer = make_renter().call("GET", f"/billing/usage?{query}")
    assert (status, answer["type"]) == (400, "/problems/invalid_filter")
    assert answer["filter"] == filter_name


def test_the_page_shows_the_sums_and_links_to_the_files(case: Case) -> None:
    client = Client()
    client.force_login(case.renter.principal.user)
    for by in ("rental", "project", "accelerator", "day"):
        page = client.get(f"/billing/usage?by={by}")
        assert page.status_code == 200
        text = page.content.decode()
        assert "/api/v1/billing/usage/focus.csv?from=" in text
        assert "=HYPERLINK(1)" in text or by != "rental"
