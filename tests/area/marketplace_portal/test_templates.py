"""Templates, secrets and registry users through the forms, and their choice when renting."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidRequest
from kernel.ids import new_id, public
from marketplace.accounts import vault
from marketplace.catalog.templates import env_of
from marketplace.http import pinning
from marketplace.models import RegistryCredential, Rental, Secret, Template
from provisioner.models import Instance
from provisioner.reconcile.steps import open_secrets
from tests import market
from tests.area.marketplace_portal.test_rent import order
from tests.area.marketplace_portal.visitors import Visitor, visitor_of

DIGEST = "sha256:" + "ab" * 32
VALUE = "plain-value-of-a-secret"


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """What was looked up, (name, password); names that say "gone" are not found."""
    asked: list[tuple[str, str | None]] = []

    def digest_of(reference, *, user=None):
        asked.append((reference.given, user[1] if user else None))
        if "gone" in reference.given:
            raise InvalidRequest({"image": ["the registry has no such image"]})
        return DIGEST

    monkeypatch.setattr(pinning, "digest_of", digest_of)
    return asked


def store(visitor: Visitor) -> tuple[Secret, RegistryCredential]:
    page = visitor.get("/secrets")
    answer = visitor.send(page, "/secrets", name="HF_TOKEN", value=VALUE)
    assert answer.status_code == 303, answer.text
    login = {"registry": "ghcr.io", "username": "team", "password": VALUE}
    answer = visitor.send(page, "/registry-credentials", **login)
    assert answer.status_code == 303, answer.text
    return Secret.objects.get(), RegistryCredential.objects.get()


def test_values_are_stored_and_never_shown(renter: Visitor) -> None:
    secret, login = store(renter)
    assert bytes(secret.value_sealed).find(VALUE.encode()) == -1
    page = renter.get("/secrets")
    assert "HF_TOKEN" in page.text
    assert "ghcr.io" in page.text
    assert VALUE not in page.text
    for path in (f"/secrets/{secret.public_id}", f"/registry-credentials/{login.public_id}"):
        assert visitor_of(market.make_renter("Other")).post(f"{path}/delete").status_code == 404
        assert renter.post(f"{path}/delete")["Location"] == "/secrets"
    assert not Secret.objects.exists()
    assert not RegistryCredential.objects.exists()


def test_a_refused_value_is_not_written_back_into_the_page(renter: Visitor) -> None:
    store(renter)
    page = renter.get("/secrets")
    again = renter.send(page, "/secrets", name="HF_TOKEN", value=VALUE)
    assert again.status_code == 422
    assert "already" in again.text
    bad = renter.send(page, "/secrets", name="a-b", value=VALUE)
    assert bad.status_code == 422
    wrong = {"registry": "http://x", "username": "team", "password": VALUE}
    other = renter.send(page, "/registry-credentials", **wrong)
    assert other.status_code == 422
    assert VALUE not in again.text + bad.text + other.text
    assert Secret.objects.count() == 1


def make(visitor: Visitor, **changes: str) -> Template:
    fields = {
        "name": "Our trainer",
        "image": "ghcr.io/team/app:1",
        "command": "train --name 'two words'",
        "env": "MODE=fast\nURL=https://example.com/?a=b",
        "ports": "8000, 8080",
        "toolkit": "cuda",
        "min_memory_gib": "40",
        **changes,
    }
    answer = visitor.send(visitor.get("/templates/new"), "/templates/new", **fields)
    assert answer.status_code == 303, answer.text
    return Template.objects.get(slug="our-trainer")


def test_a_template_is_made_shown_changed_and_deleted(renter: Visitor, registry) -> None:
    _, login = store(renter)
    row = make(renter, registry_credentials=login.public_id)
    assert registry == [("ghcr.io/team/app:1", VALUE)]
    assert row.image == f"ghcr.io/team/app:1@{DIGEST}"
    assert row.command == ["train", "--name", "two words"]
    assert env_of(row) == {"MODE": "fast", "URL": "https://example.com/?a=b"}
    assert (row.ports, row.needs) == ([8000, 8080], {"toolkit": "cuda", "min_memory_gib": 40})
    listed = renter.get("/templates").text
    assert "Our trainer" in listed
    assert "PyTorch" in listed
    assert "40 GiB per card" in listed
    assert "min_memory_gib" not in listed
    path = f"/templates/{row.public_id}"
    page = renter.get(path)
    assert "two words" in page.text
    assert renter.post(path, {"name": "Other", "image": row.image, "version": "7"}).status_code == (
        412
    )
    changed = renter.post(path, {"name": "Other", "image": row.image, "version": "1"})
    assert changed.status_code == 303, changed.text
    row.refresh_from_db()
    assert (row.name, row.version, row.command) == ("Other", 2, [])
    assert len(registry) == 1, "an image by digest is not looked up again"
    assert renter.post(f"{path}/delete")["Location"] == "/templates"
    assert not Template.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": "echo 'open"}, "quotation mark"),
        ({"env": "no equals sign"}, "NAME=value"),
        ({"env": "LD_PRELOAD=x"}, "belong to the machine"),
        ({"ports": "80a"}, "as numbers"),
        ({"image": "ghcr.io/team/gone:1"}, "no such image"),
        ({"image": "Capital"}, "small letters"),
        ({"min_memory_gib": "9000"}, "no card we know of"),
    ],
)
def test_mistakes_stand_beside_what_was_written(renter: Visitor, changes, said: str) -> None:
    fields = {"name": "Mine", "image": "ghcr.io/team/app:1", **changes}
    answer = renter.send(renter.get("/templates/new"), "/templates/new", **fields)
    assert answer.status_code == 422
    assert said in answer.text
    assert "Mine" in answer.text
    assert not Template.objects.filter(name="Mine").exists()


def test_variables_of_several_lines_survive_an_edit_in_the_portal(renter: Visitor) -> None:
    row = make(renter)
    row.env_sealed = vault.seal(
        '{"KEY": "a\\nb=c"}',
        organization_id=renter.person.org,
        row_id=row.id,
        field="template.env",
    )
    row.save()
    page = renter.get(f"/templates/{row.public_id}")
    assert renter.send(page, f"/templates/{row.public_id}", name="New").status_code == 303
    row.refresh_from_db()
    assert (row.name, env_of(row)) == ("New", {"KEY": "a\nb=c"})


def test_curated_and_foreign_templates_have_no_page(renter: Visitor) -> None:
    row = make(renter)
    other = visitor_of(market.make_renter("Other"))
    for visitor, name in ((other, row.public_id), (renter, "ubuntu")):
        assert visitor.get(f"/templates/{name}").status_code == 404
        assert visitor.post(f"/templates/{name}/delete").status_code == 404


def test_an_image_with_its_user_and_secrets_is_rented(
    renter: Visitor, supply: market.Supply, registry
) -> None:
    secret, login = store(renter)
    answer = order(
        renter,
        supply,
        template="image",
        image="ghcr.io/team/app:1",
        registry_credentials=login.public_id,
        secrets=secret.public_id,
    )
    assert answer.status_code == 303, answer.text
    rental = Rental.objects.get()
    assert rental.image == f"ghcr.io/team/app:1@{DIGEST}"
    assert rental.secrets == {"HF_TOKEN": secret.public_id}
    opened = open_secrets(Instance.objects.get(rental_ref=rental.id))
    assert opened.env == {"HF_TOKEN": VALUE}
    assert opened.pull == {"registry": "ghcr.io", "username": "team", "password": VALUE}
    assert registry == [("ghcr.io/team/app:1", VALUE)]


def test_an_image_that_is_not_there_keeps_the_form(renter: Visitor, supply) -> None:
    secret, _ = store(renter)
    answer = order(
        renter, supply, template="image", image="ghcr.io/team/gone:1", secrets=secret.public_id
    )
    assert answer.status_code == 422
    assert "no such image" in answer.text
    assert "ghcr.io/team/gone:1" in answer.text
    assert f'value="{secret.public_id}" checked' in answer.text
    assert not Rental.objects.exists()
    foreign = order(renter, supply, template="ubuntu", secrets=public("secret", new_id()))
    assert foreign.status_code == 404
