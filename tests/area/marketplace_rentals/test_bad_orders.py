"""Bad input: the right problem type, whose mistake it is, and nothing stored."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps

from kernel.ids import new_id, public
from marketplace.models import UnmetDemand
from tests.market import SSH_KEY, Renter, Supply, make_renter, make_supply, order

pytestmark = pytest.mark.django_db

RSA_1024 = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7lYQ5FzsD2kUzAe7rBz6pqvYCQbeU0ZKJTa6qxJYrEr3v"
    "bMdrWcu5G6q0dSWRe3fk6P0yyH6FzgFcxTzZ4pZHG9OpKpWfMn5aStx7Yc5o3yJ2Xo3lZfM6qJrRzE8v"
)


def stored() -> dict[str, int]:
    """Rows of every table but the one that counts what was wanted in vain, for staff."""
    models = [model for model in apps.get_models() if model is not UnmetDemand]
    return {model._meta.label: model._default_manager.count() for model in models}


@pytest.fixture
def supply() -> Supply:
    return make_supply(4)


@pytest.fixture
def renter() -> Renter:
    return make_renter()


def _requirement(**changes: Any) -> dict[str, Any]:
    return {"requirement": {"accelerator": "nvidia-h100-80gb-sxm", "gpus": 1, **changes}}


def _foreign(kind: str) -> str:
    return public(kind, new_id())


# (what is wrong, changes to a valid body, status, problem type, the field named)
BAD = [
    ("no cards", _requirement(gpus=0), 422, "invalid_request", "requirement.gpus"),
    ("fewer than none", _requirement(gpus=-3), 422, "invalid_request", "requirement.gpus"),
    ("absurdly many", _requirement(gpus=10**12), 422, "invalid_request", "requirement.gpus"),
    ("half a card", _requirement(gpus=1.5), 422, "invalid_request", "requirement.gpus"),
    ("a true card", _requirement(gpus=True), 422, "invalid_request", "requirement.gpus"),
    ("more than there are", _requirement(gpus=64), 409, "no_capacity", None),
    ("unknown card", _requirement(accelerator="nvidia-h900"), 422, "invalid_request",
     "requirement.accelerator"),
    ("unknown wish", _requirement(colour="red"), 422, "invalid_request", "requirement.colour"),
    ("price as number", _requirement(max_price=2.5), 422, "invalid_request",
     "requirement.max_price"),
    ("price below zero", _requirement(max_price="-1"), 422, "invalid_request",
     "requirement.max_price"),
    ("price too low", _requirement(max_price="0.01"), 409, "no_capacity", None),
    ("a facet nothing has", _requirement(interruptible=True), 409, "no_capacity", None),
    ("storage nothing has", _requirement(storage="node"), 409, "no_capacity", None),
    ("requirement as text", {"requirement": "any"}, 422, "invalid_request", "requirement"),
    ("requirement as null", {"requirement": None}, 422, "invalid_request", "requirement"),
    ("neither quote nor requirement", {"requirement": ...}, 422, "invalid_request", "quote"),
    ("foreign quote", {"requirement": ..., "quote": _foreign("quote")}, 404, "not_found", None),
    ("garbled quote", {"requirement": ..., "quote": "quo_!"}, 404, "not_found", None),
    ("no end", {"max_hours": ...}, 422, "invalid_request", "expires_at"),
    ("two ends", {"no_limit": True}, 422, "invalid_request", "expires_at"),
    ("ended before", {"max_hours": ..., "expires_at": "2020-01-01T00:00:00Z"}, 422,
     "invalid_request", "expires_at"),
    ("an end nobody sees", {"max_hours": ..., "expires_at": "9999-12-31T23:59:59Z"}, 422,
     "invalid_request", "expires_at"),
    ("no hours", {"max_hours": 0}, 422, "invalid_request", "max_hours"),
    ("negative hours", {"max_hours": -1}, 422, "invalid_request", "max_hours"),
    ("endless hours", {"max_hours": 10**9}, 422, "invalid_request", "max_hours"),
    ("limit as word", {"max_hours": ..., "no_limit": "yes"}, 422, "invalid_request", "no_limit"),
    ("no template", {"template": ...}, 422, "invalid_request", "template"),
    ("template and image", {"image": "a@sha256:" + "0" * 64}, 422, "invalid_request", "template"),
    ("unknown template", {"template": "windows"}, 404, "not_found", None),
    ("foreign template", {"template": _foreign("template")}, 404, "not_found", None),
    ("no name of an image", {"template": ..., "image": "Ubuntu:latest"}, 422, "invalid_request",
     "image"),
    ("foreign project", {"project": _foreign("project")}, 404, "not_found", None),
    ("no keys", {"ssh_keys": ...}, 422, "ssh_key_missing", None),
    ("empty keys", {"ssh_keys": []}, 422, "ssh_key_missing", None),
    ("keys and none", {"ssh": False}, 422, "invalid_request", "ssh"),
    ("foreign key", {"ssh_keys": [_foreign("ssh_key")]}, 404, "not_found", None),
    ("key with options", {"ssh_keys": [f'command="x" {SSH_KEY}']}, 422, "ssh_key_invalid", None),
    ("two keys in one", {"ssh_keys": [f"{SSH_KEY}\n{SSH_KEY}"]}, 422, "ssh_key_invalid", None),
    ("damaged key", {"ssh_keys": [SSH_KEY[:40]]}, 422, "ssh_key_invalid", None),
    ("weak key", {"ssh_keys": [RSA_1024]}, 422, "ssh_key_invalid", None),
    ("private key", {"ssh_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]}, 422,
     "ssh_key_invalid", None),
    ("key as number", {"ssh_keys": [7]}, 422, "invalid_request", "ssh_keys.0"),
    ("loader steered", {"env": {"LD_PRELOAD": "x"}}, 422, "invalid_request", "env.LD_PRELOAD"),
    ("driver steered", {"env": {"nvidia_visible_devices": "all"}}, 422, "invalid_request",
     "env.nvidia_visible_devices"),
    ("no name of a variable", {"env": {"a-b": "x"}}, 422, "invalid_request", "env.a-b"),
    ("port zero", {"ports": [0]}, 422, "invalid_request", "ports.0"),
    ("port twice", {"ports": [80, 80]}, 422, "invalid_request", "ports"),
    ("label with a blank", {"labels": {"a b": "c"}}, 422, "invalid_request", "labels.a b"),
    ("disk too large", {"disk_gib": 900_000}, 409, "no_capacity", None),
    ("disk of nothing", {"disk_gib": 0}, 422, "invalid_request", "disk_gib"),
    (
        "volume without a place",
        {"volumes": [{"volume": "vol_x"}]},
        422,
        "invalid_request",
        "volumes.0.mount",
    ),
    (
        "volume of nobody",
        {"volumes": [{"volume": "vol_x", "mount": "/data"}]},
        404,
        "not_found",
        None,
    ),
    (
        "queue too short",
        {"queue": {"deadline_seconds": 5}},
        422,
        "invalid_request",
        "queue.deadline_seconds",
    ),
    ("failover no flag", {"failover": "yes"}, 422, "invalid_request", "failover"),
    ("idle stop later", {"idle_stop_minutes": 5}, 422, "invalid_request", "idle_stop_minutes"),
    ("secrets as a list", {"secrets": ["sec_x"]}, 422, "invalid_request", "secrets"),
    ("foreign secret", {"secrets": {"A": _foreign("secret")}}, 404, "not_found", None),
    ("secret that steers", {"secrets": {"LD_PRELOAD": "sec_x"}}, 422, "invalid_request",
     "secrets.LD_PRELOAD"),
    ("secret and in clear", {"secrets": {"A": "sec_x"}, "env": {"A": "x"}}, 422,
     "invalid_request", "secrets.A"),
    ("foreign credentials", {"registry_credentials": _foreign("registry_credential")}, 404,
     "not_found", None),
    ("unknown field", {"gpu": 1}, 422, "invalid_request", "gpu"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status", "slug", "field"),
    [pytest.param(*row[1:], id=row[0]) for row in BAD],
)
def test_a_bad_order_is_refused_and_nothing_is_stored(supply, renter, changes, status, slug, field):
    before = stored()
    found, problem = renter.call("POST", "/rentals", order(supply.offer, **changes))
    assert (found, problem["type"]) == (status, f"/problems/{slug}"), problem
    assert problem["detail"]
    if field is not None:
        assert field in problem["errors"], problem
    assert stored() == before


@pytest.mark.parametrize(
    ("raw", "status", "slug"),
    [
        (b'{"quote": ', 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b'{"name": NaN}', 400, "malformed"),
        (b'{"name": "\\u0000"}', 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b'"text"', 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b'{"name": "' + b"x" * 300_000 + b'"}', 413, "payload_too_large"),
    ],
)
def test_a_body_that_is_no_order(renter, raw, status, slug):
    before = stored()
    found, problem = renter.call("POST", "/rentals", raw)
    assert (found, problem["type"]) == (status, f"/problems/{slug}")
    assert stored() == before


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ключ"])
def test_an_unusable_idempotency_key(supply, renter, key):
    before = stored()
    status, problem = renter.call("POST", "/rentals", order(supply.offer), key=key)
    assert (status, problem["type"]) == (400, "/problems/malformed")
    assert stored() == before


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"gpus": 1}, 422, "offer"),
        ({"offer": "ofr_x"}, 422, "gpus"),
        ({"offer": "ofr_x", "gpus": 1}, 404, None),
        ({"offer": _foreign("offer"), "gpus": 1}, 404, None),
        ({"offer": "OFFER", "gpus": 0}, 422, "gpus"),
        ({"offer": "OFFER", "gpus": 5000}, 422, "gpus"),
        ({"offer": "OFFER", "gpus": 5}, 409, None),
        ({"offer": "OFFER", "gpus": 1, "disk_gib": 5000}, 422, "disk_gib"),
        ({"offer": "OFFER", "gpus": 1, "volume": "vol_x"}, 422, "volume"),
        ({"offer": "OFFER", "gpus": 1, "interruptible": True}, 422, "interruptible"),
        ({"offer": "OFFER", "gpus": 1, "requirement": {"gpus": 1}}, 422, "offer"),
        ({"requirement": {"gpus": 0}}, 422, "requirement.gpus"),
        ({"requirement": {}}, 422, "requirement.gpus"),
    ],
)
def test_a_bad_quote(supply, renter, body, status, field):
    if body.get("offer") == "OFFER":
        body = {**body, "offer": supply.offer.public_id}
    before = stored()
    found, problem = renter.call("POST", "/quotes", body)
    assert found == status, problem
    if field:
        assert field in problem["errors"]
    assert stored() == before


def test_ids_of_others_do_not_exist(supply, renter):
    rental = renter.call("POST", "/rentals", order(supply.offer))[1]
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    project = renter.call("POST", "/projects", {"name": "mine"})[1]
    stranger = make_renter("Stranger")
    path = f"/rentals/{rental['id']}"
    for method, target, body in (
        ("GET", path, None),
        ("GET", f"{path}/events", None),
        ("GET", f"{path}/charges", None),
        ("GET", f"{path}?wait_state=running&timeout=1", None),
        ("GET", f"/quotes/{quote['id']}", None),
        ("GET", f"/rentals?project={project['id']}", None),
        ("GET", f"/charges/{_foreign('charge')}/evidence", None),
        ("PATCH", path, {"name": "mine"}),
        ("DELETE", path, None),
        ("POST", f"{path}/actions", {"action": "terminate"}),
        ("POST", "/rentals", order(supply.offer, requirement=..., quote=quote["id"])),
        ("POST", "/rentals", order(supply.offer, project=project["id"])),
    ):
        status, problem = stranger.call(method, target, body)
        assert (status, problem["type"]) == (404, "/problems/not_found"), (method, target)
    assert stranger.call("GET", "/rentals")[1]["items"] == []
    assert renter.call("GET", path)[1]["state"] == "provisioning"
