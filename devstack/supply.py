"""How the cards come on sale: two providers apply, staff approves and binds, clusters join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from devstack.people import PROVIDER_SCOPES, Person, join
from devstack.stack import Stack

Json = dict[str, Any]

# Prices per GPU-hour in USD: made up for the demo, near what such cards cost in 2026.
PRICES = {
    "nvidia-b300-sxm": "9.9000",
    "nvidia-h100-80gb-sxm": "2.1900",
    "nvidia-a100-80gb-pcie": "1.1900",
    "amd-mi300x": "2.4900",
    "nvidia-rtx-4090": "0.4400",
    "nvidia-l40s": "0.8900",
    "ascend-910b": "1.1500",
}
OTHER_PRICE = "0.9900"


@dataclass(frozen=True)
class Site:
    """A data centre of the demo and its cluster."""

    cluster: str
    ownership: str
    email: str
    organization: str
    datacenter: str
    region: str
    country: str


SITES = (
    Site(
        *("dc-owned", "owned", "owned@example.com", "gpuyard Data Centres"),
        *("fra-1", "eu-central", "DE"),
    ),
    Site(
        *("dc-partner", "partner", "provider@example.com", "Campus Computing"),
        *("sin-1", "ap-southeast", "SG"),
    ),
)


def onboard(stack: Stack, staff: Person, site: Site) -> Person:
    """One provider from sign-up to a connected cluster; the provider's login."""
    provider = join(stack, site.email, site.organization, PROVIDER_SCOPES)
    applied = provider.api.post(
        "/provider", {"contact_email": site.email, "description": f"{site.organization}, demo"}
    )
    cluster = stack.clusters[site.cluster]
    staff.api.post(
        f"/staff/providers/{applied['id']}/approve",
        {
            "ownership": site.ownership,
            # The product's own rule for API servers on private networks; here it is loopback and
            # exactly this cluster's port.
            "networks": ["127.0.0.0/8"],
            "ports": [urlsplit(cluster.api_url).port],
        },
    )
    datacenter = provider.api.post(
        "/provider/datacenters",
        {"name": site.datacenter, "region": site.region, "country": site.country},
    )
    joined = provider.api.post(
        "/provider/clusters",
        {
            "name": site.cluster,
            "datacenter": datacenter["id"],
            "mode": "direct",
            "api_url": cluster.api_url,
            "ca_pem": cluster.ca_pem,
            "token": cluster.token,
        },
    )
    provider.api.until(
        f"/provider/clusters/{joined['id']}",
        lambda c: c["state"] == "ready" and c["takes_rentals"],
        f"{site.cluster} is ready, passes its preflight and is measured",
        deadline_s=330,  # each node is measured once before its cards are for rent
    )
    return provider


def put_on_sale(provider: Person) -> list[Json]:
    """Price every derived offer and put it on sale; the offers."""
    drafts = provider.api.until(
        "/provider/offers", lambda page: bool(page["items"]), "offers were derived"
    )["items"]
    return [
        provider.api.patch(
            f"/provider/offers/{offer['id']}",
            {
                "price_per_gpu_hour": PRICES.get(offer["accelerator"], OTHER_PRICE),
                "state": "active",
            },
        )
        for offer in drafts
    ]
