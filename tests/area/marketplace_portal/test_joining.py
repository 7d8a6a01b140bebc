"""From applying to cards on sale in the browser, left and gone on with at every step."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.ids import public
from marketplace.models import AuditEntry, DataCenter, Offer, Provider
from provisioner.models import Cluster
from tests import market
from tests.area.marketplace_portal.test_preflight import found_in
from tests.area.marketplace_portal.visitors import Visitor, visitor_of

CA = """-----BEGIN CERTIFICATE-----
MIIBdjCCAR2gAwIBAgIUQ
-----END CERTIFICATE-----"""
HERE = "/provider/join"


def step_of(page: Any) -> str:
    """What the page marks as the present step."""
    _before, _mark, after = page.text.partition('aria-current="step"><span>')
    return str(after.partition("</span>")[0])


@pytest.fixture
def newcomer(transactional_db: None) -> Visitor:
    return visitor_of(market.make_renter("Newcomer"))


def test_who_has_not_applied_begins_there_and_comes_back_where_they_were(
    newcomer: Visitor,
) -> None:
    page = newcomer.get(HERE)
    assert step_of(page) == "Apply"
    for ahead in ("place", "prepare", "hand_over", "preflight", "prices", "done", "x"):
        assert newcomer.get(f"{HERE}?step={ahead}")["Location"] == HERE
    assert newcomer.send(page, "/provider/apply", description="Eight cards").status_code == 303
    page = newcomer.get(HERE)
    assert step_of(page) == "Data centre"
    assert "have not let you in yet" in page.text
    where = {"name": "Hall 2", "region": "eu-north", "country": "se"}
    assert newcomer.send(page, f"{HERE}/datacenter", **where).status_code == 303
    assert DataCenter.objects.get().country == "SE"
    page = newcomer.get(HERE)
    assert step_of(page) == "Prepare"
    assert "step=hand_over" not in page.text, "nothing is taken before approval"
    Provider.objects.update(state="approved")
    assert "step=hand_over" in newcomer.get(HERE).text
    assert step_of(newcomer.get(f"{HERE}?step=hand_over")) == "Hand over"


def test_a_data_centre_twice_is_said_beside_the_field(
    provider: Visitor, supply: market.Supply
) -> None:
    page = provider.get(f"{HERE}?step=place")
    where = {"name": supply.datacenter.name, "region": "eu-north", "country": "se"}
    twice = provider.send(page, f"{HERE}/datacenter", **where)
    assert (twice.status_code, "data centre with this name" in twice.text) == (422, True)
    assert step_of(twice) == "Data centre"


def test_a_cluster_is_handed_over_or_sent_back_with_what_was_written(
    provider: Visitor, supply: market.Supply
) -> None:
    cluster = {
        "name": "hall-2",
        "datacenter": supply.datacenter.public_id,
        "api_url": "https://127.0.0.1:6443",
        "ca_pem": CA,
        "token": "secret.token",
    }
    page = provider.get(f"{HERE}?step=hand_over")
    near = provider.send(page, f"{HERE}/cluster", **cluster)
    assert near.status_code == 422
    assert step_of(near) == "Hand over"
    assert "secret.token" not in near.text, "a secret is in no answer"
    assert "127.0.0.1:6443" in near.text, "what is no secret can be mended"
    assert not Cluster.objects.filter(name="hall-2").exists()
    empty = provider.send(page, f"{HERE}/cluster", **{**cluster, "token": ""})
    assert (empty.status_code, "This field is required" in empty.text) == (422, True)


def test_the_agent_form_asks_for_no_secret(
    provider: Visitor, supply: market.Supply, settings: Any
) -> None:
    page = provider.get(f"{HERE}?step=hand_over&mode=agent")
    assert 'name="token"' not in page.text
    given = {"name": "hall-3", "datacenter": supply.datacenter.public_id}
    settings.GPUYARD_AGENT_DOOR = None
    none = provider.send(page, f"{HERE}/cluster", **given)
    assert (none.status_code, "takes no agents" in none.text) == (422, True)
    settings.GPUYARD_AGENT_DOOR = ("agents.example.com", 443)
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 2222)
    page = provider.get(f"{HERE}?step=hand_over&mode=agent")
    made = provider.send(page, f"{HERE}/cluster", **given)
    assert made.status_code == 200
    assert "/enrol/" in made.text
    cluster = Cluster.objects.get(name="hall-3")
    assert f"{HERE}?cluster={public('cluster', cluster.pk)}" in made.text
    again = provider.send(page, f"{HERE}/cluster", **given)
    assert "/enrol/" not in again.text, "a command is shown once"


def test_the_preflight_looks_by_itself_until_it_passed(
    provider: Visitor, supply: market.Supply
) -> None:
    failed = found_in(supply)
    Cluster.objects.update(preflight_passed=False)
    page = provider.get(HERE)
    assert step_of(page) == "Preflight"
    assert f'hx-get="{failed}/live?wizard=yes"' in page.text
    assert 'id="fix-rights_too_many"' in page.text
    piece = provider.get(f"{failed}/live?wizard=yes", htmx=True)
    assert piece.text.startswith('<div class="stack" id="rules" hx-get=')
    assert "<html" not in piece.text
    assert "Go on to prices" not in piece.text
    Cluster.objects.update(preflight_passed=True, preflight_state="passed")
    piece = provider.get(f"{failed}/live?wizard=yes", htmx=True)
    assert "Go on to prices" in piece.text
    other = visitor_of(market.make_renter("Other"))
    assert other.get(f"{failed}/live", htmx=True).status_code == 404


def test_prices_put_its_offers_on_sale_and_the_way_is_done(supply: market.Supply) -> None:
    draft = market.make_supply(2, price=None, owner=supply.owner, region="us-east")
    provider = visitor_of(supply.owner)
    page = provider.get(HERE)
    assert step_of(page) == "Prices"
    cluster = public("cluster", draft.cluster.pk)
    path = f"{HERE}/prices?cluster={cluster}"
    assert provider.send(page, path).status_code == 422
    dear = provider.send(page, path, **{draft.offer.public_id: "5000"})
    assert (dear.status_code, "at most 1000.0000" in dear.text) == (422, True)
    assert draft.offer.state == "draft"
    page = provider.get(HERE)
    done = provider.send(page, path, **{draft.offer.public_id: "0.65"})
    assert done["Location"] == f"{HERE}?cluster={cluster}"
    assert (draft.offer.state, draft.offer.price_micro_h) == ("active", 650_000)
    assert step_of(provider.get(done["Location"])) == "Done"
    assert AuditEntry.objects.filter(action="offer.set", object=draft.offer.public_id).exists()
    assert step_of(provider.get(HERE)) == "Prepare", "the next one"


def test_a_cluster_that_passed_is_waited_for_until_its_first_offer(supply: market.Supply) -> None:
    draft = market.make_supply(2, price=None, owner=supply.owner, region="us-east")
    provider, path = (
        visitor_of(supply.owner),
        f"{HERE}?cluster={public('cluster', draft.cluster.pk)}",
    )
    asks = 'hx-trigger="every 2s" hx-select="#found"'
    assert asks not in provider.get(path).text
    Offer.objects.filter(group__cluster=draft.cluster).delete()
    page = provider.get(path)
    assert (step_of(page), asks in page.text) == ("Prices", True)
    assert 'http-equiv="refresh" content="2"' in page.text  # without a script


def test_nobody_goes_on_with_anothers_cluster(renter: Visitor, supply: market.Supply) -> None:
    other = visitor_of(market.make_supply(1, region="us-east").owner)
    cluster = public("cluster", supply.cluster.pk)
    assert other.get(f"{HERE}?cluster={cluster}").status_code == 404
    assert other.post(f"{HERE}/prices?cluster={cluster}").status_code == 404
    assert renter.post(f"{HERE}/prices?cluster={cluster}").status_code == 404
