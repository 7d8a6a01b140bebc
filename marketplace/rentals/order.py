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
from marketplace.accounts.ports import Given, Port, shell_mistakes
from marketplace.accounts.ports import mistakes as ports_mistakes
from marketplace.accounts.ports import read as read_ports
from marketplace.accounts.registry_credentials import check_registry, login
from marketplace.accounts.secrets import MAX_USED, take
from marketplace.accounts.ssh_keys import MAX_GIVEN, lines_of
from marketplace.accounts.variables import command_mistakes, env_mistakes, names_mistakes
from marketplace.catalog.query import MAX_HOURS, OfferQuery
from marketplace.catalog.quote import open_quote
from marketplace.catalog.templates import check_fit, env_of, get_template, ports_of
from marketplace.images.reference import BadReference
from marketplace.images.reference import parse as parse_image
from marketplace.models import Project, Quote, RegistryCredential, Template
from marketplace.rentals import tenure, way_in
from marketplace.rentals.ports import unoffered
from marketplace.volumes.mounts import Mounts, VolumeOrder, look_up
from marketplace.volumes.mounts import mistakes as mount_mistakes

# Minutes without work. In less than ten a data loader fills its cache or somebody reads a result;
# after a week whoever wants an end sets an end date.
LEAST_IDLE, MOST_IDLE = 10, 7 * 24 * 60
_MAX_LABELS = 32
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class RentOrder:
    """The order as given. Exactly one of quote_id and requirement, template and image, and of
    expires_at, max_hours and no_limit. ssh_keys: stored keys' ids or public key lines. secrets:
    variable -> id of a stored secret. image: by digest when it reaches :func:`prepare`."""

    quote_id: str | None = None
    requirement: OfferQuery | None = None
    interruptible: bool | None = None  # beside a quote: must agree with it
    name: str = ""
    project: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    image: str | None = None
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict)
    registry_credentials: str | None = None
    ports: tuple[Given, ...] = ()
    ssh_keys: tuple[str, ...] = ()
    ssh: bool = True
    expires_at: datetime | None = None
    max_hours: Decimal | None = None
    no_limit: bool = False
    disk_gib: int | None = None
    volumes: tuple[VolumeOrder, ...] = ()
    queue_seconds: int | None = None
    failover: bool = False
    idle_stop_minutes: int | None = None


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
    env: dict[str, str] = field(repr=False)
    secrets: dict[str, str]
    secret_env: dict[str, str] = field(repr=False)
    registry_credential: RegistryCredential | None
    pull_secret: dict[str, str] | None = field(repr=False)
    ports: tuple[Port, ...]
    given_keys: tuple[str, ...]  # ids and lines, as they were given
    ssh_keys: tuple[str, ...]
    ssh: bool
    expires_at: datetime | None
    max_seconds: int | None  # an end that counts from the moment it has cards
    disk_gib: int | None
    volumes: Mounts
    queue_seconds: int | None
    failover: bool
    idle_stop_minutes: int | None
    needs_way_in: bool  # somebody has to get in, by a key or a port


def check(order: RentOrder) -> None:
    """Raise InvalidRequest with every field that is wrong by itself. No lookup, no network."""
    errors = _mistakes(order)
    if errors:
        raise InvalidRequest(errors)


