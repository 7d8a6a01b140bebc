"""Rent: plan outside, then everything in one transaction, or nothing at all.

The plan reads the maintained summary without locks. The transaction takes its locks in the house's
order: quote, cards (the provisioner's door), rental, and last and briefly the tenant's account,
the one row that a team's burst shares. A race for the last card is lost at the cards' lock; before
saying so the order is planned and tried once more, waiting for the lock this time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Sum

from billing import facade as billing
from billing.contracts import PriceTerms
from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import new_id
from kernel.money import CURRENCY, format_micro
from kernel.wake import wake_on_commit
from marketplace.accounts import audit
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import Claim, Rendered, once, stored
from marketplace.catalog.needs import MIB_PER_GIB
from marketplace.catalog.price import Price
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.quote import candidates, disk_for, price_of, use, with_disk
from marketplace.catalog.registry import by_slug
from marketplace.catalog.relax import no_capacity, offer_taken
from marketplace.catalog.search import on_sale_now
from marketplace.catalog.templates import check_fit
from marketplace.models import Offer, Organization, Quote, Rental
from marketplace.rentals.order import Prepared, RentOrder, prepare
from marketplace.rentals.reasons import sentence
from marketplace.rentals.state import COMMITTED
from marketplace.rentals.timeline import note
from marketplace.volumes import mounts
from provisioner import facade as provisioner
from provisioner.contracts import NoCandidate, NoStorage, PlacementRequest, Plan, PodOrder

# The planner is asked about this many groups at most, cheapest first: its own limit is 200 nodes.
_MAX_OFFERS = 50

Render = Callable[[Rental], tuple[int, Any]]


class _Choice:
    """Where the order may go: offers that fit, cheapest first, and what to say when none can."""

    def __init__(self, prepared: Prepared, *, in_stock: bool) -> None:
        self.quote: Quote | None = prepared.quote
        if prepared.quote is not None:
            offer = prepared.quote.offer
            self.gpus = prepared.quote.gpus
            self.disk_gib = prepared.quote.disk_gib
            offers = [offer] if on_sale_now(offer) else []
            self.refusal: Callable[[], Refusal] = lambda: offer_taken(offer, self.gpus)
        else:
            query = with_disk(prepared.query or OfferQuery(), prepared.disk_gib)
            needs = prepared.needs
            found = prepared.volumes.place.among(candidates(query, needs, in_stock=in_stock))
            offers = list(found[:_MAX_OFFERS])
            if not offers and needs and not in_stock:
                self._blame_template(query, needs)
            self.gpus = query.asked_gpus
            self.disk_gib = disk_for(offers, self.gpus, prepared.disk_gib) if offers else 0
            tried = [offer.id for offer in offers]
            self.refusal = lambda: no_capacity(query, needs, tried)
        if prepared.volumes.place.is_bound:
            self.refusal = prepared.volumes.place.refusal
        self.offers: dict[UUID, Offer] = {offer.group_id: offer for offer in offers}

    @staticmethod
    def _blame_template(query: OfferQuery, needs: Any) -> None:
        """When cards fit the requirement but not the template, that is what must be said."""
        nearest = candidates(query, in_stock=False).first()
        if nearest is not None:
            check_fit(needs, nearest)

    def price(self, offer: Offer) -> Price:
        if self.quote is None:
            return price_of(offer, self.gpus)
        return Price(
            self.quote.price.price_micro_h,
            self.gpus,
            self.quote.price_micro_h,
            self.quote.provider_micro_h,
        )


def rent(*, acting: Principal, order: RentOrder, claim: Claim | None, render: Render) -> Rendered:
    """Rent, once per claim; the rendered rental.

    Raises Refusal: those of :func:`prepare`, email_unverified, account_frozen, offer_taken,
    no_capacity, volume_in_use, insufficient_funds, spend_rate_limit, quota_exceeded. Nothing is
    stored then.
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
    prepared = prepare(acting, order)
    key = claim.key if claim else ""
    for wait in (False, True):
        # The summary may be a second old: before a refusal the planner looks at the cards
        # themselves, also where the summary shows none free.
        choice = _Choice(prepared, in_stock=not wait)
        if not choice.offers:
            continue
        plan = provisioner.plan(
            PlacementRequest(
                group_ids=tuple(choice.offers),
                gpus=choice.gpus,
                disk_mib=choice.disk_gib * MIB_PER_GIB,
                tenant_ref=acting.org.id,
                cluster_ids=prepared.volumes.place.cluster_ids,
                node_ids=prepared.volumes.place.node_ids,
                needs_storage=prepared.volumes.place.needs_storage,
            )
        )
        if not plan.candidates:
            continue
        create = partial(_create, acting, prepared, choice, plan, key=key, wait=wait)
        try:
            return once(claim, create, render)
        except (NoCandidate, NoStorage):
            continue
    raise choice.refusal()


