"""Which addresses may be connected to: the traps, one by one."""

from __future__ import annotations

import socket

import pytest

from kernel.addresses import ForbiddenAddress, resolve
from kernel.errors import InvalidRequest, Refusal
from provisioner.clusters.addresses import (
    check_address,
    check_ip,
    parse_binding,
    parse_target,
)
from provisioner.contracts import AddressBinding

NONE = AddressBinding()
LOOPBACK = AddressBinding(("127.0.0.0/8", "::1/128"), (16443,))
VPN = AddressBinding(("10.8.0.0/16", "fd12::/16"), (7443,))
EVERYTHING = AddressBinding(("0.0.0.0/0", "::/0"), (80, 443, 6443))


def refused(url: str, *addresses: str, binding: AddressBinding = NONE) -> str:
    with pytest.raises(Refusal) as caught:
        check_address(api_url=url, binding=binding, resolver=lambda host, port: list(addresses))
    return caught.value.slug


@pytest.mark.parametrize("port", ["", ":443", ":6443"])
def test_public_addresses_on_usual_ports_pass(port: str) -> None:
    check_address(
        api_url=f"https://k8s.example.com{port}",
        binding=NONE,
        resolver=lambda host, port: ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"],
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://k8s.example.com:6443",
        "ftp://k8s.example.com",
        "https://user@k8s.example.com",
        "https://user:secret@k8s.example.com:6443",
        "https://k8s.example.com:22",
        "https://k8s.example.com:10250",
        "https://93.184.215.14@127.0.0.1:6443",
    ],
)
def test_urls_of_the_wrong_kind_are_forbidden(url: str) -> None:
    assert refused(url, "93.184.215.14") == "address_forbidden"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "k8s.example.com",
        "https://",
        "https://k8s.example.com/path",
        "https://k8s.example.com?x=1",
        "https://k8s.example.com:port",
        "https://k8s.example.com:99999",
        "https://[::1",
        "https://k8s.example.com\\@evil.example.com",
        "https://k8s.example.com\n:6443",
        "https://ⅰ27.0.0.1",
        "https://127。0。0。1:6443",
        "https://fe80::1%25eth0",
        "https://" + "a" * 400,
    ],
)
def test_texts_that_are_no_such_url_are_refused(url: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_target(url, NONE)
    assert caught.value.slug in ("invalid_request", "address_forbidden")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "10.1.2.3",
        "172.20.0.1",
        "192.168.1.1",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
    ],
)
def test_private_addresses_need_a_binding(address: str) -> None:
    assert refused("https://k8s.example.com:6443", address) == "address_forbidden"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "100.64.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "not-an-address",
    ],
)
def test_some_ranges_are_never_used_whatever_the_binding(address: str) -> None:
    for port in (443, 6443):
        with pytest.raises(ForbiddenAddress):
            check_ip(address, port, EVERYTHING)


def test_one_bad_address_among_good_ones_is_enough() -> None:
    url = "https://k8s.example.com:6443"
    assert refused(url, "93.184.215.14", "169.254.169.254") == "address_forbidden"


def test_a_binding_opens_its_networks_and_its_ports_only() -> None:
    check_ip("10.8.3.4", 7443, VPN)
    check_ip("fd12::1", 7443, VPN)
    for address, port in [("10.9.0.1", 7443), ("10.8.3.4", 443), ("127.0.0.1", 7443)]:
        with pytest.raises(ForbiddenAddress):
            check_ip(address, port, VPN)
    # A bound port does not open the internet at that port.
    with pytest.raises(ForbiddenAddress):
        check_ip("93.184.215.14", 7443, VPN)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost"])
def test_spellings_of_loopback_are_caught_after_resolving(host: str) -> None:
    try:
        resolve(host, 6443)
    except OSError:
        pytest.skip(f"this system does not resolve {host}")
    with pytest.raises(Refusal) as caught:
        check_address(api_url=f"https://{host}:6443", binding=NONE)
    assert caught.value.slug == "address_forbidden"


def test_loopback_bound_with_its_port_passes() -> None:
    check_address(api_url="https://127.0.0.1:16443", binding=LOOPBACK)
    assert refused("https://127.0.0.1:6443", "127.0.0.1", binding=LOOPBACK) == "address_forbidden"


def test_a_name_that_does_not_resolve_is_no_refusal() -> None:
    def failing(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    check_address(api_url="https://gone.example.com:6443", binding=NONE, resolver=failing)


@pytest.mark.parametrize(
    "binding", [AddressBinding(("10.0.0.0/33",)), AddressBinding(("x",)), AddressBinding((), (0,))]
)
def test_a_broken_binding_is_refused(binding: AddressBinding) -> None:
    with pytest.raises(InvalidRequest):
        parse_binding(binding)
