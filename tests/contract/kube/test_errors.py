"""Every way in which a call fails, as the product's own classes and codes.

What lies between us and a server is the same for both; what a real one does not do on order is
ordered from the simulated one.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest

from devstack.ports import free_port, release
from kernel.errors import VendorError
from provisioner.contracts import AddressBinding
from provisioner.kube.errors import Rejected, Unavailable, Unsure, code_of
from tests.area.provisioner.test_clusters import ca_pem
from tests.contract.kube.conftest import SPACE, Kube, find, pod, ready, until

PODS = f"/api/v1/namespaces/{SPACE}/pods"
CREATE = {"method": "POST", "path": PODS}
READ = {"method": "GET", "path": f"{PODS}/*"}


def raised(error: pytest.ExceptionInfo[VendorError]) -> tuple[type, str]:
    return type(error.value), code_of(error.value)


# -- on the way --------------------------------------------------------------------------------


def test_a_name_that_does_not_resolve(kube: Kube) -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(Unavailable) as error:
        kube.connect(resolver=nowhere).list_nodes()
    assert raised(error) == (Unavailable, "dns")


def test_an_address_that_must_not_be_used(kube: Kube) -> None:
    with pytest.raises(Rejected) as error:
        kube.connect(resolver=lambda host, port: ["169.254.169.254"]).list_nodes()
    assert raised(error) == (Rejected, "address_forbidden")


def test_a_server_that_is_not_signed_by_the_given_authority(kube: Kube) -> None:
    with pytest.raises(Rejected) as error:
        kube.connect(ca_pem=ca_pem()).list_nodes()
    assert raised(error) == (Rejected, "bad_ca")


def test_a_port_that_does_not_speak_tls(kube: Kube) -> None:
    with _plain_server() as port, pytest.raises(Unavailable) as error:
        kube.connect(api_url=f"https://127.0.0.1:{port}").list_nodes()
    assert raised(error) == (Unavailable, "tls")


def test_a_port_where_nobody_listens(kube: Kube) -> None:
    port = free_port()
    with pytest.raises(Unavailable) as error:
        kube.connect(api_url=f"https://127.0.0.1:{port}").list_nodes()
    assert raised(error) == (Unavailable, "connect")
    release(port)


def test_a_server_that_is_away_and_back(kube: Kube, name: str) -> None:
    """Nobody listens; afterwards everything is as it was."""
    if kube.kind == "real":
        pytest.skip("tests/live does this to a real one, which needs some seconds for it")
    kube.api.create_pod(SPACE, pod(name))
    before = ready(kube, name)
    plane = kube.stack.planes[kube.cluster.name]
    plane.stop_api_server()
    try:
        with pytest.raises(Unavailable) as error:
            kube.connect().list_nodes()
        assert raised(error) == (Unavailable, "connect")
    finally:
        plane.start_api_server()
    after = ready(kube, name)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


@contextlib.contextmanager
def _plain_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed by the test's end
                taken, _ = listening.accept()
                with taken:
                    taken.recv(100)
                    taken.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


# -- on order, nothing happened ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "params", "wanted"),
    [
        ("throttle", {"retry_after": 7}, (Unavailable, "rate_limited")),
        ("error", {"status": 500}, (Unsure, "server_error")),
        ("error", {"status": 503, "reason": "ServiceUnavailable"}, (Unsure, "server_error")),
        ("error", {"status": 504, "reason": "Timeout"}, (Unsure, "server_error")),
        ("conflict", {}, (Rejected, "exists")),
        ("conflict", {"reason": "Conflict"}, (Rejected, "conflict")),
        ("expired", {}, (Rejected, "expired")),
        ("redirect", {}, (Unsure, "redirect")),
        ("cut_before", {}, (Unsure, "broken")),
        ("bomb", {}, (Unsure, "too_large")),
        ("gzip", {}, (Unsure, "not_json")),
    ],
)
def test_an_ordered_failure_before_the_effect(
    kube: Kube, name: str, kind: str, params: dict[str, Any], wanted: tuple[type, str]
) -> None:
    kube.faults.fail(kind, CREATE, params)
    with pytest.raises(VendorError) as error:
        kube.api.create_pod(SPACE, pod(name))
    assert raised(error) == wanted
    if kind == "throttle":
        assert isinstance(error.value, Unavailable)
        assert error.value.delay == 7
    assert find(kube, name) is None
    assert kube.api.create_pod(SPACE, pod(name)), "it was ordered once"


@pytest.mark.parametrize("kind", ["cut_after", "error_after"])
def test_an_ordered_failure_after_the_effect(kube: Kube, name: str, kind: str) -> None:
    kube.faults.fail(kind, CREATE)
    with pytest.raises(Unsure):
        kube.api.create_pod(SPACE, pod(name))
    assert find(kube, name) is not None
    with pytest.raises(Rejected) as error:
        kube.api.create_pod(SPACE, pod(name))
    assert raised(error) == (Rejected, "exists")


@pytest.mark.parametrize(("kind", "made"), [("hang_before", False), ("hang_after", True)])
def test_a_server_that_says_nothing(kube: Kube, name: str, kind: str, made: bool) -> None:
    kube.faults.fail(kind, CREATE)
    with pytest.raises(Unsure) as error:
        kube.client.request("POST", PODS, body=pod(name), seconds=0.5)
    assert raised(error) == (Unsure, "timeout")
    assert (find(kube, name) is not None) is made


def test_a_server_that_drips(kube: Kube, name: str) -> None:
    """Each byte in time, and yet the call ends at its deadline."""
    kube.api.create_pod(SPACE, pod(name))
    kube.faults.fail("drip", READ, {"seconds": 0.05})
    began = time.monotonic()
    with pytest.raises(Unsure) as error:
        kube.client.request("GET", f"{PODS}/{name}", seconds=1)
    assert raised(error) == (Unsure, "timeout")
    assert time.monotonic() - began < 5


def test_a_list_that_is_wrongly_empty(kube: Kube, name: str) -> None:
    """A plain lie with 200: no client can tell, so what believes it must look twice."""
    kube.api.create_pod(SPACE, pod(name))
    kube.faults.fail("empty_list", {"path": PODS})
    assert kube.api.list_pods(SPACE)[0] == []
    assert len(kube.api.list_pods(SPACE)[0]) == 1


# -- storms ------------------------------------------------------------------------------------


def test_a_storm_hits_a_share_and_can_be_had_again(kube: Kube) -> None:
    def storm(seed: int) -> list[bool]:
        match = {"path": PODS, "times": 0, "rate": 0.5, "seed": seed}
        order = kube.faults.fail("error", match)
        hits = []
        for _ in range(20):
            try:
                kube.api.list_pods(SPACE)
            except Unsure:
                hits.append(True)
            else:
                hits.append(False)
        kube.faults.withdraw_fault(order)
        return hits

    first = storm(7)
    assert 2 < sum(first) < 18
    assert storm(7) == first
    assert storm(8) != first


def test_an_order_skips_and_counts(kube: Kube) -> None:
    kube.faults.fail("throttle", {"path": PODS, "skip": 1, "times": 2})
    codes = []
    for _ in range(4):
        try:
            kube.api.list_pods(SPACE)
        except Unavailable as error:
            codes.append(error.code)
        else:
            codes.append("")
    assert codes == ["", "rate_limited", "rate_limited", ""]
    (order,) = kube.faults.faults()
    assert (order["seen"], order["hits"]) == (4, 2)


# -- watches -----------------------------------------------------------------------------------


def _start(
    kube: Kube, silence: float = 5.0
) -> tuple[list[str], list[VendorError], threading.Thread]:
    """A watch in a thread: kinds seen, the error that ended it."""
    since = kube.api.list_pods(SPACE)[1]
    seen: list[str] = []
    errors: list[VendorError] = []

    def run() -> None:
        try:
            for event in kube.api.watch_pods(SPACE, since, silence=silence, seconds=10):
                seen.append(str(event["type"]))
        except VendorError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return seen, errors, thread


def _create(kube: Kube, name: str, seen: list[str]) -> None:
    """A pod that nothing but its creation and a refusal happens to."""
    kube.api.create_pod(SPACE, pod(name, cards=100))
    until("seen", lambda: len(seen) >= 2)


def test_a_watch_that_is_cut(kube: Kube, name: str) -> None:
    faults = kube.faults
    seen, errors, thread = _start(kube)
    _create(kube, name, seen)
    faults.fail("drop_watch", {"path": PODS})
    thread.join(5)
    assert not thread.is_alive()
    assert [raised_code(error) for error in errors] == [(Unsure, "broken")]


def test_a_watch_that_falls_silent(kube: Kube, name: str) -> None:
    faults = kube.faults
    faults.fail("silent_watch", {"path": PODS})
    _, errors, thread = _start(kube, silence=0.5)
    kube.api.create_pod(SPACE, pod(name, cards=100))
    thread.join(5)
    assert not thread.is_alive()
    assert [raised_code(error) for error in errors] == [(Unsure, "broken")]
    assert "ReadTimeoutError" in str(errors[0]), "nobody cut it"


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        ("lose_event", ["MODIFIED", "DELETED"]),
        ("double_event", ["ADDED", "ADDED", "MODIFIED", "DELETED"]),
    ],
)
def test_events_lost_and_doubled(kube: Kube, name: str, kind: str, kinds: list[str]) -> None:
    faults = kube.faults
    faults.fail(kind, {"path": PODS})
    seen, _, thread = _start(kube)
    kube.api.create_pod(SPACE, pod(name, cards=100))
    until("refused by the scheduler", lambda: "MODIFIED" in seen)
    kube.api.delete_pod(SPACE, name, uid=None, grace=0)
    until("deleted", lambda: "DELETED" in seen)
    assert seen == kinds
    faults.heal()
    faults.fail("drop_watch", {"path": PODS})
    thread.join(5)


def raised_code(error: VendorError) -> tuple[type, str]:
    return type(error), code_of(error)


# -- the control port --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "nonsense"},
        {"kind": "error", "match": {"where": "x"}},
        {"kind": "error", "match": {"rate": 2.0}},
        {"kind": "error", "params": {"status": "500"}},
        {},
    ],
)
def test_an_order_that_makes_no_sense_is_refused(kube: Kube, order: dict[str, Any]) -> None:
    with pytest.raises(HTTPError) as error:
        kube.faults._call("POST", "/api/faults", order)
    assert error.value.code == 422
    assert kube.faults.faults() == []


def test_only_the_bound_port_is_reached(kube: Kube) -> None:
    """The binding that staff gave is what the client holds to, whatever the server says."""
    port = urlsplit(kube.cluster.api_url).port or 0
    binding = AddressBinding(("127.0.0.0/8",), (port,))
    assert kube.connect(binding=binding).list_nodes()
