"""Telling the program in a pod when it will be stopped: a wish here, a file in the pod.

The file comes from a secret that the pod mounts as optional and that is made when the notice is
given: the kubelet shows it in the running pod within its sync period, about a minute. An annotation
read through the downward API would do the same and need the right to patch pods.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from kernel import clock
from kernel.wake import wake_on_commit
from provisioner.instances.release import live
from provisioner.models import Instance


def set_notice(*, rental_ref: UUID, at: datetime | None) -> None:
    """When the rental's live machine will be stopped; None withdraws it. In a transaction.

    Nothing for machines that were ordered without the file, or that end already.
    """
    row = live(rental_ref)
    if row is None or row.desired == Instance.Desired.END or not row.order.get("notice"):
        return
    if row.notice_at == at:
        return
    Instance.objects.filter(pk=row.pk).update(
        notice_at=at, due_at=clock.now(), generation=row.generation + 1
    )
    wake_on_commit("provisioner.instances")
