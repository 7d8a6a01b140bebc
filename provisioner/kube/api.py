"""The calls that we make to a cluster, and no others. Thin: one method, one request."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import datetime
from typing import Protocol

from kernel.text import clean
from provisioner.kube import slim
from provisioner.kube.client import Client, Json, Keep, mapping, sequence
from provisioner.kube.compose import (
    AUTHORIZATION,
    COORDINATION,
    CORE,
    STORAGE,
    VERSION,
    Composed,
    compose,
)
from provisioner.kube.errors import Rejected, Unsure
from provisioner.kube.transport import Cut

# 100 pods are at most 1 MB of JSON; nodes list their images and are larger.
_PODS_PER_PAGE = 100
_NODES_PER_PAGE = 50
_CLASSES_PER_PAGE = 100
# A whole list, all pages. Above it the call would outlive a loop's claim.
LIST_SECONDS = 12.0
# Of a tail that is asked for. A program that writes megabytes in a line is cut here; what is
# missing is then the end, and the answer says that something is.
MAX_LOG_READ = 8 * 1024 * 1024
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
    def create_lease(self, namespace: str, body: Json) -> str: ...
    def lease_version(self, namespace: str, name: str) -> str: ...
    def replace_lease(self, namespace: str, body: Json) -> str: ...
    def delete_lease(self, namespace: str, name: str) -> None: ...
    def reaper_lease(self) -> Json: ...
    def list_nodes(self) -> list[Json]: ...
    def list_events(self, namespace: str) -> list[Json]: ...
    def pod_log(
        self,
        namespace: str,
        name: str,
        *,
        container: str,
        tail_lines: int,
        limit_bytes: int,
        previous: bool,
        since: datetime | None,
        seconds: float,
    ) -> tuple[bytes, bool]: ...
    def follow_log(
        self,
        namespace: str,
        name: str,
        *,
        container: str,
        tail_lines: int | None,
        since: datetime | None,
        silence: float,
        seconds: float,
        cut: Cut,
    ) -> Iterator[bytes]: ...
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
            compose(CORE.list_namespaced_pod, namespace, label_selector=_OURS),
            _PODS_PER_PAGE,
            slim.pod,
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

    def create_lease(self, namespace: str, body: Json) -> str:
        """Its resourceVersion; "" if one is there already, which is left as it is."""
        try:
            made = self._send(compose(COORDINATION.create_namespaced_lease, namespace, body))
        except Rejected as error:
            if error.code != "exists":
                raise
            return ""
        return _version(made)

    def lease_version(self, namespace: str, name: str) -> str:
        return _version(self._send(compose(COORDINATION.read_namespaced_lease, name, namespace)))

    def replace_lease(self, namespace: str, body: Json) -> str:
        """Its new resourceVersion; raises conflict unless ``body`` names the present one."""
        name = body["metadata"]["name"]
        return _version(
            self._send(compose(COORDINATION.replace_namespaced_lease, name, namespace, body))
        )

    def delete_lease(self, namespace: str, name: str) -> None:
        """Returns when it is not there any more."""
        try:
            self._send(compose(COORDINATION.delete_namespaced_lease, name, namespace))
        except Rejected as error:
            if error.code != "not_found":
                raise

    def reaper_lease(self) -> Json:
        """The heartbeat of the cluster's reaper."""
        return self._send(
            compose(COORDINATION.read_namespaced_lease, "gpuyard-reaper", "gpuyard-system")
        )

    def list_nodes(self) -> list[Json]:
        asked = compose(CORE.list_node, label_selector="gpuyard.io/pool=rental")
        return [
            mapping(item)
            for page in self._pages(asked, _NODES_PER_PAGE, slim.node)
            for item in sequence(page.get("items"))
        ]

    def list_events(self, namespace: str) -> list[Json]:
        """What nodes and scheduler said of the pods of one namespace in the last hour."""
        return self._listed(compose(CORE.list_namespaced_event, namespace), _PODS_PER_PAGE)[0]

    def pod_log(
        self,
        namespace: str,
        name: str,
        *,
        container: str,
        tail_lines: int,
        limit_bytes: int,
        previous: bool,
        since: datetime | None,
        seconds: float,
    ) -> tuple[bytes, bool]:
        """(the last ``limit_bytes`` of a container's log with times, whether more was there).

        The server's own limitBytes would keep the beginning of the tail, not its end, so the end
        is kept here while reading at most MAX_LOG_READ.
        """
        asked = compose(
            CORE.read_namespaced_pod_log,
            name,
            namespace,
            container=container,
            previous=previous,
            tail_lines=tail_lines,
            timestamps=True,
        )
        pieces = self._client.chunks(
            asked.path, query=_since(asked, since), silence=seconds, seconds=seconds
        )
        return _end_of(pieces, limit=limit_bytes, seconds=seconds)

    def follow_log(
        self,
        namespace: str,
        name: str,
        *,
        container: str,
        tail_lines: int | None,
        since: datetime | None,
        silence: float,
        seconds: float,
        cut: Cut,
    ) -> Iterator[bytes]:
        """A container's log with times as it grows, until the container ends."""
        more = {} if tail_lines is None else {"tail_lines": tail_lines}
        asked = compose(
            CORE.read_namespaced_pod_log,
            name,
            namespace,
            container=container,
            follow=True,
            timestamps=True,
            **more,
        )
        query = _since(asked, since)
        return self._client.chunks(
            asked.path, query=query, silence=silence, seconds=seconds, cut=cut
        )

    def server_version(self) -> str:
        return clean(self._send(compose(VERSION.get_code)).get("gitVersion", ""), limit=40)

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

    def _listed(
        self, asked: Composed, limit: int, keep: Keep | None = None
    ) -> tuple[list[Json], str]:
        found: list[Json] = []
        version = ""
        for page in self._pages(asked, limit, keep):
            found.extend(mapping(item) for item in sequence(page.get("items")))
            version = _version(page)
        return found, version

    def _pages(self, asked: Composed, limit: int, keep: Keep | None = None) -> Iterator[Json]:
        return self._client.pages(
            asked.path, query=asked.query, limit=limit, seconds=LIST_SECONDS, keep=keep
        )


def _version(shown: Json) -> str:
    return clean(mapping(shown.get("metadata")).get("resourceVersion", ""), limit=40)


def _since(asked: Composed, since: datetime | None) -> dict[str, str]:
    """The generated client does not know sinceTime although every server does; sinceSeconds would
    count by a clock that is not ours."""
    if since is None:
        return asked.query
    return {**asked.query, "sinceTime": since.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _end_of(
    pieces: Generator[bytes, None, None], *, limit: int, seconds: float
) -> tuple[bytes, bool]:
    """The end of what came within ``seconds``; raises Unsure when nothing did and more may."""
    deadline = time.monotonic() + seconds
    kept, size = bytearray(), 0
    with closing(pieces):
        for piece in pieces:
            size += len(piece)
            kept += piece
            del kept[: max(0, len(kept) - limit)]
            if size >= MAX_LOG_READ:
                break
    late = time.monotonic() >= deadline
    if late and not kept:
        raise Unsure("timeout", f"no log within {seconds:g} s")
    return bytes(kept), late or size > limit
