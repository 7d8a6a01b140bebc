"""One year, or a small one: played, counted again, reported."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from unittest import mock

from django.conf import settings
from django.db import connection

from billing.stripe_gateway import client
from config.celery import app
from devstack.stripe.server import StripeSim
from tests.year.drive import Year, rows
from tests.year.oracle import recount
from tests.year.plan import YEAR, draw
from tests.year.stripe_year import StripeYear


@dataclass
class Report:
    rentals: int
    charges: int
    error_micro: int
    stripe_diff_minor: int
    breaks: int
    seconds: float
    overrun_micro: int
    credited_micro: int
    refunds: int
    paid_out_minor: int
    refused: int
    seed: str
    problems: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not (self.error_micro or self.stripe_diff_minor or self.breaks or self.problems)

    def as_json(self) -> str:
        shown = {name: value for name, value in vars(self).items() if name != "problems"}
        return json.dumps({**shown, "seconds": round(self.seconds, 1)})


def play(rentals: int, seed: str, span: tuple[datetime, int] = YEAR) -> Report:
    """So many rentals in a year, or a part of one, against the database that Django is set to."""
    began = time.monotonic()
    with _quiet(), StripeSim() as sim, _towards(sim):
        stripe = StripeYear(sim, Random(f"{seed}/stripe"))
        year = Year(draw(rentals, seed, span), stripe, Random(f"{seed}/drive"))
        try:
            year.run()
            found = recount(year.truths, rows, stripe.objects, year.rich)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('gpuyard.now', '', false)")
    return Report(
        rentals=len(year.truths),
        charges=found.charges,
        error_micro=found.error_micro,
        stripe_diff_minor=found.stripe_diff_minor,
        breaks=len(year.breaks),
        seconds=time.monotonic() - began,
        overrun_micro=found.overrun_micro,
        credited_micro=found.credited_micro,
        refunds=found.refunds,
        paid_out_minor=found.paid_out_minor,
        refused=year.refused,
        seed=seed,
        problems=[*year.breaks.values(), *found.problems],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Nobody listens to wake-ups, and a year of calls does not wait for a limit per second."""
    with (
        mock.patch.object(app, "send_task"),
        mock.patch.object(client, "_limiter", client.Limiter(1e9)),
    ):
        yield


@contextmanager
def _towards(sim: StripeSim) -> Iterator[None]:
    wanted = {
        "STRIPE_API_BASE": sim.base_url,
        "STRIPE_API_KEY": sim.api_key,
        "STRIPE_WEBHOOK_SECRET": sim.webhook_secret,
    }
    before = {name: getattr(settings, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(settings, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)
