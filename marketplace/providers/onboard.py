"""What a provider does: apply, name its data centres, register clusters, change them, leave.

Actions join the caller's transaction, but for :func:`add_cluster`, which resolves the cluster's
address first (a network is asked) and therefore opens its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from kernel import clock
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import BadId, new_id, parse, public
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.accounts.idempotency import Claim, Rendered, once
from marketplace.models import DataCenter, Maintenance, Provider
from marketplace.providers.stages import Placed, stage
from provisioner import facade as provisioner
from provisioner.contracts import (
    AddressBinding,
    ClusterMode,
    ClusterState,
    ClusterView,
    NodeView,
)
from provisioner.contracts.access import RelayValues
from provisioner.contracts.preflight import PreflightView
from provisioner.facade import access, quarantine, supply
from provisioner.facade import preflight as rules_door

_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_COUNTRY = re.compile(r"[A-Z]{2}")
_CLUSTER_LIMIT = 50  # per provider; each costs loops and connections


@dataclass(frozen=True)
class ClusterOrder:
    """A cluster as its owner hands it over: the three fields we ever take, and a name."""

    name: str
    datacenter: str  # public id
    api_url: str
    ca_pem: str
    token: str


def apply(*, acting: Principal, contact_email: str, description: str) -> Provider:
    """Ask to supply cards; staff decide. InvalidRequest when the organization asked before."""
    acting.require_verified()
    acting.require_unfrozen()
    try:
        with transaction.atomic():
            provider = Provider.objects.create(
                organization=acting.org,
                contact_email=contact_email,
                description=description,
                reason="waits for approval by staff",
            )
    except IntegrityError as error:
        raise InvalidRequest(
            {"organization": ["has applied already: see GET /api/v1/provider"]}
        ) from error
    record(acting, "provider.apply", provider.public_id)
    return provider


def own_provider(acting: Principal) -> Provider:
    """The acting organization's provider; NotFound when it never applied."""
    provider = visible(Provider, acting).first()
    if provider is None:
        raise NotFound("provider")
    return provider


def describe(
    *, acting: Principal, changes: dict[str, str], expected_version: int | None
) -> Provider:
    """Change contact_email or description; Refusal version_conflict."""
    provider = visible(Provider.objects.select_for_update(of=("self",)), acting).first()
    if provider is None:
        raise NotFound("provider")
    if expected_version is not None and expected_version != provider.version:
        raise Refusal(
            "version_conflict",
            "The provider was changed since you read it. Read it again and repeat your change.",
            version=provider.version,
        )
    for name, value in changes.items():
        setattr(provider, name, value)
    provider.version += 1
    provider.save(update_fields=[*changes, "version"])
    record(acting, "provider.change", provider.public_id, dict(changes))
    return provider


def add_datacenter(*, acting: Principal, name: str, region: str, country: str) -> DataCenter:
    """A place with cards. region: a slug such as ``eu-central``; country: ISO 3166, two letters."""
    errors: dict[str, list[str]] = {}
    if not _REGION.fullmatch(region):
        errors["region"] = ['small letters, digits and hyphens, such as "eu-central"']
    if not _COUNTRY.fullmatch(country):
        errors["country"] = ['two capital letters (ISO 3166), such as "DE"']
    if errors:
        raise InvalidRequest(errors)
    provider = own_provider(acting)
    try:
        with transaction.atomic():
            place = DataCenter.objects.create(
                provider=provider, name=name, region=region, country=country
            )
    except IntegrityError as error:
        raise InvalidRequest({"name": ["there is a data centre with this name"]}) from error
    record(acting, "datacenter.create", place.public_id, {"name": name, "region": region})
    return place


def binding_of(provider: Provider) -> AddressBinding:
    """Networks and ports that staff bound the provider's API servers to."""
    return AddressBinding(
        networks=tuple(provider.allowed_networks), ports=tuple(provider.allowed_ports)
    )


