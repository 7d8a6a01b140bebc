"""A real registry over real HTTPS on loopback, which the settings let the product reach."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.registry import Registry

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
USER, PASSWORD = "puller", "correct-horse-battery"


@pytest.fixture
def start_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> Iterator[Callable[..., Registry]]:
    """Start registries; the last one's authority is trusted."""
    started: list[Registry] = []
    settings.GPUYARD_REGISTRY_NETWORKS = LOOPBACK

    def start(**given: Any) -> Registry:
        folder = tmp_path / f"registry-{len(started)}"
        registry = Registry(
            folder, users={USER: PASSWORD}, private=frozenset({"team/private"}), **given
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(registry.authority_file))
        started.append(registry.__enter__())
        return registry

    yield start
    for registry in started:
        registry.__exit__(None, None, None)


@pytest.fixture
def registry(start_registry: Callable[..., Registry]) -> Registry:
    return start_registry()
