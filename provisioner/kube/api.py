"""The calls that we make to a cluster, and no others. Thin: one method, one request."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from typing import Protocol

from kernel.errors import Refusal
from kernel.sealed import CannotOpen
from provisioner.clusters.register import binding_of, open_token
from provisioner.kube.client import Client, Json, mapping, sequence
from provisioner.kube.compose import AUTHORIZATION, CORE, STORAGE, VERSION, Composed, compose
from provisioner.kube.errors import Rejected
from provisioner.models import Cluster

# 200 pods are at most 2 MB of JSON; nodes list their images and are larger.
_PODS_PER_PAGE = 200
_NODES_PER_PAGE = 100
_CLASSES_PER_PAGE = 100
# A whole list, all pages. Above it the call would outlive a loop's claim.
LIST_SECONDS = 12.0
_OURS = "app.kubernetes.io/managed-by=gpuyard"


class ClusterApi(Protocol):
    """What the loops use. Every method raises the errors of kube/errors.py and nothing else."""

    def create_pod(self, namespace: str, body: Json) -> Json: ...
    def get_pod(self, namespace: str, name: str) -> Json: ...
    def delete_pod(self, namespace: str, name: str, *, uid: str | None, grace: int) -> Json: ...
    def list_pods(self, namespace: str) -> tuple[list[Json], str]: ...
    def watch_pods(
        self, namespace: str, version: str, *, silence: float, seconds: float
    ) -> Iterator[Json]: ...
    def create_secret(self, namespace: str, body: Json) -> None: ...
    def delete_secret(self, namespace: str, name: str) -> None: ...
    def create_claim(self, namespace: str, body: Json) -> Json: ...
    def get_claim(self, namespace: str, name: str) -> Json: ...
    def patch_claim(self, namespace: str, name: str, body: Json) -> Json: ...
    def delete_claim(self, namespace: str, name: str, *, uid: str | None) -> None: ...
    def list_claims(self, namespace: str) -> tuple[list[Json], str]: ...
    def list_storage_classes(self) -> list[Json]: ...
    def list_nodes(self) -> list[Json]: ...
    def server_version(self) -> str: ...
    def may_create_pods(self, namespace: str) -> bool: ...
    def renew_token(self, *, seconds: int) -> tuple[str, str]: ...


class KubernetesApi:
    """ClusterApi over HTTPS."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create_pod(self, namespace: str, body: Json) -> Json:
        return self._send(compose(CORE.create_namespaced_pod, namespace, body))

    def get_pod(self, namespace: str, name: str) -> Json:
        return self._send(compose(CORE.read_namespaced_pod, name, namespace))

    def delete_pod(self, namespace: str, name: str, *, uid: str | None, grace: int) -> Json:
        """The pod as it was when the deletion was accepted."""
        options: Json = {"gracePeriodSeconds": grace}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        return self._send(compose(CORE.delete_namespaced_pod, name, namespace, body=options))

    def list_pods(self, namespace: str) -> tuple[list[Json], str]:
        """Our pods in one namespace, and the resourceVersion to watch from."""
        return self._listed(
            compose(CORE.list_namespaced_pod, namespace, label_selector=_OURS), _PODS_PER_PAGE
        )

    def watch_pods(
        self, namespace: str, version: str, *, silence: float, seconds: float
    ) -> Iterator[Json]:
        asked = compose(
            CORE.list_namespaced_pod,
            namespace,
            label_selector=_OURS,
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=version,
            timeout_seconds=int(seconds),
        )
        return self._client.lines(
            asked.path, query=asked.query, silence=silence, seconds=seconds + 5
        )

    def create_secret(self, namespace: str, body: Json) -> None:
        """Create it, or leave the one that is there: names derive from the instance's id, and
        its content never changes."""
        try:
            self._send(compose(CORE.create_namespaced_secret, namespace, body))
        except Rejected as error:
            if error.code != "exists":
                raise

    def delete_secret(self, namespace: str, name: str) -> None:
        """Returns when it is not there any more."""
        try:
            self._send(compose(CORE.delete_namespaced_secret, name, namespace))
        except Rejected as error:
            if error.code != "not_found":
                raise

    def create_claim(self, namespace: str, body: Json) -> Json:
        return self._send(compose(CORE.create_namespaced_persistent_volume_claim, namespace, body))

    def get_claim(self, namespace: str, name: str) -> Json:
        return self._send(compose(CORE.read_namespaced_persistent_volume_claim, name, namespace))

    def patch_claim(self, namespace: str, name: str, body: Json) -> Json:
        """A merge patch: what it does not name stays."""
        return self._send(
            compose(CORE.patch_namespaced_persistent_volume_claim, name, namespace, body)
        )

    def delete_claim(self, namespace: str, name: str, *, uid: str | None) -> None:
        options: Json = {} if uid is None else {"preconditions": {"uid": uid}}
        self._send(
            compose(CORE.delete_namespaced_persistent_volume_claim, name, namespace, body=options)
        )

    def list_claims(self, namespace: str) -> tuple[list[Json], str]:
        """Our claims in one namespace, and the list's resourceVersion."""
        return self._listed(
            compose(CORE.list_namespaced_persistent_volume_claim, namespace, label_selector=_OURS),
            _PODS_PER_PAGE,
        )

    def list_storage_classes(self) -> list[Json]:
        return self._listed(compose(STORAGE.list_storage_class), _CLASSES_PER_PAGE)[0]

    def list_nodes(self) -> list[Json]:
        asked = compose(CORE.list_node, label_selector="gpuyard.io/pool=rental")
        return [
            mapping(item)
            for page in self._pages(asked, _NODES_PER_PAGE)
            for item in sequence(page.get("items"))
        ]

    def server_version(self) -> str:
        return str(self._send(compose(VERSION.get_code)).get("gitVersion", ""))[:40]

    def may_create_pods(self, namespace: str) -> bool:
        review = {
            "spec": {
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": "create",
                    "resource": "pods",
                }
            },
        }
        answer = self._send(compose(AUTHORIZATION.create_self_subject_access_review, review))
        return mapping(answer.get("status")).get("allowed") is True

    def renew_token(self, *, seconds: int) -> tuple[str, str]:
        """(token, RFC 3339 expiry): a new token of our own account."""
        asked = {"spec": {"audiences": [], "expirationSeconds": seconds}}
        answer = self._send(
            compose(
                CORE.create_namespaced_service_account_token, "gpuyard", "gpuyard-system", asked
            )
        )
        status = mapping(answer.get("status"))
        return str(status.get("token", "")), str(status.get("expirationTimestamp", ""))

    def _send(self, asked: Composed) -> Json:
        return self._client.request(asked.method, asked.path, query=asked.query, body=asked.body)

    def _listed(self, asked: Composed, limit: int) -> tuple[list[Json], str]:
        found: list[Json] = []
        version = ""
        for page in self._pages(asked, limit):
            found.extend(mapping(item) for item in sequence(page.get("items")))
            version = str(mapping(page.get("metadata")).get("resourceVersion", ""))
        return found, version

    def _pages(self, asked: Composed, limit: int) -> Iterator[Json]:
        return self._client.pages(asked.path, query=asked.query, limit=limit, seconds=LIST_SECONDS)