def _create(
    acting: Principal, prepared: Prepared, choice: _Choice, plan: Plan, *, key: str, wait: bool
) -> Rental:
    """Inside the transaction: cards, rental, hold. Raises NoCandidate, Refusal."""
    rental_id, organization = new_id(), acting.org
    if prepared.quote is not None:
        use(prepared.quote)
    instance = provisioner.reserve(
        plan=plan,
        instance_id=new_id(),
        rental_ref=rental_id,
        tenant_ref=organization.id,
        order=PodOrder(
            image=prepared.image,
            command=prepared.command,
            env=prepared.env,
            ports=prepared.ports,
            ssh_public_keys=prepared.ssh_keys,
            volumes=prepared.volumes.mounts,
        ),
        gpus=choice.gpus,
        disk_mib=choice.disk_gib * MIB_PER_GIB,
        wait=wait,
    )
    offer = choice.offers[instance.group_id]
    price = choice.price(offer)
    present = now()
    rental = Rental.objects.create(
        id=rental_id,
        organization=organization,
        project=prepared.project,
        created_by=acting.user,
        name=prepared.name or f"{offer.group.accelerator}-{choice.gpus}",
        labels=prepared.labels,
        offer=offer,
        quote=prepared.quote,
        template=prepared.template,
        image=prepared.image,
        accelerator=offer.group.accelerator,
        gpus=choice.gpus,
        disk_gib=choice.disk_gib,
        currency=CURRENCY,
        price_micro_h=price.total_micro_h,
        provider_micro_h=price.provider_micro_h,
        ssh_keys=list(prepared.ssh_keys),
        ssh=prepared.ssh,
        expires_at=prepared.expires_at,
        instance_ref=instance.id,
        desired_state=Rental.Desired.RUNNING,
        state=Rental.State.PROVISIONING,
        reason="placed",
        state_since=present,
        idempotency_key=key,
    )
    note(rental, at=present, reason="placed", actor="renter", text=sentence("placed"))
    audit.record(
        acting=acting,
        action="rental.start",
        object=rental.public_id,
        organization_ref=organization.id,
        details={
            "offer": offer.public_id,
            "gpus": choice.gpus,
            "price_per_hour": format_micro(price.total_micro_h),
        },
    )
    billing.hold(org_ref=organization.id, rental_ref=rental_id, terms=_terms(rental, offer))
    # Behind the account's lock: what others of the organization committed is visible now.
    _check_limits(organization)
    mounts.record(acting, rental, prepared.volumes)
    wake_on_commit("provisioner.instances")
    return rental


def _terms(rental: Rental, offer: Offer) -> PriceTerms:
    card = by_slug().get(rental.accelerator)
    name = card.name if card else rental.accelerator
    return PriceTerms(
        currency=rental.currency,
        gpus=rental.gpus,
        price_micro_h=rental.price_micro_h,
        provider_micro_h=rental.provider_micro_h,
        provider_ref=offer.provider_id,
        accelerator=rental.accelerator,
        description=f"{rental.gpus} x {name}, {offer.datacenter.name}",
    )


def _check_limits(organization: Organization) -> None:
    """Raise quota_exceeded or spend_rate_limit when this rental, already counted, is too much."""
    limits = Organization.objects.get(id=organization.id)
    committed = Rental.objects.filter(
        organization=organization, ended_at=None, state__in=COMMITTED
    ).aggregate(gpus=Sum("gpus"), burn=Sum("price_micro_h"))
    if committed["gpus"] > limits.quota_gpus:
        raise Refusal(
            "quota_exceeded",
            f"Your organization may rent {limits.quota_gpus} GPUs at a time and would have "
            f"{committed['gpus']}. Nothing was rented. End a rental or ask support for more.",
            limit=limits.quota_gpus,
            needed=committed["gpus"],
        )
    if committed["burn"] > limits.spend_limit_micro_h:
        raise Refusal(
            "spend_rate_limit",
            f"Your organization may spend {format_micro(limits.spend_limit_micro_h)} {CURRENCY} "
            f"per hour and would spend {format_micro(committed['burn'])}. Nothing was rented. "
            "End a rental or ask support for a higher limit.",
            limit=format_micro(limits.spend_limit_micro_h),
            needed=format_micro(committed["burn"]),
            currency=CURRENCY,
            raises_at=None,
        )
