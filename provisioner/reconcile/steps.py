"""One step at one instance's objects: what is sent to the cluster and what came back.

Runs in a thread without a database; everything it needs is read before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.conf import settings

from kernel import clock, sealed
from kernel.ids import public
from provisioner.inventory.accelerators import by_slug
from provisioner.kube import manifests
from provisioner.kube.api import ClusterApi
from provisioner.kube.errors import Rejected
from provisioner.kube.manifests import ClaimMount, PodSpec
from provisioner.kube.pods import PodFacts, facts
from provisioner.models import Instance
from provisioner.volumes.wish import pvc_name_of


@dataclass(frozen=True)
class Result:
    """pod: as the cluster shows it, None when it is not there."""

    pod: PodFacts | None
    foreign: bool = False  # an object of that name exists and is not ours


@dataclass(frozen=True)
class Secrets:
    """The tenant's values in clear, for the time of one step."""

    env: dict[str, str] = field(default_factory=dict, repr=False)
    pull: dict[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Step:
    """A claimed row and what to do with it. ``sent_at``: no answer describes an earlier time."""

    row: Instance
    token: UUID
    kind: str  # create, look, delete
    namespace: str
    spec: PodSpec
    secrets: Secrets
    sent_at: datetime

    def call(self, api: ClusterApi) -> Result:
        """Act; raises the errors of kube/errors.py."""
        if self.kind == "create":
            return self._create(api)
        if self.kind == "look":
            return self._look(api)
        return self._delete(api)

    def _create(self, api: ClusterApi) -> Result:
        if self.secrets.env:
            api.create_secret(self.namespace, manifests.env_secret(self.spec, self.secrets.env))
        if self.secrets.pull is not None:
            pull = manifests.pull_secret(self.spec, **self.secrets.pull)
            api.create_secret(self.namespace, pull)
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
        """Ask for the deletion until the pod is gone, then remove its secrets."""
        try:
            shown = api.delete_pod(
                self.namespace,
                self.spec.pod_name,
                uid=self.row.pod_uid,
                grace=self.spec.termination_grace,
            )
        except Rejected as error:
            # A conflict is the UID precondition: ours is gone, the name is used again.
            if error.code not in ("not_found", "conflict"):
                raise
            self._delete_secrets(api)
            return Result(None)
        pod = facts(shown)
        if pod is None or self.spec.termination_grace == 0:
            return self._look(api)
        return Result(pod)

    def _delete_secrets(self, api: ClusterApi) -> None:
        """By name, until they are not there: the role can neither list nor read them."""
        if self.spec.env_names:
            name = manifests.env_secret_name(self.spec.pod_name)
            api.delete_secret(self.namespace, name)
        if self.spec.has_pull_secret:
            name = manifests.pull_secret_name(self.spec.pod_name)
            api.delete_secret(self.namespace, name)


def next_step(row: Instance, token: UUID) -> Step:
    """What the row wants next."""
    creating = row.desired == Instance.Desired.RUN and row.pod_uid is None
    kind = "create" if creating else "look" if row.desired == Instance.Desired.RUN else "delete"
    return Step(
        row=row,
        token=token,
        kind=kind,
        namespace=row.namespace.name,
        spec=spec_of(row),
        secrets=open_secrets(row) if creating else Secrets(),
        sent_at=clock.now(),
    )


def spec_of(row: Instance) -> PodSpec:
    """Everything the pod is made of, from the row as it was reserved."""
    family, _ = by_slug()[row.accelerator]
    order = row.order
    return PodSpec(
        pod_name=row.pod_name,
        instance=public("instance", row.pk),
        rental=public("rental", row.rental_ref),
        tenant=public("organization", row.tenant_ref),
        generation=row.generation,
        node=row.share.node.name,
        resource=family.resource,
        runtime_class=family.runtime_class,
        check=family.check,
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
        server_version=row.cluster.server_version,
        # Orders from before there were volumes have no such field.
        volumes=tuple(
            ClaimMount(pvc_name_of(UUID(m["volume"])), m["path"], m["read_only"])
            for m in order.get("volumes", ())
        ),
    )


def open_secrets(row: Instance) -> Secrets:
    """Unsealed for the step that creates them; raises sealed.CannotOpen."""
    if row.secrets_sealed is None:
        return Secrets()
    key: bytes = settings.GPUYARD_SEALING_KEY
    plain = sealed.unseal(bytes(row.secrets_sealed), key=key, owner=str(row.pk), field="secrets")
    data = json.loads(plain)
    return Secrets({**data["env"], **data["secret_env"]}, data["pull_secret"])
