"""A provider's payout account, and what staff do about providers' money. Joins the caller's
transaction throughout; every action leaves an audit row."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.conf import settings

from billing.contracts.payouts import AccountState, PayoutAccountView, PayoutRunView
from billing.facade import payouts as billing
from kernel.errors import InvalidRequest, NotFound
from kernel.ids import BadId, parse, public
from kernel.money import format_micro
from marketplace.accounts import audit, second_factor, staffing, tokens
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.models import EmailToken, Membership, Organization, Provider
from marketplace.providers.onboard import own_provider
from marketplace.providers.review import organizations, providers

_COUNTRY = re.compile(r"[A-Z]{2}")


def open_account(
    *, acting: Principal, code: str, country: str | None, return_url: str | None = None
) -> PayoutAccountView:
    """Order Stripe's page on which the provider says where its money goes.

    The caller has just had the person give their password (http/reauth.py); the code of their
    second factor is taken here, so that a repeated request needs no other. For an account that
    works this holds all payouts for three days. Every owner of the organization and the addresses
    known until now get a mail. Refusal second_factor_required; WrongCode; InvalidRequest: no
    country for the first time.
    """
    acting.require_verified()
    acting.require_unfrozen()
    second_factor.require(acting)
    second_factor.spend(user=acting.user, code=code)
    provider = own_provider(acting)
    before = _account(provider)
    fresh = before is None or before.state == AccountState.FAILED
    if fresh and not _COUNTRY.fullmatch(country or ""):
        raise InvalidRequest({"country": ['two capital letters (ISO 3166), such as "DE"']})
    view = billing.open_account_page(
        provider_ref=provider.id,
        name=acting.org.name,
        email=provider.contact_email,
        country=country or "",
        return_url=return_url or f"{settings.GPUYARD_BASE_URL}/provider/payouts",
    )
    _tell(provider, before)
    audit.record(
        acting=acting,
        action="provider.payout_account",
        object=provider.public_id,
        organization_ref=provider.organization_id,
        details={
            "state": view.state.value,
            "held_until": view.held_until.isoformat() if view.held_until else None,
        },
    )
    return view


def make_run(*, acting: Principal) -> PayoutRunView:
    """Decide a payout run now; it starts at once unless it is large."""
    acting.require(STAFF)
    run = billing.make_run(actor=acting.staff_actor, sole=staffing.alone())
    _record_run(acting, "payout_run.make", run)
    return run


def approve_run(*, acting: Principal, run_id: str) -> PayoutRunView:
    """Agree to a run that waits. Alone, it starts a day later."""
    acting.require(STAFF)
    sole = staffing.alone()
    run = billing.approve_run(run_id=_run(run_id), actor=acting.staff_actor, sole=sole)
    _record_run(acting, "payout_run.approve", run)
    return run


def cancel_run(*, acting: Principal, run_id: str, reason: str) -> PayoutRunView:
    """Give up a run that waits; its lines say why."""
    acting.require(STAFF)
    run = billing.cancel_run(run_id=_run(run_id), reason=reason)
    _record_run(acting, "payout_run.cancel", run, why=reason)
    return run


def run(*, acting: Principal, run_id: str) -> PayoutRunView:
    """One run, for staff."""
    acting.require(STAFF)
    return billing.run(run_id=_run(run_id))


def hold(*, acting: Principal, provider_id: str, reason: str) -> Provider:
    """Pay a provider nothing until it is released; repeating changes nothing."""
    acting.require(STAFF)
    provider = find(providers(), provider_id)
    if billing.hold(provider_ref=provider.id, actor=acting.staff_actor, reason=reason):
        _record(acting, "provider.payout_hold", provider, {"reason": reason})
    return provider


def release(*, acting: Principal, provider_id: str) -> Provider:
    """End a hold; repeating changes nothing."""
    acting.require(STAFF)
    provider = find(providers(), provider_id)
    if billing.release(provider_ref=provider.id, actor=acting.staff_actor):
        _record(acting, "provider.payout_release", provider, {})
    return provider


def release_review(*, acting: Principal, organization_id: str, note: str) -> Organization:
    """Let what a renter without a settled payment used mature for its providers."""
    acting.require(STAFF)
    organization = find(organizations(), organization_id)
    if billing.release_review(org_ref=organization.id, actor=acting.staff_actor, note=note):
        audit.record(
            acting=acting,
            action="organization.release_earnings",
            object=organization.public_id,
            organization_ref=organization.id,
            details={"note": note},
        )
    return organization


def names(provider_refs: Iterable[UUID]) -> dict[UUID, str]:
    """Providers' organizations by provider, to show them."""
    rows = Provider.objects.filter(id__in=set(provider_refs))
    return dict(rows.values_list("id", "organization__name"))


def renters(org_refs: Iterable[UUID]) -> dict[UUID, str]:
    """Organizations' names."""
    rows = Organization.objects.filter(id__in=set(org_refs))
    return dict(rows.values_list("id", "name"))


def _account(provider: Provider) -> PayoutAccountView | None:
    try:
        return billing.payout_account(provider_ref=provider.id)
    except NotFound:
        return None


def _tell(provider: Provider, before: PayoutAccountView | None) -> None:
    """A mail to every owner, and to each address that was known before: whoever took over one of
    them can not keep it from the others."""
    owners = Membership.objects.filter(
        organization=provider.organization_id, role=Membership.Role.OWNER
    ).select_related("user")
    people = [owner.user for owner in owners]
    known = {provider.contact_email.lower(), before.email.lower() if before else ""}
    for user in people:
        tokens.order_notice(user, EmailToken.Purpose.PAYOUT, about=provider.organization.name)
    others = known - {user.email for user in people} - {""}
    for address in sorted(others):
        tokens.order_notice(
            people[0],
            EmailToken.Purpose.PAYOUT,
            about=provider.organization.name,
            address=address,
        )


def _run(run_id: str) -> UUID:
    try:
        return parse("payout_run", run_id)
    except BadId as error:
        raise NotFound("payout run") from error


def _record(acting: Principal, action: str, provider: Provider, details: dict[str, Any]) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=provider.public_id,
        organization_ref=provider.organization_id,
        details=details,
    )


def _record_run(acting: Principal, action: str, run: PayoutRunView, **more: str) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=public("payout_run", run.id),
        organization_ref=None,
        details={
            "state": run.state.value,
            "total": format_micro(run.total_micro),
            "approvals": list(run.approvals),
            "starts_at": run.starts_at.isoformat() if run.starts_at else None,
            **more,
        },
    )
