"""The way in before a rental exists: on the page of an offer, and in the provider's portal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kernel.clock import now
from kernel.ids import new_id, public
from marketplace.models import AuditEntry, Quote, Rental
from provisioner.inventory.summary import refresh
from provisioner.models import Cluster
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, read


@pytest.fixture(autouse=True)
def _gateway(settings: Any) -> None:
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 2222)
    settings.GPUYARD_PORTS_URL = ("https", "pods.example.net", 443)


# --- an offer -------------------------------------------------------------------------------------


def fields_of(page: Any) -> dict[str, str]:
    (form,) = [one for one in read(page.text).forms if one["action"].endswith("/rent")]
    return dict(form["fields"])


def send(renter: Visitor, offer: str, **more: str) -> Any:
    """The order as the page has it, with the price that was seen."""
    page = renter.get(f"/offers/{offer}")
    fields = fields_of(page)
    quoted = renter.post(f"/offers/{offer}/quote", fields, htmx=True)
    quote = Quote.objects.order_by("-id")[0].public_id
    assert quote in quoted.text
    return renter.post(f"/offers/{offer}/rent", {**fields, "quote": quote, **more})


def test_where_nobody_gets_in_the_page_says_so_and_rents_without(
    renter: Visitor, supply: market.Supply
) -> None:
    offer = supply.offer.public_id
    page = renter.get(f"/offers/{offer}")
    assert "Nobody can get in to machines of this offer" in page.text
    assert fields_of(page)["ssh"] == "none"
    assert "needs a way in" in page.text, "templates whose ports nobody could reach"
    refused = send(renter, offer, ssh="paste", public_key=market.SSH_KEY)
    assert refused.status_code == 422
    assert "nobody can get in to machines of this offer" in refused.text
    assert not Rental.objects.exists()
    assert send(renter, offer).status_code == 303
    assert Rental.objects.get().ssh_keys == []


def test_where_one_gets_in_nothing_is_in_the_way(renter: Visitor, supply: market.Supply) -> None:
    market.give_relay(supply.cluster)
    refresh()
    page = renter.get(f"/offers/{supply.offer.public_id}")
    assert "SSH, a terminal in the browser" in page.text
    assert fields_of(page)["ssh"] == "paste"
    assert "needs a way in" not in page.text
    assert "This platform has no way in" not in page.text
    done = send(renter, supply.offer.public_id, public_key=market.SSH_KEY)
    assert done.status_code == 303
    assert "once it was tried and found open" in renter.get(done["Location"]).text


def test_a_platform_without_a_gateway_keeps_keys_and_says_that_they_open_nothing(
    renter: Visitor, supply: market.Supply, settings: Any
) -> None:
    settings.GPUYARD_SSH_GATEWAY = None
    page = renter.get(f"/offers/{supply.offer.public_id}")
    assert "Nobody can get in to machines of this offer" not in page.text
    assert "This platform has no way in yet" in page.text
    assert "It opens the machine by SSH" not in page.text
    done = send(renter, supply.offer.public_id, public_key=market.SSH_KEY)
    assert done.status_code == 303
    assert Rental.objects.get().ssh_keys == [market.SSH_KEY.rpartition(" ")[0]]
    rented = renter.get(done["Location"]).text
    assert "Your keys are kept and open nothing" in rented
    assert "once it was tried and found open" not in rented


# --- a cluster's relay ----------------------------------------------------------------------------


@pytest.fixture
def path(supply: market.Supply) -> str:
    return f"/provider/clusters/{public('cluster', supply.cluster.pk)}/relay"


@pytest.fixture
def home(path: str) -> str:
    return path.removesuffix("/relay")


def version(supply: market.Supply) -> int:
    return Cluster.objects.get(pk=supply.cluster.pk).relay_version


def test_a_provider_finishes_the_way_in_on_the_clusters_page(
    provider: Visitor, supply: market.Supply, path: str, home: str
) -> None:
    page = provider.get(home)
    assert "No relay was ever seen" in page.text
    assert "Replace its key" not in page.text
    shown = provider.send(page, path)
    assert shown.status_code == 200
    values = supply.owner.call("POST", path, {})[1]
    for text in (values["cluster"], "ssh.example.com:2222", values["relay_seed"]):
        assert text in shown.text
    assert f"sed &#x27;s|IMAGE|{values['image']}|&#x27; relay.yaml" in shown.text
    assert values["gateway_key"] in shown.text
    assert shown["Cache-Control"] == "no-store"
    actions = AuditEntry.objects.filter(action="cluster.show_relay").count()
    assert actions == 2, "once by the page and once by the API"
    market.give_relay(supply.cluster)
    page = provider.get(home)
    assert "Renters get in to machines here" in page.text
    assert values["relay_seed"] not in page.text


def test_the_same_form_sent_again_shows_no_secret_and_changes_nothing(
    provider: Visitor, supply: market.Supply, path: str, home: str
) -> None:
    market.give_relay(supply.cluster)
    page = provider.get(home)
    first = provider.send(page, path, replace="yes")
    assert version(supply) == 2
    again = provider.send(page, path, replace="yes")
    assert version(supply) == 2
    seed = supply.owner.call("POST", path, {})[1]["relay_seed"]
    assert seed in first.text
    assert seed not in again.text
    assert "This was done already" in again.text


def test_nobody_else_sees_or_replaces_it(renter: Visitor, supply: market.Supply, path: str) -> None:
    assert renter.post(path, {"idempotency_key": new_id().hex}).status_code == 404
    assert version(supply) == 1
    assert not AuditEntry.objects.filter(action__contains="relay").exists()


def test_a_retired_cluster_has_no_relay_to_show(
    provider: Visitor, supply: market.Supply, path: str, home: str
) -> None:
    page = provider.get(home)
    Cluster.objects.update(drain_requested_at=now() - timedelta(minutes=1))
    assert path not in provider.get(home).text
    assert provider.send(page, path, replace="yes").status_code == 409
    assert version(supply) == 1


def test_without_a_gateway_there_is_nothing_to_connect_to(
    provider: Visitor, path: str, home: str, settings: Any
) -> None:
    settings.GPUYARD_SSH_GATEWAY = None
    assert path not in provider.get(home).text
