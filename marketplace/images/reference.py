"""How an image is named: registry, repository, tag, digest. Pure.

The rules are those of the distribution project, with its defaults: a name without a registry lives
on Docker Hub, a name there without a namespace in ``library``, a name without tag and digest means
``latest``. Two narrowings: host names in small letters, and no addresses in brackets, because what
leaves here is written into pods and compared as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

DOCKER_HUB: Final = "docker.io"
# Docker Hub's names for itself, and where its registry answers.
_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_HUB_HOST: Final = "registry-1.docker.io"
# The key under which every container runtime looks for Docker Hub's credentials.
_HUB_CONFIG_KEY: Final = "https://index.docker.io/v1/"
DEFAULT_TAG: Final = "latest"
MAX_NAME: Final = 250  # with its digest it fits the 400 characters of a rental's image

_HOST: Final = re.compile(
    r"(?=.{1,253}(?::|$))[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
    r"(?::[1-9][0-9]{0,4})?"
)
_PATH: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class BadReference(ValueError):
    """The text names no image; the message says what would."""


@dataclass(frozen=True)
class Reference:
    """An image's name taken apart. ``given`` is the name as written, without the digest."""

    given: str
    registry: str  # "docker.io", "registry.example.com:5000"
    repository: str  # "library/ubuntu"
    tag: str | None
    digest: str | None

    @property
    def api_host(self) -> str:
        """Host, and port where one was named, at which the registry's API answers."""
        return _HUB_HOST if self.registry == DOCKER_HUB else self.registry

    def pinned(self, digest: str) -> str:
        """The name as a pod gets it: as given, and the digest that decides."""
        return f"{self.given}@{digest}"


def parse(text: str) -> Reference:
    """Take ``[registry/]repository[:tag][@digest]`` apart; raises BadReference."""
    given, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise BadReference("after @ comes a digest: sha256: and 64 digits of hexadecimal")
    registry, path = _registry_of(given)
    if not digest and ":" not in path:
        given, path = f"{given}:{DEFAULT_TAG}", f"{path}:{DEFAULT_TAG}"
    if len(given) > MAX_NAME:
        raise BadReference(f"at most {MAX_NAME} characters before the digest")
    name, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise BadReference("a tag has 1 to 128 letters, digits, dots, dashes and underscores")
    parts = name.split("/")
    if not all(_PATH.fullmatch(part) for part in parts):
        raise BadReference("give name:tag or name@sha256:…, the name in small letters")
    if registry == DOCKER_HUB and len(parts) == 1:
        name = f"library/{name}"
    return Reference(given, registry, name, tag or None, digest or None)


def parse_registry(text: str) -> str:
    """A registry's host in the form that references have; raises BadReference."""
    host = text.strip().lower().removeprefix("https://").removesuffix("/")
    if host.removesuffix("/v1") in _HUB_NAMES:
        return DOCKER_HUB
    if not _is_host(host):
        raise BadReference("give the registry's host, such as ghcr.io or registry.example.com:5000")
    return host


def config_key(registry: str) -> str:
    """The name of a registry in a pull secret."""
    return _HUB_CONFIG_KEY if registry == DOCKER_HUB else registry


def _registry_of(given: str) -> tuple[str, str]:
    """(registry, rest). The first part is a host if it could be no namespace of Docker Hub."""
    first, slash, rest = given.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return DOCKER_HUB, given
    if not _is_host(first):
        raise BadReference("the registry before the first / is no host name in small letters")
    return (DOCKER_HUB if first in _HUB_NAMES else first), rest


def _is_host(text: str) -> bool:
    if not _HOST.fullmatch(text):
        return False
    _host, colon, port = text.partition(":")
    return not colon or int(port) <= 65535
