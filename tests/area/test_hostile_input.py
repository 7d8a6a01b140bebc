"""Every field of every body and every parameter, given what nobody should send: never a 5xx."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import transaction

from billing.models import Break
from kernel.clock import now
from kernel.errors import InvalidRequest
from kernel.ids import public
from marketplace.http import pinning, ratelimit
from marketplace.models import AuditEntry, IdempotencyKey, Provider
from provisioner import facade as provisioner
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.described import described
from tests.area.marketplace_accounts.people import Api
from tests.area.test_every_operation import (
    BODIES,
    PINNED_IMAGE,
    REPORTS,
    Operation,
    a_machine,
    operations,
)
from tests.market import (
    H100,
    SSH_KEY,
    Supply,
    add_credit,
    make_renter,
    make_supply,
    order,
    quarantined,
)

pytestmark = pytest.mark.django_db

HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    10**400,
    1.5,
    1e308,
    "",
    " ",
    "x",
    "x" * 70_000,
    "\u202e\u0007\u2028",
    "\U0001f600",
    "' OR 1=1 --",
    "{{7*7}}<script>",
    "../../etc/passwd",
    "9" * 400,
    "0.0000001",
    "2036-13-45T99:99:99Z",
    "9999-12-31T23:59:59.999999-12:00",
    "0001-01-01T00:00:00+12:00",
    [],
    [[]],
    [None],
    ["x"] * 1000,
    {},
    {"x": {"x": {"x": []}}},
    {"": ""},
    {"x" * 300: "y"},
]


ORDERS = ("refunds", "adjustments", "credit-notes", "promotions")
NOBODYS = f"inv_{'0' * 26}"
# Objects that only Stripe or a month of use makes: the address is right, and nothing is there.
UNMADE = (
    *("staff/adjustments/", "staff/credit-notes/", "staff/disputes/", "staff/earnings-reviews/"),
    *("staff/invoices/", "staff/payout-runs/", "staff/promotions/", "staff/refunds/"),
)


@pytest.fixture(autouse=True)
def fresh_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets(burst=1e9))


@pytest.fixture(autouse=True)
def ports_have_names(settings: Any) -> None:
    settings.GPUYARD_PORTS_URL = ("https", "pods.example.net", 443)


@pytest.fixture(autouse=True)
def no_registry_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts here that are names of images by accident would be looked up on the internet."""

    def refuse(*_: Any, **__: Any) -> str:
        raise InvalidRequest({"image": ["there is no network in this test"]})

    monkeypatch.setattr(pinning, "digest_of", refuse)


