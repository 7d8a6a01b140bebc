"""The counts beside filters against the plainest truth: asking the question with each choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from marketplace.accounts import switches
from marketplace.catalog import facets
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.search import parse, search
from provisioner.inventory.summary import refresh
from tests.market import H100, PART, USD, give_relay, make_supply

pytestmark = pytest.mark.django_db

QUESTIONS: list[dict[str, list[str]]] = [
    {},
    {"gpus": ["2"]},
    {"vendor": ["nvidia"], "region": ["us-east"]},
    {"accelerator": [H100]},
    {"accelerator": [PART, H100]},
    {"accelerator": [H100, "ascend-910b"], "ownership": ["owned"]},
    {"interruptible": ["true"], "max_price": ["1.5"]},
    {"interruptible": ["false"], "max_price": ["2.5"]},
    {"max_price": ["1.5"]},
    {"storage": ["cluster"], "ssh": ["true"]},
    {"sharing_mode": ["partition"]},
    {"tier": ["gold"], "region": ["us-east"]},
    {"interconnect": ["none"], "gpus": ["1"]},
]


@pytest.fixture
def supplies(settings: Any) -> None:
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 22)
    make_supply(4, 2, price=2 * USD, interruptible=1 * USD)
    shut = make_supply(8, price=3 * USD, region="us-east", ownership="owned", storage="cluster")
    make_supply(1, accelerator="ascend-910b", region="us-east", price=1 * USD)
    make_supply(7, accelerator=PART, sharing_mode="partition", price=USD // 2)
    make_supply(2, accelerator="nvidia-rtx-4090", price=USD // 2, interruptible=USD // 4)
    give_relay(shut.cluster)
    refresh()


def answered(query: OfferQuery, name: str, value: str) -> int:
    """How many offers there are with the choice made, as the bar makes it."""
    chosen: Any = None if value == "" else value
    if name == "accelerator":
        chosen = tuple(dict.fromkeys([*filter(None, [value]), *query.accelerator[1:]]))
    elif name in ("interruptible", "ssh") and value:
        chosen = value == "true"
    return len(search(replace(query, **{name: chosen})).rows)


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_every_count_is_what_the_choice_gives(supplies: None, question: dict[str, Any]) -> None:
    query = parse(question)
    counts = facets.counts(query)
    assert set(counts) == set(facets.FACETS)
    wrong = {}
    for name, tally in counts.items():
        for value in {*tally, ""}:
            truth = answered(query, name, value)
            if tally.get(value, 0) != truth:
                wrong[name, value] = (tally.get(value, 0), truth)
    assert wrong == {}


def test_all_counts_are_one_query(supplies: None) -> None:
    switches.stopped_clusters()
    with CaptureQueriesContext(connection) as queries:
        found = facets.counts(parse({"gpus": ["1"]}))
    assert len(queries) == 1
    assert found["region"] == {"": 4, "eu-central": 2, "us-east": 2}
