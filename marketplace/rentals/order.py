"""What a renter orders, checked as a whole before anything is planned or stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.text import clean
from marketplace.accounts.access import Principal, get_visible
from marketplace.accounts.ssh_keys import parse_public_key
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.quote import open_quote
from marketplace.catalog.templates import PINNED, check_fit, get_template
from marketplace.models import Project, Quote, SshKey, Template
from marketplace.volumes.mounts import Mounts, VolumeOrder, look_up
from marketplace.volumes.mounts import mistakes as mount_mistakes

# An end further away than this is a mistake in the date; no_limit is the way to say "open".
MAX_HOURS: Final = 24 * 366
_MAX_LABELS, _MAX_KEYS, _MAX_PORTS, _MAX_ENV = 32, 32, 32, 128
# Together they become one Secret and one pod; the API server refuses objects above 1 MiB.
_MAX_TEXT: Final = 32 * 1024
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# They steer the loader, the GPU runtime and the pod's own view of its cluster.
_ENV_DENIED: Final = ("LD_", "NVIDIA_", "KUBERNETES_")


@dataclass(frozen=True)
class RentOrder:
    """The order as given. Exactly one of quote_id and requirement, template and image, and of
    expires_at, max_hours and no_limit. ssh_keys: stored keys' ids or public key lines."""

    quote_id: str | None = None
    requirement: OfferQuery | None = None
    name: str = ""
    project: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    image: str | None = None
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    ssh_keys: tuple[str, ...] = ()
    ssh: bool = True
    expires_at: datetime | None = None
    max_hours: Decimal | None = None
    no_limit: bool = False
    disk_gib: int | None = None
    volumes: tuple[VolumeOrder, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """The order with everything it names looked up; nothing is stored or reserved yet."""

    quote: Quote | None
    query: OfferQuery | None
    needs: Mapping[str, Any]
    name: str
    project: Project | None
    labels: dict[str, str]
    template: Template | None
    image: str
    command: tuple[str, ...]
    env: dict[str, str]
    ports: tuple[int, ...]
    ssh_keys: tuple[str, ...]
    ssh: bool
    expires_at: datetime | None
    disk_gib: int | None
    volumes: Mounts


def prepare(acting: Principal, order: RentOrder) -> Prepared:
    """Check and look up; reads only.

    Raises InvalidRequest with every wrong field at once, then NotFound, quote_used,
    quote_expired, ssh_key_missing, ssh_key_invalid, template_mismatch, volume_in_use.
    """
    errors = _mistakes(order)
    if errors:
        raise InvalidRequest(errors)
    keys = _ssh_keys(acting, order)
    quote = open_quote(acting, order.quote_id) if order.quote_id is not None else None
    template = get_template(acting, order.template) if order.template is not None else None
    needs: Mapping[str, Any] = template.needs if template else {}
    mounts = look_up(acting, order.volumes)
    if quote is not None:
        mounts.admit(quote.offer)
        check_fit(needs, quote.offer)
    image = template.image if template else order.image or ""
    command = order.command
    if command is None:
        command = tuple(template.command) if template else ()
    return Prepared(
        quote=quote,
        query=order.requirement,
        needs=needs,
        name=clean(order.name, limit=80),
        project=get_visible(Project, acting, order.project) if order.project else None,
        labels=dict(order.labels),
        template=template,
        image=image,
        command=command,
        env={**(template.env if template else {}), **order.env},
        ports=order.ports or (tuple(template.ports) if template else ()),
        ssh_keys=keys,
        ssh=order.ssh,
        expires_at=_end(order),
        disk_gib=order.disk_gib,
        volumes=mounts,
    )


def _mistakes(order: RentOrder) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}

    def wrong(name: str, message: str) -> None:
        errors.setdefault(name, []).append(message)

    if (order.quote_id is None) == (order.requirement is None):
        wrong("quote", "give either quote or requirement")
    if order.quote_id is not None and order.disk_gib is not None:
        wrong("disk_gib", "the disk is part of the quote; ask for a quote with another disk")
    if (order.template is None) == (order.image is None):
        wrong("template", "give either template or image")
    if order.image is not None and not PINNED.fullmatch(order.image):
        wrong("image", "give an image by digest, name@sha256:…; a tag may change under you")
    ends = [order.expires_at is not None, order.max_hours is not None, order.no_limit]
    if sum(ends) != 1:
        wrong("expires_at", "give exactly one of expires_at, max_hours and no_limit")
    if order.max_hours is not None and not 0 < order.max_hours <= MAX_HOURS:
        wrong("max_hours", f"more than 0 and at most {MAX_HOURS}")
    for name, message in end_mistakes(order.expires_at):
        wrong(name, message)
    if not order.ssh and order.ssh_keys:
        wrong("ssh", "ssh is false, yet ssh_keys are given")
    for name, message in (
        *label_mistakes(order.labels),
        *_content_mistakes(order),
        *mount_mistakes(order.volumes),
    ):
        wrong(name, message)
    return errors


