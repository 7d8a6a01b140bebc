"""Stripe in the year: a clock of its own that stands where ours stands, and a network that drops,
doubles, delays and shuffles webhooks and loses answers after their effect."""

from __future__ import annotations

import json
import time
from datetime import datetime
from random import Random
from typing import Any, cast

from billing import facade as billing
from billing.models import CallState, StripeCall
from billing.stripe_gateway import execute, inbox, poll
from devstack.stripe.server import StripeSim
from devstack.stripe.webhooks import signature

_PATHS = (
    "/v1/payment_intents",
    "/v1/invoices",
    "/v1/invoiceitems",
    "/v1/billing/meter_events",
    "/v1/checkout",
    "/v1/refunds",
    "/v1/transfers",
)
_FAULTS = ("cut_after", "cut_before", "error_after", "error_before", "rate_limit")


class YearClock:
    """In place of the simulator's clock: stands still until it is set."""

    offset = 0.0

    def __init__(self) -> None:
        self.moment = 0.0

    def now(self) -> float:
        return self.moment

    def advance(self, seconds: float) -> float:
        self.moment += seconds
        return self.moment


class StripeYear:
    """The account, with everything that a person, a bank or a network does to it."""

    def __init__(self, sim: StripeSim, rng: Random) -> None:
        self.sim, self.rng = sim, rng
        self.clock = YearClock()
        sim.account.sim.clock = cast(Any, self.clock)
        self._told = 0
        self._late: list[dict[str, Any]] = []

    def set(self, moment: datetime) -> None:
        self.clock.moment = moment.timestamp()

    def objects(self, kind: str) -> list[dict[str, Any]]:
        return self.sim.account.store.rows(kind)

    def trouble(self) -> None:
        """Some of the next calls go wrong, in every way that there is."""
        self.sim.account.faults.clear()
        for _ in range(self.rng.randrange(3)):
            self.sim.account.faults.arm(
                self.rng.choice(_FAULTS),
                method="POST",
                path=self.rng.choice(_PATHS),
                skip=self.rng.randrange(5),
                times=self.rng.randint(1, 2),
            )

    def work(self) -> None:
        """What is due towards Stripe, then what Stripe tells, in whatever order."""
        if StripeCall.objects.filter(state=CallState.PENDING).exists():
            execute.drain()
        self._deliver()
        inbox.drain()

    def read(self) -> None:
        """The poller finds what no webhook brought."""
        poll.poll()
        inbox.drain()

    def calm(self) -> None:
        """No more faults; everything that waits is told."""
        self.sim.account.faults.clear()

    def _deliver(self) -> None:
        store = self.sim.account.store
        with store.lock:
            events = store.rows("event")
        fresh, self._told = events[self._told :], len(events)
        now: list[dict[str, Any]] = []
        later: list[dict[str, Any]] = []
        for event in [*self._late, *fresh]:
            fate = self.rng.random()
            if fate < 0.1:
                continue  # lost: the poller brings it
            (later if fate < 0.2 else now).append(event)
            if fate > 0.9:
                now.append(event)
        self._late = later
        self.rng.shuffle(now)
        for event in now:
            payload = json.dumps(event).encode()
            stamp = signature(payload, self.sim.webhook_secret, int(time.time()))
            billing.receive_webhook(payload=payload, signature=stamp)
