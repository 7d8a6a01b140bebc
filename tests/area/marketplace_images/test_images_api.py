"""Images by tag over the API: what is stored is the digest, and a refusal stores nothing."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings
from django.db import connection

from devstack.registry import Registry
from kernel import sealed
from kernel.ids import parse
from marketplace.catalog.templates import load_curated
from marketplace.http import pinning, ratelimit
from marketplace.images.resolve import digest_of
from marketplace.models import Rental
from provisioner.models import Instance
from provisioner.reconcile.steps import open_secrets
from tests.area.marketplace_images.conftest import PASSWORD, USER
from tests.area.marketplace_rentals.test_bad_orders import stored
from tests.market import Renter, Supply, make_renter, make_supply, order

pytestmark = pytest.mark.django_db(transaction=True)

VALUE = "hf_plain-value-that-must-not-be-found"


@pytest.fixture
def supply() -> Supply:
    load_curated()
    return make_supply(4)


@pytest.fixture
def renter() -> Renter:
    return make_renter()


def by_image(supply: Supply, image: str, **changes: Any) -> dict[str, Any]:
    return order(supply.offer, template=..., image=image, **changes)


def test_a_tag_is_resolved_once_and_stays(supply, renter, registry: Registry) -> None:
    digest = registry.push("team/public", "1.0")
    given = f"{registry.host}/team/public:1.0"
    status, rental = renter.call("POST", "/rentals", by_image(supply, given), key="once")
    assert status == 202, rental
    assert rental["image"] == f"{given}@{digest}"
    asked = len(registry.seen)
    registry.push("team/public", "1.0", {"schemaVersion": 2, "moved": True})
    again = renter.call("POST", "/rentals", by_image(supply, given), key="once")
    assert again == (202, rental)
    assert len(registry.seen) == asked, "a repetition asks nobody"
    instance = Instance.objects.get(rental_ref=parse("rental", rental["id"]))
    assert instance.order["image"] == f"{given}@{digest}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("team/public:2.0", "image_not_found"), ("team/private:1.0", "image_auth")],
)
def test_a_refusal_names_the_image_and_stores_nothing(
    supply, renter, registry: Registry, name: str, reason: str
) -> None:
    registry.push("team/private", "1.0")
    before = stored()
    for path, body in (
        ("/rentals", by_image(supply, f"{registry.host}/{name}")),
        ("/templates", {"name": "mine", "image": f"{registry.host}/{name}"}),
    ):
        status, problem = renter.call("POST", path, body)
        assert (status, problem["type"]) == (422, "/problems/invalid_request"), problem
        assert problem["reason"] == reason
        assert set(problem["errors"]) == {"image"}
    assert stored() == before


def test_a_forbidden_registry_is_said_so(supply, renter, registry: Registry, settings) -> None:
    settings.GPUYARD_REGISTRY_NETWORKS = ()
    before = stored()
    status, problem = renter.call("POST", "/rentals", by_image(supply, f"{registry.host}/a:1"))
    assert (status, problem["type"]) == (422, "/problems/address_forbidden")
    assert set(problem["errors"]) == {"image"}
    assert stored() == before
    assert registry.seen == []


def test_other_mistakes_cost_no_call(supply, renter, registry: Registry) -> None:
    image = f"{registry.host}/team/public:1.0"
    for body in (
        by_image(supply, image, ports=[80, 80]),
        by_image(supply, image, max_hours=0),
        order(supply.offer, image=image),
    ):
        assert renter.call("POST", "/rentals", body)[0] == 422
    unverified = make_renter(verified=False)
    assert unverified.call("POST", "/rentals", by_image(supply, image))[0] == 403
    assert unverified.call("POST", "/templates", {"name": "x", "image": image})[0] == 403
    assert registry.seen == []


def credential(renter: Renter, registry: Registry) -> str:
    status, made = renter.call(
        "POST",
        "/registry-credentials",
        {"registry": registry.host, "username": USER, "password": PASSWORD},
    )
    assert status == 201, made
    assert PASSWORD not in str(made)
    return str(made["id"])


def test_a_private_image_with_credentials_reaches_the_pod(
    supply, renter, registry: Registry
) -> None:
    digest = registry.push("team/private", "1.0")
    given = f"{registry.host}/team/private:1.0"
    used = credential(renter, registry)
    status, rental = renter.call(
        "POST", "/rentals", by_image(supply, given, registry_credentials=used)
    )
    assert status == 202, rental
    assert (rental["image"], rental["registry_credentials"]) == (f"{given}@{digest}", used)
    instance = Instance.objects.get(rental_ref=parse("rental", rental["id"]))
    assert open_secrets(instance).pull == {
        "registry": registry.host,
        "username": USER,
        "password": PASSWORD,
    }


def test_credentials_of_another_registry_are_refused(supply, renter, registry: Registry) -> None:
    used = credential(renter, registry)
    before = stored()
    status, problem = renter.call(
        "POST", "/rentals", order(supply.offer, registry_credentials=used)
    )
    assert (status, set(problem["errors"])) == (422, {"registry_credentials"}), problem
    assert stored() == before


def test_a_template_carries_image_credentials_and_needs(supply, renter, registry) -> None:
    digest = registry.push("team/private", "1.0")
    used = credential(renter, registry)
    status, template = renter.call(
        "POST",
        "/templates",
        {
            "name": "Our trainer",
            "image": f"{registry.host}/team/private:1.0",
            "registry_credentials": used,
            "command": ["train", "--fast"],
            "env": {"MODE": "fast"},
            "ports": [8080],
            "needs": {"vendor": ["nvidia"], "toolkit": "cuda", "min_memory_gib": 40},
        },
    )
    assert status == 201, template
    assert template["image"].endswith(f"@{digest}")
    body = order(supply.offer, template="our-trainer", env={"MORE": "x"})
    status, rental = renter.call("POST", "/rentals", body)
    assert status == 202, rental
    assert (rental["image"], rental["template"]) == (template["image"], "our-trainer")
    instance = Instance.objects.get(rental_ref=parse("rental", rental["id"]))
    opened = open_secrets(instance)
    assert opened.env == {"MODE": "fast", "MORE": "x"}
    assert opened.pull is not None
    assert opened.pull["password"] == PASSWORD
    assert instance.order["command"] == ["train", "--fast"]
    small = make_supply(1, accelerator="nvidia-rtx-4090", region="us-east", country="US")
    status, problem = renter.call("POST", "/rentals", order(small.offer, template="our-trainer"))
    assert (status, problem["type"]) == (422, "/problems/template_mismatch")


def test_a_secret_reaches_the_pod_and_nothing_else(supply, renter) -> None:
    status, secret = renter.call("POST", "/secrets", {"name": "HF_TOKEN", "value": VALUE})
    assert status == 201, secret
    body = order(supply.offer, secrets={"HUGGING_FACE": secret["id"]}, env={"A": "b"})
    status, rental = renter.call("POST", "/rentals", body)
    assert status == 202, rental
    assert rental["secrets"] == {"HUGGING_FACE": secret["id"]}
    instance = Instance.objects.get(rental_ref=parse("rental", rental["id"]))
    assert open_secrets(instance).env == {"A": "b", "HUGGING_FACE": VALUE}
    status, replaced = renter.call("PATCH", f"/secrets/{secret['id']}", {"value": "another"})
    assert (status, replaced["version"]) == (200, 2)
    instance.refresh_from_db()
    assert open_secrets(instance).env["HUGGING_FACE"] == VALUE, "the pod has its own copy"
    status, gone = renter.call("DELETE", f"/secrets/{secret['id']}")
    assert (status, gone["live_rentals"]) == (200, [rental["id"]])
    assert renter.call("GET", f"/rentals/{rental['id']}")[1]["secrets"] == rental["secrets"]
    for table, text in dump().items():
        assert VALUE not in text, table


def test_nothing_plain_in_any_table(supply, renter, registry: Registry) -> None:
    registry.push("team/private", "1.0")
    used = credential(renter, registry)
    secret = renter.call("POST", "/secrets", {"name": "A", "value": VALUE})[1]["id"]
    renter.call("PATCH", f"/secrets/{secret}", {"value": f"{VALUE}2"})
    made = renter.call(
        "POST",
        "/templates",
        {
            "name": "t",
            "image": f"{registry.host}/team/private:1.0",
            "registry_credentials": used,
            "env": {"PASTED": f"{VALUE}3"},
        },
    )[1]
    assert made["env"] == {"PASTED": f"{VALUE}3"}, "their own people may read it"
    status, rental = renter.call(
        "POST", "/rentals", order(supply.offer, template="t", secrets={"A": secret})
    )
    assert status == 202, rental
    tables = dump()
    assert {"marketplace_secret", "marketplace_idempotencykey"} <= set(tables)
    for table, text in tables.items():
        assert VALUE not in text, table
        assert PASSWORD not in text, table


def dump() -> dict[str, str]:
    """Every table as text, bytes as the letters they are."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            cells = (cell for row in cursor.fetchall() for cell in row)
            found[table] = "\n".join(
                bytes(cell).decode("latin-1") if isinstance(cell, bytes | memoryview) else str(cell)
                for cell in cells
            )
    return found


