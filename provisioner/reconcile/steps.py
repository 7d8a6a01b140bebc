"""One step at one instance's objects: what is sent to the cluster and what came back.

Runs in a thread without a database; everything it needs is read before.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from django.conf import settings

from kernel import clock, sealed
from kernel.ids import public
from kernel.text import rfc3339
from provisioner.contracts import DEFAULT_GRACE
from provisioner.instances import access_keys, lease, logs, ports, report_token
from provisioner.instances.logs import Fetched
from provisioner.instances.naming import SECRETS
from provisioner.inventory.accelerators import Family, Model, by_slug
from provisioner.kube import manifests
from provisioner.kube.api import ClusterApi
from provisioner.kube.client import CALL_SECONDS
from provisioner.kube.errors import Rejected, Unavailable
from provisioner.kube.pods import PodFacts, facts
from provisioner.kube.spec import ClaimMount, LeaseSpec, PartsSpec, PodSpec, ToolKeys, ToolsSpec
from provisioner.models import Instance
from provisioner.reconcile.claim import INSTANCE_CLAIM
from provisioner.reconcile.last_words import fetch
from provisioner.volumes.wish import pvc_name_of


@dataclass(frozen=True)
class Result:
    """pod: as the cluster shows it, None when it is not there."""

    pod: PodFacts | None
    foreign: bool = False  # an object of that name exists and is not ours
    log: tuple[Fetched, ...] = ()  # what was fetched before the deletion


@dataclass(frozen=True)
class Secrets:
    """The tenant's values and the keys of the tools in clear, for the time of one step."""

    env: dict[str, str] = field(default_factory=dict, repr=False)
    pull: dict[str, str] | None = field(default=None, repr=False)
    keys: ToolKeys = field(default_factory=ToolKeys)


@dataclass(frozen=True)
class Step:
    """A claimed row and what to do with it. ``sent_at``: no answer describes an earlier time."""

    row: Instance
    token: UUID
    kind: str  # create, notice, look, delete
    namespace: str
    spec: PodSpec
    secrets: Secrets
    sent_at: datetime
    # On the monotonic clock: a pod asked for later could appear after the claim, when its absence
    # counts already.
    create_by: float
    grace: int  # seconds that the program has to end; 0 takes the object away at once
    keep_log: bool = False

    def call(self, api: ClusterApi) -> Result:
        """Act; raises the errors of kube/errors.py."""
        if self.kind == "create":
            return self._create(api)
        if self.kind == "notice":
            return self._tell(api)
        if self.kind == "look":
            return self._look(api)
        words = fetch(api, self.namespace, self.spec.pod_name) if self.keep_log else ()
        return replace(self._delete(api), log=tuple(words))

    def _create(self, api: ClusterApi) -> Result:
        # Before the first as before the last: after the claim somebody else may have ended the
        # instance and taken its secrets away, and ones made late would stay for ever.
        self._check_time()
        env = manifests.env_secret(self.spec, self.secrets.env, self.secrets.keys)
        api.create_secret(self.namespace, env)
        if self.secrets.pull is not None:
            pull = manifests.pull_secret(self.spec, **self.secrets.pull)
            api.create_secret(self.namespace, pull)
        # Before the pod: one without a lease would live on if we went away now.
        until = self.row.lease_held_until or self.sent_at + lease.FIRST
        api.create_lease(
            self.namespace, manifests.lease(lease_spec(self.row), at=self.sent_at, until=until)
        )
        self._check_time()
        try:
            made = api.create_pod(self.namespace, manifests.pod(self.spec))
        except Rejected as error:
            if error.code != "exists":
                raise
            made = api.get_pod(self.namespace, self.spec.pod_name)
        pod = facts(made)
        if pod is None or pod.instance != self.spec.instance:
            return Result(None, foreign=True)
        return Result(pod)

    def _tell(self, api: ClusterApi) -> Result:
        """Make the file say what is wished: another time is another secret of the same name."""
        row = self.row
        if row.notice_sent_at is not None or row.notice_at is None:
            api.delete_secret(self.namespace, manifests.notice_name(self.spec.pod_name))
        if row.notice_at is not None:
            self._check_time()
            told = manifests.notice_secret(self.spec, rfc3339(row.notice_at))
            api.create_secret(self.namespace, told)
        return Result(None)

    def _check_time(self) -> None:
        if time.monotonic() > self.create_by:
            raise Unavailable("busy", "what the pod needs took too long to create")

    def _look(self, api: ClusterApi) -> Result:
        """Our pod, by name and UID: another one under the name is not it."""
        try:
            pod = facts(api.get_pod(self.namespace, self.spec.pod_name))
        except Rejected as error:
            if error.code != "not_found":
                raise
            return Result(None)
        if pod is None or pod.uid != self.row.pod_uid:
            return Result(None)
        return Result(pod)

    def _delete(self, api: ClusterApi) -> Result:
        """Ask for the deletion until the pod is gone, then remove its secrets and its lease."""
        try:
            shown = api.delete_pod(
                self.namespace,
                self.spec.pod_name,
                uid=self.row.pod_uid,
                grace=self.grace,
            )
        except Rejected as error:
            # A conflict is the UID precondition (ours is gone, the name is used again) or the
            # server's own: only a look tells, and without a UID not even that.
            if error.code == "conflict" and self.row.pod_uid is not None:
                looked = self._look(api)
                if looked.pod is not None:
                    return looked
            elif error.code != "not_found":
                raise
            self._delete_others(api)
            return Result(None)
        pod = facts(shown)
        if pod is None or self.grace == 0:
            looked = self._look(api)
            if looked.pod is None:
                self._delete_others(api)
            return looked
        return Result(pod)

    def _delete_others(self, api: ClusterApi) -> None:
        """What was made for the pod, once that is gone: by name, until it is not there. The role
        can neither list nor read secrets."""
        if self.row.lease_held_until is not None:
            api.delete_lease(self.namespace, self.spec.pod_name)
        api.delete_secret(self.namespace, manifests.env_secret_name(self.spec.pod_name))
        if self.spec.has_pull_secret:
            name = manifests.pull_secret_name(self.spec.pod_name)
            api.delete_secret(self.namespace, name)
        if self.spec.notice:
            api.delete_secret(self.namespace, manifests.notice_name(self.spec.pod_name))