def add_cluster(
    *,
    acting: Principal,
    order: ClusterOrder,
    claim: Claim | None,
    render: Callable[[ClusterView], tuple[int, Any]],
) -> Rendered:
    """Register a cluster; opens its own transaction, because its address is resolved before.

    Refusal: invalid_transition while not approved, address_forbidden, NotFound for a foreign data
    centre, InvalidRequest per field. An address that does not answer is no error: the cluster is
    stored and its state says so.
    """
    provider = own_provider(acting)
    require_approved(provider)
    place = get_visible(DataCenter, acting, order.datacenter)
    binding = binding_of(provider)
    provisioner.check_address(api_url=order.api_url, binding=binding)
    cluster_id = new_id()

    def register() -> ClusterView:
        # Locked: two requests must not both pass the limit or take one name.
        locked = Provider.objects.select_for_update(no_key=True).get(pk=provider.pk)
        require_approved(locked)
        check_name(locked, order.name)
        view = provisioner.register_cluster(
            cluster_id=cluster_id,
            name=order.name,
            provider_ref=provider.id,
            datacenter_ref=place.id,
            api_url=order.api_url,
            ca_pem=order.ca_pem,
            token=order.token,
            binding=binding_of(locked),
        )
        details = {"name": order.name, "api_url": order.api_url, "datacenter": place.public_id}
        record(acting, "cluster.create", public("cluster", cluster_id), details)
        return view

    return once(claim, register, render)


def clusters(acting: Principal) -> list[ClusterView]:
    """The acting provider's clusters."""
    return list(provisioner.clusters(provider_ref=own_provider(acting).id))


def own_cluster(acting: Principal, cluster_id: str) -> ClusterView:
    """One of the acting provider's clusters; NotFound for every other id."""
    provider = own_provider(acting)
    try:
        identifier = parse("cluster", cluster_id)
    except BadId as error:
        raise NotFound("cluster") from error
    found = provisioner.clusters(provider_ref=provider.id, ids=[identifier])
    if not found:
        raise NotFound("cluster")
    return found[0]


def stage_of(cluster: ClusterView) -> Placed:
    """Where a cluster stands, with the maintenance that is under way in all of it."""
    return stages_of([cluster])[cluster.id]


def stages_of(shown: Sequence[ClusterView]) -> dict[UUID, Placed]:
    """The same of several, in one statement."""
    rows = Maintenance.objects.filter(
        Q(ends_at=None) | Q(ends_at__gt=clock.AppNow()),
        cluster_ref__in=[cluster.id for cluster in shown],
        node_ref=None,
        withdrawn_at=None,
        starts_at__lte=clock.AppNow(),
    )
    ends: dict[UUID, list[datetime | None]] = defaultdict(list)
    for cluster_ref, end in rows.values_list("cluster_ref", "ends_at"):
        ends[cluster_ref].append(end)
    return {
        cluster.id: stage(
            cluster,
            maintained=bool(ends[cluster.id]),
            maintained_until=_last(ends[cluster.id]),
        )
        for cluster in shown
    }


def _last(ends: Sequence[datetime | None]) -> datetime | None:
    """When the last of them is over; None while one has no end."""
    return None if None in ends else max(filter(None, ends), default=None)


def replace_token(*, acting: Principal, cluster_id: str, token: str) -> ClusterView:
    """Use another token from now on."""
    cluster = own_cluster(acting, cluster_id)
    if cluster.mode == ClusterMode.AGENT:
        raise InvalidRequest({"token": ["its agent has the token: replace the relay's key"]})
    provisioner.replace_token(cluster_id=cluster.id, token=token)
    record(acting, "cluster.replace_token", cluster_id)
    return own_cluster(acting, cluster_id)


def cordon_node(*, acting: Principal, cluster_id: str, node_id: str, off: bool) -> NodeView:
    """Take an own node off sale, or put it back. Joins the caller's transaction. NotFound."""
    cluster = own_cluster(acting, cluster_id)
    try:
        identifier = parse("node", node_id)
    except BadId as error:
        raise NotFound("node") from error
    change = supply.cordon if off else supply.uncordon
    change(cluster_id=cluster.id, node_id=identifier)
    record(acting, "node.cordon" if off else "node.uncordon", node_id)
    return next(each for each in provisioner.nodes(cluster_id=cluster.id) if each.id == identifier)


