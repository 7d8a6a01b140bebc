"""The OpenAPI file and the answers name the same fields."""

from __future__ import annotations

from typing import Any

import pytest

from marketplace.http.api import catalog, history, rentals, templates, volumes
from tests.market import make_renter, make_supply, order, public_get

pytestmark = pytest.mark.django_db


def same(serializer: Any, shown: dict[str, Any]) -> None:
    assert set(serializer().fields) == set(shown), serializer.__name__


def test_what_is_described_is_what_is_shown():
    supply, renter = make_supply(2), make_renter()
    same(catalog.Offer, public_get("/offers")[1]["items"][0])
    same(catalog.Accelerator, public_get("/accelerators")[1]["items"][0])
    same(catalog.Region, public_get("/regions")[1]["items"][0])
    same(catalog.Place, public_get("/datacenters")[1]["items"][0])
    same(templates.TemplateOut, public_get("/templates")[1]["items"][0])
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    same(catalog.Quote, quote)
    assert renter.call("GET", f"/quotes/{quote['id']}")[1]["id"] == quote["id"]
    rental = renter.call("POST", "/rentals", order(supply.offer))[1]
    same(rentals.RentalOut, rental)
    same(history.EventOut, renter.call("GET", f"/rentals/{rental['id']}/events")[1]["items"][0])
    same(history.EventOut, renter.call("GET", "/events")[1]["items"][0])
    stored = make_supply(1, storage="cluster", region="us-east")
    body = order(stored.offer, volumes=[{"size_gib": 1, "mount": "/data"}])
    mounting = renter.call("POST", "/rentals", body)[1]
    same(rentals.MountOut, mounting["volumes"][0])
    same(volumes.VolumeOut, renter.call("GET", "/volumes")[1]["items"][0])
    renter.call("DELETE", f"/rentals/{mounting['id']}")
    listed = renter.call("GET", "/rentals?state=provisioning")[1]["items"][0]
    assert listed == rental


def test_the_file_describes_them():
    status, document = public_get("/openapi.json")
    assert status == 200
    paths = document["paths"]
    for path, methods in {
        "/api/v1/offers": {"get"},
        "/api/v1/quotes": {"post"},
        "/api/v1/rentals": {"get", "post"},
        "/api/v1/rentals/{rental_id}": {"get", "patch", "delete"},
        "/api/v1/rentals/{rental_id}/actions": {"post"},
        "/api/v1/charges/{charge_id}/evidence": {"get"},
    }.items():
        assert methods <= set(paths[path]), path
    filters = {item["name"] for item in paths["/api/v1/offers"]["get"]["parameters"]}
    assert {"accelerator", "gpus", "max_price", "order", "cursor", "limit"} <= filters
    answers = paths["/api/v1/rentals"]["post"]["responses"]
    assert {"202", "402", "403", "409", "422"} <= set(answers)
