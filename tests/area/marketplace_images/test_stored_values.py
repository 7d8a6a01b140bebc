"""Secrets, registry users and templates of one's own: limits, versions, foreigners, audit."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.ids import new_id, public
from marketplace.accounts import registry_credentials, secrets
from marketplace.admin import _HIDDEN
from marketplace.catalog import own_templates
from marketplace.catalog.templates import load_curated
from marketplace.models import AuditEntry, RegistryCredential, Secret, Template
from tests.market import Renter, make_renter, make_supply, order

pytestmark = pytest.mark.django_db

DIGEST = "@sha256:" + "ab" * 32
IMAGE = f"ghcr.io/team/app:1{DIGEST}"
SECRET = {"name": "HF_TOKEN", "value": "plain-value"}
LOGIN = {"registry": "ghcr.io", "username": "team", "password": "plain-password"}
TEMPLATE = {"name": "Our trainer", "image": IMAGE}
KINDS = [("/secrets", SECRET), ("/registry-credentials", LOGIN), ("/templates", TEMPLATE)]


@pytest.fixture
def renter() -> Renter:
    load_curated()
    return make_renter()


def make(renter: Renter, path: str, body: dict[str, Any]) -> dict[str, Any]:
    status, made = renter.call("POST", path, body)
    assert status == 201, made
    return dict(made)


@pytest.mark.parametrize(("path", "body"), KINDS[:2])
def test_a_value_goes_in_and_never_comes_out(renter, path, body) -> None:
    made = make(renter, path, body)
    target = f"{path}/{made['id']}"
    answers = [
        made,
        renter.call("GET", target)[1],
        renter.call("GET", path)[1],
        renter.call("PATCH", target, {[*body][-1]: "plain-other"})[1],
        renter.call("DELETE", target)[1],
        list(AuditEntry.objects.values("action", "object", "details")),
    ]
    for answer in answers:
        assert "plain-" not in str(answer)
    assert renter.call("GET", target)[0] == 404
    actions = set(AuditEntry.objects.filter(object=made["id"]).values_list("action", flat=True))
    assert {action.partition(".")[2] for action in actions} == {"create", "change", "delete"}


def test_admin_shows_no_sealed_column() -> None:
    sealed = {
        field.name
        for model in (Secret, RegistryCredential, Template)
        for field in model._meta.get_fields()
        if field.name.endswith("_sealed")
    }
    assert sealed == {"value_sealed", "password_sealed", "env_sealed"}
    assert sealed <= _HIDDEN


@pytest.mark.parametrize(("path", "body"), KINDS)
def test_a_stale_version_changes_nothing(renter, path, body) -> None:
    made = make(renter, path, body)
    target = f"{path}/{made['id']}"
    change = {"username" if path == "/registry-credentials" else "name": "NEW"}
    status, changed = renter.call("PATCH", target, change, If_Match='"1"')
    assert (status, changed["version"]) == (200, 2)
    for method in ("PATCH", "DELETE"):
        status, problem = renter.call(method, target, change, If_Match='"1"')
        assert (status, problem["type"], problem["version"]) == (
            412,
            "/problems/version_conflict",
            2,
        )
    assert renter.call("GET", target)[1]["version"] == 2
    assert renter.call("DELETE", target, If_Match='"2"')[0] in (200, 204)


@pytest.mark.parametrize(("path", "body"), KINDS)
def test_nobody_else_has_it(renter, path, body) -> None:
    made = make(renter, path, body)
    stranger = make_renter("Stranger")
    for method, sent in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        status, problem = stranger.call(method, f"{path}/{made['id']}", sent)
        assert (status, problem["type"]) == (404, "/problems/not_found"), method
    assert made["id"] not in str(stranger.call("GET", path)[1])
    status, _ = stranger.call(
        "POST",
        "/templates",
        {**TEMPLATE, "registry_credentials": public("registry_credential", new_id())},
    )
    assert status == 404


@pytest.mark.parametrize(
    ("path", "body", "module"),
    [(*KINDS[0], secrets), (*KINDS[1], registry_credentials), (*KINDS[2], own_templates)],
)
def test_there_is_a_limit(renter, path, body, module, monkeypatch) -> None:
    make(renter, path, body)
    monkeypatch.setattr(module, "LIMIT", 1)
    field = "username" if path == "/registry-credentials" else "name"
    status, problem = renter.call("POST", path, {**body, field: "OTHER"})
    assert (status, problem["type"]) == (403, "/problems/quota_exceeded")
    assert (problem["limit"], problem["needed"]) == (1, 2)
    make(make_renter("Other"), path, body)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/secrets", {**SECRET, "name": "a-b"}, "name"),
        ("/secrets", {**SECRET, "name": ""}, "name"),
        ("/secrets", {**SECRET, "name": "LD_PRELOAD"}, "name"),
        ("/secrets", {**SECRET, "name": "nvidia_visible"}, "name"),
        ("/secrets", {**SECRET, "value": ""}, "value"),
        ("/secrets", {**SECRET, "value": 7}, "value"),
        ("/secrets", {**SECRET, "value": "x" * 40_000}, "value"),
        ("/secrets", {**SECRET, "value": "€" * 20_000}, "value"),
        ("/secrets", {"name": "A"}, "value"),
        ("/registry-credentials", {**LOGIN, "registry": "http://ghcr.io"}, "registry"),
        ("/registry-credentials", {**LOGIN, "registry": "ghcr.io/team"}, "registry"),
        ("/registry-credentials", {**LOGIN, "username": "a:b"}, "username"),
        ("/registry-credentials", {**LOGIN, "username": "a\nb"}, "username"),
        ("/registry-credentials", {**LOGIN, "password": ""}, "password"),
        ("/templates", {**TEMPLATE, "name": ""}, "name"),
        ("/templates", {**TEMPLATE, "slug": "Not A Slug"}, "slug"),
        ("/templates", {**TEMPLATE, "slug": "pytorch"}, "slug"),
        ("/templates", {**TEMPLATE, "image": "Capital:1"}, "image"),
        ("/templates", {**TEMPLATE, "env": {"LD_PRELOAD": "x"}}, "env.LD_PRELOAD"),
        ("/templates", {**TEMPLATE, "env": {"a b": "x"}}, "env.a b"),
        ("/templates", {**TEMPLATE, "ports": [80, 80]}, "ports"),
        ("/templates", {**TEMPLATE, "ports": [0]}, "ports.0"),
        ("/templates", {**TEMPLATE, "command": ["x"] * 65}, "command"),
        ("/templates", {**TEMPLATE, "needs": {"vendor": ["acme"]}}, "needs.vendor"),
        ("/templates", {**TEMPLATE, "needs": {"toolkit": "opencl"}}, "needs.toolkit"),
        ("/templates", {**TEMPLATE, "needs": {"min_cuda": "twelve"}}, "needs.min_cuda"),
        ("/templates", {**TEMPLATE, "needs": {"min_memory_gib": 0}}, "needs.min_memory_gib"),
        ("/templates", {**TEMPLATE, "needs": {"min_memory_gib": 9000}}, "needs"),
        ("/templates", {**TEMPLATE, "needs": {"toolkit": "cann", "vendor": ["nvidia"]}}, "needs"),
        ("/templates", {**TEMPLATE, "needs": {"toolkit": "cann", "min_cuda": "12.4"}},
         "needs.min_cuda"),
        ("/templates", {**TEMPLATE, "needs": {"colour": "red"}}, "needs.colour"),
    ],
)  # fmt: skip
def test_bad_input_names_its_field(renter, path, body, field) -> None:
    before = [Secret.objects.count(), RegistryCredential.objects.count(), Template.objects.count()]
    status, problem = renter.call("POST", path, body)
    assert (status, problem["type"]) == (422, "/problems/invalid_request"), problem
    assert field in problem["errors"], problem
    assert before == [
        Secret.objects.count(),
        RegistryCredential.objects.count(),
        Template.objects.count(),
    ]


@pytest.mark.parametrize(
    ("path", "body"), [KINDS[0], KINDS[1], ("/templates", {**TEMPLATE, "slug": "x"})]
)
def test_one_name_once(renter, path, body) -> None:
    make(renter, path, body)
    status, problem = renter.call("POST", path, body)
    assert (status, problem["type"]) == (422, "/problems/invalid_request")
    make(make_renter("Other"), path, body)


def test_curated_templates_are_nobodys_to_change(renter) -> None:
    curated = Template.objects.get(slug="ubuntu")
    for name in ("ubuntu", curated.public_id):
        assert renter.call("PATCH", f"/templates/{name}", {"name": "mine"})[0] == 404
        assert renter.call("DELETE", f"/templates/{name}")[0] == 404
    curated.refresh_from_db()
    assert (curated.name, curated.version) == ("Ubuntu 24.04", 1)


def test_slugs_are_made_from_names_and_stay_unlike(renter) -> None:
    slugs = [make(renter, "/templates", TEMPLATE)["slug"] for _ in range(3)]
    assert slugs == ["our-trainer", "our-trainer-2", "our-trainer-3"]
    assert make(renter, "/templates", {**TEMPLATE, "name": "ubuntu"})["slug"] == "ubuntu-2"
    assert make(renter, "/templates", {**TEMPLATE, "name": "模型"})["slug"] == "template"


def test_a_change_keeps_what_it_does_not_name(renter) -> None:
    made = make(
        renter,
        "/templates",
        {**TEMPLATE, "env": {"A": "b"}, "ports": [80], "command": ["run"],
         "needs": {"vendor": ["amd"]}},
    )  # fmt: skip
    status, changed = renter.call("PATCH", f"/templates/{made['id']}", {"command": []})
    assert status == 200, changed
    assert changed == {**made, "command": [], "version": 2}


def test_a_deleted_template_stays_in_the_history_of_its_rentals(renter) -> None:
    supply = make_supply(2)
    used = make(renter, "/templates", {**TEMPLATE, "env": {"A": "b"}})
    unused = make(renter, "/templates", {**TEMPLATE, "name": "unused"})
    status, rental = renter.call("POST", "/rentals", order(supply.offer, template=used["slug"]))
    assert status == 202, rental
    for template in (used, unused):
        assert renter.call("DELETE", f"/templates/{template['id']}")[0] == 204
        assert renter.call("GET", f"/templates/{template['id']}")[0] == 404
        body = order(supply.offer, template=template["slug"])
        assert renter.call("POST", "/rentals", body)[0] == 404
    assert renter.call("GET", f"/rentals/{rental['id']}")[1]["template"] == "our-trainer"
    row = Template.objects.get(slug="our-trainer")
    assert (row.active, row.env_sealed) == (False, None)
    assert not Template.objects.filter(slug="unused").exists()
    assert make(renter, "/templates", TEMPLATE)["slug"] == "our-trainer-2"


def test_deleted_credentials_leave_the_templates_that_named_them(renter) -> None:
    login = make(renter, "/registry-credentials", LOGIN)
    template = make(renter, "/templates", {**TEMPLATE, "registry_credentials": login["id"]})
    assert template["registry_credentials"] == login["id"]
    status, gone = renter.call("DELETE", f"/registry-credentials/{login['id']}")
    assert (status, gone["templates"], gone["live_rentals"]) == (200, ["our-trainer"], [])
    assert gone["deleted"] is True
    found = renter.call("GET", f"/templates/{template['id']}")[1]
    assert found["registry_credentials"] is None


def test_templates_need_the_right_to_rent(renter) -> None:
    made = make(renter, "/templates", TEMPLATE)
    status, key = renter.call("POST", "/api-keys", {"name": "x", "scopes": ["billing:read"]})
    assert status == 201
    other = Renter(renter.principal, key["secret"])
    assert made["id"] not in str(other.call("GET", "/templates")[1])
    assert other.call("GET", f"/templates/{made['id']}")[0] == 404
