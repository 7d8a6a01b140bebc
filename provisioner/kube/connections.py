"""Clients of this process, one per cluster, kept while what they are made of stays the same."""

from __future__ import annotations

import ssl
import threading

from kernel.errors import Refusal
from kernel.sealed import CannotOpen
from provisioner.clusters import agent_keys
from provisioner.clusters.register import binding_of, open_token
from provisioner.contracts import ClusterMode
from provisioner.kube.agent import AgentWay
from provisioner.kube.api import ClusterApi, KubernetesApi
from provisioner.kube.client import Client
from provisioner.kube.errors import Rejected
from provisioner.models import Cluster


class Connections:
    """Clients of this process, kept while a cluster's address, CA, token and binding are the
    same, so that their connections are used again. Safe for threads."""

    # Clusters beyond this reconnect for each call; a worker rarely serves that many at once.
    MOST = 256

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[object, tuple[object, Client]] = {}

    def __call__(self, cluster: Cluster) -> ClusterApi:
        return KubernetesApi(self.client(cluster))

    def client(self, cluster: Cluster) -> Client:
        """No network. Raises Rejected when the stored values cannot be used."""
        binding = binding_of(cluster)
        mark = (
            *(cluster.api_url, cluster.token_version, hash(cluster.ca_pem), binding),
            cluster.relay_version if cluster.mode == ClusterMode.AGENT else None,
        )
        with self._lock:
            kept = self._kept.get(cluster.id)
            if kept is not None and kept[0] == mark:
                return kept[1]
        try:
            made = _client_of(cluster)
        except CannotOpen as error:
            raise Rejected("unauthorized", "the stored token cannot be opened") from error
        except Refusal as error:
            raise Rejected("address_forbidden", error.detail) from error
        except (ssl.SSLError, ValueError) as error:  # the latter for text that is no ASCII
            raise Rejected("bad_ca", f"the CA cannot be loaded: {error}") from error
        with self._lock:
            while len(self._kept) >= self.MOST:
                # Not closed: somebody may be in the middle of a call. With its last user it goes.
                self._kept.pop(next(iter(self._kept)))
            self._kept[cluster.id] = (mark, made)
        return made


def _client_of(cluster: Cluster) -> Client:
    if cluster.mode == ClusterMode.AGENT:
        trusted, token = agent_keys.certificate(cluster), agent_keys.token(cluster)
        return Client(way=AgentWay(cluster.id), ca_pem=trusted, token=token)
    return Client.direct(
        api_url=cluster.api_url,
        ca_pem=cluster.ca_pem,
        token=open_token(cluster),
        binding=binding_of(cluster),
    )


connect = Connections()
