"""The typed environment: every setting that differs between places, read once, checked at start.

A missing or malformed variable stops the process with its name; nothing falls back to a value
that would be unsafe in production.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from kernel.addresses import Network
from kernel.money import BadAmount, parse_micro

_env = environ.Env()
_REPORTS = "/api/v1/instance-reports"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A listening socket each in every gateway.
_MOST_TCP_PORTS = 10_000
_PORTS_URL = re.compile(rf"(https?)://((?:{_LABEL}\.)+{_LABEL})(?::([1-9][0-9]{{0,4}}))?")


@dataclass(frozen=True)
class Environment:
    """What the processes take from outside; see docs/operators.md for each variable."""

    database_url: str
    broker_url: str
    secret_key: str
    sealing_key: str
    base_url: str
    allowed_hosts: list[str]
    email_url: str
    from_email: str
    stripe_api_key: str
    stripe_api_base: str
    stripe_webhook_secret: str
    ssh_gateway: tuple[str, int] | None  # host and port as renters reach it; None: no gateway
    agent_door: tuple[str, int] | None  # None: clusters with an agent are not taken
    ports_url: tuple[str, str, int] | None  # scheme, domain, port; None: ports have no names
    tcp_ports: tuple[str, int, int] | None  # host, first and last number
    tools_image: str
    report_url: str
    bench_url: str
    probes: bool
    benchmark_wait: int
    fee_bps: int
    fee_notice_days: int
    seller_name: str
    seller_address: str
    seller_tax_id: str
    tax_point: str  # none, topup or use
    tax_code: str  # Stripe's code of what is sold; empty: the account's own default
    roles: dict[str, str]  # by ownership class: principal or agent
    second_person_above: int  # micro-units
    staff_second_factor: bool
    self_refund_limit: int  # micro-units in 30 days
    maturity_days: int
    payout_approval_usd: int
    registry_networks: tuple[Network, ...]
    log_format: str
    webhook_networks: tuple[Network, ...]
    webhook_ca_file: str
    trusted_proxies: tuple[Network, ...]
    process: str  # web, worker, beat, watcher, streams, gateway or command


def read(*, defaults: dict[str, str] | None = None) -> Environment:
    """The environment, with ``defaults`` for places where a missing variable is harmless."""
    given = defaults or {}

    def text(name: str) -> str:
        if name in given:
            return str(_env.str(name, default=given[name]))
        return str(_env.str(name))

    base_url = text("GPUYARD_BASE_URL").rstrip("/")
    return Environment(
        database_url=text("DATABASE_URL"),
        broker_url=text("BROKER_URL"),
        secret_key=text("GPUYARD_SECRET_KEY"),
        sealing_key=text("GPUYARD_SEALING_KEY"),
        base_url=base_url,
        allowed_hosts=[host for host in text("GPUYARD_ALLOWED_HOSTS").split(",") if host],
        email_url=text("GPUYARD_EMAIL_URL"),
        from_email=text("GPUYARD_FROM_EMAIL"),
        stripe_api_key=text("STRIPE_API_KEY"),
        stripe_api_base=_env.str("STRIPE_API_BASE", default="https://api.stripe.com").rstrip("/"),
        stripe_webhook_secret=text("STRIPE_WEBHOOK_SECRET"),
        ssh_gateway=_address("GPUYARD_SSH_GATEWAY"),
        agent_door=_address("GPUYARD_AGENT_DOOR", usual=None),
        ports_url=_ports_url("GPUYARD_PORTS_URL"),
        tcp_ports=_tcp_ports("GPUYARD_TCP_PORTS"),
        tools_image=_pinned(text("GPUYARD_TOOLS_IMAGE")),
        report_url=_env.str("GPUYARD_REPORT_URL", default="") or f"{base_url}{_REPORTS}",
        bench_url=_env.str("GPUYARD_BENCH_URL", default=""),
        probes=_env.bool("GPUYARD_PROBES", default=False),
        benchmark_wait=_env.int("GPUYARD_BENCHMARK_WAIT", default=300),
        fee_bps=_env.int("GPUYARD_FEE_BPS", default=1500),
        # Two weeks: time to read a mail, reckon, and take cards off sale. Less surprises owners,
        # much more and a fee that does not carry the platform stays too long.
        fee_notice_days=_env.int("GPUYARD_FEE_NOTICE_DAYS", default=14),
        seller_name=_env.str("GPUYARD_SELLER_NAME", default="gpuyard"),
        seller_address=_env.str("GPUYARD_SELLER_ADDRESS", default=""),
        seller_tax_id=_env.str("GPUYARD_SELLER_TAX_ID", default=""),
        tax_point=_one_of("GPUYARD_TAX_POINT", "none", ("none", "topup", "use")),
        tax_code=_env.str("GPUYARD_TAX_CODE", default=""),
        roles={
            "owned": _role("GPUYARD_ROLE_OWNED", "principal"),
            "partner": _role("GPUYARD_ROLE_PARTNER", "agent"),
        },
        staff_second_factor=_env.bool("GPUYARD_STAFF_SECOND_FACTOR", default=True),
        second_person_above=_money("GPUYARD_SECOND_PERSON_ABOVE", default="500"),
        self_refund_limit=_money("GPUYARD_SELF_REFUND_LIMIT", default="500"),
        maturity_days=_env.int("GPUYARD_MATURITY_DAYS", default=7),
        payout_approval_usd=_env.int("GPUYARD_PAYOUT_APPROVAL_USD", default=10_000),
        registry_networks=_networks("GPUYARD_REGISTRY_NETWORKS"),
        log_format=_env.str("GPUYARD_LOG_FORMAT", default="json"),
        webhook_networks=_networks("GPUYARD_WEBHOOK_NETWORKS"),
        webhook_ca_file=_file("GPUYARD_WEBHOOK_CA_FILE"),
        trusted_proxies=_networks("GPUYARD_TRUSTED_PROXIES"),
        process=_env.str("GPUYARD_PROCESS", default="command"),
    )


def _address(name: str, *, usual: int | None = 22) -> tuple[str, int] | None:
    """host:port, or host alone for the ``usual`` port of its protocol."""
    given = str(_env.str(name, default=""))
    host, _, port = given.partition(":")
    if not given:
        return None
    port = port or str(usual or "")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ImproperlyConfigured(f"{name} must be {'host or ' if usual else ''}host:port")
    return host, int(port)


def _ports_url(name: str) -> tuple[str, str, int] | None:
    """https://DOMAIN or https://DOMAIN:PORT, below which every port of a machine has a name."""
    given = str(_env.str(name, default="")).rstrip("/")
    if not given:
        return None
    found = _PORTS_URL.fullmatch(given)
    scheme, domain, port = found.groups() if found else ("", "", "")
    number = int(port or {"https": 443, "http": 80}.get(scheme, 0))
    # A label of its own stands before the domain: 63 letters, and the whole name 253.
    if not 0 < number < 65536 or len(domain) > 200:
        raise ImproperlyConfigured(f"{name} must be like https://pods.example.net, without a path")
    return scheme, domain, number