def prepare(acting: Principal, order: RentOrder) -> Prepared:
    """Check and look up; reads only.

    Raises InvalidRequest with every wrong field at once, then NotFound, quote_used,
    quote_expired, ssh_key_missing, ssh_key_invalid, template_mismatch, volume_in_use.
    """
    check(order)
    keys = _ssh_keys(acting, order)
    end = _end(order)
    quote = open_quote(acting, order.quote_id) if order.quote_id is not None else None
    template = get_template(acting, order.template) if order.template is not None else None
    needs: Mapping[str, Any] = template.needs if template else {}
    mounts = look_up(acting, order.volumes)
    if quote is not None:
        if order.interruptible not in (None, quote.interruptible):
            raise InvalidRequest(
                {"interruptible": ["it is part of the quote, which says otherwise"]}
            )
        mounts.admit(quote.offer)
        tenure.admit(quote, end)
        check_fit(needs, quote.offer)
    image = template.image if template else order.image or ""
    ports = read_ports(order.ports) or (ports_of(template) if template else ())
    shells = shell_mistakes(ports, ports_of(template) if template else ())
    if found := shells + unoffered(ports):
        raise InvalidRequest({name: [message] for name, message in found})
    if quote is not None:
        way_in.admit(quote.offer, quote.gpus, keys=keys, ports=ports)
    command = order.command
    if command is None:
        command = tuple(template.command) if template else ()
    credential = _credential(acting, order, image, template)
    env = {**(env_of(template) if template else {}), **order.env}
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
        # A secret takes the place of a template's variable of the same name.
        env={name: value for name, value in env.items() if name not in order.secrets},
        secrets=dict(order.secrets),
        secret_env=take(acting, order.secrets),
        registry_credential=credential,
        pull_secret=login(credential).pull_secret() if credential else None,
        ports=ports,
        given_keys=order.ssh_keys,
        ssh_keys=keys,
        ssh=order.ssh,
        expires_at=end,
        max_seconds=None if order.max_hours is None else int(order.max_hours * 3600),
        disk_gib=order.disk_gib,
        volumes=mounts,
        queue_seconds=order.queue_seconds,
        failover=order.failover,
        idle_stop_minutes=order.idle_stop_minutes,
        needs_way_in=way_in.needed(keys, ports),
    )


def _credential(
    acting: Principal, order: RentOrder, image: str, template: Template | None
) -> RegistryCredential | None:
    """The order's, else the template's; one of another registry than the image's is refused."""
    if order.registry_credentials is None:
        return template.registry_credential if template else None
    credential = get_visible(RegistryCredential, acting, order.registry_credentials)
    registry = parse_image(image).registry
    check_registry(credential, registry, field="registry_credentials")
    return credential


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
    ends = [order.expires_at is not None, order.max_hours is not None, order.no_limit]
    if sum(ends) != 1:
        wrong("expires_at", "give exactly one of expires_at, max_hours and no_limit")
    if order.max_hours is not None and not 0 < order.max_hours <= MAX_HOURS:
        wrong("max_hours", f"more than 0 and at most {MAX_HOURS}")
    for name, message in (
        *end_mistakes(order.expires_at),
        *idle_mistakes(order.idle_stop_minutes),
    ):
        wrong(name, message)
    if order.queue_seconds is not None and any(v.volume is None for v in order.volumes):
        # What waits has no place yet, and a volume is made in one and kept there for life.
        wrong("volumes", "a new volume cannot wait in the queue: make it first, POST /volumes")
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


def idle_mistakes(minutes: int | None) -> list[tuple[str, str]]:
    """What is wrong with an idle stop, as (field, message)."""
    if minutes is None or LEAST_IDLE <= minutes <= MOST_IDLE:
        return []
    return [
        ("idle_stop_minutes", f"from {LEAST_IDLE} to {MOST_IDLE} minutes; null: it is never idle")
    ]


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
    """Image, command, environment, secrets, ports, keys: names, counts and sizes."""
    found = [
        *command_mistakes(order.command),
        *env_mistakes(order.env),
        *names_mistakes(order.secrets, "secrets"),
        *ports_mistakes(order.ports),
    ]
    if order.image is not None:
        try:
            parse_image(order.image)
        except BadReference as error:
            found.append(("image", str(error)))
    if len(order.secrets) > MAX_USED:
        found.append(("secrets", f"at most {MAX_USED} secrets"))
    for name in order.secrets.keys() & order.env.keys():
        found.append((f"secrets.{name[:63]}", "is given in env as well"))
    if len(order.ssh_keys) > MAX_GIVEN:
        found.append(("ssh_keys", f"at most {MAX_GIVEN} keys"))
    return found


def _end(order: RentOrder) -> datetime | None:
    if order.max_hours is not None:
        return now() + timedelta(seconds=int(order.max_hours * 3600))
    return order.expires_at


def _ssh_keys(acting: Principal, order: RentOrder) -> tuple[str, ...]:
    if order.ssh and not order.ssh_keys:
        raise Refusal(
            "ssh_key_missing",
            'Nobody could sign in: give ssh_keys (ids or public key lines), or "ssh": false if '
            "you need no access. Nothing was rented.",
        )
    return lines_of(acting, order.ssh_keys)
