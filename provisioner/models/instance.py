"""An instance: one placement attempt of a rental. Rows are moved by instances/move.py alone."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from kernel.ids import new_id
from provisioner.contracts import Fault, InstanceState
from provisioner.models.cluster import Cluster, Namespace
from provisioner.models.node import NodeShare


class Instance(models.Model):
    """What was ordered, where it was placed, what is wanted, what was seen, who works at it."""

    class Desired(models.TextChoices):
        RUN = "run"
        END = "end"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    rental_ref = models.UUIDField()
    tenant_ref = models.UUIDField()
    cluster = models.ForeignKey(
        Cluster, on_delete=models.PROTECT, related_name="instances", db_index=False
    )
    share = models.ForeignKey(
        NodeShare, on_delete=models.PROTECT, related_name="instances", db_index=False
    )
    namespace = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="instances")

    # The order: fixed at the reservation.
    gpus = models.PositiveIntegerField()
    accelerator = models.CharField(max_length=60)
    memory_mib = models.PositiveIntegerField()
    vcpus_milli = models.PositiveIntegerField()
    ram_mib = models.PositiveIntegerField()
    disk_mib = models.PositiveIntegerField()
    order = models.JSONField()  # PodOrder without its secrets
    secrets_sealed = models.BinaryField(null=True)  # secret_env and pull_secret

    # The wish. generation rises with each change of it, so work on an old wish cannot be stored.
    desired = models.CharField(max_length=4, choices=Desired.choices, default=Desired.RUN)
    generation = models.PositiveIntegerField(default=1)
    end_reason = models.CharField(max_length=40, default="")
    end_fault = models.CharField(max_length=10, default="")
    end_requested_at = models.DateTimeField(null=True)
    # When it will be stopped, as the program shall read it, and as the cluster has it.
    notice_at = models.DateTimeField(null=True)
    notice_sent_at = models.DateTimeField(null=True)
    # A restart: the instance that takes over the very same cards when this one is gone.
    successor_id = models.UUIDField(null=True)

    # The state, and its gapless event counter with the reader's position.
    state = models.CharField(max_length=12, default=InstanceState.RESERVED.value)
    reason = models.CharField(max_length=40, default="placed")
    state_since = models.DateTimeField()
    event_seq = models.PositiveIntegerField(default=1)
    followed_seq = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True)
    gone_at = models.DateTimeField(null=True)
    # Its lease ran out while its cluster is dark: it does not run, yet its cards are still held.
    lapsed_at = models.DateTimeField(null=True)

    # The pod: name derived from the id, identity is the UID.
    pod_name = models.CharField(max_length=63)
    pod_uid = models.CharField(max_length=64, null=True)
    pod_created_at = models.DateTimeField(null=True)  # the API server acknowledged the create
    # No create of ours can take effect after this time: absence counts only when seen later.
    create_until = models.DateTimeField(null=True)
    # The last observation that mattered: identity of the running container, present trouble.
    seen = models.JSONField(default=dict)

    # The claim of the loop that works at it.
    due_at = models.DateTimeField(null=True)  # None: nothing to do until the world changes
    claim_token = models.UUIDField(null=True)
    claim_until = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)  # consecutive failures of the present step
    worked_at = models.DateTimeField(null=True)  # the last attempt, successful or not

    # The lease in the cluster (instances/lease.py): what the marketplace wants; until when one may
    # hold there, raised before it is sent and lowered only by an answer; the last answer.
    lease_until = models.DateTimeField(null=True)
    lease_held_until = models.DateTimeField(null=True)
    lease_renewed_at = models.DateTimeField(null=True)
    lease_version = models.CharField(max_length=40, db_default="")  # resourceVersion, "" unknown
    lease_due_at = models.DateTimeField(null=True)  # with a token: when that claim expires
    lease_token = models.UUIDField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["rental_ref"],
                condition=~Q(state=InstanceState.GONE.value) & Q(lapsed_at__isnull=True),
                name="instance_one_alive",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[str(state) for state in InstanceState]),
                name="instance_state_known",
            ),
            models.CheckConstraint(
                condition=Q(end_fault__in=["", *[str(fault) for fault in Fault]]),
                name="instance_fault_known",
            ),
            models.CheckConstraint(
                condition=Q(followed_seq__lte=F("event_seq")), name="instance_followed"
            ),
            models.CheckConstraint(condition=Q(gpus__gte=1), name="instance_gpus"),
        ]
        indexes = [
            models.Index(fields=["rental_ref", "created_at"], name="instance_rental"),
            models.Index(fields=["due_at"], name="instance_due", condition=Q(due_at__isnull=False)),
            models.Index(
                fields=["lease_due_at"],
                name="instance_lease_due",
                condition=Q(lease_due_at__isnull=False, desired="run"),
            ),
            models.Index(
                fields=["lease_held_until"],
                name="instance_may_lapse",
                condition=Q(state=InstanceState.STOPPING.value, lapsed_at__isnull=True),
            ),
            models.Index(
                fields=["id"],
                name="instance_behind",
                condition=Q(event_seq__gt=F("followed_seq")),
            ),
            models.Index(
                fields=["cluster", "id"],
                name="instance_alive",
                condition=~Q(state=InstanceState.GONE.value),
            ),
            # What somebody on call asks for: unfinished work, none of the thousands that run well.
            models.Index(
                fields=["state"],
                name="instance_unfinished",
                condition=~Q(state=InstanceState.GONE.value)
                & ~Q(desired="run", state=InstanceState.READY.value),
            ),
            # The brake counts a cluster's ends of the last minutes.
            models.Index(
                fields=["cluster", "end_requested_at"],
                name="instance_ended",
                condition=Q(end_requested_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.pod_name
