"""Registering, observing and storing clusters: clear states, nothing lost, nothing oversold."""

from __future__ import annotations

import datetime
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import transaction

from kernel import clock
from kernel.errors import InvalidRequest, NotFound, Refusal
from provisioner import facade
from provisioner.clusters.register import open_token
from provisioner.contracts import AddressBinding, ClusterState
from provisioner.instances import release
from provisioner.inventory import summary
from provisioner.kube.errors import Rejected, Unavailable, Unsure
from provisioner.models import (
    Cluster,
    ClusterLoop,
    DeviceGroup,
    Namespace,
    Node,
    NodeShare,
    Slot,
)
from provisioner.reconcile import instance_loop, node_loop, observe, orphans, tokens
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.yard import at_time, conserved, end, make_yard, plan, rent, row_of, sure
from tests.unit.provisioner.test_nodes import POOL_TAINT, node_json

pytestmark = pytest.mark.django_db


def ca_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


CA = ca_pem()


def register(**more) -> UUID:
    """A new cluster that has passed its preflight (test_preflight.py) before anything else."""
    key = enlist(**more)
    Cluster.objects.filter(pk=key).update(preflight_passed=True)
    return key


def enlist(**more) -> UUID:
    key = uuid4()
    given = {
        "cluster_id": key,
        "name": "dc",
        "provider_ref": uuid4(),
        "datacenter_ref": uuid4(),
        "api_url": "https://k8s.example.com:6443",
        "ca_pem": CA,
        "token": "eyJhbGciOi.J9.x_-y",
        "binding": AddressBinding(),
    }
    with transaction.atomic():
        facade.register_cluster(**{**given, **more})
    return key


def due() -> None:
    ClusterLoop.objects.update(due_at=clock.now())
    Cluster.objects.update(retry_at=None)


class Everywhere(list[str]):
    """The namespaces of a token that may create pods in all."""

    def __contains__(self, _: object) -> bool:
        return True


def collect(cluster: MemoryCluster) -> None:
    due()
    node_loop.run(cluster.connect)
    summary.refresh()


def listed(cluster: MemoryCluster) -> None:
    due()
    observe.run(cluster.connect)
    summary.refresh()


def view(key: UUID):
    return facade.clusters(ids=[key])[0]


# --- registering --------------------------------------------------------------------------------


