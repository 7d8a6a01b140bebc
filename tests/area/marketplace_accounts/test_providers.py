"""Owners of cards: apply, approval and binding by staff, data centres, clusters, leaving."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from django.db import connection

from marketplace.models import AuditEntry, Provider
from provisioner import facade as provisioner
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api

TOKEN = "eyJhbGciOiJSUzI1NiJ9.not-a-real.token"
LOOPBACK = {"ownership": "partner", "networks": ["127.0.0.0/8"], "ports": [6443]}


@pytest.fixture(scope="module")
def ca_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    start = datetime.datetime(2026, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode()


@pytest.fixture
def provider(owner: Api, staff: Api) -> Api:
    """An approved provider whose servers may live on loopback, port 6443."""
    made = owner.post("provider", {"contact_email": "ops@example.com"})
    assert staff.post(f"staff/providers/{made.data['id']}/approve", LOOPBACK).status_code == 200
    return owner


@pytest.fixture
def place(provider: Api) -> str:
    body = {"name": "fra-1", "region": "eu-central", "country": "DE"}
    return str(provider.post("provider/datacenters", body).data["id"])


def order(place: str, pem: str, /, **changes: Any) -> dict[str, Any]:
    return {
        "name": "main",
        "datacenter": place,
        "api_url": "https://127.0.0.1:6443",
        "ca_pem": pem,
        "token": TOKEN,
        **changes,
    }


def test_apply_approve_and_change(owner: Api, staff: Api) -> None:
    assert owner.get("provider").status_code == 404
    made = owner.post("provider", {"contact_email": "ops@example.com", "description": "Spare"})
    assert (made.status_code, made.data["state"]) == (201, "applied")
    twice = owner.post("provider", {"contact_email": "ops@example.com"})
    assert twice.status_code == 422
    listed = staff.get("staff/providers?state=applied").data["items"]
    assert [row["id"] for row in listed] == [made.data["id"]]

    body = {**LOOPBACK, "fee_bps": 1200}
    approved = staff.post(f"staff/providers/{made.data['id']}/approve", body)
    assert (approved.status_code, approved.data["state"]) == (200, "approved")
    seen = owner.get("provider").data
    assert (seen["allowed_networks"], seen["allowed_ports"]) == (["127.0.0.0/8"], [6443])
    entry = AuditEntry.objects.get(action="provider.approve")
    assert entry.actor.startswith("staff:usr_")
    assert entry.on_behalf == str(entry.organization_ref)

    stale = owner.patch("provider", {"description": "New"}, If_Match='"1"')
    assert (stale.status_code, stale.data["type"]) == (412, "/problems/version_conflict")
    fresh = owner.patch("provider", {"description": "New"}, If_Match=f'"{seen["version"]}"')
    assert fresh.data["description"] == "New"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"networks": ["everything"]}, "networks"),
        ({"networks": ["10.0.0.0/8"] * 33}, "networks"),
        ({"ports": [0]}, "ports.0"),
        ({"ports": [65536]}, "ports.0"),
        ({"fee_bps": 5001}, "fee_bps"),
        ({"fee_bps": -1}, "fee_bps"),
        ({"ownership": "mine"}, "ownership"),
    ],
)
def test_a_bad_binding_is_refused_and_approves_nobody(
    owner: Api, staff: Api, change: dict[str, Any], field: str
) -> None:
    made = owner.post("provider", {"contact_email": "ops@example.com"})
    answer = staff.post(f"staff/providers/{made.data['id']}/approve", {**LOOPBACK, **change})
    assert answer.status_code == 422
    assert any(name.startswith(field.split(".", maxsplit=1)[0]) for name in answer.data["errors"])
    assert Provider.objects.get().state == "applied"


def test_an_unverified_person_cannot_apply(db: None) -> None:
    stranger = people.api_of(people.sign_up(verified=False))
    answer = stranger.post("provider", {"contact_email": "ops@example.com"})
    assert (answer.status_code, answer.data["type"]) == (403, "/problems/email_unverified")


def test_a_cluster_is_stored_with_its_state_and_never_shows_its_token(
    provider: Api, place: str, ca_pem: str
) -> None:
    made = provider.post("provider/clusters", order(place, ca_pem), Idempotency_Key="k-1")
    assert made.status_code == 201, made.content
    assert made.data["state"] == "connecting"
    assert made.data["actions"] == ["replace_token", "preflight", "drain"]
    again = provider.post("provider/clusters", order(place, ca_pem), Idempotency_Key="k-1")
    assert again.content == made.content
    address = f"provider/clusters/{made.data['id']}"
    for answer in (provider.get("provider/clusters"), provider.get(address)):
        assert TOKEN not in answer.content.decode()
    assert provider.get(f"{address}/nodes").data == {"items": [], "next_cursor": None}
    assert provider.get(f"{address}/slots").data == {"items": [], "next_cursor": None}
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_jsonb(c)::text FROM provisioner_cluster c")
        assert TOKEN not in cursor.fetchone()[0]
    assert TOKEN not in "".join(str(row.details) for row in AuditEntry.objects.all())


def test_token_replaced_and_cluster_drained(provider: Api, place: str, ca_pem: str) -> None:
    made = provider.post("provider/clusters", order(place, ca_pem))
    address = f"provider/clusters/{made.data['id']}"
    assert provider.patch(address, {"token": "another.token"}).status_code == 200
    assert provider.patch(address, {"token": "two words"}).status_code == 422
    assert provider.patch(address, {"token": "x", "name": "y"}).status_code == 422
    gone = provider.delete(address)
    assert gone.status_code == 202
    assert gone.data["state"] in {"draining", "retired"}
    assert provider.delete(address).status_code == 202
    assert AuditEntry.objects.filter(action="cluster.drain").count() == 1


@pytest.mark.parametrize(
    ("change", "slug", "field"),
    [
        ({"api_url": "http://127.0.0.1:6443"}, "address_forbidden", ""),
        ({"api_url": "https://127.0.0.1:22"}, "address_forbidden", ""),
        ({"api_url": "https://10.0.0.1:6443"}, "address_forbidden", ""),
        ({"api_url": "https://169.254.169.254:443"}, "address_forbidden", ""),
        ({"api_url": "https://user:pw@127.0.0.1:6443"}, "address_forbidden", ""),
        ({"api_url": "no url"}, "invalid_request", "api_url"),
        (
            {"ca_pem": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"},
            "invalid_request",
            "ca_pem",
        ),
        ({"ca_pem": "x" * 65_537}, "invalid_request", "ca_pem"),
        ({"token": "a b"}, "invalid_request", "token"),
        ({"name": ""}, "invalid_request", "name"),
        ({"mode": "agent"}, "invalid_request", "api_url"),
        ({"mode": "proxy"}, "invalid_request", "mode"),
        ({"kubeconfig": "apiVersion: v1"}, "invalid_request", "kubeconfig"),
        ({"datacenter": "dc_unknown"}, "not_found", ""),
    ],
)
def test_a_bad_cluster_is_refused_and_not_stored(
    provider: Api, place: str, ca_pem: str, change: dict[str, str], slug: str, field: str
) -> None:
    answer = provider.post("provider/clusters", order(place, ca_pem, **change))
    assert answer.data["type"] == f"/problems/{slug}", answer.content
    if field:
        assert field in answer.data["errors"]
    assert provisioner.clusters() == []


def test_a_ca_is_a_few_certificates_and_nothing_secret(
    provider: Api, place: str, ca_pem: str
) -> None:
    secret = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"
    for text in (ca_pem + secret, f"é\n{ca_pem}", ca_pem * 17):
        answer = provider.post("provider/clusters", order(place, text))
        assert (answer.status_code, list(answer.data["errors"])) == (422, ["ca_pem"])
    assert provider.post("provider/clusters", order(place, ca_pem * 16)).status_code == 201


def test_of_thousands_of_unknown_fields_some_are_named(
    provider: Api, place: str, ca_pem: str
) -> None:
    strange = {f"strange_{number}": 1 for number in range(5_000)}
    answer = provider.post("provider/clusters", {**order(place, ca_pem), **strange})
    assert answer.status_code == 422
    assert len(answer.data["errors"]) == 20


def test_missing_parts_are_named(provider: Api, place: str) -> None:
    answer = provider.post("provider/clusters", {"name": "x", "datacenter": place})
    assert sorted(answer.data["errors"]) == ["api_url", "ca_pem", "token"]


def test_without_approval_no_cluster(owner: Api, ca_pem: str) -> None:
    owner.post("provider", {"contact_email": "ops@example.com"})
    body = {"name": "fra-1", "region": "eu-central", "country": "DE"}
    place = owner.post("provider/datacenters", body).data["id"]
    answer = owner.post("provider/clusters", order(place, ca_pem))
    assert (answer.status_code, answer.data["type"]) == (409, "/problems/invalid_transition")
    assert answer.data["state"] == "applied"
    assert provisioner.clusters() == []


def test_one_name_once(provider: Api, place: str, ca_pem: str) -> None:
    assert provider.post("provider/clusters", order(place, ca_pem)).status_code == 201
    second = provider.post("provider/clusters", order(place, ca_pem))
    assert "name" in second.data["errors"]


def test_another_provider_sees_nothing_of_it(
    provider: Api, staff: Api, place: str, ca_pem: str
) -> None:
    made = provider.post("provider/clusters", order(place, ca_pem)).data["id"]
    other = people.owner()
    applied = other.post("provider", {"contact_email": "ops@example.com"})
    staff.post(f"staff/providers/{applied.data['id']}/approve", LOOPBACK)
    assert other.get("provider/clusters").data["items"] == []
    address = f"provider/clusters/{made}"
    assert [
        other.get(address).status_code,
        other.patch(address, {"token": "x"}).status_code,
        other.delete(address).status_code,
        other.get(f"{address}/nodes").status_code,
        other.get(f"{address}/slots").status_code,
        other.post("provider/clusters", order(place, ca_pem)).status_code,
    ] == [404] * 6
    assert provisioner.clusters()[0].state == "connecting"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"region": "EU Central"}, "region"),
        ({"region": "-x"}, "region"),
        ({"country": "Germany"}, "country"),
        ({"country": "de"}, "country"),
        ({"name": " "}, "name"),
    ],
)
def test_bad_data_centres_are_refused(provider: Api, change: dict[str, str], field: str) -> None:
    body = {"name": "fra-1", "region": "eu-central", "country": "DE", **change}
    answer = provider.post("provider/datacenters", body)
    assert (answer.status_code, field in answer.data["errors"]) == (422, True)


def test_earnings_and_offers_start_empty(provider: Api) -> None:
    earnings = provider.get("provider/earnings")
    assert (earnings.status_code, earnings.data["pending"]) == (200, "0.0000")
    assert provider.get("provider/offers").data["items"] == []
    missing = provider.patch(f"provider/offers/ofr_{uuid.uuid4().hex[:26]}", {"min_gpus": 1})
    assert missing.status_code == 404
