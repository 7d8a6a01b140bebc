"""Claims with our label and no volume of ours behind them: written down, never deleted.

After a restore of the database a claim may be all that is left of somebody's data, so even one
whose volume is marked deleted is left for people to judge.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import structlog

from kernel.ids import BadId, parse
from provisioner.contracts import VolumeState
from provisioner.kube.api import ClusterApi
from provisioner.kube.claims import ClaimFacts, facts
from provisioner.kube.errors import Rejected
from provisioner.models import Cluster, UnknownVolume, Volume

log = structlog.get_logger(__name__)


def collect(api: ClusterApi, namespaces: Iterable[str]) -> tuple[ClaimFacts, ...]:
    """Our claims in these namespaces; raises the errors of kube/errors.py.

    None where the role may not list them: such a cluster can have no volumes of ours, and its
    pods are swept all the same.
    """
    try:
        found = [facts(item) for name in namespaces for item in api.list_claims(name)[0]]
    except Rejected as error:
        if error.code not in ("forbidden", "not_found"):
            raise
        return ()
    return tuple(claim for claim in found if claim is not None)


def judge(
    cluster: Cluster, claims: Iterable[ClaimFacts], *, sent_at: datetime, at: datetime
) -> int:
    """Write strangers down; the number of them. ``sent_at``: the list is at least that new."""
    named: dict[UUID, ClaimFacts] = {}
    strangers: list[ClaimFacts] = []
    for claim in claims:
        try:
            named[parse("volume", claim.volume)] = claim
        except BadId:
            strangers.append(claim)
    rows = Volume.objects.filter(pk__in=named, cluster=cluster)
    over = {"state": VolumeState.DELETED, "deleted_at__lte": sent_at}
    known = set(rows.exclude(**over).values_list("pk", flat=True))
    strangers += [claim for key, claim in named.items() if key not in known]
    for claim in strangers:
        UnknownVolume.objects.update_or_create(
            cluster=cluster,
            uid=claim.uid,
            defaults={"last_seen_at": at},
            create_defaults={
                "namespace": claim.namespace,
                "name": claim.name,
                "label": claim.volume,
                "first_seen_at": at,
                "last_seen_at": at,
            },
        )
    if strangers:
        log.warning("unknown_volumes", cluster=str(cluster.pk), number=len(strangers))
    return len(strangers)
