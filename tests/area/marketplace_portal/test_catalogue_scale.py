"""The catalogue over hundreds of offers: as many statements as over one, and none counts cards.

The clock is bench/catalogue_page.py's; here it is the number of statements and what they read.
"""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bench.catalogue_page import seed
from marketplace.accounts import switches
from marketplace.http.portal.catalogue import ROWS
from tests.area.marketplace_portal.visitors import Visitor, ids

pytestmark = pytest.mark.django_db

ASKED = ["/", "/?gpus=4&region=region-3", "/cards/nvidia-h100-80gb-sxm"]


def statements(visitor: Visitor, path: str) -> list[str]:
    switches.forget()
    with CaptureQueriesContext(connection) as captured:
        assert visitor.get(path).status_code == 200
    return [each["sql"] for each in captured.captured_queries]


@pytest.fixture
def crowd(db: None) -> int:
    """Two hundred offers on five thousand machines; how many cards."""
    return seed(200)


def test_pages_of_a_large_catalogue_cost_what_those_of_an_empty_one_do(crowd: int) -> None:
    assert crowd == 200 * 25 * 8
    visitor = Visitor()
    asked = {path: statements(visitor, path) for path in ASKED}
    assert {path: len(found) for path, found in asked.items() if len(found) > 9} == {}
    every = " ".join(sql for found in asked.values() for sql in found)
    assert "provisioner_devicegroup" in every
    for counted in ("provisioner_slot", "provisioner_nodeshare"):
        assert counted not in every, "stock is the maintained summary's, never counted"
    page = visitor.get("/")
    assert len(ids("ofr", page.text)) == ROWS
    assert len(page.context["offers"]) == ROWS
