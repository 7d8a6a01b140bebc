"""The typed environment: every setting that differs between places, read once, checked at start.

A missing or malformed variable stops the process with its name; nothing falls back to a value
that would be unsafe in production.
"""

from __future__ import annotations

from dataclasses import dataclass

import environ

_env = environ.Env()


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
    ssh_gateway: str
    fee_bps: int
    log_format: str
    process: str  # web, worker, beat, watcher, streams or command


def read(*, defaults: dict[str, str] | None = None) -> Environment:
    """The environment, with ``defaults`` for places where a missing variable is harmless."""
    given = defaults or {}

    def text(name: str) -> str:
        if name in given:
            return str(_env.str(name, default=given[name]))
        return str(_env.str(name))

    return Environment(
        database_url=text("DATABASE_URL"),
        broker_url=text("BROKER_URL"),
        secret_key=text("GPUYARD_SECRET_KEY"),
        sealing_key=text("GPUYARD_SEALING_KEY"),
        base_url=text("GPUYARD_BASE_URL").rstrip("/"),
        allowed_hosts=[host for host in text("GPUYARD_ALLOWED_HOSTS").split(",") if host],
        email_url=text("GPUYARD_EMAIL_URL"),
        from_email=text("GPUYARD_FROM_EMAIL"),
        stripe_api_key=text("STRIPE_API_KEY"),
        stripe_api_base=_env.str("STRIPE_API_BASE", default="https://api.stripe.com").rstrip("/"),
        stripe_webhook_secret=text("STRIPE_WEBHOOK_SECRET"),
        ssh_gateway=_env.str("GPUYARD_SSH_GATEWAY", default=""),
        fee_bps=_env.int("GPUYARD_FEE_BPS", default=1500),
        log_format=_env.str("GPUYARD_LOG_FORMAT", default="json"),
        process=_env.str("GPUYARD_PROCESS", default="command"),
    )