def test_a_registered_cluster_connects_and_shows_no_token() -> None:
    key = register()
    found = view(key)
    assert (found.state, found.nodes, found.slots) == (ClusterState.CONNECTING, 0, 0)
    row = Cluster.objects.get(pk=key)
    assert open_token(row) == "eyJhbGciOi.J9.x_-y"
    assert b"eyJhbGciOi" not in bytes(row.token_sealed)
    assert "eyJhbGciOi" not in repr(found)
    assert ClusterLoop.objects.filter(cluster=row).count() == len(ClusterLoop.Kind)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ca_pem", ""),
        ("ca_pem", "not a certificate"),
        ("ca_pem", CA.replace("M", "!", 3)),
        ("ca_pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("ca_pem", CA * 200),
        ("token", ""),
        ("token", "two words"),
        ("token", "line\nfeed"),
        ("token", "x" * 20_000),
        ("api_url", "https://k8s.example.com/api"),
    ],
)
def test_a_bad_field_is_named_and_nothing_stored(field: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        register(**{field: value})
    assert set(caught.value.extra["errors"]) == {field}
    assert not Cluster.objects.exists()


def test_a_forbidden_address_is_refused_without_resolving() -> None:
    with pytest.raises(Refusal) as caught:
        register(api_url="http://k8s.example.com")
    assert caught.value.slug == "address_forbidden"


def test_a_new_token_is_used_at_once() -> None:
    key = register()
    before = Cluster.objects.get(pk=key)
    Cluster.objects.update(failures=5, retry_at=clock.now() + timedelta(minutes=1))
    with transaction.atomic():
        facade.replace_token(cluster_id=key, token="another")
    row = Cluster.objects.get(pk=key)
    assert open_token(row) == "another"
    assert row.token_version == before.token_version + 1
    assert (row.failures, row.retry_at) == (0, None)
    with pytest.raises(NotFound), transaction.atomic():
        facade.replace_token(cluster_id=uuid4(), token="x")


def test_a_token_does_not_open_in_another_row() -> None:
    from kernel.sealed import CannotOpen

    one, two = register(), register()
    Cluster.objects.filter(pk=two).update(
        token_sealed=bytes(Cluster.objects.get(pk=one).token_sealed)
    )
    with pytest.raises(CannotOpen):
        open_token(Cluster.objects.get(pk=two))


def test_a_binding_reaches_all_clusters_of_a_provider() -> None:
    provider = uuid4()
    keys = [register(provider_ref=provider) for _ in range(2)]
    other = register()
    with transaction.atomic():
        facade.set_binding(provider_ref=provider, binding=AddressBinding(("10.1.2.3/8",), (7443,)))
    for key in keys:
        row = Cluster.objects.get(pk=key)
        assert (row.binding_networks, row.binding_ports) == (["10.0.0.0/8"], [7443])
    assert Cluster.objects.get(pk=other).binding_networks == []


# --- inventory ----------------------------------------------------------------------------------


def test_a_new_cluster_is_on_sale_after_inventory_and_one_list(cluster) -> None:
    key = register()
    cluster.nodes = [node_json(name="a"), node_json(name="b"), node_json(name="mine", taints=[])]
    collect(cluster)
    assert view(key).state == ClusterState.CONNECTING
    listed(cluster)
    found = view(key)
    assert (found.state, found.server_version) == (ClusterState.READY, "v1.20.2")
    assert (found.nodes, found.slots, found.slots_free) == (3, 16, 16)
    (group,) = facade.groups(provider_ref=found.provider_ref)
    assert (group.slots_total, group.slots_free, group.largest_block) == (16, 16, 8)
    assert (group.accelerator, group.driver, group.cuda_max) == (
        "nvidia-h100-80gb-sxm",
        "550.54.15",
        "12.4",
    )
    assert DeviceGroup.objects.get().cuda_max_x100 == 1240
    assert DeviceGroup.objects.get().listed_ok
    reasons = {node.name: node.reason for node in facade.nodes(cluster_id=key)}
    assert reasons["a"] == ""
    assert "taint" in reasons["mine"]
    assert Namespace.objects.filter(cluster=key).count() == 4


def test_nothing_is_written_when_nothing_changed(cluster, django_assert_max_num_queries) -> None:
    key = register()
    cluster.nodes = [node_json(name=f"n{number}") for number in range(10)]
    collect(cluster)
    before = list(NodeShare.objects.order_by("pk").values())
    collect(cluster)
    assert list(NodeShare.objects.order_by("pk").values()) == before
    assert Slot.objects.filter(share__node__cluster=key).count() == 80


def test_a_pool_that_is_missing_is_said_and_not_sold(cluster) -> None:
    key = register()
    cluster.namespaces = []
    cluster.nodes = [node_json()]
    collect(cluster)
    listed(cluster)
    found = view(key)
    assert (found.state, found.reason) == (ClusterState.CONNECTING, "no_namespaces")
    assert "bundle" in found.detail
    cluster.namespaces = ["gpuyard-r-01"]
    collect(cluster)
    listed(cluster)
    assert view(key).state == ClusterState.READY


def test_a_pool_that_grows_is_noticed(cluster) -> None:
    key = register()
    collect(cluster)
    cluster.namespaces.append("gpuyard-r-05")
    cluster.calls.clear()
    collect(cluster)
    assert Namespace.objects.filter(cluster=key).count() == 5
    assert cluster.calls.count("may_create_pods") == 3


def test_a_token_for_pods_everywhere_finds_no_pool(cluster) -> None:
    """Every name would be one of it, those that nobody made among them, and they would stay."""
    key = register()
    cluster.namespaces = Everywhere()
    cluster.calls.clear()
    collect(cluster)
    assert not Namespace.objects.filter(cluster=key).exists()
    assert cluster.calls.count("may_create_pods") == 2


def stocked(cluster: MemoryCluster, **node):
    key = register()
    cluster.nodes = [node_json(name="a", devices={"nvidia.com/gpu": 4}, **node)]
    collect(cluster)
    listed(cluster)
    row = Cluster.objects.get(pk=key)
    from tests.area.provisioner.yard import Yard

    return Yard(row, DeviceGroup.objects.get(cluster=row))


def test_a_lost_card_takes_a_free_seat_first(cluster) -> None:
    yard = stocked(cluster)
    view = rent(yard, 3)
    cluster.nodes = [
        node_json(name="a", devices={"nvidia.com/gpu": 4}, healthy={"nvidia.com/gpu": 3})
    ]
    collect(cluster)
    share = NodeShare.objects.get()
    assert (share.slots_total, share.slots_free, share.short) == (3, 0, False)
    assert Slot.objects.get(state="cordoned").reason == "device_gone"
    assert row_of(view).state == "reserved"
    conserved(yard)
    cluster.nodes = [node_json(name="a", devices={"nvidia.com/gpu": 4})]
    collect(cluster)
    share.refresh_from_db()
    assert (share.slots_total, share.slots_free) == (4, 1)
    conserved(yard)


def test_a_lost_card_of_a_renter_degrades_and_recovers(cluster) -> None:
    yard = stocked(cluster)
    found = rent(yard, 4)
    instance_loop.run(cluster.connect, seconds=0.01)
    cluster.run_pods()
    listed(cluster)
    assert row_of(found).state == "ready"
    whole, cluster.nodes = (
        cluster.nodes,
        [node_json(name="a", devices={"nvidia.com/gpu": 4}, healthy={"nvidia.com/gpu": 3})],
    )
    collect(cluster)
    listed(cluster)
    row = row_of(found)
    assert (row.state, row.reason) == ("degraded", "gpu_lost")
    assert Slot.objects.filter(state="held").count() == 4, "a held seat is never removed"
    listed(cluster)
    assert row_of(found).state == "degraded", "a Ready pod alone does not bring the card back"
    cluster.nodes = whole
    collect(cluster)
    listed(cluster)
    assert row_of(found).state == "ready"
    conserved(yard)


@pytest.mark.parametrize(
    "change",
    [
        {"ready": False},
        {"unschedulable": True},
        {"taints": []},
        {"taints": [POOL_TAINT, {"key": "x", "effect": "NoSchedule"}]},
        {"labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED"}},
    ],
)
def test_a_node_that_must_not_be_used_is_no_candidate(cluster, change) -> None:
    yard = stocked(cluster)
    assert plan(yard).candidates
    cluster.nodes = [node_json(name="a", devices={"nvidia.com/gpu": 4}, **change)]
    collect(cluster)
    assert plan(yard).candidates == ()
    assert facade.nodes(cluster_id=yard.cluster.pk)[0].reason
    assert facade.groups()[0].slots_free == 0
    cluster.nodes = [node_json(name="a", devices={"nvidia.com/gpu": 4})]
    collect(cluster)
    assert plan(yard).candidates
    conserved(yard)


