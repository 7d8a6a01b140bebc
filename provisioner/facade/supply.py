"""The door to what owners decide about their cards, to who is there, and to whose are new."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from kernel.errors import InvalidRequest
from provisioner.clusters import cordon as _cordon
from provisioner.clusters import probation as _probation
from provisioner.contracts.preflight import Outcome
from provisioner.contracts.supply import LEAST_MBPS, MOST_MBPS, Egress, Occupant
from provisioner.instances import occupants as _occupants
from provisioner.models import DeviceGroup
from provisioner.preflight import views

_RULE = "egress_rules"


def occupants(*, cluster_ids: Collection[UUID], node_id: UUID | None = None) -> list[Occupant]:
    """Machines in these clusters, or on one node of them, that were not observed gone."""
    return _occupants.occupants(cluster_ids=cluster_ids, node_id=node_id)


def on_probation() -> list[UUID]:
    """Clusters that began to sell and have not proved themselves yet."""
    return _probation.on_probation()


def cordon(*, cluster_id: UUID, node_id: UUID) -> None:
    """In a transaction. No new rental on this node from now on; what runs there goes on. Raises
    NotFound."""
    _cordon.cordon(cluster_id=cluster_id, node_id=node_id)


def uncordon(*, cluster_id: UUID, node_id: UUID) -> None:
    """In a transaction. On sale again with the next inventory. Raises NotFound."""
    _cordon.uncordon(cluster_id=cluster_id, node_id=node_id)


def set_network(*, group_id: UUID, egress: str, bandwidth_mbps: int | None) -> None:
    """In a transaction. For machines of the group that start from now on.

    Raises InvalidRequest (egress, bandwidth_mbps): among others for less than the internet where
    the cluster was not found to have the policies that keep such a promise.
    """
    errors: dict[str, list[str]] = {}
    if bandwidth_mbps is not None and not LEAST_MBPS <= bandwidth_mbps <= MOST_MBPS:
        errors["bandwidth_mbps"] = [f"from {LEAST_MBPS} to {MOST_MBPS}, or null for no cap"]
    group = DeviceGroup.objects.select_for_update(no_key=True).get(pk=group_id)
    if egress not in list(Egress):
        errors["egress"] = [f"one of {', '.join(Egress)}"]
    elif egress not in (Egress.INTERNET, group.egress) and not _keeps(group.cluster_id):
        errors["egress"] = [
            "the cluster's policies give every machine the internet: apply the provider bundle "
            "again and let its preflight look"
        ]
    if errors:
        raise InvalidRequest(errors)
    group.egress, group.bandwidth_mbps = egress, bandwidth_mbps
    group.save(update_fields=["egress", "bandwidth_mbps"])


def _keeps(cluster_id: UUID) -> bool:
    results = views.preflight(cluster_id).rules
    return any(each.rule == _RULE and each.outcome == Outcome.PASS for each in results)
