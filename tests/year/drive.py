"""The plan played through the product, in virtual time: a tick each hour for all rentals at once.

What the provisioner's loops would write is written by its own functions (intervals opened and
closed by `provisioner.instances.meter`); charging, holds, top-ups, invoices, the mirror and the
reconciliation are the product's loops and doors.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from billing import facade as billing
from billing.contracts import PriceTerms
from billing.facade import reconciliation
from billing.invoicing.month_end import close_due
from billing.metering.mirror import collect
from billing.stripe_gateway import reconcile as stripe_side
from kernel.errors import Refusal
from kernel.ids import new_id
from marketplace.rentals import reconcile as proof_side
from marketplace.rentals.charge import charge
from provisioner import facade as provisioner
from provisioner.instances import meter
from provisioner.models import Cluster, Instance, Namespace, NodeShare
from tests.market import make_renter, make_supply
from tests.year import outflow
from tests.year.oracle import Lost, Truth
from tests.year.plan import LISTED, Org, Plan, Rental, Run
from tests.year.stripe_year import StripeYear

USD = 1_000_000
HOUR = timedelta(hours=1)
RETURN = "https://example.com/billing"
GOOD, REFUSED = "4242424242424242", "4000000000000341"
# The product looks every five seconds; what runs on meanwhile is borne by the platform.
SWEEP = timedelta(minutes=15)


class Year:
    """One year. ``truths``: what was proven, written down as it is told to the product."""

    def __init__(self, plan: Plan, stripe: StripeYear, rng: Random) -> None:
        self.plan, self.stripe, self.rng = plan, stripe, rng
        self.truths: dict[UUID, Truth] = {}
        self.orgs: list[UUID] = []
        self.rich: set[UUID] = set()
        self.breaks: dict[UUID, str] = {}  # differences that a nightly run could not explain
        self.refused = 0
        self._rentals: dict[UUID, Rental] = {}
        self._open: dict[UUID, tuple[Instance, Run]] = {}
        self._ending: list[UUID] = []
        self._proven = False  # something came to an end that no tick has charged yet
        self._poor = 0  # rentals of those who may run out of money, running now
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = count()
        self.now = plan.begin

    def run(self) -> None:
        """From the first second to the last, and until everything is settled."""
        begin, hours = self.plan.begin, self.plan.days * 24
        self._set(begin)
        self._supply()
        for org in self.plan.orgs:
            self._join(org)
        for rental in self.plan.rentals:
            self._at(rental.rented, lambda rental=rental: self._rent(rental))  # type: ignore[misc]
        for hour in range(1, hours + 1):
            self._until(begin + hour * HOUR + LISTED)
            self._tick(hour)
        self.stripe.calm()
        for hour in range(hours + 1, hours + 30):
            self._until(begin + hour * HOUR + LISTED)
            self._tick(hour, calm=True)
        self._reconcile(full=True)

    # --- time --------------------------------------------------------------------------------

    def _set(self, moment: datetime) -> None:
        self.now = moment
        self.stripe.set(moment)
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [moment.isoformat()])

    def _at(self, moment: datetime, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), what))

    def _until(self, end: datetime) -> None:
        """Everything that happens before ``end``, and a look at who ran out of money meanwhile."""
        sweep = self.now + SWEEP
        while self._events and self._events[0][0] <= end:
            moment, _, what = heapq.heappop(self._events)
            while self._poor and sweep < moment:
                self._sweep(sweep)
                sweep += SWEEP
            self._set(max(moment, self.now))
            what()
        while self._poor and sweep < end:
            self._sweep(sweep)
            sweep += SWEEP
        self._set(end)

    def _tick(self, hour: int, *, calm: bool = False) -> None:
        if self._open or self._ending or self._proven:
            self._proven = False
            dark = [p for p, begins, ends in self.plan.dark if begins <= self.now < ends]
            seen = [share.node.cluster_id for p, share in enumerate(self._shares) if p not in dark]
            Cluster.objects.filter(pk__in=seen).update(last_positive_at=self.now)
            charge()
            self._settle()
        if hour % 6 == 0:
            if not calm:
                self.stripe.trouble()
            self.stripe.work()
        if hour % 24 == 5:
            close_due()
            collect()
            self._topups()
            self._pay_out(hour // 24, calm=calm)
            self.stripe.work()
            self.stripe.read()
        if hour % (24 * 14) == 6 and not calm:
            self._reconcile(full=False)

    def _pay_out(self, day: int, *, calm: bool) -> None:
        """What goes out: refunds now and then, providers' payouts every week."""
        if not calm and self.rng.random() < 0.2:
            prepaid = [o.number for o in self.plan.orgs if not (o.postpaid or o.poor)]
            outflow.refund(self.orgs[self.rng.choice(prepaid)], self.rng)
        outflow.pay_providers()
        if day % 3 == 2:
            outflow.banks(self.stripe, self.rng)

    def _reconcile(self, *, full: bool) -> None:
        proof_side.reconcile(full=full)
        for _ in range(10):
            try:
                stripe_side.reconcile(full=full)
                break
            except Exception:  # noqa: BLE001  a call that the network lost: the next night
                self.stripe.calm()
        for one in reconciliation.breaks(state="open"):
            said = f"{one.rule} {one.name} {one.subject}: {one.expected} expected, {one.found}"
            self.breaks.setdefault(one.id, f"{self.now}: {said}. {one.text}")

    # --- who there is ------------------------------------------------------------------------

    def _supply(self) -> None:
        self._shares: list[NodeShare] = []
        self._namespaces: list[Namespace] = []
        self._providers: list[UUID] = []
        for number in range(self.plan.providers):
            owner = make_renter(f"Owner {number}", credit=0)
            supply = make_supply(1, owner=owner, namespaces=1)
            self._shares.append(
                NodeShare.objects.select_related("node").get(node__cluster=supply.cluster)
            )
            self._namespaces.append(Namespace.objects.get(cluster=supply.cluster))
            self._providers.append(supply.provider.id)
            outflow.sign_up(self.stripe, supply.provider.id)

    def _join(self, org: Org) -> None:
        key = new_id()
        with transaction.atomic():
            billing.open_tenant(org_ref=key, email=f"{org.number}@example.com", name="Org")
            setup = billing.start_card_setup(org_ref=key, return_url=RETURN)
        self.stripe.work()
        url = billing.card_setup(org_ref=key, setup_id=setup.id).url
        assert url is not None
        self.stripe.sim.control.pay_page(url, REFUSED if org.declined else GOOD)
        self.stripe.read()
        if org.postpaid:
            limit = 50 * USD if org.poor else 1_000_000 * USD
            with transaction.atomic():
                billing.set_credit_limit(org_ref=key, limit_micro=limit)
        else:
            with transaction.atomic():
                amount = (60 if org.poor else 10_000) * USD
                topup = billing.start_topup(org_ref=key, amount_micro=amount, return_url=RETURN)
            self.stripe.work()
            url = billing.topup(org_ref=key, topup_id=topup.id).checkout_url
            assert url is not None
            self.stripe.sim.control.pay_page(url)
            self.stripe.read()
        if not org.poor:
            self.rich.add(key)
        self.orgs.append(key)

    def _topups(self) -> None:
        """Who has little left pays with the saved card; a refused one is tried again some day."""
        for org, key in zip(self.plan.orgs, self.orgs, strict=True):
            if org.postpaid or (org.poor and self.rng.random() > 0.02):
                continue
            if billing.balance(org_ref=key).spendable_micro < 8_000 * USD:
                amount = (5 if org.poor else 10_000) * USD + self.rng.randrange(100) * 10_000
                card = billing.payment_methods(org_ref=key)[0].id
                with transaction.atomic():
                    billing.start_topup(
                        org_ref=key,
                        amount_micro=min(amount, 10_000 * USD),
                        return_url=RETURN,
                        payment_method_id=card,
                    )

    # --- rentals -----------------------------------------------------------------------------

    def _rent(self, rental: Rental) -> None:
        ref = new_id()
        if not self._hold(rental, ref):
            self.refused += 1
            # Somebody else takes the card: the year has as many rentals as were asked for.
            rental.org = self.rng.choice([one.number for one in self.plan.orgs if not one.poor])
            if not self._hold(rental, ref):
                raise AssertionError(f"{rental} is refused to one who has money")
        org = self.orgs[rental.org]
        self._rentals[ref] = rental
        self.truths[ref] = Truth(
            org, self._providers[rental.provider], rental.gpus, rental.price, rental.share
        )
        for run in rental.runs:
            self._at(run.opened, lambda run=run: self._start(rental, ref, run))  # type: ignore[misc]
        if not rental.runs:
            self._ending.append(ref)

    def _hold(self, rental: Rental, ref: UUID) -> bool:
        terms = PriceTerms(
            currency="USD",
            gpus=rental.gpus,
            price_micro_h=rental.price,
            provider_micro_h=rental.share,
            provider_ref=self._providers[rental.provider],
            accelerator=rental.accelerator,
            description=f"{rental.gpus} x {rental.accelerator}",
        )
        try:
            with transaction.atomic():
                billing.hold(org_ref=self.orgs[rental.org], rental_ref=ref, terms=terms)
        except Refusal:
            return False
        return True

    def _start(self, rental: Rental, ref: UUID, run: Run) -> None:
        if run not in rental.runs:
            return  # stopped for want of money before it came to this
        if run.again and not self._hold(rental, ref):
            self.refused += 1
            rental.runs = rental.runs[: rental.runs.index(run)]
            self._ending.append(ref)
            return
        if ref in self._ending:
            self._ending.remove(ref)
        before = rental.runs.index(run) - 1
        if before >= 0 and not run.again:
            charge()  # what its owner can be made to bear is what it earned
            lost = Lost(rental.runs[before].good, run.opened, by_provider=self.rng.random() < 0.7)
            outflow.credit(ref, lost)
            self.truths[ref].lost.append(lost)
        share = self._shares[rental.provider]
        instance = Instance.objects.create(
            rental_ref=ref,
            tenant_ref=self.orgs[rental.org],
            cluster_id=share.node.cluster_id,
            share=share,
            namespace=self._namespaces[rental.provider],
            gpus=rental.gpus,
            accelerator=rental.accelerator,
            memory_mib=1,
            vcpus_milli=1,
            ram_mib=1,
            disk_mib=1,
            order={},
            state="ready",
            state_since=run.opened,
            created_at=run.opened,
            pod_name=f"gy-{new_id()}",
        )
        # What is listed proves what it shows: the opening is an observation.
        Cluster.objects.filter(pk=share.node.cluster_id).update(last_positive_at=run.opened)
        with transaction.atomic():
            meter.open_interval(instance, at=run.opened, pod_uid="uid", proof={})
            billing.meter_started(rental_ref=ref, at=run.opened)
        self._open[ref] = (instance, run)
        self._poor += self.plan.orgs[rental.org].poor
        self._at(run.closed, lambda: self._close(rental, ref, run))

    def _close(self, rental: Rental, ref: UUID, run: Run) -> None:
        instance, present = self._open.get(ref, (None, None))
        if instance is None or present is not run:
            return
        del self._open[ref]
        self._poor -= self.plan.orgs[rental.org].poor
        final = run.late is None
        closing = meter.Closing(at=run.closed, good_until=run.good, final=final)
        with transaction.atomic():
            meter.close_interval(instance, closing=closing, reason="test")
            billing.meter_stopped(rental_ref=ref)
            Instance.objects.filter(pk=instance.pk).update(state="gone", gone_at=run.closed)
        self._proven = True
        truth = self.truths[ref]
        truth.proven.append((run.opened, run.good))
        if run.late is not None:
            place = len(truth.proven) - 1
            self._at(run.closed + run.late, lambda: self._confirm(instance, truth, place, run))
        self._last(rental, ref, run)

    def _last(self, rental: Rental, ref: UUID, run: Run) -> None:
        """After a run: the end of the rental, or a rest until it is started again."""
        following = rental.runs[rental.runs.index(run) + 1 :]
        if not following or following[0].again:
            self._ending.append(ref)

    def _confirm(self, instance: Instance, truth: Truth, place: int, run: Run) -> None:
        with transaction.atomic():
            meter.confirm(instance.pk, unchanged=True)
        self._proven = True
        truth.proven[place] = (run.opened, run.closed)

    def _settle(self) -> None:
        waiting = []
        for ref in self._ending:
            if provisioner.is_settled(rental_ref=ref):
                with transaction.atomic():
                    billing.end_rental(rental_ref=ref)
            else:
                waiting.append(ref)
        self._ending = waiting

    def _sweep(self, moment: datetime) -> None:
        """Rentals that nothing pays any more are stopped where they are."""
        self._set(moment)
        for ref in billing.exhausted(limit=100):
            instance, run = self._open[ref]
            rental = self._rentals[ref]
            cut = replace(run, closed=moment, good=moment, late=None)
            rental.runs = [*rental.runs[: rental.runs.index(run)], cut]
            self._open[ref] = (instance, cut)
            self._close(rental, ref, cut)


def rows(sql: str) -> list[tuple[Any, ...]]:
    """What the auditors' views say."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())