def test_a_node_that_leaves_keeps_its_renters_seats(cluster) -> None:
    yard = stocked(cluster)
    rent(yard, 2)
    cluster.nodes = []
    collect(cluster)
    assert plan(yard).candidates == ()
    assert Node.objects.get().missing_since is not None
    assert Slot.objects.filter(state="held").count() == 2
    assert view(yard.cluster.pk).nodes == 0
    conserved(yard)


def test_a_relabelled_node_moves_to_another_group(cluster) -> None:
    yard = stocked(cluster)
    newer = dict(cluster.nodes[0]["metadata"]["labels"], **{"nvidia.com/cuda.driver.major": "560"})
    cluster.nodes = [node_json(newer, name="a", devices={"nvidia.com/gpu": 4})]
    collect(cluster)
    totals = {row.driver: row.slots_total for row in DeviceGroup.objects.all()}
    assert totals == {"550.54.15": 0, "560.54.15": 4}
    conserved(yard)


# --- states of a cluster ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "state", "word"),
    [
        (Rejected("unauthorized", "401"), ClusterState.CREDENTIAL_REJECTED, "token"),
        (Rejected("forbidden", "403"), ClusterState.CREDENTIAL_REJECTED, "bundle"),
        (Rejected("bad_ca", "x"), ClusterState.TLS_REJECTED, "CA"),
        (Unavailable("dns", "x"), ClusterState.UNREACHABLE, "resolve"),
        (Unavailable("connect", "x"), ClusterState.UNREACHABLE, "connections"),
        (Rejected("address_forbidden", "x"), ClusterState.UNREACHABLE, "address"),
        (Unsure("timeout", "x"), ClusterState.UNREACHABLE, "time"),
        (Unsure("not_json", "x"), ClusterState.UNREACHABLE, "Kubernetes"),
        (Unsure("redirect", "x"), ClusterState.UNREACHABLE, "redirect"),
    ],
)
def test_every_failure_has_a_state_and_a_sentence(cluster, error, state, word) -> None:
    key = register()
    cluster.fail("list_pods", lambda: error)
    cluster.fail("server_version", lambda: error)
    due()
    observe.run(cluster.connect)
    found = view(key)
    assert (found.state, found.reason) == (state, error.code)
    assert word in found.detail
    row = Cluster.objects.get(pk=key)
    assert sure(row.retry_at) > clock.now()
    assert observe.run(cluster.connect) == 0, "the breaker is open"