def test_a_sealed_value_opens_nowhere_else(renter) -> None:
    from marketplace.accounts import vault
    from marketplace.models import Secret

    secret = renter.call("POST", "/secrets", {"name": "A", "value": VALUE})[1]["id"]
    row = Secret.objects.get(id=parse("secret", secret))
    right = {"organization_id": renter.org, "row_id": row.id, "field": "secret.value"}
    assert vault.unseal(row.value_sealed, **right) == VALUE
    for wrong in (
        {"organization_id": make_renter("Other").org},
        {"row_id": make_renter("Third").org},
        {"field": "registry.password"},
    ):
        with pytest.raises(sealed.CannotOpen):
            vault.unseal(row.value_sealed, **{**right, **wrong})


def test_only_a_few_may_wait_for_registries_at_a_time(supply, renter, registry) -> None:
    from marketplace.images import resolve

    registry.push("team/public", "1.0")
    body = by_image(supply, f"{registry.host}/team/public:1.0")
    held = [resolve._AT_ONCE.acquire(blocking=False) for _ in range(4)]
    assert all(held)
    try:
        with patch.object(resolve, "_PATIENCE", 0.01):
            status, problem = renter.call("POST", "/rentals", body)
    finally:
        for _ in held:
            resolve._AT_ONCE.release()
    assert (status, problem["type"]) == (503, "/problems/unavailable")
    assert registry.seen == []
    assert renter.call("POST", "/rentals", body)[0] == 202


