"""The networks of in-house registries as the environment gives them."""

from __future__ import annotations

import ipaddress

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.settings.env import read
from config.settings.local import LOCAL_DEFAULTS

NAME = "GPUYARD_REGISTRY_NETWORKS"


def test_none_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    assert read(defaults=LOCAL_DEFAULTS).registry_networks == ()


def test_several_of_both_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "10.1.0.0/16, fd12::/48,")
    assert read(defaults=LOCAL_DEFAULTS).registry_networks == (
        ipaddress.ip_network("10.1.0.0/16"),
        ipaddress.ip_network("fd12::/48"),
    )


@pytest.mark.parametrize("text", ["in-house", "10.1.0.0/33", "10.1.0.1/16"])
def test_a_mistake_stops_the_process_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(NAME, text)
    with pytest.raises(ImproperlyConfigured, match=NAME):
        read(defaults=LOCAL_DEFAULTS)