def bodies(supply: Supply) -> dict[str, Any]:
    """Bodies that are right in every field, so that one wrong field is what is tested."""
    token = {"token": "x", "password": people.PASSWORD}
    renter = {"organization": supply.owner.principal.org.public_id, "reason": "a good one"}
    return {
        **BODIES,
        "POST api-keys": {"name": "x", "scopes": ["account:read"], "expires_at": None},
        "PUT billing/auto-topup": {
            "enabled": False,
            "threshold": "5",
            "target": "50",
            "daily_ceiling": "200",
        },
        "PUT billing/tax": {"country": "DE", "postal_code": "10115"},
        "POST billing/portal": {"return_url": "https://example.com/"},
        "POST billing/refunds": {"amount": "5", "reason": "not needed any more"},
        "POST budgets": {"amount": "7", "thresholds": [{"percent": 80, "action": "notify"}]},
        "POST billing/payment-methods": {"return_url": "https://example.com/"},
        "POST billing/topups": {"amount": "5", "return_url": "https://example.com/"},
        "POST email-verification": token,
        "POST email-verification/resend": {"email": "x@example.com"},
        "POST password-reset": {"email": "x@example.com"},
        "POST password-reset/confirm": token,
        "POST projects": {"name": "x"},
        "PUT mail-preferences": {"off": ["stops"]},
        "POST members/invitations": {"email": "x@example.com", "role": "viewer"},
        "POST provider": {"contact_email": "x@example.com", "description": "x"},
        "PATCH provider": {"contact_email": "x@example.com"},
        "POST provider/payout-account": {
            "password": people.PASSWORD,
            "code": "123456",
            "country": "DE",
        },
        "POST provider/abuse-reports": {"rental": f"ren_{'0' * 26}", "text": "x"},
        "POST provider/maintenance": {
            "cluster": public("cluster", supply.cluster.id),
            "starts_at": (now() + timedelta(days=3)).isoformat(),
        },
        "POST provider/datacenters": {"name": "x", "region": "eu", "country": "DE"},
        "POST provider/clusters": {
            "name": "x",
            "datacenter": supply.datacenter.public_id,
            "api_url": "https://127.0.0.1:6443",
            "ca_pem": "x",
            "token": "x",
        },
        "POST provider/clusters/{}/relay": {"replace": True},
        "POST instance-reports": {
            "at": now().isoformat(),
            "devices": [
                {
                    "id": "GPU-0",
                    "gpu_percent": 1,
                    "memory_used_bytes": 1,
                    "memory_total_bytes": 1,
                }
            ],
            "ports": [22, 8888],
        },
        "POST quotes": {"offer": supply.offer.public_id, "gpus": 1},
        "POST registry-credentials": {"registry": "ghcr.io", "username": "x", "password": "x"},
        "POST rentals": order(supply.offer),
        "POST rentals/{}/links": {"port": 8000},
        "POST secrets": {"name": "A", "value": "x"},
        "POST templates": {"name": "x", "image": PINNED_IMAGE, "needs": {}},
        "PATCH templates/{}": {"name": "x", "image": PINNED_IMAGE},
        "POST second-factor": {"password": people.PASSWORD},
        "POST second-factor/confirm": {"code": "123456"},
        "POST second-factor/recovery-codes": {"code": "123456"},
        "POST second-factor/remove": {"password": people.PASSWORD, "code": "123456"},
        "POST session": {"email": "x@example.com", "password": "x", "code": "123456"},
        "POST signup": {
            "email": "x@example.com",
            "password": people.PASSWORD,
            "organization": "x",
            "accepted_terms_version": "x",
        },
        "POST ssh-keys": {"name": "x", "public_key": SSH_KEY},
        "POST staff/adjustments": {**renter, "amount": "1"},
        "POST staff/credit-notes": {"invoice": NOBODYS, "amount": "1", "reason": "a wrong price"},
        "POST staff/disputes/{}/evidence": {"uncategorized_text": "x"},
        **{f"POST staff/{kind}/{{}}/decline": {"reason": "not agreed"} for kind in ORDERS},
        "POST staff/invoices/{}/write-off": {"reason": "gone out of business"},
        "POST staff/payout-runs/{}/cancel": {"reason": "too early"},
        "POST staff/payout-runs/hold": {
            "provider": supply.provider.public_id,
            "reason": "looks odd",
        },
        "POST staff/payout-runs/release": {"provider": supply.provider.public_id},
        "POST staff/promotions": {
            **renter,
            "amount": "1",
            "expires_at": (now() + timedelta(days=30)).isoformat(),
        },
        "POST staff/refunds": {**renter, "amount": "1"},
        "POST staff/switches": {"name": "stop_rentals", "on": True, "note": "x"},
        "POST staff/fees": {"fee_bps": 1200, "reason": "more cards"},
        "POST staff/fees/preview": {"fee_bps": 1200, "reason": "more cards"},
        "POST staff/incidents": {
            "title": "Slow disks",
            "cause": "platform",
            "from_at": (now() - timedelta(hours=3)).isoformat(),
            "to_at": (now() - timedelta(hours=2)).isoformat(),
        },
        "POST staff/incidents/{}/withdraw": {"reason": "not agreed"},
        "POST volumes": {
            "name": "x",
            "size_gib": 1,
            "datacenter": supply.datacenter.public_id,
        },
        "POST webhooks": {"url": "https://93.184.215.14/x", "event_types": ["*"]},
        "POST webhooks/{}/rotate-secret": {"overlap_seconds": 60},
        "POST problem-reports": {"rental": f"ren_{'0' * 26}", "text": "too slow"},
        "POST saved-searches": {"name": "x", "query": "gpus=2", "notify": True},
    }


def caller_for(operation: Operation, supply: Supply) -> Api:
    """Somebody with the right and, as a renter, with credit."""
    if operation.scope == "staff":
        return people.api_of(people.staff())
    if operation.path == REPORTS:
        return a_machine()
    if operation.path.startswith("provider"):
        return Api(people.anonymous().client, supply.owner.secret)
    person = people.sign_up()
    add_credit(people.acting(person).org.id, 1000_000_000)
    return people.api_of(person)


OWN_CLUSTER = tuple(f"provider/clusters/{{}}/{what}" for what in ("relay", "preflight", "stop-now"))


def rented(supply: Supply) -> str:
    """A rental of somebody on the owner's cards."""
    status, rental = make_renter().call("POST", "/rentals", order(supply.offer))
    assert status == 202, rental
    return str(rental["id"])