def test_one_failed_list_takes_nothing_off_sale(cluster) -> None:
    yard = stocked(cluster)
    cluster.fail("list_pods", lambda: Unsure("timeout", "once"))
    listed(cluster)
    assert view(yard.cluster.pk).state == ClusterState.READY
    assert plan(yard).candidates


def test_a_cluster_that_stays_away_is_off_sale_and_comes_back(cluster, set_clock) -> None:
    set_clock("2026-11-01T10:00:00Z")
    yard = stocked(cluster)
    cluster.fail("list_pods", lambda: Unsure("timeout", "away"), times=2)
    set_clock("2026-11-01T10:00:20Z")
    listed(cluster)
    found = view(yard.cluster.pk)
    assert found.state == ClusterState.UNREACHABLE
    assert plan(yard).candidates == ()
    assert not DeviceGroup.objects.get().listed_ok
    listed(cluster)
    set_clock("2026-11-01T10:00:30Z")
    listed(cluster)
    assert view(yard.cluster.pk).state == ClusterState.READY
    assert DeviceGroup.objects.get().listed_ok
    assert plan(yard).candidates


def test_a_leaving_cluster_drains_and_then_is_retired(cluster) -> None:
    yard = stocked(cluster)
    found = rent(yard)
    with transaction.atomic():
        facade.retire_cluster(cluster_id=yard.cluster.pk)
        facade.retire_cluster(cluster_id=yard.cluster.pk)
    assert view(yard.cluster.pk).state == ClusterState.DRAINING
    assert plan(yard).candidates == ()
    end(found)
    instance_loop.run(cluster.connect, seconds=0.01)
    assert row_of(found).state == "gone"
    assert view(yard.cluster.pk).state == ClusterState.RETIRED


# --- tokens and namespaces ----------------------------------------------------------------------


def test_a_token_is_renewed_at_a_third_of_its_life(cluster, set_clock) -> None:
    set_clock("2026-11-01T10:00:00Z")
    key = register()
    cluster.token = ("renewed-1", "2026-12-01T10:00:00Z")
    due()
    tokens.run(cluster.connect)
    row = Cluster.objects.get(pk=key)
    assert open_token(row) == "renewed-1"
    assert row.token_renew_at == sure(row.token_expires_at) - timedelta(days=20)
    cluster.token = ("renewed-2", "2026-12-20T10:00:00Z")
    set_clock("2026-11-11T09:00:00Z")
    due()
    tokens.run(cluster.connect)
    assert open_token(Cluster.objects.get(pk=key)) == "renewed-1"
    set_clock("2026-11-11T11:00:00Z")
    due()
    tokens.run(cluster.connect)
    assert open_token(Cluster.objects.get(pk=key)) == "renewed-2"


@pytest.mark.parametrize("answer", [("", "2027-01-01T00:00:00Z"), ("x", "never"), ("x", "")])
def test_a_useless_token_is_not_taken(cluster, answer) -> None:
    key = register()
    cluster.token = answer
    due()
    tokens.run(cluster.connect)
    assert open_token(Cluster.objects.get(pk=key)) == "eyJhbGciOi.J9.x_-y"


def test_a_pasted_token_is_not_overwritten_by_a_renewal(cluster) -> None:
    key = register()

    class Pasting(MemoryCluster):
        def renew_token(self, *, seconds: int) -> tuple[str, str]:
            return "renewed", "2099-01-01T00:00:00Z"

    due()
    stale = Pasting()

    def connect(row: Cluster) -> MemoryCluster:
        with transaction.atomic():
            facade.replace_token(cluster_id=row.pk, token="pasted")
        return stale

    tokens.run(connect)
    assert open_token(Cluster.objects.get(pk=key)) == "pasted"


def test_an_empty_namespace_goes_back_to_the_pool_after_a_rest(cluster, set_clock) -> None:
    at_time("2026-11-01T10:00:00Z")
    yard = make_yard(namespaces=1)
    found = rent(yard)
    end(found)
    instance_loop.run(cluster.connect, seconds=0.01)
    assert row_of(found).state == "gone"

    def swept(moment: str) -> UUID | None:
        at_time(moment)
        due()
        orphans.run(cluster.connect)
        return Namespace.objects.get().tenant_ref

    assert swept("2026-11-01T10:09:00Z") == found.tenant_ref
    assert swept("2026-11-01T10:11:00Z") is None
    release.recycle()
    again = rent(yard)
    assert again.namespace == found.namespace
    instance_loop.run(cluster.connect, seconds=0.01)
    assert swept("2026-11-01T12:00:00Z") == again.tenant_ref, "a live instance keeps it"