def next_step(row: Instance, token: UUID) -> Step:
    """What the row wants next."""
    kind = _kind(row)
    creating = kind == "create"
    at = clock.now()
    # On a host that answers nobody a deletion never ends. Past its lease the pod counts as dead,
    # and its object may go without the host's word.
    grace = 0 if lease.is_over(row, at) else int(row.order["termination_grace"])
    return Step(
        row=row,
        token=token,
        kind=kind,
        namespace=row.namespace.name,
        spec=spec_of(row),
        secrets=open_secrets(row) if creating else Secrets(),
        sent_at=at,
        grace=grace,
        create_by=time.monotonic() + INSTANCE_CLAIM.total_seconds() - CALL_SECONDS,
        keep_log=kind == "delete" and logs.wanted(row),
    )


def _kind(row: Instance) -> str:
    if row.desired != Instance.Desired.RUN:
        return "delete"
    if row.pod_uid is None:
        return "create"
    return "look" if row.notice_at == row.notice_sent_at else "notice"


def lease_spec(row: Instance) -> LeaseSpec:
    return LeaseSpec(
        name=row.pod_name,
        instance=public("instance", row.pk),
        rental=public("rental", row.rental_ref),
        tenant=public("organization", row.tenant_ref),
        generation=row.generation,
    )


def spec_of(row: Instance) -> PodSpec:
    """Everything the pod is made of, from the row as it was reserved."""
    family, model = by_slug()[row.accelerator]
    order = row.order
    return PodSpec(
        pod_name=row.pod_name,
        instance=public("instance", row.pk),
        rental=public("rental", row.rental_ref),
        tenant=public("organization", row.tenant_ref),
        generation=row.generation,
        node=row.share.node.name,
        # As its node counts them: not every plugin gives parts, or types, a name of their own.
        resource=row.share.resource_name,
        runtime_class=family.runtime_class,
        check=family.check,
        runtime_tool=family.tool == "runtime",
        parts=parts_of(family, model),
        tools=ToolsSpec(
            image=settings.GPUYARD_TOOLS_IMAGE,
            report_url=settings.GPUYARD_REPORT_URL,
            usage=family.usage.strip(),
        ),
        gpus=row.gpus,
        vcpus_milli=row.vcpus_milli,
        ram_mib=row.ram_mib,
        disk_mib=row.disk_mib,
        image=order["image"],
        command=tuple(order["command"]),
        ports=tuple(order["ports"]),
        env_names=tuple(order["env_names"]),
        has_pull_secret=bool(order["has_pull_secret"]),
        termination_grace=int(order["termination_grace"]),
        grace_seconds=int(order.get("grace_seconds", DEFAULT_GRACE)),
        server_version=row.cluster.server_version,
        # Orders from before there were volumes have no such field.
        volumes=tuple(
            ClaimMount(pvc_name_of(UUID(m["volume"])), m["path"], m["read_only"])
            for m in order.get("volumes", ())
        ),
        egress=row.share.group.egress,
        bandwidth_mbps=row.share.group.bandwidth_mbps,
        notice=bool(order.get("notice")),
    )


def parts_of(family: Family, model: Model) -> PartsSpec | None:
    if family.split is None or not model.splits:
        return None
    return PartsSpec(family.split.check, family.split.read)


def open_secrets(row: Instance) -> Secrets:
    """Unsealed for the step that creates them; raises sealed.CannotOpen."""
    key: bytes = settings.GPUYARD_SEALING_KEY
    keys = ToolKeys(
        report_token=report_token.token_of(row.pk, key=key),
        host_private=access_keys.private_text(access_keys.host_key(row.pk, key=key)),
        gateway_public=access_keys.public_line(access_keys.gateway_key(row.pk, key=key)),
    )
    if row.secrets_sealed is None:
        return Secrets(keys=keys)
    plain = sealed.unseal(bytes(row.secrets_sealed), key=key, owner=str(row.pk), field=SECRETS)
    data = json.loads(plain)
    env = ports.with_token({**data["env"], **data["secret_env"]}, rental_ref=row.rental_ref)
    return Secrets(env, data["pull_secret"], keys)
