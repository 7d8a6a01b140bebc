"""Rent: plan outside, then everything in one transaction, or nothing at all.

The plan reads the maintained summary without locks. The transaction takes its locks in the house's
order: quote, cards (the provisioner's door), rental, and last and briefly the tenant's account,
the one row that a team's burst shares. A race for the last card is lost at the cards' lock; before
saying so the order is planned and tried once more, waiting for the lock this time. Who allowed it
waits in the queue then (place.py serves it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from billing import facade as billing
from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import new_id
from kernel.money import CURRENCY, format_micro
from kernel.wake import wake_on_commit
from marketplace.accounts import audit, switches
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import Claim, Rendered, once, stored
from marketplace.accounts.ports import TCP
from marketplace.accounts.ssh_keys import hold
from marketplace.catalog.needs import MIB_PER_GIB
from marketplace.catalog.opening import contract_end
from marketplace.catalog.price import Price
from marketplace.catalog.query import OfferQuery, as_requirement
from marketplace.catalog.quote import candidates, disk_for, price_of, use, with_disk
from marketplace.catalog.relax import no_capacity, offer_taken
from marketplace.catalog.search import on_sale_now
from marketplace.catalog.templates import check_fit
from marketplace.catalog.tiers import grace_of
from marketplace.models import Offer, Quote, Rental
from marketplace.rentals import ports, tenure, unmet
from marketplace.rentals.limits import check_limits
from marketplace.rentals.order import Prepared, RentOrder, prepare
from marketplace.rentals.reasons import sentence
from marketplace.rentals.room import room_after
from marketplace.rentals.sealed_order import seal_order
from marketplace.rentals.serving import promised
from marketplace.rentals.state import PROVISIONING, QUEUED
from marketplace.rentals.terms import terms_of
from marketplace.rentals.timeline import note
from marketplace.volumes import mounts
from provisioner import facade as provisioner
from provisioner.contracts import NoCandidate, NoStorage, PlacementRequest, Plan, PodOrder

# The planner is asked about this many groups at most, cheapest first: its own limit is 200 nodes.
_MAX_OFFERS = 50

# Seconds from SIGTERM to the kill, which nobody pays. What may be interrupted gets time to write a
# checkpoint on SIGTERM alone; more would keep the cards from whoever waits for them.
_TIME_TO_END, _TIME_TO_SAVE = 10, 30

Render = Callable[[Rental], tuple[int, Any]]


class _Choice:
    """Where the order may go: offers that fit, cheapest first, and what to say when none can."""

    def __init__(self, prepared: Prepared, *, in_stock: bool) -> None:
        self.quote: Quote | None = prepared.quote
        if prepared.quote is not None:
            offer = prepared.quote.offer
            self.gpus = prepared.quote.gpus
            self.disk_gib = prepared.quote.disk_gib
            self.interruptible = prepared.quote.interruptible
            offers = [offer] if on_sale_now(offer) else []
            self.refusal: Callable[[], Refusal] = lambda: offer_taken(
                *(offer, self.gpus),
                interruptible=self.interruptible,
                ssh=prepared.needs_way_in,
            )
        else:
            query = with_disk(prepared.query or OfferQuery(), prepared.disk_gib)
            query = tenure.asked(query, expires_at=prepared.expires_at)
            if prepared.needs_way_in:
                query = replace(query, ssh=True)
            needs = prepared.needs
            found = prepared.volumes.place.among(candidates(query, needs, in_stock=in_stock))
            offers = list(found[:_MAX_OFFERS])
            if not offers and needs and not in_stock:
                self._blame_template(query, needs)
            self.gpus = query.asked_gpus
            self.interruptible = bool(query.interruptible)
            self.disk_gib = disk_for(offers, self.gpus, prepared.disk_gib) if offers else 0
            tried = [offer.id for offer in offers]
            self.refusal = lambda: no_capacity(query, needs, tried)
        if prepared.volumes.place.is_bound:
            self.refusal = partial(_bound, prepared, empty=not offers)
        self.offers: dict[UUID, Offer] = {offer.group_id: offer for offer in offers}

    @staticmethod
    def _blame_template(query: OfferQuery, needs: Any) -> None:
        """When cards fit the requirement but not the template, that is what must be said."""
        nearest = candidates(query, in_stock=False).first()
        if nearest is not None:
            check_fit(needs, nearest)

    def contract_end(self, offer: Offer) -> datetime | None:
        """When the owner takes the cards back; as quoted, if it was."""
        return contract_end(offer) if self.quote is None else self.quote.contract_ends_at

    def price(self, offer: Offer) -> Price:
        if self.quote is None:
            return price_of(offer, self.gpus, interruptible=self.interruptible)
        return Price(
            self.quote.price_micro_h // self.gpus,
            self.gpus,
            self.quote.price_micro_h,
            self.quote.provider_micro_h,
        )


def _bound(prepared: Prepared, *, empty: bool) -> Refusal:
    """The refusal of an order that its volumes bind to a place; ``empty``: no offer there fits."""
    place, query = prepared.volumes.place, prepared.query
    if empty and prepared.needs_way_in and query is not None:
        wanted = with_disk(query, prepared.disk_gib)
        if place.among(candidates(wanted, prepared.needs, in_stock=False)).exists():
            return place.shut()
    return place.refusal()


def rent(*, acting: Principal, order: RentOrder, claim: Claim | None, render: Render) -> Rendered:
    """Rent, once per claim; the rendered rental.

    Raises Refusal: those of :func:`prepare`, email_unverified, account_frozen, offer_taken,
    no_capacity, volume_in_use, insufficient_funds, spend_rate_limit, budget_exceeded,
    quota_exceeded, read_only. Nothing is stored then.
    """
    replay = stored(claim) if claim else None
    if replay is not None:
        return replay
    try:
        return _rent(acting, order, claim, render)
    except Refusal:
        # A duplicate of this very request may have won in the meantime: its answer is ours too.
        replay = stored(claim) if claim else None
        if replay is None:
            raise
        return replay


def _rent(acting: Principal, order: RentOrder, claim: Claim | None, render: Render) -> Rendered:
    acting.require_verified()
    acting.require_unfrozen()
    switches.refuse_rentals()
    prepared = prepare(acting, order)
    key = claim.key if claim else ""
    for wait in (False, True):
        # The summary may be a second old: before a refusal the planner looks at the cards
        # themselves, also where the summary shows none free.
        choice = _Choice(prepared, in_stock=not wait)
        if not choice.offers:
            continue
        barred = promised() + _kept_off(prepared)
        plan = provisioner.plan(_request(acting, prepared, choice, barred=barred))
        if not plan.candidates:
            continue
        create = partial(_create, acting, prepared, choice, plan, key=key, wait=wait)
        try:
            return once(claim, create, render)
        except (NoCandidate, NoStorage):
            continue
    if prepared.queue_seconds is not None and choice.offers:
        return once(claim, partial(_enqueue, acting, prepared, choice, key=key), render)
    refusal = _with_queue(acting, prepared, choice)
    unmet.note(refusal.slug, choice.gpus, quote=choice.quote, query=prepared.query)
    raise refusal


def _kept_off(prepared: Prepared) -> tuple[UUID, ...]:
    """Hosts that are taken down before its end, unless its data is only there."""
    bound = prepared.volumes.place.cluster_ids
    return () if bound else tenure.kept_off(until=prepared.expires_at)


def _request(
    acting: Principal, prepared: Prepared, choice: _Choice, *, barred: tuple[UUID, ...] = ()
) -> PlacementRequest:
    return PlacementRequest(
        group_ids=tuple(choice.offers),
        gpus=choice.gpus,
        disk_mib=choice.disk_gib * MIB_PER_GIB,
        tenant_ref=acting.org.id,
        exclude_nodes=barred,
        cluster_ids=prepared.volumes.place.cluster_ids,
        node_ids=prepared.volumes.place.node_ids,
        needs_storage=prepared.volumes.place.needs_storage,
        needs_way_in=prepared.needs_way_in,
    )


def _with_queue(acting: Principal, prepared: Prepared, choice: _Choice) -> Refusal:
    """The refusal; with the queue as the nearest change where interruptible rentals would make
    room. Nobody is interrupted for an order that does not wait for the cards."""
    refusal, place = choice.refusal(), prepared.volumes.place
    if choice.interruptible or not choice.offers or place.needs_storage:
        return refusal
    wait = room_after(_request(acting, prepared, choice), _MAX_OFFERS)
    if wait is None:
        return refusal
    queue = {"deadline_seconds": 2 * int(wait.total_seconds())}
    price = choice.price(next(iter(choice.offers.values())))
    refusal.extra["relaxations"] = [
        {
            "changes": [{"field": "queue", "from": None, "to": queue}],
            "count": 1,
            "price_per_gpu_hour": format_micro(price.per_gpu_micro_h),
            "currency": CURRENCY,
            "ready_in_seconds": int(wait.total_seconds()),
        },
        *refusal.extra.get("relaxations", ()),
    ]
    return refusal


def _create(
    acting: Principal, prepared: Prepared, choice: _Choice, plan: Plan, *, key: str, wait: bool
) -> Rental:
    """Inside the transaction: cards, rental, hold. Raises NoCandidate, Refusal."""
    hold(acting, prepared.given_keys)
    rental_id = new_id()
    if prepared.quote is not None:
        use(prepared.quote)
    order = _pod_order(prepared, choice)
    instance = provisioner.reserve(
        plan=plan,
        instance_id=new_id(),
        rental_ref=rental_id,
        tenant_ref=acting.org.id,
        order=order,
        gpus=choice.gpus,
        disk_mib=choice.disk_gib * MIB_PER_GIB,
        wait=wait,
    )
    offer = choice.offers[instance.group_id]
    rental = _store(
        acting,
        prepared,
        choice,
        offer,
        key=key,
        id=rental_id,
        order_sealed=seal_order(rental_id, order),
        instance_ref=instance.id,
        state=PROVISIONING,
        reason="placed",
        attempts=1,
    )
    ports.publish(rental)
    billing.hold(org_ref=acting.org.id, rental_ref=rental_id, terms=terms_of(rental, offer))
    # Behind the account's lock: what others of the organization committed is visible now.
    check_limits(rental)
    mounts.record(acting, rental, prepared.volumes)
    wake_on_commit("provisioner.instances")
    return rental


def _enqueue(acting: Principal, prepared: Prepared, choice: _Choice, *, key: str) -> Rental:
    """Inside the transaction: a rental that waits for cards. Nothing is held until it has them,
    yet who cannot pay the first hour need not wait for it."""
    hold(acting, prepared.given_keys)
    rental_id, present = new_id(), now()
    if prepared.quote is not None:
        use(prepared.quote)
    offer = next(iter(choice.offers.values()))
    query, order = prepared.query, _pod_order(prepared, choice)
    cap = query.max_price if query is not None else None
    rental = _store(
        acting,
        prepared,
        choice,
        offer,
        key=key,
        id=rental_id,
        order_sealed=seal_order(rental_id, order),
        state=QUEUED,
        reason="no_capacity",
        queued_at=present,
        queue_until=present + timedelta(seconds=prepared.queue_seconds or 0),
        wanted={
            "requirement": as_requirement(query) if query is not None else None,
            "needs": dict(prepared.needs),
            "max_price_micro_h": choice.price(offer).per_gpu_micro_h if cap is None else cap,
            "max_seconds": prepared.max_seconds,
            "disk_gib": prepared.disk_gib,
        },
    )
    wake_on_commit("marketplace.place")  # others may have to make room for it
    billing.check_affordable(org_ref=acting.org.id, price_micro_h=rental.price_micro_h)
    check_limits(rental)
    mounts.record(acting, rental, prepared.volumes)
    return rental


def _pod_order(prepared: Prepared, choice: _Choice) -> PodOrder:
    tier = next(iter(choice.offers.values())).tier
    return PodOrder(
        image=prepared.image,
        command=prepared.command,
        env=prepared.env,
        secret_env=prepared.secret_env,
        pull_secret=prepared.pull_secret,
        ports=tuple(port.port for port in prepared.ports),
        ssh_public_keys=prepared.ssh_keys,
        termination_grace=_TIME_TO_SAVE if choice.interruptible else _TIME_TO_END,
        grace_seconds=grace_of(tier),
        volumes=prepared.volumes.mounts,
        notice=choice.interruptible,
    )


def _store(
    acting: Principal,
    prepared: Prepared,
    choice: _Choice,
    offer: Offer,
    *,
    key: str,
    **given: Any,
) -> Rental:
    """The rental's row with its first event and its audit row."""
    price, present = choice.price(offer), now()
    rental = Rental.objects.create(
        organization=acting.org,
        project=prepared.project,
        created_by=acting.user,
        name=prepared.name or f"{offer.group.accelerator}-{choice.gpus}",
        labels=prepared.labels,
        offer=offer,
        quote=prepared.quote,
        template=prepared.template,
        queue_seconds=prepared.queue_seconds,
        image=prepared.image,
        secrets=prepared.secrets,
        registry_credential_ref=(
            prepared.registry_credential.id if prepared.registry_credential else None
        ),
        accelerator=offer.group.accelerator,
        gpus=choice.gpus,
        interruptible=choice.interruptible,
        disk_gib=choice.disk_gib,
        currency=CURRENCY,
        price_micro_h=price.total_micro_h,
        provider_micro_h=price.provider_micro_h,
        ssh_keys=list(prepared.ssh_keys),
        ssh=prepared.ssh,
        ports=[port.kept() for port in prepared.ports],
        expires_at=prepared.expires_at,
        contract_ends_at=choice.contract_end(offer),
        failover=prepared.failover,
        idle_stop_minutes=prepared.idle_stop_minutes,
        locked=False,
        desired_state=Rental.Desired.RUNNING,
        state_since=present,
        idempotency_key=key,
        leaving=False,
        **{"attempts": 0, **given},
    )
    if any(port.protocol == TCP for port in prepared.ports):
        ports.number(rental)
    text = sentence(rental.reason)
    note(rental, at=present, reason=rental.reason, actor="renter", text=text)
    audit.record(
        acting=acting,
        action="rental.start",
        object=rental.public_id,
        organization_ref=acting.org.id,
        details={
            "offer": offer.public_id,
            "gpus": choice.gpus,
            "interruptible": choice.interruptible,
            "price_per_hour": format_micro(price.total_micro_h),
        },
    )
    return rental