def _tcp_ports(name: str) -> tuple[str, int, int] | None:
    """host:low-high, the numbers that raw TCP ports of machines get there."""
    given = str(_env.str(name, default=""))
    if not given:
        return None
    found = re.fullmatch(r"([A-Za-z0-9.-]+):([1-9][0-9]{0,4})-([1-9][0-9]{0,4})", given)
    low, high = (int(found[2]), int(found[3])) if found else (0, 0)
    # Below 1024 are numbers that other programs of an operator's machine are found by.
    if found is None or not 1024 <= low <= high < 65536 or high - low >= _MOST_TCP_PORTS:
        raise ImproperlyConfigured(
            f"{name} must be like tcp.example.net:20000-20999: from 1024 on, and at most "
            f"{_MOST_TCP_PORTS} numbers"
        )
    return found[1], low, high


def _pinned(image: str) -> str:
    """A tag could be moved to a program of somebody else's, in every renter's machine."""
    if not re.fullmatch(r"[^@\s]+@sha256:[0-9a-f]{64}", image):
        raise ImproperlyConfigured("GPUYARD_TOOLS_IMAGE must name an image by digest: …@sha256:…")
    return image


def _role(name: str, default: str) -> str:
    """Whether we sell the compute of an ownership class ourselves or for its owner."""
    return _one_of(name, default, ("principal", "agent"))


def _one_of(name: str, default: str, words: tuple[str, ...]) -> str:
    word = str(_env.str(name, default=default))
    if word not in words:
        raise ImproperlyConfigured(f"{name} must be {' or '.join(words)}, not {word}")
    return word


def _money(name: str, *, default: str) -> int:
    """An amount in USD as a decimal string, in micro-units."""
    text = str(_env.str(name, default=default))
    try:
        micro = parse_micro(text)
    except BadAmount as error:
        raise ImproperlyConfigured(f"{name} must be an amount such as 500.00: {error}") from error
    if micro < 0:
        raise ImproperlyConfigured(f"{name} must not be negative")
    return micro


def _networks(name: str) -> tuple[Network, ...]:
    """Networks in CIDR form, comma separated; none without the variable."""
    texts = [text.strip() for text in str(_env.str(name, default="")).split(",") if text.strip()]
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} must list networks such as 10.1.0.0/16: {error}"
        ) from error


def _file(name: str) -> str:
    """The path of a file that is there; empty without the variable."""
    path = str(_env.str(name, default=""))
    if path and not Path(path).is_file():
        raise ImproperlyConfigured(f"{name} names no file: {path}")
    return path
