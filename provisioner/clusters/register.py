"""Registering a cluster, replacing its token, draining it. Rows only: observing comes later.

The CA and the token are all we are ever given of a cluster. The token is sealed with the
cluster's id as its owner, so a copied row does not open elsewhere.
"""

from __future__ import annotations

import re
from uuid import UUID

from cryptography import x509
from django.conf import settings
from django.db import connection

from kernel import clock, sealed
from kernel.errors import InvalidRequest, NotFound
from kernel.wake import wake_on_commit
from provisioner.clusters import agent_keys
from provisioner.clusters.addresses import parse_binding, parse_target
from provisioner.contracts import AddressBinding, ClusterMode, ClusterState
from provisioner.contracts.access import AgentValues
from provisioner.contracts.preflight import PreflightState
from provisioner.models import Cluster, ClusterLoop

MAX_CA = 64 * 1024
# Roots and what an owner changes between. Each costs a worker some kilobytes for as long as it has
# a client of the cluster; as many as fit into the text would cost half a megabyte.
MAX_CERTIFICATES = 16
MAX_TOKEN = 16 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


def register_cluster(
    *,
    cluster_id: UUID,
    name: str,
    provider_ref: UUID,
    datacenter_ref: UUID,
    api_url: str,
    ca_pem: str,
    token: str,
    binding: AddressBinding,
) -> Cluster:
    """Store a cluster as ``connecting``; raises InvalidRequest or address_forbidden."""
    parse_target(api_url, binding)
    _check_ca(ca_pem)
    _check_token(token)
    bound = parse_binding(binding)
    cluster = Cluster(
        id=cluster_id,
        name=name,
        provider_ref=provider_ref,
        datacenter_ref=datacenter_ref,
        api_url=api_url.rstrip("/"),
        ca_pem=ca_pem,
        token_sealed=seal_token(cluster_id, token),
        binding_networks=list(bound.networks),
        binding_ports=list(bound.ports),
        detail="Registered. The first look at the cluster is under way.",
        token_renew_at=clock.now(),
    )
    return _store(cluster)


def register_agent_cluster(
    *, cluster_id: UUID, name: str, provider_ref: UUID, datacenter_ref: UUID
) -> Cluster:
    """Store a cluster whose agent will dial in, as ``connecting``."""
    cluster = Cluster(
        id=cluster_id,
        name=name,
        provider_ref=provider_ref,
        datacenter_ref=datacenter_ref,
        mode=ClusterMode.AGENT,
        api_url="",
        ca_pem="",
        token_sealed=b"",
        detail="Registered. It waits for its agent to connect.",
    )
    return _store(cluster)


def _store(cluster: Cluster) -> Cluster:
    now = clock.now()
    cluster.state_since = cluster.created_at = now
    cluster.preflight_passed = False
    cluster.save(force_insert=True)
    ClusterLoop.objects.bulk_create(
        ClusterLoop(cluster=cluster, kind=kind, due_at=now) for kind in ClusterLoop.Kind.values
    )
    _look_again()
    return cluster


def replace_token(*, cluster_id: UUID, token: str) -> None:
    """Use another token from now on; the cluster is looked at again at once, and takes no new
    rentals until it is known what the token may do."""
    _check_token(token)
    now = clock.now()
    cluster = _locked(cluster_id)
    cluster.token_sealed = seal_token(cluster_id, token)
    cluster.token_version += 1
    cluster.token_expires_at = None
    cluster.token_renew_at = now
    cluster.retry_at = None
    cluster.failures = 0
    cluster.preflight_passed = False
    cluster.preflight_state = PreflightState.WAITING.value
    cluster.save(
        update_fields=[
            "token_sealed",
            "token_version",
            "token_expires_at",
            "token_renew_at",
            "retry_at",
            "failures",
            "preflight_passed",
            "preflight_state",
        ]
    )
    note_cluster_change(cluster_id)
    ClusterLoop.objects.filter(cluster_id=cluster_id).update(due_at=now)
    _look_again()


def set_binding(*, provider_ref: UUID, binding: AddressBinding) -> None:
    """Networks and ports that this provider's servers may live on, for all its clusters."""
    bound = parse_binding(binding)
    Cluster.objects.filter(provider_ref=provider_ref).update(
        binding_networks=list(bound.networks), binding_ports=list(bound.ports), retry_at=None
    )
    _look_again()


