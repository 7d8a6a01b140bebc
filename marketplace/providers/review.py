"""What staff do with providers and organizations. Joins the caller's transaction throughout."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from django.db.models import QuerySet

from billing import facade as billing
from billing.contracts import InvoiceView
from billing.contracts.journal import MonthView
from billing.facade import journal
from kernel.clock import now
from kernel.errors import InvalidRequest
from kernel.ids import public
from kernel.money import format_micro
from marketplace.accounts import audit, letters
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.models import Organization, Provider
from marketplace.models.fee import MAX_FEE_BPS
from marketplace.providers.onboard import binding_of
from provisioner import facade as provisioner

_MANY = 32  # networks or ports: a binding names a VPN, not the internet


def providers() -> QuerySet[Provider]:
    """All providers with their organizations, for staff."""
    return Provider.objects.select_related("organization")


def organizations(*, email: str = "") -> QuerySet[Organization]:
    """All organizations, or those that the person with this address belongs to, for staff."""
    rows = Organization.objects.all()
    return rows.filter(memberships__user__email=email.lower()) if email else rows


def approve(
    *,
    acting: Principal,
    provider_id: str,
    ownership: str,
    networks: Sequence[str],
    ports: Sequence[int],
    fee_bps: int | None,
) -> Provider:
    """Approve a provider and bind its API servers to networks and ports; repeating it rebinds.

    fee_bps: what is agreed with the first approval. Later it stays, and a change has its notice
    (catalog/fee_changes.py).

    InvalidRequest: a text that is no network, a port out of range, a fee above half or, later, any
    other than was agreed.
    """
    acting.require(STAFF)
    errors: dict[str, list[str]] = {}
    if fee_bps is not None and not 0 <= fee_bps <= MAX_FEE_BPS:
        errors["fee_bps"] = [f"from 0 to {MAX_FEE_BPS}"]
    for name, values in (("networks", networks), ("ports", ports)):
        if len(values) > _MANY:
            errors[name] = [f"at most {_MANY}"]
    if errors:
        raise InvalidRequest(errors)
    provider = find(Provider.objects.select_for_update(), provider_id)
    agreed = fee_bps if provider.approved_at is None else provider.fee_bps
    if fee_bps is not None and fee_bps != agreed:
        raise InvalidRequest(
            {"fee_bps": ["is changed at /staff/fees, where the owner is told before it holds"]}
        )
    if provider.approved_at is None:
        letters.tell(
            provider.organization_id,
            "provider.approved",
            cause=provider.public_id,
            facts={"name": provider.organization.name, "at": letters.moment(now())},
        )
    provider.state = Provider.State.APPROVED
    provider.reason = ""
    provider.ownership = ownership
    provider.allowed_networks = list(networks)
    provider.allowed_ports = list(ports)
    provider.fee_bps = agreed
    provider.approved_at = provider.approved_at or now()
    provider.version += 1
    provider.save()
    provisioner.set_binding(provider_ref=provider.id, binding=binding_of(provider))
    audit.record(
        acting=acting,
        action="provider.approve",
        object=provider.public_id,
        organization_ref=provider.organization_id,
        details={
            "ownership": ownership,
            "networks": list(networks),
            "ports": list(ports),
            "fee_bps": agreed,
        },
    )
    return provider


def set_limits(
    *,
    acting: Principal,
    organization_id: str,
    credit_limit_micro: int | None,
    quota_gpus: int | None,
    spend_limit_micro_h: int | None,
) -> Organization:
    """Set what is given: credit limit (0: prepaid), GPUs at once, burn per hour."""
    acting.require(STAFF)
    organization = find(Organization.objects.select_for_update(), organization_id)
    details: dict[str, str | int] = {}
    if credit_limit_micro is not None:
        billing.set_credit_limit(org_ref=organization.id, limit_micro=credit_limit_micro)
        details["credit_limit"] = format_micro(credit_limit_micro)
    if quota_gpus is not None:
        details["quota_gpus"] = organization.quota_gpus = quota_gpus
    if spend_limit_micro_h is not None:
        organization.spend_limit_micro_h = spend_limit_micro_h
        organization.spend_limit_fixed = True
        details["spend_limit"] = format_micro(spend_limit_micro_h)
    if not details:
        raise InvalidRequest({"credit_limit": ["give at least one limit"]})
    organization.version += 1
    organization.save(
        update_fields=["quota_gpus", "spend_limit_micro_h", "spend_limit_fixed", "version"]
    )
    audit.record(
        acting=acting,
        action="organization.limit",
        object=organization.public_id,
        organization_ref=organization.id,
        details=details,
    )
    return organization


def close_period(*, acting: Principal, organization_id: str) -> InvoiceView:
    """Invoice now what was charged and is on no invoice yet; Refusal invalid_transition."""
    acting.require(STAFF)
    organization = find(Organization.objects.all(), organization_id)
    view = billing.close_period(org_ref=organization.id, actor=acting.staff_actor)
    audit.record(
        acting=acting,
        action="organization.close_period",
        object=organization.public_id,
        organization_ref=organization.id,
        details={"invoice": public("invoice", view.id)},
    )
    return view


def lock_month(*, acting: Principal, month: date) -> MonthView:
    """Lock a month of the ledger for good; Refusal invalid_transition, NotFound."""
    acting.require(STAFF)
    view = journal.lock_month(month, actor=acting.staff_actor)
    details: dict[str, str | int] = {"transactions": view.transactions or 0}
    audit.record(
        acting=acting,
        action="month.lock",
        object=f"{month:%Y-%m}",
        organization_ref=None,
        details=details,
    )
    return view
