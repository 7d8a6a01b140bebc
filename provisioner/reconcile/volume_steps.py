"""One step at one volume's claim: what is sent to the cluster and what came back.

Runs in a thread without a database; everything it needs is read before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kernel import clock
from kernel.ids import public
from provisioner.contracts import VolumeState
from provisioner.kube import claims
from provisioner.kube.api import ClusterApi
from provisioner.kube.claims import ClaimFacts, ClaimSpec
from provisioner.kube.errors import Rejected
from provisioner.models import Volume
from provisioner.volumes.receipt import Absence


@dataclass(frozen=True)
class Result:
    """claim: as the cluster shows it, None when it is not there; ``absence``: the list that says
    so after a deletion."""

    claim: ClaimFacts | None
    foreign: bool = False  # an object of that name exists and is not ours
    absence: Absence | None = None


@dataclass(frozen=True)
class Step:
    """A claimed row and what to do with it. ``sent_at``: no answer describes an earlier time."""

    row: Volume
    token: UUID
    kind: str  # create, look, grow, delete
    spec: ClaimSpec
    sent_at: datetime

    @property
    def namespace(self) -> str:
        return self.row.namespace.name

    def call(self, api: ClusterApi) -> Result:
        """Act; raises the errors of kube/errors.py."""
        if self.kind == "create":
            return self._create(api)
        if self.kind == "delete":
            return self._delete(api)
        if self.kind == "grow":
            patch = claims.grown(self.spec.size_gib)
            return self._ours(api.patch_claim(self.namespace, self.spec.name, patch))
        return self._look(api)

    def _create(self, api: ClusterApi) -> Result:
        try:
            made = api.create_claim(self.namespace, claims.claim(self.spec))
        except Rejected as error:
            if error.code != "exists":
                raise
            made = api.get_claim(self.namespace, self.spec.name)
        found = claims.facts(made)
        if found is None or found.volume != self.spec.volume:
            return Result(None, foreign=True)
        return Result(found)

    def _look(self, api: ClusterApi) -> Result:
        try:
            return self._ours(api.get_claim(self.namespace, self.spec.name))
        except Rejected as error:
            if error.code != "not_found":
                raise
            return Result(None)

    def _ours(self, shown: object) -> Result:
        """By UID: another claim under the name is not it."""
        found = claims.facts(shown)
        if found is None or found.uid != self.row.pvc_uid:
            return Result(None)
        return Result(found)

    def _delete(self, api: ClusterApi) -> Result:
        """Ask for the deletion, then look for the claim in a full list: only a list proves that
        nothing of that name is there."""
        try:
            api.delete_claim(self.namespace, self.spec.name, uid=self.row.pvc_uid)
        except Rejected as error:
            # A conflict is the UID precondition: ours is gone, the name is used again.
            if error.code not in ("not_found", "conflict"):
                raise
        items, version = api.list_claims(self.namespace)
        listed = [found for item in items if (found := claims.facts(item)) is not None]
        for found in listed:
            if found.name == self.spec.name and self.row.pvc_uid in (None, found.uid):
                return Result(found)
        return Result(None, absence=Absence(self.sent_at, version, len(listed)))


def next_step(row: Volume, token: UUID) -> Step:
    """What the row wants next."""
    if row.desired == Volume.Desired.DELETE:
        kind = "delete"
    elif row.pvc_uid is None:
        kind = "create"
    else:
        kind = "grow" if row.state == VolumeState.RESIZING else "look"
    return Step(row=row, token=token, kind=kind, spec=spec_of(row), sent_at=clock.now())


def spec_of(row: Volume) -> ClaimSpec:
    return ClaimSpec(
        name=row.pvc_name,
        volume=public("volume", row.pk),
        tenant=public("organization", row.tenant_ref),
        size_gib=row.size_gib,
        storage_class=row.storage_class,
    )
