"""Clusters with an agent, over the API: registered without an address, enrolled by one command."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from django.core import signing
from django.test import Client

from marketplace.models import AuditEntry, IdempotencyKey
from provisioner.models import Cluster
from tests.market import Supply, make_renter, make_supply

pytestmark = pytest.mark.django_db
GATEWAY = ("ssh.example.com", 2222)


@pytest.fixture(autouse=True)
def _door(settings: Any) -> None:
    settings.GPUYARD_AGENT_DOOR = ("127.0.0.1", 9)
    settings.GPUYARD_SSH_GATEWAY = GATEWAY


@pytest.fixture
def supply(db: None) -> Supply:
    return make_supply(1)


def body(supply: Supply, **changes: Any) -> dict[str, Any]:
    place = supply.offer.datacenter.public_id
    return {"name": "basement", "datacenter": place, "mode": "agent", **changes}


def add(supply: Supply, *, key: str | None = None, **changes: Any) -> tuple[int, Any]:
    return supply.owner.call("POST", "/provider/clusters", body(supply, **changes), key=key)


def link_in(command: str) -> str:
    found = re.fullmatch(r"curl -fsS (\S+) \| kubectl apply -f -", command)
    assert found, command
    return found[1]


def fetch(command: str) -> tuple[int, str]:
    path = "/enrol/" + link_in(command).rpartition("/enrol/")[2]
    answer = Client().get(path)
    assert answer["Cache-Control"] == "no-store"
    assert answer["Content-Type"].startswith("text/plain")
    return answer.status_code, answer.content.decode()


def test_it_is_registered_without_an_address_and_enrolled_by_one_command(supply: Supply) -> None:
    status, made = add(supply)
    assert status == 201
    assert (made["mode"], made["api_url"], made["state"]) == ("agent", None, "connecting")
    assert made["actions"] == ["preflight", "drain"]
    row = Cluster.objects.get(name="basement")
    assert (bytes(row.token_sealed), row.ca_pem) == (b"", ""), "nothing of it is stored"
    status, text = fetch(made["enrolment_command"])
    assert status == 200
    parts = list(yaml.safe_load_all(text))
    objects = [item for part in parts for item in part.get("items", [part])]
    kinds = {(item["kind"], item["metadata"]["name"]) for item in objects}
    assert {
        ("ServiceAccount", "gpuyard"),
        ("Namespace", "gpuyard-r-16"),
        ("Deployment", "gpuyard-reaper"),
        ("Deployment", "gpuyard-agent"),
        ("Secret", "gpuyard-agent"),
    } <= kinds
    (agent,) = [item for item in objects if item["metadata"]["name"] == "gpuyard-agent"][:1]
    (program,) = agent["spec"]["template"]["spec"]["containers"]
    assert "@sha256:" in program["image"]
    assert set(objects[-1]["stringData"]) == {
        *("cluster", "gateway", "relay.seed", "gateway.pub", "agent.pem", "agent.token")
    }
    (told,) = AuditEntry.objects.filter(action="cluster.create", object=made["id"])
    assert "enrol" not in str(told.details)


def test_the_secret_is_what_the_relays_answer_says(supply: Supply) -> None:
    made = add(supply)[1]
    text = fetch(made["enrolment_command"])[1]
    secret = list(yaml.safe_load_all(text))[-1]["stringData"]
    values = supply.owner.call("POST", f"/provider/clusters/{made['id']}/relay", {})[1]
    assert secret["relay.seed"] == values["relay_seed"]
    assert secret["gateway"] == values["gateway"] == "ssh.example.com:2222"
    assert fetch(values["enrolment_command"]) == (200, text)


def test_replaced_keys_make_older_links_useless(supply: Supply) -> None:
    made = add(supply)[1]
    before = fetch(made["enrolment_command"])[1]
    path = f"/provider/clusters/{made['id']}/relay"
    values = supply.owner.call("POST", path, {"replace": True})[1]
    assert fetch(made["enrolment_command"])[0] == 404
    after = fetch(values["enrolment_command"])[1]
    kept = [list(yaml.safe_load_all(text))[-1]["stringData"] for text in (before, after)]
    for name in ("relay.seed", "agent.pem", "agent.token"):
        assert kept[0][name] != kept[1][name]


def test_a_link_ends_after_an_hour(supply: Supply, monkeypatch: pytest.MonkeyPatch) -> None:
    made = add(supply)[1]
    present = datetime.now(tz=UTC).timestamp()
    monkeypatch.setattr("django.core.signing.time.time", lambda: present + 3590)
    assert fetch(made["enrolment_command"])[0] == 200
    monkeypatch.setattr("django.core.signing.time.time", lambda: present + 3602)
    assert fetch(made["enrolment_command"])[0] == 404


@pytest.mark.parametrize("token", ["x", "x:y:z", "%00", "a" * 5000, "..%2Fbundle.yaml"])
def test_what_is_no_link_of_ours_is_nothing(db: None, token: str) -> None:
    answer = Client().get(f"/enrol/{token}")
    assert answer.status_code == 404
    assert "Secret" not in answer.content.decode()


def test_a_link_for_a_cluster_with_an_address_is_none(supply: Supply) -> None:
    from kernel.ids import public

    found = public("cluster", supply.cluster.pk)
    token = signing.dumps([found, "x"], salt="agent enrolment")
    assert Client().get(f"/enrol/{token}").status_code == 404


def test_a_repeat_registers_once_and_leaves_out_the_secret(supply: Supply) -> None:
    first = add(supply, key="once")[1]
    status, again = add(supply, key="once")
    assert status == 201
    assert again == {**first, "enrolment_command": None, "shown_once": True}
    kept = bytes(IdempotencyKey.objects.get(key="once").answer)
    assert link_in(first["enrolment_command"]).encode() not in kept


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"api_url": "https://k8s.example.com"}, "api_url"),
        ({"token": "x"}, "token"),
        ({"mode": "both"}, "mode"),
        ({"name": ""}, "name"),
    ],
)
def test_what_is_wrong_is_named(supply: Supply, changes: Any, field: str) -> None:
    status, answer = add(supply, **changes)
    assert (status, list(answer["errors"])) == (422, [field])
    assert not Cluster.objects.filter(mode="agent").exists()


def test_two_clusters_have_two_names(supply: Supply) -> None:
    assert add(supply)[0] == 201
    status, answer = add(supply)
    assert (status, list(answer["errors"])) == (422, ["name"])


def test_a_platform_without_a_door_takes_none(supply: Supply, settings: Any) -> None:
    settings.GPUYARD_AGENT_DOOR = None
    status, answer = add(supply)
    assert (status, list(answer["errors"])) == (422, ["mode"])


def test_strangers_and_applicants_get_nothing(supply: Supply) -> None:
    made = add(supply)[1]
    stranger = make_renter()
    path = f"/provider/clusters/{made['id']}"
    assert stranger.call("POST", f"{path}/relay", {})[0] in (403, 404)
    assert stranger.call("POST", "/provider/clusters", body(supply))[0] in (403, 404)


def test_its_token_is_not_replaced_but_its_key(supply: Supply) -> None:
    made = add(supply)[1]
    status, answer = supply.owner.call(
        "PATCH", f"/provider/clusters/{made['id']}", {"token": "abc"}
    )
    assert (status, list(answer["errors"])) == (422, ["token"])
