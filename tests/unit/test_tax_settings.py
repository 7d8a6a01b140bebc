"""The setting of the tax point: read, refused when misspelt, and not without a seller's tax id."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from billing.contracts.tax import TaxPoint, TaxTerms
from config.checks import tax_point
from config.settings import env
from config.settings.local import LOCAL_DEFAULTS as DEFAULTS
from marketplace.catalog.taxes import describe_tax, percent


def test_it_is_none_unless_said_and_one_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUYARD_TAX_POINT", raising=False)
    assert env.read(defaults=DEFAULTS).tax_point == "none"
    monkeypatch.setenv("GPUYARD_TAX_POINT", "use")
    assert env.read(defaults=DEFAULTS).tax_point == "use"
    monkeypatch.setenv("GPUYARD_TAX_POINT", "usage")
    with pytest.raises(ImproperlyConfigured, match="none or topup or use"):
        env.read(defaults=DEFAULTS)


@pytest.mark.parametrize(
    ("point", "seller", "ids"),
    [
        ("none", "", []),
        ("use", "DE1", []),
        ("topup", "", ["gpuyard.E003"]),
        ("often", "DE1", ["gpuyard.E002"]),
    ],
)
def test_the_check_at_start(settings: Any, point: str, seller: str, ids: list[str]) -> None:
    settings.GPUYARD_TAX_POINT, settings.GPUYARD_SELLER_TAX_ID = point, seller
    assert [found.id for found in tax_point(None)] == ids


def test_a_quote_says_rate_amount_and_why() -> None:
    assert [percent(ppm) for ppm in (190_000, 88_750, 1, 0, 1_000_000)] == [
        "19",
        "8.875",
        "0.0001",
        "0",
        "100",
    ]
    on_use = describe_tax(TaxTerms(TaxPoint.USE, 88_750, "standard_rated"), per_hour_micro=3)
    assert (on_use["tax_point"], on_use["rate_percent"]) == ("use", "8.875")
    assert on_use["per_hour"] == "0.000001"
    bought = describe_tax(TaxTerms(TaxPoint.TOPUP, 190_000, ""), per_hour_micro=10**6)
    assert (bought["tax_point"], bought["per_hour"]) == ("top_up", "0.0000")
    assert "19 % is added when credit is bought" in bought["text"]
    free = describe_tax(TaxTerms(TaxPoint.USE, 0, "reverse_charge"), per_hour_micro=10**6)
    assert "reverse charge" in free["text"]
    assert describe_tax(None, per_hour_micro=1)["rate_percent"] is None
