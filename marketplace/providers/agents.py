"""Clusters that nobody can connect to from outside: registered, and their agents enrolled.

The owner runs one command, which applies what a link leads to: bundle, reaper, agent and its keys.
A link is signed, good for an hour, and worth nothing once the keys are replaced, so it is stored
nowhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.conf import settings
from django.core import signing
from django.db import transaction

from kernel.errors import InvalidRequest, NotFound
from kernel.ids import BadId, new_id, parse, public
from marketplace.accounts.access import Principal, get_visible
from marketplace.models import DataCenter, Provider
from marketplace.providers import onboard
from marketplace.providers.onboard import check_name, own_provider, record, require_approved
from provisioner.contracts import ClusterView
from provisioner.contracts.access import AgentValues, RelayValues
from provisioner.facade import access
from provisioner.facade import agents as door

# To read four hundred lines before they are applied, and no longer: a link holds keys.
LINK_SECONDS: Final = 3600
_SALT: Final = "agent enrolment"
_PARTS: Final = ("bundle.yaml", "reaper.yaml", "agent.yaml")
_FOLDER: Final[Path] = settings.BASE_DIR / "deploy" / "provider"


@dataclass(frozen=True)
class Enrolled:
    """A registered cluster, and the command by which its owner lets its agent in: a secret."""

    cluster: ClusterView
    command: str


def add(*, acting: Principal, name: str, datacenter: str) -> Enrolled:
    """Register a cluster whose agent will dial in. Joins the caller's transaction.

    Refusal invalid_transition while not approved; NotFound for a foreign data centre;
    InvalidRequest for a name that is taken, or where this platform takes no agents.
    """
    provider = own_provider(acting)
    place = get_visible(DataCenter, acting, datacenter)
    if settings.GPUYARD_AGENT_DOOR is None or settings.GPUYARD_SSH_GATEWAY is None:
        raise InvalidRequest({"mode": ["this platform takes no agents: give an address"]})
    locked = Provider.objects.select_for_update(no_key=True).get(pk=provider.pk)
    require_approved(locked)
    check_name(locked, name)
    view = door.register_agent_cluster(
        cluster_id=new_id(), name=name, provider_ref=provider.id, datacenter_ref=place.id
    )
    details = {"name": name, "mode": "agent", "datacenter": place.public_id}
    record(acting, "cluster.create", public("cluster", view.id), details)
    return Enrolled(view, command_of(view))


def bundle_files() -> dict[str, Path]:
    """The files of the provider bundle, by name: what an owner reads and applies."""
    return {path.name: path for path in _FOLDER.glob("*.yaml")}


def command_of(cluster: ClusterView) -> str:
    """What the owner types, from now on for an hour."""
    values = access.relay_values(cluster_id=cluster.id, replace=False)
    token = signing.dumps([values.cluster, _mark(values)], salt=_SALT, compress=False)
    return f"curl -fsS {settings.GPUYARD_BASE_URL}/enrol/{token} | kubectl apply -f -"


def relay_values(
    *, acting: Principal, cluster_id: str, replace: bool
) -> tuple[RelayValues, str | None]:
    """What the cluster's relay needs, and the command that gives it to an agent, where that is one.
    replace: with other keys. Joins the caller's transaction; NotFound."""
    values = onboard.relay_values(acting=acting, cluster_id=cluster_id, replace=replace)
    if values.agent is None:
        return values, None
    return values, command_of(onboard.own_cluster(acting, cluster_id))


def file_of(token: str) -> str:
    """The YAML that a link leads to, secrets in it. NotFound for one that is not ours, expired, or
    of a cluster whose keys were replaced or that is gone."""
    try:
        cluster, mark = signing.loads(token, salt=_SALT, max_age=LINK_SECONDS)
        identifier = parse("cluster", str(cluster))
    except (signing.BadSignature, BadId, ValueError) as error:
        raise NotFound("enrolment") from error
    with transaction.atomic():
        values = access.relay_values(cluster_id=identifier, replace=False)
    if values.agent is None or values.gateway is None or mark != _mark(values):
        raise NotFound("enrolment")
    parts = [(_FOLDER / name).read_text() for name in _PARTS]
    parts[-1] = parts[-1].replace("image: IMAGE", f"image: {values.image}")
    return "---\n".join([*parts, _secret(values, values.agent)])


def _secret(values: RelayValues, agent: AgentValues) -> str:
    given = {
        "cluster": values.cluster,
        "gateway": values.gateway,
        "relay.seed": values.relay_seed,
        "gateway.pub": values.gateway_key,
        "agent.pem": agent.pem,
        "agent.token": agent.token,
    }
    # JSON's strings are YAML's.
    lines = "".join(f"  {name}: {json.dumps(text)}\n" for name, text in given.items())
    return (
        "# The keys of your agent: by them it and gpuyard know one another.\n"
        "apiVersion: v1\nkind: Secret\n"
        "metadata: {name: gpuyard-agent, namespace: gpuyard-system}\n"
        f"type: Opaque\nstringData:\n{lines}"
    )


def _mark(values: RelayValues) -> str:
    """Another one once the keys are replaced; says nothing of them."""
    return signing.Signer(salt=_SALT).signature(values.relay_seed)[:16]
