"""The setting of ports' names: read, refused when it is no address, kept apart from the portal."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.checks import ports_domain
from config.settings import env
from config.settings.local import LOCAL_DEFAULTS as DEFAULTS


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("", None),
        ("https://pods.example.net", ("https", "pods.example.net", 443)),
        ("https://pods.example.net/", ("https", "pods.example.net", 443)),
        ("http://pods.localhost:8080", ("http", "pods.localhost", 8080)),
        ("https://p.example.net:8443", ("https", "p.example.net", 8443)),
    ],
)
def test_it_is_an_address_or_nothing(
    monkeypatch: pytest.MonkeyPatch, given: str, read: tuple[str, str, int] | None
) -> None:
    monkeypatch.setenv("GPUYARD_PORTS_URL", given)
    assert env.read(defaults=DEFAULTS).ports_url == read


@pytest.mark.parametrize(
    "given",
    [
        "pods.example.net",
        "https://pods.example.net/path",
        "https://pods.example.net?a",
        "https://user@pods.example.net",
        "https://Pods.example.net",
        "https://*.pods.example.net",
        "https://localhost",
        "https://pods.example.net:0",
        "https://pods.example.net:65536",
        "ftp://pods.example.net",
        "https://-a.example.net",
        f"https://{'a.' * 110}net",
    ],
)
def test_anything_else_stops_the_process(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("GPUYARD_PORTS_URL", given)
    with pytest.raises(ImproperlyConfigured, match="GPUYARD_PORTS_URL"):
        env.read(defaults=DEFAULTS)


@pytest.mark.parametrize(
    ("ports", "portal", "ids"),
    [
        (None, "https://gpuyard.example.com", []),
        (("https", "pods.example.net", 443), "https://gpuyard.example.com", []),
        (("https", "pods.example.com", 443), "https://gpuyard.example.com", []),
        (("https", "gpuyard.example.com", 8443), "https://gpuyard.example.com", ["E004"]),
        (("https", "pods.gpuyard.example.com", 443), "https://gpuyard.example.com", ["E004"]),
        (("https", "example.com", 443), "https://gpuyard.example.com", ["E004"]),
        (("https", "notgpuyard.example.com", 443), "https://gpuyard.example.com", []),
        (("http", "pods.example.net", 80), "https://gpuyard.example.com", ["E005"]),
        (("http", "pods.localhost", 8080), "http://127.0.0.1:8000", []),
        (("http", "pods.localhost", 8080), "http://localhost:8000", ["E004"]),
    ],
)
def test_renters_pages_share_nothing_with_the_portal(
    settings: Any, ports: Any, portal: str, ids: list[str]
) -> None:
    settings.GPUYARD_PORTS_URL, settings.GPUYARD_BASE_URL = ports, portal
    assert [found.id for found in ports_domain(None)] == [f"gpuyard.{each}" for each in ids]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("", None),
        ("tcp.example.net:20000-20999", ("tcp.example.net", 20000, 20999)),
        ("127.0.0.1:1024-1024", ("127.0.0.1", 1024, 1024)),
    ],
)
def test_numbers_for_raw_ports_are_a_range_or_nothing(
    monkeypatch: pytest.MonkeyPatch, given: str, read: tuple[str, int, int] | None
) -> None:
    monkeypatch.setenv("GPUYARD_TCP_PORTS", given)
    assert env.read(defaults=DEFAULTS).tcp_ports == read


@pytest.mark.parametrize(
    "given",
    [
        "20000-20999",
        "tcp.example.net",
        "tcp.example.net:20000",
        "tcp.example.net:20999-20000",
        "tcp.example.net:80-2000",
        "tcp.example.net:60000-65536",
        "tcp.example.net:20000-30000",
        "tcp://tcp.example.net:20000-20001",
    ],
)
def test_another_range_stops_the_process(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("GPUYARD_TCP_PORTS", given)
    with pytest.raises(ImproperlyConfigured, match="GPUYARD_TCP_PORTS"):
        env.read(defaults=DEFAULTS)
