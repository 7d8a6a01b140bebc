"""What a provider's relay needs, over the API: for the cluster's owner alone, its secret once."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.ids import public
from marketplace.accounts.access import SCOPES
from marketplace.models import AuditEntry, IdempotencyKey
from provisioner.instances import access_keys
from provisioner.models import Cluster
from tests.area.marketplace_accounts import people
from tests.market import Supply, make_renter, make_supply
from tests.sshkeys import line_of_seed

pytestmark = pytest.mark.django_db


@pytest.fixture
def supply(db: None) -> Supply:
    return make_supply(1)


def path_of(supply: Supply) -> str:
    return f"/provider/clusters/{public('cluster', supply.cluster.pk)}/relay"


def ask(supply: Supply, body: Any = None, **more: Any) -> tuple[int, Any]:
    return supply.owner.call("POST", path_of(supply), body or {}, **more)


def audited() -> list[tuple[str, str]]:
    rows = AuditEntry.objects.filter(action__contains="relay").order_by("ts", "id")
    return [(row.action, row.object) for row in rows]


def test_the_answer_is_the_secret_of_the_providers_file(supply: Supply, settings: Any) -> None:
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 2222)
    status, values = ask(supply)
    cluster = public("cluster", supply.cluster.pk)
    assert status == 200
    assert values.pop("enrolment_command") is None, "it has no agent"
    assert set(values) == {"cluster", "gateway", "relay_seed", "gateway_key", "image"}
    assert (values["cluster"], values["gateway"]) == (cluster, "ssh.example.com:2222")
    assert values["image"] == settings.GPUYARD_TOOLS_IMAGE
    key: bytes = settings.GPUYARD_SEALING_KEY
    known = access_keys.relay_key(supply.cluster.pk, 1, key=key)
    assert line_of_seed(values["relay_seed"]) == access_keys.public_line(known)
    assert values["gateway_key"] == access_keys.public_line(access_keys.published_key(key=key))
    assert audited() == [("cluster.show_relay", cluster)]
    (row,) = AuditEntry.objects.filter(action="cluster.show_relay")
    assert row.organization_ref == supply.owner.org
    assert values["relay_seed"] not in str(row.details)


def test_without_a_way_in_there_is_no_gateway_to_name(supply: Supply, settings: Any) -> None:
    settings.GPUYARD_SSH_GATEWAY = None
    assert ask(supply)[1]["gateway"] is None


def test_asked_again_it_is_the_same_and_replaced_it_is_another(supply: Supply) -> None:
    first = ask(supply)[1]
    assert ask(supply, {"replace": False})[1] == first
    status, second = ask(supply, {"replace": True})
    assert status == 200
    assert second["relay_seed"] != first["relay_seed"]
    assert {**second, "relay_seed": ""} == {**first, "relay_seed": ""}
    assert ask(supply)[1] == second
    cluster = public("cluster", supply.cluster.pk)
    assert [action for action, _ in audited()] == [
        "cluster.show_relay",
        "cluster.show_relay",
        "cluster.replace_relay",
        "cluster.show_relay",
    ]
    assert {name for _, name in audited()} == {cluster}


def test_a_repeat_replaces_once_and_leaves_out_the_secret(supply: Supply) -> None:
    first = ask(supply, {"replace": True}, key="once")[1]
    status, again = ask(supply, {"replace": True}, key="once")
    assert status == 200
    assert again == {**first, "relay_seed": None, "shown_once": True}
    assert Cluster.objects.get(pk=supply.cluster.pk).relay_version == 2
    assert len(audited()) == 1
    kept = bytes(IdempotencyKey.objects.get(key="once").answer)
    assert first["relay_seed"].encode() not in kept
    # With another key of the request it can be read as often as it is needed.
    assert ask(supply)[1]["relay_seed"] == first["relay_seed"]


def test_a_repeated_answer_has_the_form_that_is_described(supply: Supply) -> None:
    owner = people.Api(people.anonymous().client, supply.owner.secret)
    for _ in range(2):
        answer = owner.post(path_of(supply)[1:], {}, Idempotency_Key="once")
        assert answer.status_code == 200
    assert answer.data["relay_seed"] is None


def test_nobody_else_gets_or_replaces_it(supply: Supply) -> None:
    other = make_supply(1, region="us-east")
    for stranger in (other.owner, make_renter()):
        status, answer = stranger.call("POST", path_of(supply), {"replace": True})
        assert (status, answer["type"]) == (404, "/problems/not_found")
    staff = people.api_of(people.staff())
    answer = staff.post(path_of(supply)[1:], {"replace": True})
    assert answer.status_code in {403, 404}
    assert Cluster.objects.get(pk=supply.cluster.pk).relay_version == 1
    assert audited() == []


def test_it_needs_the_right_to_change_the_supply(supply: Supply) -> None:
    person = supply.owner.principal.user
    lesser = sorted(supply.owner.principal.scopes - {"provider:write"})
    assert "provider:read" in lesser
    answer = people.api_of(person, *lesser).post(path_of(supply)[1:])
    assert (answer.status_code, answer.data["scope"]) == (403, "provider:write")
    assert "provider:write" in SCOPES
    assert audited() == []


def test_two_clusters_have_two_keys(supply: Supply) -> None:
    other = make_supply(1, owner=supply.owner, region="us-east")
    seeds = {ask(each)[1]["relay_seed"] for each in (supply, other)}
    assert len(seeds) == 2
    ask(supply, {"replace": True})
    assert ask(other)[1]["relay_seed"] in seeds


def test_a_retired_clusters_relay_is_neither_shown_nor_replaced(supply: Supply) -> None:
    assert supply.owner.call("DELETE", path_of(supply).removesuffix("/relay"))[0] in (200, 202)
    status, problem = ask(supply, {"replace": True})
    assert (status, problem["type"]) == (409, "/problems/invalid_transition")
    assert problem["state"] == "retired"
    assert Cluster.objects.get(pk=supply.cluster.pk).relay_version == 1
    assert audited() == []
