"""Pages of lists at two hundred rows: what they ask of the database does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from billing.ledger.accounts import open_accounts
from billing.models import AccountKind
from kernel.ids import new_id
from marketplace.models import (
    ApiKey,
    CardCost,
    Project,
    Rental,
    SavedSearch,
    Secret,
    SshKey,
    Template,
    User,
)
from tests import market
from tests.area.marketplace_portal.test_economics import FIGURES
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor
from tests.authenticator import make_staff

ROWS, MOST = 200, 12


def many(row: models.Model, count: int = ROWS, **columns: list[Any]) -> list[Any]:
    """So many rows like this one, stored beside it; what has to differ does. columns: a value for
    each."""
    model = type(row)
    fields = {field.attname: getattr(row, field.attname) for field in model._meta.concrete_fields}
    once = {name for rule in model._meta.constraints for name in getattr(rule, "fields", ())}
    made = []
    for number in range(count):
        values = fields | {"id": new_id()}
        for field in model._meta.concrete_fields:
            value = values[field.attname]
            if field.primary_key or not (field.unique or field.name in once):
                continue
            if isinstance(value, str):
                values[field.attname] = f"{value[:40]}-{number}"
            elif isinstance(value, bytes | memoryview):
                values[field.attname] = bytes(value)[:-2] + number.to_bytes(2)
        made.append(model(**values | {name: given[number] for name, given in columns.items()}))
    return model._default_manager.bulk_create(made)


def queries_of(visitor: Visitor, path: str) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as asked:
        answer = visitor.get(path)
    assert answer.status_code == 200, (path, answer.status_code)
    return [each["sql"] for each in asked.captured_queries]


def too_many(visitor: Visitor, *paths: str) -> str:
    """Pages over the limit, with what they ask most; each is looked at once before, as caches
    are."""
    found = []
    for path in paths:
        queries_of(visitor, path)
        asked = queries_of(visitor, path)
        if len(asked) > MOST:
            tables = Counter(sql.partition(" FROM ")[2].split(" ")[0][:60] for sql in asked)
            found.append(f"{path} asks {len(asked)} times: {dict(tables.most_common())}")
    return "\n".join(found)


def test_a_renters_lists(renter: Visitor, supply: market.Supply) -> None:
    org = renter.person.principal.org
    project = Project.objects.create(organization=org, name="Vision")
    projects = many(project)
    status, _rental = renter.person.call("POST", "/rentals", market.order(supply.offer))
    assert status == 202
    rental = Rental.objects.get()
    many(rental, project_id=[each.id for each in projects], instance_ref=[None] * ROWS)
    renter.send(renter.get("/ssh-keys"), "/ssh-keys", name="laptop", public_key=market.SSH_KEY)
    many(SshKey.objects.get())
    renter.send(renter.get("/secrets"), "/secrets", name="HF_TOKEN", value="value")
    many(Secret.objects.get())
    renter.send(renter.get("/searches"), "/searches", name="Cheap", query="gpus=1")
    many(SavedSearch.objects.get())
    many(ApiKey.objects.filter(organization=org)[0])
    many(Template.objects.filter(organization=None)[0], organization_id=[org.id] * ROWS)
    for number in range(ROWS):
        market.add_credit(org.id, 1_000_000 + number * 10_000)
    paths = (
        *("/rentals", "/rentals?show=live", "/ssh-keys", "/secrets", "/searches", "/api-keys"),
        *("/templates", "/projects", "/billing/transactions", "/cards", "/webhooks"),
        *("/", "/team", "/volumes", "/billing/invoices", "/billing/budgets", "/billing/usage"),
    )
    if found := too_many(renter, *paths):
        pytest.fail(found)


# Pages of several things at once may ask more, but not more the more there is.
OWNERS = ("/provider", "/provider/capacity", "/provider/earnings", "/provider/payouts")
DESKS = ("/staff/", "/staff/payouts", "/staff/capacity", "/staff/books")


def asked_by(visitor: Visitor, paths: Sequence[str]) -> dict[str, int]:
    return {path: [len(queries_of(visitor, path)) for _ in range(2)][1] for path in paths}


def test_an_owners_lists(provider: Visitor, renter: Visitor, supply: market.Supply) -> None:
    offer = supply.offer
    provider.post("/provider/economics/save", {**FIGURES, "card": market.H100})
    assert CardCost.objects.count() == 1
    status, _rental = renter.person.call("POST", "/rentals", market.order(offer))
    assert status == 202
    before = asked_by(provider, OWNERS)
    clusters = many(supply.offer.group.cluster)
    groups = many(offer.group, cluster_id=[each.id for each in clusters])
    many(offer, group_id=[each.id for each in groups])
    many(Rental.objects.get(), instance_ref=[None] * ROWS)
    if found := too_many(provider, "/provider/offers", "/provider/reliability"):
        pytest.fail(found)
    assert asked_by(provider, OWNERS) == before


def test_the_desks_lists(renter: Visitor, supply: market.Supply) -> None:
    make_staff(email="staff@example.com", password=PASSWORD)
    staff = Visitor()
    staff.client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    before = asked_by(staff, DESKS)
    organizations = many(renter.person.principal.org)
    many(supply.offer.provider, organization_id=[each.id for each in organizations])
    kinds = (AccountKind.TENANT, AccountKind.TENANT_HOLD)
    open_accounts([(kind, each.id) for each in organizations for kind in kinds])
    paths = (
        *("/staff/providers", "/staff/organizations", "/staff/fraud", "/staff/returns"),
        *("/staff/disputes", "/staff/months", "/staff/fees", "/staff/economics"),
        *("/staff/preflights", "/staff/switches"),
    )
    if found := too_many(staff, *paths):
        pytest.fail(found)
    assert asked_by(staff, DESKS) == before