def end_mistakes(expires_at: datetime | None) -> list[tuple[str, str]]:
    """What is wrong with an end date, as (field, message)."""
    if expires_at is None:
        return []
    left = expires_at - now()
    if left <= timedelta(0):
        return [("expires_at", "the end must lie in the future")]
    if left > timedelta(hours=MAX_HOURS):
        return [("expires_at", f"at most {MAX_HOURS} hours from now; no_limit has no end")]
    return []


def label_mistakes(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """What is wrong with labels, as (field, message)."""
    found = []
    if len(labels) > _MAX_LABELS:
        found.append(("labels", f"at most {_MAX_LABELS} labels"))
    for key, value in labels.items():
        if not _LABEL.fullmatch(key):
            found.append((f"labels.{key[:63]}", "letters, digits, . _ / -, at most 63 characters"))
        if len(value) > 128 or clean(value, limit=200) != value:
            found.append((f"labels.{key[:63]}", "plain text of at most 128 characters"))
    return found


def _content_mistakes(order: RentOrder) -> list[tuple[str, str]]:
    """Command, environment, ports, keys: names, counts and sizes."""
    found = []
    command = order.command or ()
    if len(command) > 64 or sum(map(len, command)) > _MAX_TEXT:
        found.append(("command", f"at most 64 words and {_MAX_TEXT} characters"))
    if order.command is not None and not order.command:
        found.append(("command", "leave it out to run the image's own command"))
    if len(order.env) > _MAX_ENV or sum(map(len, order.env.values())) > _MAX_TEXT:
        found.append(("env", f"at most {_MAX_ENV} variables and {_MAX_TEXT} characters"))
    for name in order.env:
        if not _ENV_NAME.fullmatch(name):
            found.append((f"env.{name[:63]}", "a name of letters, digits and underscores"))
        elif name.upper().startswith(_ENV_DENIED):
            found.append((f"env.{name[:63]}", "names with this prefix belong to the machine"))
    if len(order.ports) > _MAX_PORTS or len(set(order.ports)) != len(order.ports):
        found.append(("ports", f"at most {_MAX_PORTS} different ports"))
    if any(not 1 <= port <= 65535 for port in order.ports):
        found.append(("ports", "ports are whole numbers from 1 to 65535"))
    if len(order.ssh_keys) > _MAX_KEYS:
        found.append(("ssh_keys", f"at most {_MAX_KEYS} keys"))
    return found


def _end(order: RentOrder) -> datetime | None:
    if order.max_hours is not None:
        return now() + timedelta(seconds=int(order.max_hours * 3600))
    return order.expires_at


def _ssh_keys(acting: Principal, order: RentOrder) -> tuple[str, ...]:
    """The canonical lines; ids are looked up among the organization's own."""
    if order.ssh and not order.ssh_keys:
        raise Refusal(
            "ssh_key_missing",
            'Nobody could sign in: give ssh_keys (ids or public key lines), or "ssh": false if '
            "you need no access. Nothing was rented.",
        )
    lines = []
    for given in order.ssh_keys:
        if given.startswith("ssh_"):
            lines.append(get_visible(SshKey, acting, given).public_key)
        else:
            lines.append(parse_public_key(given).line)
    return tuple(dict.fromkeys(lines))