def test_a_lookup_costs_ten_requests(renter, registry: Registry, monkeypatch) -> None:
    """The bucket holds 25 tokens and fills too slowly to matter: two requests with a lookup."""
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets(rate=0.001, burst=25))
    registry.push("team/public", "1.0")
    image = f"{registry.host}/team/public:1.0"
    answers = [
        renter.call("POST", "/templates", {"name": "x", "image": image})[0] for _ in range(3)
    ]
    assert answers == [201, 201, 429]
    assert len(registry.seen) == 2 * 3


def test_the_call_happens_outside_any_transaction(
    supply, renter, registry: Registry, monkeypatch
) -> None:
    """digest_of refuses to run inside one; here it is seen to have run, and in which state."""
    registry.push("team/public", "1.0")
    seen: list[bool] = []

    def watched(*given: Any, **named: Any) -> str:
        seen.append(connection.in_atomic_block)
        return digest_of(*given, **named)

    monkeypatch.setattr(pinning, "digest_of", watched)
    image = f"{registry.host}/team/public:1.0"
    assert renter.call("POST", "/rentals", by_image(supply, image))[0] == 202
    status, made = renter.call("POST", "/templates", {"name": "x", "image": image})
    assert status == 201
    assert renter.call("PATCH", f"/templates/{made['id']}", {"image": image})[0] == 200
    assert seen == [False, False, False]
    assert settings.GPUYARD_REGISTRY_NETWORKS
    assert Rental.objects.get().image.startswith(image)