def agent_values(cluster_id: UUID) -> AgentValues | None:
    """What the agent of a cluster needs; None for one that is reached at its address."""
    cluster = Cluster.objects.get(pk=cluster_id)
    return agent_keys.values(cluster) if cluster.mode == ClusterMode.AGENT else None


def retire_cluster(*, cluster_id: UUID) -> None:
    """No new rentals from now on; those that run go on. Repeating it changes nothing."""
    cluster = _locked(cluster_id)
    if cluster.drain_requested_at is None:
        cluster.drain_requested_at = clock.now()
        cluster.save(update_fields=["drain_requested_at"])
        note_cluster_change(cluster_id)


def note_cluster_change(cluster_id: UUID) -> None:
    """The cluster takes or refuses rentals differently now: its groups are summed up again."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO provisioner_groupchange (group_id)"
            " SELECT id FROM provisioner_devicegroup WHERE cluster_id = %s",
            [cluster_id],
        )
    wake_on_commit("provisioner.summaries")


def look_again(*, cluster_id: UUID) -> None:
    """In a transaction: the cluster's nodes are read after commit, whatever the schedule."""
    loops = ClusterLoop.objects.filter(cluster_id=cluster_id, kind=ClusterLoop.Kind.INVENTORY)
    loops.update(due_at=clock.now())
    wake_on_commit("provisioner.inventory")


def observed_state(cluster: Cluster, *, alive: bool) -> ClusterState:
    """What people are shown: the wish to leave wins over what was observed."""
    if cluster.drain_requested_at is not None:
        return ClusterState.DRAINING if alive else ClusterState.RETIRED
    return ClusterState(cluster.state)


def seal_token(cluster_id: UUID, token: str) -> bytes:
    key: bytes = settings.GPUYARD_SEALING_KEY
    return sealed.seal(token.encode(), key=key, owner=str(cluster_id), field="token")


def open_token(cluster: Cluster) -> str:
    """The token in clear, for the one client that sends it; raises sealed.CannotOpen."""
    key: bytes = settings.GPUYARD_SEALING_KEY
    owner = str(cluster.id)
    return sealed.unseal(bytes(cluster.token_sealed), key=key, owner=owner, field="token").decode()


def newest_token_opens() -> bool | None:
    """Whether the present sealing key opens the newest cluster's token; None without a cluster."""
    direct = Cluster.objects.filter(mode=ClusterMode.DIRECT)  # others have none that is stored
    cluster = direct.order_by("-id").first()
    if cluster is None:
        return None
    try:
        open_token(cluster)
    except sealed.CannotOpen:
        return False
    return True


def binding_of(cluster: Cluster) -> AddressBinding:
    return AddressBinding(tuple(cluster.binding_networks), tuple(cluster.binding_ports))


def _locked(cluster_id: UUID) -> Cluster:
    try:
        return Cluster.objects.select_for_update(no_key=True).get(id=cluster_id)
    except Cluster.DoesNotExist as error:
        raise NotFound("cluster") from error


def _look_again() -> None:
    wake_on_commit("provisioner.observe")
    wake_on_commit("provisioner.inventory")
    wake_on_commit("provisioner.preflight")


def _check_ca(ca_pem: str) -> None:
    if len(ca_pem) > MAX_CA:
        raise InvalidRequest({"ca_pem": [f"at most {MAX_CA // 1024} KiB"]})
    if "PRIVATE KEY" in ca_pem:
        raise InvalidRequest({"ca_pem": ["keep the private key to yourself: certificates only"]})
    if not ca_pem.isascii():  # TLS libraries take no other text, not even around certificates
        raise InvalidRequest({"ca_pem": ["not a certificate in PEM form: plain ASCII only"]})
    try:
        certificates = x509.load_pem_x509_certificates(ca_pem.encode())
    except ValueError as error:
        raise InvalidRequest({"ca_pem": ["not a certificate in PEM form"]}) from error
    if len(certificates) > MAX_CERTIFICATES:
        raise InvalidRequest({"ca_pem": [f"at most {MAX_CERTIFICATES} certificates"]})
    if not certificates:
        raise InvalidRequest({"ca_pem": ["not a certificate in PEM form"]})


def is_token(text: str) -> bool:
    """Whether a text can be sent as a bearer token: it is one line of a header."""
    return 0 < len(text) <= MAX_TOKEN and _TOKEN.fullmatch(text) is not None


def _check_token(token: str) -> None:
    if not is_token(token):
        raise InvalidRequest({"token": ["a bearer token: letters, digits and ._~+/=- only"]})
