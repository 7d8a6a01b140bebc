"""Every operation of the OpenAPI file against everybody it is not for.

The file is generated from the views, so a new operation is covered when it appears; one with an id
in its address has to be given somebody else's object here, or the last test fails.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.test import Client

from billing import facade as billing
from kernel.clock import hour_of, now
from kernel.ids import new_id, parse, public
from kernel.text import rfc3339
from marketplace.accounts.access import SCOPES
from marketplace.http import ratelimit
from marketplace.http.api.description import document
from marketplace.models import Provider
from provisioner.instances.report_token import token_of
from provisioner.models import Instance, ReadyInterval, Volume
from provisioner.volumes.receipt import Absence, finish
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api
from tests.columns import Window, columns
from tests.market import SSH_KEY, Renter, make_renter, make_supply, order, quarantined

pytestmark = pytest.mark.django_db

METHODS = ("get", "post", "patch", "put", "delete")
# Bodies that pass their own checks, so that the answer depends on the id in the address.
BODIES: dict[str, Any] = {
    "PATCH budgets/{}": {"amount": "7"},
    "PUT provider/card-costs/{}": {
        "purchase_price": "26280",
        "watts_load": "1000",
        "watts_idle": "100",
        "kwh_price": "0.2",
        "utilisation": "0.7",
    },
    "PATCH provider/clusters/{}": {"token": "another.token"},
    "PATCH provider/offers/{}": {"price_per_gpu_hour": "1.00"},
    "PATCH registry-credentials/{}": {"password": "another"},
    "PATCH rentals/{}": {"name": "mine now"},
    "PATCH secrets/{}": {"value": "another"},
    "PATCH templates/{}": {"name": "mine now"},
    "PATCH volumes/{}": {"name": "mine now"},
    "PATCH webhooks/{}": {"event_types": ["*"]},
    "POST provider/clusters/{}/stop-now": {"reason": "maintenance"},
    "POST provider/rentals/{}/stop-now": {"reason": "maintenance"},
    "POST rentals/{}/actions": {"action": "terminate"},
    "POST rentals/{}/links": {"port": 8000},
    "POST staff/abuse-reports/{}/decide": {"upheld": True, "note": "looked at it"},
    "POST staff/adjustments/{}/decline": {"reason": "not agreed"},
    "POST staff/credit-notes/{}/decline": {"reason": "not agreed"},
    "POST staff/promotions/{}/decline": {"reason": "not agreed"},
    "POST staff/refunds/{}/decline": {"reason": "not agreed"},
    "POST staff/brakes/{}/release": {"note": "looked at it"},
    "POST staff/breaks/{}/note": {"note": "looked at it"},
    "POST staff/breaks/{}/owner": {"owner": "somebody"},
    "POST staff/breaks/{}/resolve": {"note": "explained"},
    "POST staff/earnings-reviews/{}/release": {"note": "knows them"},
    "POST staff/incidents/{}/withdraw": {"reason": "not agreed"},
    "POST staff/organizations/{}/limit": {"credit_limit": "1"},
    "POST staff/providers/{}/approve": {"ownership": "partner"},
    "POST staff/problem-reports/{}/answer": {"answer": "looked at it"},
    "POST staff/organizations/{}/freeze": {"reason": "a person looks at it"},
    "PATCH members/{}": {"role": "viewer"},
    "PATCH projects/{}": {"name": "mine now"},
}
# Addresses whose objects are for everybody, for staff whoever owns them, or are a month or a card
# type of one's own: no foreign one exists.
SHARED = (
    *("offers/{}", "accelerators/{}", "staff/"),
    *("provider/statements/{}", "provider/card-costs/{}"),
)
# Only for machines, with a token that no person has and that opens nothing else.
REPORTS = "instance-reports"
PINNED_IMAGE = "ubuntu:24.04@sha256:" + "0" * 64


@dataclass(frozen=True)
class Operation:
    """One method of one address, as the file describes it."""

    method: str
    path: str  # below /api/v1, each parameter as {}
    scope: str | None
    public: bool
    listed: bool
    takes_body: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @staticmethod
    def shape(path: str) -> str:
        """``/api/v1/rentals/{rental_id}`` -> ``rentals/{}``."""
        return re.sub(r"\{[^}]*\}", "{}", path.removeprefix("/api/v1/"))

    def at(self, identifier: str) -> str:
        """The address with its ids: one for all places, or one each, separated by a space."""
        places = self.path.count("{}")
        given = identifier.split(" ")
        return self.path.replace("{}", "%s") % tuple(
            given if len(given) == places else [identifier] * places
        )


@cache
def operations() -> list[Operation]:
    found = []
    for path, methods in json.loads(document())["paths"].items():
        for method in METHODS:
            if method in methods:
                described = methods[method]
                names = {parameter["name"] for parameter in described.get("parameters", [])}
                found.append(
                    Operation(
                        method=method.upper(),
                        path=Operation.shape(path),
                        scope=described.get("x-scope"),
                        public=not described.get("security"),
                        listed="cursor" in names,
                        takes_body="requestBody" in described,
                    )
                )
    return found


def chosen(**wanted: Any) -> Any:
    """The operations with these attributes, as a parametrization."""
    return pytest.mark.parametrize(
        "operation",
        [
            operation
            for operation in operations()
            if all(getattr(operation, name) == value for name, value in wanted.items())
        ],
        ids=str,
    )


ADDRESSED = pytest.mark.parametrize(
    "operation", [operation for operation in operations() if "{}" in operation.path], ids=str
)


@pytest.fixture(autouse=True)
def fresh_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets())


@pytest.fixture(autouse=True)
def ports_have_names(settings: Any) -> None:
    settings.GPUYARD_PORTS_URL = ("https", "pods.example.net", 443)


def call(caller: Api, operation: Operation, identifier: str = "x", **headers: str) -> Any:
    body = BODIES.get(str(operation)) if operation.method in {"POST", "PATCH", "PUT"} else None
    if body is None and operation.method in {"POST", "PATCH", "PUT"}:
        body = {}
    return caller.call(operation.method, operation.at(identifier), body, **headers)


def a_machine() -> Api:
    """The reporter in the pod of a rental that runs."""
    renter, supply = make_renter(), make_supply(1)
    status, rental = renter.call("POST", "/rentals", order(supply.offer))
    assert status == 202, rental
    instance = Instance.objects.get(rental_ref=parse("rental", rental["id"]))
    token = token_of(instance.pk, key=settings.GPUYARD_SEALING_KEY)
    return Api(Client(raise_request_exception=False), token)


def fit(operation: Operation) -> Api:
    """A caller who may call this operation."""
    if operation.path == REPORTS:
        return a_machine()
    person = people.staff() if operation.scope == "staff" else people.sign_up()
    return people.api_of(person)


@chosen(public=False)
def test_without_credentials_it_is_401(operation: Operation) -> None:
    answer = call(people.anonymous(), operation)
    assert (answer.status_code, answer.data["type"]) == (401, "/problems/unauthenticated")
    wrong = call(people.anonymous(), operation, Authorization="Bearer gy_live_x_y")
    assert wrong.status_code == 401


@chosen(public=False)
def test_without_the_scope_it_is_403_and_before_404(operation: Operation) -> None:
    if operation.path == REPORTS:
        # No key has its right, however many scopes it has: to this operation it is nobody.
        answer = call(people.api_of(people.sign_up()), operation)
        assert (answer.status_code, answer.data["type"]) == (401, "/problems/unauthenticated")
        return
    if operation.scope is None:
        assert operation.path in {"me", "session"}, "every other operation needs a scope"
        return
    others = sorted(set(SCOPES) - {operation.scope, "staff"})
    answer = call(people.api_of(people.sign_up(), *others), operation)
    assert (answer.status_code, answer.data["type"]) == (403, "/problems/insufficient_scope")
    assert answer.data["scope"] == operation.scope


@pytest.mark.parametrize(
    "operation", [found for found in operations() if found.path != REPORTS], ids=str
)
def test_a_machines_token_is_nobody_everywhere_else(operation: Operation) -> None:
    answer = call(a_machine(), operation)
    if operation.public and operation.method == "POST":
        assert answer.status_code != 401 or operation.path == "session", "open to strangers"
    else:
        assert (answer.status_code, answer.data["type"]) == (401, "/problems/unauthenticated")


@ADDRESSED
def test_a_made_up_id_is_404(operation: Operation) -> None:
    caller = people.anonymous() if operation.public else fit(operation)
    if operation.path.startswith("provider/"):
        caller.post("provider", {"contact_email": "ops@example.com"})
    for made_up in ("x", "%00", "ren_", "ren_" + "z" * 26, public("rental", uuid.uuid4())):
        answer = call(caller, operation, made_up)
        assert (answer.status_code, answer.data["type"]) == (404, "/problems/not_found"), made_up


class Owned:
    """One of each kind of object, all of one organization that is not the caller's."""

    def __init__(self) -> None:
        self.supply = make_supply(4)
        self.owner = self.supply.owner
        self.renter = make_renter()
        self.rental = self._post(self.renter, "/rentals", order(self.supply.offer, ports=[8000]))[
            "id"
        ]

    def _post(self, renter: Renter, path: str, body: Any) -> Any:
        status, answer = renter.call("POST", path, body)
        assert status < 300, answer
        return answer

    def charge(self) -> str:
        rental_ref = parse("rental", self.rental)
        start = hour_of(now()) - timedelta(hours=1)
        instance = Instance.objects.get(rental_ref=rental_ref)
        proven = ReadyInterval.objects.create(
            instance=instance,
            cluster_id=instance.cluster_id,
            rental_ref=rental_ref,
            gpus=1,
            pod_uid="a",
            opened_at=start,
            charged_to=start,
        )
        window = Window(rental_ref, proven.id, start, start + timedelta(seconds=60))
        with transaction.atomic():
            billing.meter_started(rental_ref=rental_ref, at=start)
            assert billing.post_usage(windows=columns([window])) == 1
        return public("charge", billing.charges(rental_ref=rental_ref)[0].id)

    def deleted_volume(self) -> str:
        """With its receipt, so that everything which can be asked of a volume is answered."""
        place = make_supply(1, storage="cluster").datacenter.public_id
        body = {"name": "data", "size_gib": 1, "datacenter": place}
        made = self._post(self.renter, "/volumes", body)["id"]
        path = f"/volumes/{made}"
        token = self.renter.call("DELETE", path)[1]["confirm_token"]
        status, _ = self.renter.call("DELETE", f"{path}?confirm_token={token}")
        assert status == 202
        row = Volume.objects.select_related("namespace").get(pk=parse("volume", made))
        assert finish(row, Absence(now(), "1", 0), at=now(), claim=None)
        return str(made)

    def webhook(self) -> str:
        body = {"url": "https://93.184.215.14/hook", "event_types": ["rental.*"]}
        return str(self._post(self.renter, "/webhooks", body)["id"])

    def maintenance(self) -> str:
        body = {
            "cluster": public("cluster", self.supply.cluster.id),
            "starts_at": rfc3339(now() + timedelta(days=3)),
        }
        return str(self._post(self.owner, "/provider/maintenance", body)["id"])

    def delivery(self) -> str:
        webhook = self.webhook()
        return f"{webhook} {self._post(self.renter, f'/webhooks/{webhook}/test', {})['id']}"

    def find(self, prefix: str) -> str:
        """The id of the object behind an address that begins so."""
        renter, quote = self.renter, {"offer": self.supply.offer.public_id, "gpus": 1}
        made = {
            "api-keys": lambda: self._post(
                renter, "/api-keys", {"name": "x", "scopes": ["account:read"]}
            )["id"],
            "ssh-keys": lambda: self._post(
                renter, "/ssh-keys", {"name": "x", "public_key": SSH_KEY}
            )["id"],
            "billing/topups": lambda: self._post(renter, "/billing/topups", {"amount": "5"})["id"],
            "billing/payment-methods/setups": lambda: self._post(
                renter, "/billing/payment-methods", {}
            )["id"],
            # Invoices need a closed period; the door that looks them up is billing's own, tested
            # there with real ones. Here the id is of the right kind and nobody's.
            "billing/invoices": lambda: public("invoice", new_id()),
            "billing/portal": lambda: self._post(renter, "/billing/portal", {})["id"],
            "secrets": lambda: self._post(renter, "/secrets", {"name": "A", "value": "x"})["id"],
            "registry-credentials": lambda: self._post(
                renter,
                "/registry-credentials",
                {"registry": "ghcr.io", "username": "x", "password": "x"},
            )["id"],
            "templates": lambda: self._post(
                renter, "/templates", {"name": "x", "image": PINNED_IMAGE}
            )["id"],
            "budgets": lambda: self._post(
                renter,
                "/budgets",
                {"amount": "5", "thresholds": [{"percent": 80, "action": "notify"}]},
            )["id"],
            "quotes": lambda: self._post(renter, "/quotes", quote)["id"],
            "rentals": lambda: self.rental,
            "volumes": self.deleted_volume,
            "charges": self.charge,
            "webhooks": self.webhook,
            "webhooks/{}/deliveries": self.delivery,
            "provider/clusters/{}/nodes": lambda: quarantined(self.supply),
            "provider/clusters": lambda: public("cluster", self.supply.cluster.id),
            "provider/offers": lambda: self.supply.offer.public_id,
            "provider/rentals": lambda: self.rental,
            "provider/maintenance": self.maintenance,
            "members": lambda: public("user", people.join_as(renter.principal.org, "member").pk),
            "members/invitations": lambda: self._post(
                renter, "/members/invitations", {"email": "x@example.com", "role": "viewer"}
            )["id"],
            "projects": lambda: self._post(renter, "/projects", {"name": "x"})["id"],
            "saved-searches": lambda: self._post(renter, "/saved-searches", {"name": "x"})["id"],
        }
        assert prefix in made, f"give this test an object of somebody else for {prefix}"
        return str(made[prefix]())