class Connections:
    """Clients of this process, kept while a cluster's address, CA, token and binding are the
    same, so that their connections are used again. Safe for threads."""

    # Clusters beyond this reconnect for each call; a worker rarely serves that many at once.
    MOST = 256

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[object, tuple[object, Client]] = {}

    def __call__(self, cluster: Cluster) -> ClusterApi:
        """No network. Raises Rejected when the stored values cannot be used."""
        binding = binding_of(cluster)
        mark = (cluster.api_url, cluster.token_version, hash(cluster.ca_pem), binding)
        with self._lock:
            kept = self._kept.get(cluster.id)
            if kept is not None and kept[0] == mark:
                return KubernetesApi(kept[1])
        try:
            made = Client(
                api_url=cluster.api_url,
                ca_pem=cluster.ca_pem,
                token=open_token(cluster),
                binding=binding,
            )
        except CannotOpen as error:
            raise Rejected("unauthorized", "the stored token cannot be opened") from error
        except Refusal as error:
            raise Rejected("address_forbidden", error.detail) from error
        except ssl.SSLError as error:
            raise Rejected("bad_ca", f"the CA cannot be loaded: {error}") from error
        with self._lock:
            while len(self._kept) >= self.MOST:
                self._kept.pop(next(iter(self._kept)))[1].close()
            self._kept[cluster.id] = (mark, made)
        return KubernetesApi(made)


connect = Connections()
