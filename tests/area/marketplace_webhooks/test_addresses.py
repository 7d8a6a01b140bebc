"""Addresses that must never get a byte: when given, and when a good name turns bad later."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import pytest

from kernel.addresses import ForbiddenAddress
from marketplace.models import WebhookDelivery, WebhookEndpoint
from marketplace.webhooks import deliver, receivers
from marketplace.webhooks.send import Message, send
from tests.area.marketplace_webhooks.hooks import make_hook, tell
from tests.market import Renter
from tests.receivers import LOOPBACK, Receiver

Receive = Callable[..., Receiver]
EVERYTHING = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "192.168.1.1",
        "[fd00::1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "0.0.0.0",
        "224.0.0.1",
    ],
)
def test_a_forbidden_address_is_422_at_once(renter: Renter, host: str) -> None:
    body = {"url": f"https://{host}:8443/latest/meta-data", "event_types": ["*"]}
    try:
        socket.getaddrinfo(host.strip("[]"), 8443)
    except OSError:
        pytest.skip(f"this system does not resolve {host}")
    status, problem = renter.call("POST", "/webhooks", body)
    assert (status, problem["type"]) == (422, "/problems/address_forbidden"), problem
    assert "Nothing was stored" in problem["detail"]
    assert not WebhookEndpoint.objects.exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.215.14/",
        "ftp://93.184.215.14/",
        "//93.184.215.14/",
        "https://me@93.184.215.14/",
        "https://me:secret@93.184.215.14/",
        "https://93.184.215.14@127.0.0.1/",
        "https://93.184.215.14:25/",
        "https://93.184.215.14:22/",
        "https://93.184.215.14:80/",
        "https://93.184.215.14:0/",
    ],
)
def test_urls_of_the_wrong_kind_are_forbidden(renter: Renter, url: str) -> None:
    status, problem = renter.call("POST", "/webhooks", {"url": url, "event_types": ["*"]})
    assert (status, problem["type"]) == (422, "/problems/address_forbidden"), problem


def test_a_change_of_address_is_checked_like_a_new_one(renter: Renter) -> None:
    hook = make_hook(renter, "https://93.184.215.14/x")
    path = f"/webhooks/{hook['id']}"
    status, problem = renter.call("PATCH", path, {"url": "https://169.254.169.254/"})
    assert (status, problem["type"]) == (422, "/problems/address_forbidden")
    assert WebhookEndpoint.objects.get().url == "https://93.184.215.14/x"


# What a name may resolve to at the moment of sending, all of them leading to ourselves or worse.
TRAPS = [
    ["127.0.0.1"],
    ["93.184.215.14", "127.0.0.1"],
    ["::1"],
    ["::ffff:127.0.0.1"],
    ["::127.0.0.1"],
    ["64:ff9b::7f00:1"],
    ["64:ff9b::a9fe:a9fe"],
    ["2002:7f00:1::"],
    ["2001:0:7f00:1::1"],
    ["169.254.169.254"],
    ["fe80::1%lo"],
    ["fd00:ec2::254"],
    ["100.64.0.1"],
    ["10.1.2.3"],
    ["0.0.0.0"],
    ["not-an-address"],
]


@pytest.mark.parametrize("found", TRAPS, ids=",".join)
def test_a_name_that_turned_bad_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, found: list[str]
) -> None:
    touched: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda *a, **_: touched.append(a))
    outcome = send(
        Message("https://hooks.example.com/", b"{}", "t=1,v1=x"), lambda host, port: found
    )
    assert outcome.reason == "address_forbidden"
    assert touched == []


@pytest.mark.parametrize("address", ["169.254.169.254", "100.64.0.1", "64:ff9b::7f00:1", "::"])
def test_no_setting_opens_metadata_link_local_and_carrier_ranges(settings, address: str) -> None:
    settings.GPUYARD_WEBHOOK_NETWORKS = EVERYTHING
    with pytest.raises(ForbiddenAddress):
        receivers.check_ip(address)
    receivers.check_ip("10.1.2.3")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1"])
def test_without_the_setting_loopback_gets_no_byte(
    receive: Receive, renter: Renter, settings, host: str
) -> None:
    """The same receiver that is reached while the setting allows it."""
    receiver = receive()
    make_hook(renter, f"https://{host}:{receiver.port}/hooks")
    tell(renter)
    settings.GPUYARD_WEBHOOK_NETWORKS = ()
    deliver.run()
    row = WebhookDelivery.objects.get()
    assert (row.state, row.reason, row.response_code) == ("pending", "address_forbidden", None)
    assert receiver.connections == 0
    settings.GPUYARD_WEBHOOK_NETWORKS = LOOPBACK
    WebhookDelivery.objects.update(next_at=row.created_at)
    deliver.run()
    assert receiver.connections > 0


def test_a_name_that_does_not_resolve_is_stored_and_tried(renter: Renter) -> None:
    make_hook(renter, "https://nowhere.invalid/hook")
    tell(renter)
    deliver.run()
    assert WebhookDelivery.objects.get().reason == "dns"