@ADDRESSED
def test_somebody_elses_object_is_404_for_me_and_there_for_them(operation: Operation) -> None:
    if operation.path.startswith(SHARED):
        return
    theirs = Owned()
    prefix = operation.path.rpartition("/{}")[0] if operation.path.count("{}") > 1 else ""
    prefix = prefix or operation.path.partition("/{}")[0]
    identifier = theirs.find(prefix)
    me = people.owner()
    me.post("provider", {"contact_email": "ops@example.com"})
    Provider.objects.update(state=Provider.State.APPROVED)
    answer = call(me, operation, identifier)
    assert (answer.status_code, answer.data["type"]) == (404, "/problems/not_found")
    if prefix == "billing/invoices":
        return
    renter = theirs.owner if prefix.startswith("provider") else theirs.renter
    own = call(Api(Client(), renter.secret), operation, identifier)
    assert own.status_code < 300, own.content


@chosen(takes_body=True)
def test_unknown_fields_and_broken_json_are_named(operation: Operation) -> None:
    caller = people.anonymous() if operation.public else fit(operation)
    answer = caller.call(operation.method, operation.at("x"), {"surprise": 1})
    assert (answer.status_code, answer.data["type"]) == (422, "/problems/invalid_request")
    assert "surprise" in answer.data["errors"]
    broken = caller.call(operation.method, operation.at("x"), '{"surprise"')
    assert (broken.status_code, broken.data["type"]) == (400, "/problems/malformed")


@chosen(listed=True)
def test_lists_drop_no_filter(operation: Operation) -> None:
    if "{}" in operation.path:
        return
    caller = people.anonymous() if operation.public else fit(operation)
    if operation.path.startswith("provider"):
        caller.post("provider", {"contact_email": "ops@example.com"})
    answer = caller.get(f"{operation.path}?surprise=1")
    assert (answer.status_code, answer.data["type"]) == (400, "/problems/unknown_filter")
    assert answer.data["filter"] == "surprise"
    for cursor in ("!", "e30", "WyIiXQ"):
        bad = caller.get(f"{operation.path}?cursor={cursor}")
        assert (bad.status_code, bad.data["type"]) == (400, "/problems/invalid_cursor"), cursor
    empty = caller.get(operation.path)
    assert empty.status_code == 200
    assert set(empty.data) == {"items", "next_cursor"}


def test_the_file_has_every_address_of_the_api() -> None:
    from marketplace.http.urls import _API

    described = {operation.path for operation in operations()}
    routed = {re.sub(r"<[^>]*>", "{}", str(entry.pattern)) for entry in _API}
    assert routed == described