def release_node(*, acting: Principal, cluster_id: str, node_id: str) -> NodeView:
    """The owner has put right what was found on a node: sell it again. Joins the caller's
    transaction. NotFound; InvalidRequest for one that is not in quarantine."""
    cluster = own_cluster(acting, cluster_id)
    try:
        identifier = parse("node", node_id)
    except BadId as error:
        raise NotFound("node") from error
    quarantine.release(cluster_id=cluster.id, node_id=identifier)
    record(acting, "node.release", node_id)
    return next(each for each in provisioner.nodes(cluster_id=cluster.id) if each.id == identifier)


def relay_values(*, acting: Principal, cluster_id: str, replace: bool) -> RelayValues:
    """What the cluster's relay needs, its secret among it; ``replace``: with another key.

    Raises NotFound, and Refusal invalid_transition for a cluster that has left: its relay is not
    let in any more.
    """
    cluster = own_cluster(acting, cluster_id)
    if cluster.state == ClusterState.RETIRED:
        raise Refusal(
            "invalid_transition",
            "The cluster is retired and no machine is left in it, so its relay is not let in any "
            "more. Remove it from the cluster.",
            state=cluster.state.value,
            actions=[],
        )
    values = access.relay_values(cluster_id=cluster.id, replace=replace)
    record(acting, "cluster.replace_relay" if replace else "cluster.show_relay", cluster_id)
    return values


def preflight(*, acting: Principal, cluster_id: str) -> PreflightView:
    """How an own cluster stands against the published rules."""
    return rules_door.preflight(cluster_id=own_cluster(acting, cluster_id).id)


def ask_preflight(*, acting: Principal, cluster_id: str) -> PreflightView:
    """Look at an own cluster again at once; the present results, until that look has ended."""
    cluster = own_cluster(acting, cluster_id)
    rules_door.ask_again(cluster_id=cluster.id)
    record(acting, "cluster.preflight", cluster_id)
    return rules_door.preflight(cluster_id=cluster.id)


def drain_cluster(*, acting: Principal, cluster_id: str) -> ClusterView:
    """Take no new rentals there; those that run go on to their end. Repeating is harmless."""
    cluster = own_cluster(acting, cluster_id)
    if cluster.state not in (ClusterState.DRAINING, ClusterState.RETIRED):
        provisioner.retire_cluster(cluster_id=cluster.id)
        record(acting, "cluster.drain", cluster_id)
    return own_cluster(acting, cluster_id)


def require_approved(provider: Provider) -> None:
    """Refusal invalid_transition for one that staff have not let in."""
    if provider.state != Provider.State.APPROVED:
        raise Refusal(
            "invalid_transition",
            f"The provider is {provider.state}, so it cannot register clusters yet: "
            f"{provider.reason or 'ask support'}.",
            state=provider.state,
            actions=[],
        )


def check_name(provider: Provider, name: str) -> None:
    """InvalidRequest for a cluster too many, or of a name that is taken."""
    known = provisioner.clusters(provider_ref=provider.id)
    if any(cluster.name == name for cluster in known):
        raise InvalidRequest({"name": ["there is a cluster with this name"]})
    if len(known) >= _CLUSTER_LIMIT:
        raise InvalidRequest({"name": [f"there are {_CLUSTER_LIMIT} clusters: ask support"]})


def places(acting: Principal) -> list[DataCenter]:
    """The acting owner's data centres, oldest first."""
    return list(visible(DataCenter, acting).order_by("id"))


def datacenters_of(clusters_shown: list[ClusterView]) -> dict[UUID, DataCenter]:
    """The data centres of some clusters, by id, to show them with their names."""
    return DataCenter.objects.in_bulk({cluster.datacenter_ref for cluster in clusters_shown})


def record(
    acting: Principal, action: str, object_id: str, details: dict[str, Any] | None = None
) -> None:
    """Into the audit log, as something of the acting organization's."""
    audit.record(
        acting=acting,
        action=action,
        object=object_id,
        organization_ref=acting.org.id,
        details=details,
    )