def target(operation: Operation, supply: Supply, caller: Api) -> str:
    """The address with an object of the caller's own in it, where there is one."""
    if operation.path.startswith("provider/card-costs"):
        return operation.at(H100)
    if operation.path.startswith("provider/offers"):
        return operation.at(supply.offer.public_id)
    if operation.path == "provider/rentals/{}/stop-now":
        return operation.at(rented(supply))
    if operation.path == "staff/abuse-reports/{}/decide":
        said = {"rental": rented(supply), "text": "much traffic"}
        status, report = supply.owner.call("POST", "/provider/abuse-reports", said)
        assert status == 201, report
        return operation.at(report["id"])
    if operation.path == "staff/problem-reports/{}/answer":
        renter = make_renter()
        rental = renter.call("POST", "/rentals", order(supply.offer))[1]["id"]
        said = {"rental": rental, "text": "too slow"}
        status, report = renter.call("POST", "/problem-reports", said)
        assert status == 201, report
        return operation.at(report["id"])
    if operation.path in OWN_CLUSTER:
        return operation.at(public("cluster", supply.cluster.id))
    if "/nodes/{}/" in operation.path:
        return operation.at(quarantined(supply))
    if operation.path.startswith("provider/clusters/"):
        return operation.at(f"clu_{'0' * 26}")
    if operation.path.startswith("staff/providers"):
        return operation.at(supply.provider.public_id)
    if operation.path.startswith("staff/organizations"):
        return operation.at(supply.owner.principal.org.public_id)
    if operation.path.startswith("staff/brakes/"):
        with transaction.atomic():
            brake = provisioner.mark_restored(backup_at=now() - timedelta(hours=1))
        return operation.at(public("brake", brake.id))
    if operation.path.startswith("volumes/"):
        return operation.at(f"vol_{'0' * 26}")
    if operation.path.startswith("staff/breaks/"):
        row = Break.objects.create(
            rule="R1", name="balance_stored", subject="account:1", expected="1", found="2", text="x"
        )
        return operation.at(public("break", row.id))
    if operation.path.startswith("staff/incidents/"):
        made = caller.post("staff/incidents", bodies(supply)["POST staff/incidents"])
        assert made.status_code == 201, made.content
        return operation.at(made.data["id"])
    if operation.path.startswith("staff/fees/") and "{}" in operation.path:
        later = (now() + timedelta(days=30)).isoformat()
        body = {"fee_bps": 1200, "reason": "more cards", "valid_from": later}
        made = caller.post("staff/fees", body)
        assert made.status_code == 201, made.content
        return operation.at(made.data["id"])
    if operation.path.startswith("staff/months/"):
        return operation.at("2020-01")
    if operation.path == "members/{}":
        return operation.at(caller.get("me").data["user"]["id"])
    if operation.path.startswith("members/invitations/"):
        made = caller.post("members/invitations", {"email": "a@example.com", "role": "viewer"})
        assert made.status_code == 201, made.content
        return operation.at(made.data["id"])
    if operation.path == "projects/{}":
        made = caller.post("projects", {"name": "theirs"})
        assert made.status_code == 201, made.content
        return operation.at(made.data["id"])
    if operation.path.startswith("budgets/"):
        made = caller.post("budgets", bodies(supply)["POST budgets"])
        assert made.status_code == 201, made.content
        return operation.at(made.data["id"])
    if operation.path.startswith(UNMADE) and "{}" in operation.path:
        return operation.at(NOBODYS)
    if operation.path.startswith("rentals/"):
        made = caller.post("rentals", order(supply.offer, ports=[8000]))
        assert made.status_code == 202, made.content
        return operation.at(made.data["id"])
    kind = operation.path.partition("/")[0]
    made_plainly = {"templates", "secrets", "registry-credentials", "saved-searches"}
    if kind in made_plainly and "{}" in operation.path:
        made = caller.post(kind, bodies(supply)[f"POST {kind}"])
        assert made.status_code == 201, made.content
        return operation.at(made.data["id"])
    if operation.path.startswith("webhooks/"):
        body = {"url": "https://93.184.215.14/x", "event_types": ["*"]}
        webhook = caller.post("webhooks", body).data["id"]
        if operation.path.count("{}") == 1:
            return operation.at(webhook)
        return operation.at(f"{webhook} {caller.post(f'webhooks/{webhook}/test').data['id']}")
    assert "{}" not in operation.path, f"give this test an object for {operation}"
    return operation.path


def properties(operation: Operation) -> list[str]:
    schemas = described()["components"]["schemas"]
    for path, methods in described()["paths"].items():
        if Operation.shape(path) == operation.path and operation.method.lower() in methods:
            content = methods[operation.method.lower()]["requestBody"]["content"]
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            return sorted(schemas[name]["properties"])
    raise AssertionError(f"{operation} is not described")


@pytest.mark.parametrize(
    "operation", [operation for operation in operations() if operation.takes_body], ids=str
)
def test_one_hostile_field_never_breaks_an_operation(operation: Operation) -> None:
    supply = make_supply(8, storage="cluster")
    right = bodies(supply)
    assert str(operation) in right, f"give this test a right body for {operation}"
    caller = caller_for(operation, supply)
    address = target(operation, supply, caller)
    Provider.objects.update(allowed_networks=["127.0.0.0/8"], allowed_ports=[6443])
    fields = properties(operation)
    assert fields
    for field in fields:
        for value in HOSTILE:
            body = {**right[str(operation)], field: value}
            answer = caller.call(operation.method, address, body)
            shown = f"{field}={str(value)[:60]!r}: {answer.content[:300]!r}"
            assert answer.status_code < 500, shown
            if answer.status_code >= 400:
                assert answer["Content-Type"] == "application/problem+json", shown


