"""Fetching the log of an instance that ended by itself, before its pod is deleted.

Best effort: the deletion never waits longer than FETCH_SECONDS for it and never fails because of
it, and what went wrong is stored in the log's place.
"""

from __future__ import annotations

import time

from kernel.errors import VendorError
from provisioner.instances.logs import KEPT_BYTES, Fetched
from provisioner.kube.api import ClusterApi
from provisioner.kube.errors import code_of
from provisioner.kube.manifests import MAIN

# For both runs together. The claim has to cover this, the deletion and a look (claim.py); a host
# that is gone costs it once per instance.
FETCH_SECONDS = 3.0
# More lines than fit into what is kept, so that bytes decide.
_LINES = 2000


def fetch(api: ClusterApi, namespace: str, pod_name: str) -> list[Fetched]:
    """The last run's log and, where there was one, that of the run before; touches no table."""
    ends = time.monotonic() + FETCH_SECONDS
    last = _fetch(api, namespace, pod_name, previous=False, ends=ends)
    before = _fetch(api, namespace, pod_name, previous=True, ends=ends)
    # Between two runs the kubelet gives the same log under both names.
    useless = before.problem or not before.raw or before.raw == last.raw
    return [last] if useless else [before, last]


def _fetch(
    api: ClusterApi, namespace: str, pod_name: str, *, previous: bool, ends: float
) -> Fetched:
    left = ends - time.monotonic()
    if left <= 0:
        return Fetched(previous, problem="timeout")
    try:
        raw, truncated = api.pod_log(
            namespace,
            pod_name,
            container=MAIN,
            tail_lines=_LINES,
            limit_bytes=KEPT_BYTES,
            previous=previous,
            since=None,
            seconds=left,
        )
    except VendorError as error:
        return Fetched(previous, problem=code_of(error))
    return Fetched(previous, raw, truncated)
