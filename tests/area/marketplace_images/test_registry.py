"""What a tag means now, asked of a real registry: public, private, absent, moved, and down."""

from __future__ import annotations

import socket

import pytest
from django.db import transaction

from devstack.registry import Registry, image
from kernel.errors import InvalidRequest, Refusal
from marketplace.images.reference import parse
from marketplace.images.resolve import digest_of
from tests.area.marketplace_images.conftest import PASSWORD, USER


def refused(name: str, user: tuple[str, str] | None = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        digest_of(parse(name), user=user)
    assert set(caught.value.extra["errors"]) == {"image"}
    assert "Nothing was stored" in caught.value.detail
    return caught.value


def test_a_tag_is_what_the_registry_says_it_is_now(registry: Registry) -> None:
    first = registry.push("team/public", "1.0")
    name = parse(f"{registry.host}/team/public:1.0")
    assert digest_of(name) == first
    assert registry.seen == [
        "HEAD /v2/team/public/manifests/1.0",
        "GET /token",
        "HEAD /v2/team/public/manifests/1.0",
    ]
    moved = registry.push("team/public", "1.0", image("arm64", note="rebuilt"))
    assert moved != first
    assert digest_of(name) == moved


def test_a_list_for_several_architectures_is_kept_as_a_list(registry: Registry) -> None:
    listed = registry.push("team/public", "latest", image("amd64", "arm64"))
    assert digest_of(parse(f"{registry.host}/team/public")) == listed


def test_what_is_not_there(registry: Registry) -> None:
    registry.push("team/public", "1.0")
    for name in ("team/public:2.0", "team/other:1.0"):
        refusal = refused(f"{registry.host}/{name}")
        assert refusal.extra["reason"] == "image_not_found"
        assert registry.host in refusal.extra["errors"]["image"][0]


@pytest.mark.parametrize("basic", [False, True])
def test_a_private_repository_needs_the_right_password(start_registry, basic: bool) -> None:
    registry = start_registry(basic=basic)
    digest = registry.push("team/private", "1.0")
    name = f"{registry.host}/team/private:1.0"
    assert digest_of(parse(name), user=(USER, PASSWORD)) == digest
    for user in (None, (USER, "wrong"), ("nobody", PASSWORD)):
        refusal = refused(name, user)
        assert refusal.extra["reason"] == "image_auth"
        assert PASSWORD not in refusal.detail
        assert "wrong" not in refusal.detail


def test_a_registry_that_is_down_is_nobodys_mistake(registry: Registry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    refusal = refused(f"127.0.0.1:{port}/a:1")
    assert refusal.extra["reason"] == "registry_unreachable"
    assert "Not your mistake" in refusal.detail


def test_a_certificate_that_nobody_vouches_for(registry: Registry, monkeypatch) -> None:
    registry.push("team/public", "1.0")
    monkeypatch.delenv("SSL_CERT_FILE")
    refusal = refused(f"{registry.host}/team/public:1.0")
    assert refusal.extra["reason"] == "registry_unreachable"
    assert "certificate" in refusal.detail
    assert registry.seen == []


def test_without_the_setting_nothing_private_is_reached(registry: Registry, settings) -> None:
    settings.GPUYARD_REGISTRY_NETWORKS = ()
    registry.push("team/public", "1.0")
    with pytest.raises(Refusal) as caught:
        digest_of(parse(f"{registry.host}/team/public:1.0"))
    assert caught.value.slug == "address_forbidden"
    assert set(caught.value.extra["errors"]) == {"image"}
    assert registry.seen == []


@pytest.mark.django_db(transaction=True)
def test_never_inside_a_transaction(registry: Registry) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="transaction"):
        digest_of(parse(f"{registry.host}/a:1"))
    assert registry.seen == []
