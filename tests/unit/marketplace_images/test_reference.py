"""Names of images: the defaults, ports in host names, and what is no name."""

from __future__ import annotations

import pytest

from marketplace.images.reference import (
    BadReference,
    config_key,
    parse,
    parse_registry,
)
from provisioner.contracts import PodOrder
from provisioner.instances.order import check_order

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "given"),
    [
        ("ubuntu", "docker.io", "library/ubuntu", "latest", "ubuntu:latest"),
        ("ubuntu:24.04", "docker.io", "library/ubuntu", "24.04", "ubuntu:24.04"),
        ("pytorch/pytorch:2.6", "docker.io", "pytorch/pytorch", "2.6", "pytorch/pytorch:2.6"),
        ("docker.io/ubuntu:1", "docker.io", "library/ubuntu", "1", "docker.io/ubuntu:1"),
        ("index.docker.io/a/b:1", "docker.io", "a/b", "1", "index.docker.io/a/b:1"),
        ("ghcr.io/a/b/c:v1", "ghcr.io", "a/b/c", "v1", "ghcr.io/a/b/c:v1"),
        ("localhost/a", "localhost", "a", "latest", "localhost/a:latest"),
        ("reg:5000/a", "reg:5000", "a", "latest", "reg:5000/a:latest"),
        ("reg.example.com:5000/a:B_1.x", "reg.example.com:5000", "a", "B_1.x",
         "reg.example.com:5000/a:B_1.x"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000", "a/b", "1", "127.0.0.1:5000/a/b:1"),
        ("a__b/c--d.e_f:1", "docker.io", "a__b/c--d.e_f", "1", "a__b/c--d.e_f:1"),
    ],
)  # fmt: skip
def test_a_name_with_or_without_its_parts(text, registry, repository, tag, given) -> None:
    found = parse(text)
    assert (found.registry, found.repository) == (registry, repository)
    assert (found.tag, found.given, found.digest) == (tag, given, None)


@pytest.mark.parametrize("name", ["ubuntu", "ubuntu:24.04", "reg.example.com:5000/a/b:1"])
def test_a_digest_decides_and_the_name_stays_as_given(name) -> None:
    found = parse(f"{name}@{DIGEST}")
    assert (found.given, found.digest) == (name, DIGEST)
    assert found.pinned(DIGEST) == f"{name}@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":tag",
        "/",
        "a/",
        "/a",
        "a//b",
        "Ubuntu",
        "a:b:c",
        "a:",
        "a:" + "x" * 129,
        "a b",
        "a:b c",
        "a\n",
        "a@",
        "a@sha256:12",
        "a@sha512:" + "0" * 128,
        f"@{DIGEST}",
        f"a@{DIGEST}@{DIGEST}",
        f"a@{DIGEST.upper()}",
        "Reg.example.com/a",
        "-reg.example.com/a",
        "reg.example.com:0/a",
        "reg.example.com:70000/a",
        "reg.example.com:port/a",
        "[::1]:5000/a",
        "user@reg.example.com/a",
        "https://reg.example.com/a",
        "../../etc/passwd",
        "reg.example.com/../a",
        "ünï.example.com/a",
        "a" * 244,
    ],
)
def test_what_names_no_image(text) -> None:
    with pytest.raises(BadReference):
        parse(text)


@pytest.mark.parametrize(
    "text", ["ubuntu", "pytorch/pytorch:2.6", "reg.example.com:5000/a/b:1", "a" * 243]
)
def test_the_provisioner_takes_what_was_parsed(text) -> None:
    check_order(PodOrder(image=parse(text).pinned(DIGEST)))


@pytest.mark.parametrize(
    ("text", "registry", "key"),
    [
        ("docker.io", "docker.io", "https://index.docker.io/v1/"),
        ("https://index.docker.io/v1/", "docker.io", "https://index.docker.io/v1/"),
        ("GHCR.io", "ghcr.io", "ghcr.io"),
        ("https://reg.example.com:5000/", "reg.example.com:5000", "reg.example.com:5000"),
        ("localhost", "localhost", "localhost"),
    ],
)
def test_a_registry_is_named_as_references_name_it(text, registry, key) -> None:
    assert parse_registry(text) == registry
    assert config_key(registry) == key


@pytest.mark.parametrize(
    "text",
    ["", "http://reg.example.com", "reg.example.com/path", "a b", "user@reg", "x" * 300, "[::1]"],
)
def test_what_is_no_registry(text) -> None:
    with pytest.raises(BadReference):
        parse_registry(text)


def test_docker_hub_answers_elsewhere() -> None:
    assert parse("ubuntu").api_host == "registry-1.docker.io"
    assert parse("ghcr.io/a/b").api_host == "ghcr.io"
