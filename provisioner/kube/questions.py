"""What a preflight asks a cluster: what our token may do there, and what the server lets in.

Nothing here changes a cluster: every account may ask about itself, and pods are created in a dry
run only. The loops' own calls are in api.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from provisioner.kube import slim
from provisioner.kube.api import KubernetesApi
from provisioner.kube.client import Json, mapping, sequence
from provisioner.kube.compose import AUTHORIZATION, CORE, NETWORKING, NODES, Composed, compose
from provisioner.kube.connections import connect
from provisioner.models import Cluster

# Of the whole walk over all nodes of a cluster; five thousand are a hundred pages of 1 MB.
NODES_SECONDS = 25.0
_NODES_PER_PAGE = 50
# A role of a bundle has ten rules; whoever has a thousand in one namespace has too many anyway.
_MOST_RULES = 1000


class Questions(Protocol):
    """What probes use. Every method raises the errors of kube/errors.py and nothing else."""

    def server_version(self) -> str: ...
    def may_create_pods(self, namespace: str) -> bool: ...
    def list_nodes(self) -> list[Json]: ...
    def every_node(self) -> Iterator[Json]: ...
    def allowed(
        self, verb: str, resource: str, *, group: str, namespace: str, name: str = ""
    ) -> bool: ...
    def rules_in(self, namespace: str) -> list[Json]: ...
    def try_pod(self, namespace: str, body: Json) -> Json: ...
    def list_network_policies(self, namespace: str) -> list[Json]: ...
    def runtime_classes(self) -> list[str]: ...


class KubernetesQuestions(KubernetesApi):
    """Questions over HTTPS."""

    def every_node(self) -> Iterator[Json]:
        """All nodes, ours or not, page by page: they are large, so nobody keeps them all."""
        asked = compose(CORE.list_node)
        pages = self._client.pages(
            asked.path,
            query=asked.query,
            limit=_NODES_PER_PAGE,
            seconds=NODES_SECONDS,
            keep=slim.node,
        )
        for page in pages:
            yield from (mapping(item) for item in sequence(page.get("items")))

    def allowed(
        self, verb: str, resource: str, *, group: str, namespace: str, name: str = ""
    ) -> bool:
        """Whether our token may do this. ``resource`` includes the subresource; namespace "" is
        all of them."""
        plain, _, part = resource.partition("/")
        given = {
            "verb": verb,
            "group": group,
            "resource": plain,
            "subresource": part,
            "namespace": namespace,
            "name": name,
        }
        wanted = {key: value for key, value in given.items() if value}
        review = {"spec": {"resourceAttributes": wanted}}
        answer = self._send(compose(AUTHORIZATION.create_self_subject_access_review, review))
        return mapping(answer.get("status")).get("allowed") is True

    def rules_in(self, namespace: str) -> list[Json]:
        """What our token's roles allow in one namespace, those of the whole cluster among it. Other
        authorizers of a server need not show here: a right that is missing may still be there."""
        review = {"spec": {"namespace": namespace}}
        answer = self._send(compose(AUTHORIZATION.create_self_subject_rules_review, review))
        rules = sequence(mapping(answer.get("status")).get("resourceRules"))
        return [mapping(rule) for rule in rules[:_MOST_RULES]]

    def try_pod(self, namespace: str, body: Json) -> Json:
        """The pod as it would be created; nothing is."""
        asked = compose(CORE.create_namespaced_pod, namespace, body, dry_run="All")
        return self._send(asked)

    def list_network_policies(self, namespace: str) -> list[Json]:
        asked: Composed = compose(NETWORKING.list_namespaced_network_policy, namespace)
        return self._listed(asked, _NODES_PER_PAGE)[0]

    def runtime_classes(self) -> list[str]:
        """The names of all of them, cut: a cluster has a handful."""
        found = self._listed(compose(NODES.list_runtime_class), _NODES_PER_PAGE)[0]
        names = (mapping(item.get("metadata")).get("name") for item in found[:_MOST_RULES])
        return [str(name)[:253] for name in names]


def connect_to_ask(cluster: Cluster) -> Questions:
    """No network. Raises Rejected when the stored values cannot be used."""
    return KubernetesQuestions(connect.client(cluster))