def parameters(operation: Operation) -> list[str]:
    for path, methods in described()["paths"].items():
        if Operation.shape(path) == operation.path and operation.method.lower() in methods:
            return [
                parameter["name"]
                for parameter in methods[operation.method.lower()].get("parameters", [])
                if parameter["in"] == "query"
            ]
    return []


@pytest.mark.parametrize(
    "operation", [found for found in operations() if parameters(found)], ids=str
)
def test_one_hostile_parameter_never_breaks_a_list(operation: Operation) -> None:
    supply = make_supply(2)
    caller = caller_for(operation, supply)
    if operation.path == "offers/{}":
        address = operation.at(supply.offer.public_id)
    elif operation.path.startswith("accelerators/"):
        address = operation.at(supply.group.accelerator)
    elif operation.path.startswith("provider/clusters/"):
        address = operation.at(public("cluster", supply.cluster.id))
    else:
        address = target(operation, supply, caller)
    values = {str(value) for value in HOSTILE if not isinstance(value, list | dict)}
    for name in parameters(operation):
        for value in [*sorted(values - {"x" * 70_000}), "\x00", "a,b", "WyJ4Il0", "%F0"]:
            query = urlencode({name: value})
            answer = caller.get(f"{address}?{query}")
            shown = f"{query[:80]}: {answer.getvalue()[:300]!r}"
            assert answer.status_code < 500, shown
            assert answer.status_code in {200, 400, 404}, shown


# A report is a fact of its moment, sent again 15 s later: the same one twice is 429. A preview
# stores nothing, so there is nothing to repeat.
UNKEYED = (REPORTS, "staff/fees/preview")
KEYED = [
    found
    for found in operations()
    if found.method == "POST" and not found.public and found.path not in UNKEYED
]


@pytest.mark.parametrize("operation", KEYED, ids=str)
def test_one_key_has_one_effect_and_one_answer(operation: Operation) -> None:
    supply = make_supply(8, storage="cluster")
    caller = caller_for(operation, supply)
    address = target(operation, supply, caller)
    body = bodies(supply).get(str(operation), {})
    missing = caller.post(address, body, Idempotency_Key="")
    assert (missing.status_code, missing.data["type"]) == (400, "/problems/malformed")
    kept, audited = IdempotencyKey.objects.count(), AuditEntry.objects.count()
    first = caller.post(address, body, Idempotency_Key="once")
    if first.status_code >= 300:
        assert str(operation) in REFUSED, first.content
        assert (IdempotencyKey.objects.count(), AuditEntry.objects.count()) == (kept, audited)
        return
    effects = AuditEntry.objects.count()
    again = caller.post(address, body, Idempotency_Key="once")
    assert again["Idempotency-Replayed"] == "true"
    names = ("url",) if operation.path.endswith("/links") else ("secret", "relay_seed")
    hidden = {name: None for name in names if name in first.data}
    secret = {**hidden, "shown_once": True} if hidden else {}
    assert again.data == {**first.data, **secret}
    assert secret or again.content == first.content
    assert AuditEntry.objects.count() == effects
    other = caller.post(address, {**body, "other": 1}, Idempotency_Key="once")
    assert other.status_code == 422


# Right in form, and refused for what the test's market is: applied already, no such CA, no credit,
# nothing to pay or to refund, nobody frozen, no such object, another's password, no second factor.
REFUSED = {
    *(f"POST staff/{kind}/{{}}/decline" for kind in ORDERS),
    "POST second-factor/confirm",
    "POST second-factor/recovery-codes",
    "POST second-factor/remove",
    "POST provider/payout-account",
    "POST staff/months/{}/lock",
    "POST staff/adjustments/{}/approve",
    "POST staff/credit-notes",
    "POST staff/credit-notes/{}/approve",
    "POST staff/disputes/{}/evidence",
    "POST staff/earnings-reviews/{}/release",
    "POST staff/invoices/{}/write-off",
    "POST staff/organizations/{}/unfreeze",
    "POST staff/payout-runs",
    "POST staff/payout-runs/{}/approve",
    "POST staff/payout-runs/{}/cancel",
    "POST staff/payout-runs/release",
    "POST staff/promotions/{}/approve",
    "POST staff/refunds",
    "POST staff/refunds/{}/approve",
    "POST staff/incidents/{}/post",
    "POST provider",
    "POST provider/abuse-reports",
    "POST problem-reports",
    "POST provider/clusters",
    "POST staff/organizations/{}/close-period",
}
