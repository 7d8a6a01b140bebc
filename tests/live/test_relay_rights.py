"""The relay on a real control plane, with the account and rights of the provider's bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from devstack.kube.api import MERGE, Api, ApiError, Json
from devstack.kube.provision import RELAY, request_token
from tests.live.pods import pods_path, rental_pod, running
from tests.relayed import (
    CLUSTER,
    INSTANCE,
    Book,
    Served,
    listening,
    relaying_at,
    send_back,
    write_seed,
)
from tests.sshpod import NEEDS_OPENSSH, make_key

pytestmark = [pytest.mark.live, NEEDS_OPENSSH]

SPACE, NAME, ADDRESS = "gpuyard-r-01", "gy-relayed", "127.0.0.5"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"

REFUSED = [
    ("GET", pods_path(SPACE)),
    ("GET", f"{pods_path(SPACE)}?watch=true"),
    ("POST", pods_path(SPACE)),
    ("PATCH", pods_path(SPACE, "any")),
    ("DELETE", pods_path(SPACE, "any")),
    ("GET", f"{pods_path(SPACE, 'any')}/log"),
    ("POST", f"{pods_path(SPACE, 'any')}/exec?command=id"),
    ("POST", f"{pods_path(SPACE, 'any')}/portforward"),
    ("GET", f"/api/v1/namespaces/{SPACE}/secrets/any"),
    ("GET", f"/api/v1/namespaces/{SPACE}/services/any"),
    ("GET", f"{LEASES.format(SPACE)}/any"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/namespaces"),
    ("GET", pods_path("default", "any")),
    ("GET", pods_path("gpuyard-system", "any")),
    ("GET", "/api/v1/namespaces/gpuyard-system/secrets/gpuyard-relay"),
    ("PATCH", "/apis/apps/v1/namespaces/gpuyard-system/deployments/gpuyard-relay"),
    ("POST", "/api/v1/namespaces/gpuyard-system/serviceaccounts/gpuyard-relay/token"),
    ("POST", "/api/v1/namespaces/gpuyard-system/serviceaccounts/gpuyard/token"),
]


@pytest.fixture(scope="module")
def token(kube_owned) -> str:
    return request_token(kube_owned.admin(), account=RELAY)


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_the_relays_token_can_do_nothing_else(kube_owned, token: str, method, path) -> None:
    relay = Api(kube_owned.api_url, kube_owned.ca_pem, token=token)
    body: Json | None = {"metadata": {}} if method in {"POST", "PATCH"} else None
    kind = MERGE if method == "PATCH" else "application/json"
    with pytest.raises(ApiError) as refused:
        relay.call(method, path, body, kind)
    assert refused.value.status == 403


@pytest.fixture
def pod(kube_owned, sim) -> Iterator[Json]:
    """A rental's pod that runs, as far as the API server knows, at a loopback address."""
    body = rental_pod(NAME)
    body["metadata"]["labels"] = {
        "app.kubernetes.io/managed-by": "gpuyard",
        "gpuyard.io/instance": INSTANCE,
    }
    admin = kube_owned.admin()
    admin.post(pods_path(SPACE), body)
    running(admin, SPACE, NAME)
    at = {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
    yield admin.patch(f"{pods_path(SPACE, NAME)}/status", {"status": at}, MERGE)
    # Its node would wait for the pod that it knew, at another address.
    admin.delete(pods_path(SPACE, NAME), {"gracePeriodSeconds": 0})


def test_the_relay_finds_and_judges_pods_with_it(
    kube_owned, token: str, pod: Json, binary: Path, keys: Path, tmp_path: Path
) -> None:
    make_key(keys, "published")
    book, account = Book(), tmp_path / "account"
    book.relays[CLUSTER] = write_seed(keys / "relay", (keys / "published.pub").read_text().strip())
    account.mkdir()
    (account / "token").write_text(token)
    (account / "ca.crt").write_text(kube_owned.ca_pem)
    serving = Served(book, (keys / "published").read_text())

    def refusal(target: str) -> str:
        with pytest.raises(asyncssh.ChannelOpenError) as refused:
            serving.call(serving.gateway.relays.stream(CLUSTER, target, port))
        return refused.value.reason

    async def there_and_back() -> bytes:
        reader, writer = await serving.gateway.relays.stream(CLUSTER, f"{NAME}.{SPACE}", port)
        writer.write(b"through")
        answer: bytes = await reader.readexactly(7)
        return answer

    try:
        with (
            listening(ADDRESS, send_back) as port,
            relaying_at(kube_owned.api_url, account, binary, keys / "relay", serving.port),
        ):
            assert pod["status"]["podIP"] == ADDRESS
            assert serving.call(there_and_back()) == b"through"
            assert refusal(f"gy-none.{SPACE}") == "there is no such pod"
            forbidden = "the API server of this cluster does not let the relay look"
            assert refusal(f"{NAME}.gpuyard-r-99") == forbidden
            assert refusal(f"{NAME}.default") == "this namespace is not one of rentals"
            admin = kube_owned.admin()
            labels = {"app.kubernetes.io/managed-by": None}
            admin.patch(pods_path(SPACE, NAME), {"metadata": {"labels": labels}}, MERGE)
            assert refusal(f"{NAME}.{SPACE}") == "this pod is not one of a rental"
    finally:
        serving.stop()
