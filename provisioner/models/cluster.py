"""A cluster: one Kubernetes API server of one data centre, its loops, its pool of namespaces."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from kernel.ids import new_id
from provisioner.contracts import ClusterMode, ClusterState, ReaperState
from provisioner.contracts.preflight import PreflightState

# What observing can find; draining and retired are wishes and derive from drain_requested_at.
OBSERVED_STATES = (
    ClusterState.CONNECTING,
    ClusterState.READY,
    ClusterState.UNREACHABLE,
    ClusterState.CREDENTIAL_REJECTED,
    ClusterState.TLS_REJECTED,
)


class Cluster(models.Model):
    """Address, trust anchor and credential as given; how it answers as observed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=100)
    provider_ref = models.UUIDField(db_index=True)
    datacenter_ref = models.UUIDField(db_index=True)
    # direct: at api_url. agent: through the relay of the cluster, which executes commands there.
    mode = models.CharField(
        max_length=6, default=ClusterMode.DIRECT.value, db_default=ClusterMode.DIRECT.value
    )
    api_url = models.CharField(max_length=300)  # "" with an agent
    ca_pem = models.TextField()
    token_sealed = models.BinaryField()
    token_version = models.PositiveIntegerField(default=1)  # raised by each replacement
    token_expires_at = models.DateTimeField(null=True)
    token_renew_at = models.DateTimeField(null=True)
    binding_networks = models.JSONField(default=list)
    binding_ports = models.JSONField(default=list)

    state = models.CharField(max_length=24, default=ClusterState.CONNECTING.value)
    reason = models.CharField(max_length=40, default="connecting")
    detail = models.CharField(max_length=500, default="")
    state_since = models.DateTimeField()
    drain_requested_at = models.DateTimeField(null=True)
    server_version = models.CharField(max_length=40, null=True)

    # Where volumes can live, as the last inventory found it (inventory/storage.py).
    storage_class = models.CharField(max_length=253, db_default="", default="")
    storage_domain = models.CharField(max_length=8, db_default="none", default="none")
    storage_reclaim = models.CharField(max_length=10, db_default="", default="")
    storage_waits = models.BooleanField(db_default=False, default=False)  # binds at first use
    storage_expands = models.BooleanField(db_default=False, default=False)
    storage_reason = models.CharField(max_length=300, db_default="", default="")

    # The last successful full list: every open ready interval of the cluster is good up to here.
    last_positive_at = models.DateTimeField(null=True)
    last_attempt_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)  # consecutive; the breaker opens by it
    retry_at = models.DateTimeField(null=True)  # no call before this time while failures > 0
    created_at = models.DateTimeField()

    # The reaper as its heartbeat shows it (clusters/reaper.py). seen_at is when we saw the mark
    # change: the time in a heartbeat is another machine's.
    reaper_state = models.CharField(max_length=10, db_default=ReaperState.UNKNOWN.value)
    reaper_version = models.PositiveIntegerField(null=True)
    reaper_mark = models.CharField(max_length=40, db_default="")
    reaper_seen_at = models.DateTimeField(null=True)

    # Raised to give the relay another key (instances/access_keys.py).
    relay_version = models.PositiveIntegerField(default=1, db_default=1)
    # When its relay was last connected to a gateway; None: it never had one, nobody gets in there.
    # Never None again once it is set: placement and catalogue rely on that.
    relay_seen_at = models.DateTimeField(null=True)

    # Whether the published rules let it take new rentals (preflight/store.py). Clusters from before
    # there were rules sell until their first look; those registered since begin with False.
    preflight_passed = models.BooleanField(default=True, db_default=True)
    preflight_state = models.CharField(
        max_length=12,
        default=PreflightState.WAITING.value,
        db_default=PreflightState.WAITING.value,
    )
    preflight_at = models.DateTimeField(null=True)

    # A new cluster's cards wait until then for their first benchmark, and no longer.
    benchmark_until = models.DateTimeField(null=True)
    benchmarked_at = models.DateTimeField(null=True)  # every node with a free card was tried once
    # Whether policies held when a probe tried: "enforced", "open", or "" while nobody knows.
    network_policy = models.CharField(max_length=8, db_default="", default="")
    # On probation from the first time it took rentals until it has proved itself; both null: it is
    # from before there was a probation.
    probation_from = models.DateTimeField(null=True)
    probation_ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(preflight_state__in=[str(state) for state in PreflightState]),
                name="cluster_preflight_known",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[str(state) for state in OBSERVED_STATES]),
                name="cluster_state_known",
            ),
            models.CheckConstraint(
                condition=Q(mode__in=[str(mode) for mode in ClusterMode]),
                name="cluster_mode_known",
            ),
            models.CheckConstraint(
                condition=Q(reaper_state__in=[str(state) for state in ReaperState]),
                name="cluster_reaper_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ClusterLoop(models.Model):
    """One periodic job of one cluster: who works at it and when it is due again.

    One row per kind keeps a cluster that hangs in one loop from blocking its others, and every
    cluster from blocking the next.
    """

    class Kind(models.TextChoices):
        OBSERVE = "observe"
        INVENTORY = "inventory"
        ORPHANS = "orphans"
        TOKENS = "tokens"
        WATCH = "watch"
        PREFLIGHT = "preflight"
        PROBES = "probes"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="loops")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    due_at = models.DateTimeField()
    claim_token = models.UUIDField(null=True)
    claim_until = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "kind"], name="clusterloop_once"),
            models.CheckConstraint(
                condition=Q(claim_token__isnull=True, claim_until__isnull=True)
                | Q(claim_token__isnull=False, claim_until__isnull=False),
                name="clusterloop_claim_whole",
            ),
        ]
        indexes = [models.Index(fields=["kind", "due_at"], name="clusterloop_due")]


class Namespace(models.Model):
    """A namespace of the provider's pool. Bound to at most one tenant; a tenant has at most one
    per cluster, because the role cannot keep two tenants of a namespace apart."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="namespaces")
    name = models.CharField(max_length=63)
    usable = models.BooleanField(default=True)  # answered at the last inventory
    tenant_ref = models.UUIDField(null=True)
    bound_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "name"], name="namespace_once"),
            models.UniqueConstraint(
                fields=["cluster", "tenant_ref"],
                condition=Q(tenant_ref__isnull=False),
                name="namespace_one_per_tenant",
            ),
        ]

    def __str__(self) -> str:
        return self.name
