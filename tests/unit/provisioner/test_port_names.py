"""Names, cookies and headers of ports, each by itself and with whatever comes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.instances.port_names import PortNames, is_port
from provisioner.streams.ports import headers, passes
from provisioner.streams.ports.judge import ascii_path, is_own_path
from tests.ported import NAMES, OTHER, RENTAL, door

TEXT = st.text(max_size=60)
PORTS = st.integers(1, 65535)


@given(st.uuids(), PORTS, st.sampled_from([443, 80, 8443]), st.sampled_from(["http", "https"]))
def test_a_name_leads_back_to_its_rental_and_port(ref, port, at, scheme) -> None:
    names = PortNames(scheme, "pods.example.net", at)
    host = names.host(ref, port)
    assert names.named(host) == names.named(host.upper()) == (ref, port)
    assert names.url(ref, port) == f"{scheme}://{host}/"
    assert len(host.partition(".")[0]) <= 63


@given(TEXT)
def test_any_other_text_is_no_name(text) -> None:
    assert NAMES.named(text) is None
    found = NAMES.named(f"{text}.pods.example.net")
    assert found is None or found[1] > 0


@pytest.mark.parametrize("text", ["0", "00080", "+80", " 80", "8_0", "\u0668", "65536", "", "1e3"])
def test_a_port_has_one_spelling(text: str) -> None:
    assert not is_port(text)


@given(st.uuids(), PORTS, st.sampled_from(["token", "team"]), st.integers(1, 9), st.binary())
def test_a_cookie_opens_its_own_door_alone(ref, port, mode, version, key) -> None:
    of = replace(door(port, rental=ref, mode=mode), version=version)
    now = time.time()
    value = passes.made(of, key=key, now=now)
    assert passes.until_of(value, of, key=key, now=now) == int(now) + passes.seconds_of(of)
    other = "team" if mode == "token" else "token"
    for another in (
        replace(of, rental=OTHER if ref != OTHER else RENTAL),
        replace(of, port=port % 65535 + 1),
        replace(of, version=version + 1),
        replace(of, access_mode=other),
    ):
        assert passes.until_of(value, another, key=key, now=now) is None
    assert passes.until_of(value, of, key=key + b"x", now=now) is None
    assert passes.until_of(value, of, key=key, now=now + passes.seconds_of(of)) is None


@given(TEXT)
def test_a_made_up_cookie_opens_nothing(text) -> None:
    assert passes.until_of(text, door(1), key=b"k", now=0) is None


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"a=1", b"a=1"),
        (b"__Host-gpuyard=x", None),
        (b"__host-GPUYARD=x; a=1", b"a=1"),
        (b" __Host-gpuyard =x;b=2", b"b=2"),
        (b"=__Host-gpuyard=x; a=1", b"a=1"),
        (b"a=__Host-gpuyard=x", b"a=__Host-gpuyard=x"),
        (b";;", None),
    ],
)
def test_our_cookie_stays_with_us(sent: bytes, kept: bytes | None) -> None:
    passed = headers.to_pod(
        [(b"host", b"h"), (b"cookie", sent)],
        cookie="__Host-gpuyard",
        address="192.0.2.1",
        scheme="https",
        host=b"h",
    )
    assert headers.values(passed, b"cookie") == ([] if kept is None else [kept])


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"a=1; Path=/", b"a=1; Path=/"),
        (b"a=1;DOMAIN=x; Path=/", b"a=1; Path=/"),
        (b"a=1; domain = .pods.example.net ;Domain=", b"a=1"),
        (b"a=1; Domain", b"a=1"),
        (b"__host-gpuyard=x", None),
        (b" = __Host-gpuyard=x", None),
        (b"__Host-gpuyard\t=x", None),
        (b"", b""),
    ],
)
def test_a_machine_sets_cookies_for_itself_alone(said: bytes, kept: bytes | None) -> None:
    passed = headers.from_pod([(b"set-cookie", said)], cookie="__Host-gpuyard")
    assert passed == ([] if kept is None else [(b"set-cookie", kept)])


@given(TEXT)
def test_where_people_are_sent_is_on_this_host(text) -> None:
    if is_own_path(text):
        assert text[0] == "/"
        assert text[1:2] not in ("/", "\\")
        made = ascii_path(text)
        assert made.isascii()
        assert made[0] == "/"
        assert made[1:2] not in ("/", "\\")
        assert not set(made) & set("\r\n\t \\")
