"""A rental as API and portal show it. Null: not known, not measured, or not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings

from billing import facade as billing
from billing.contracts import ChargeView
from kernel.ids import public
from kernel.money import format_micro, parse_micro
from kernel.text import rfc3339
from marketplace.models import Rental, RentalEvent, VolumeMeter
from marketplace.rentals import port_views
from marketplace.rentals.forecast import restart_forecasts
from marketplace.rentals.queue import positions
from marketplace.rentals.reasons import REASONS, RENTER, sentence
from marketplace.rentals.state import (
    BILLABLE,
    COMMITTED,
    DEGRADED,
    INTERRUPTING,
    UNREACHABLE,
    actions_of,
)
from marketplace.volumes import mounts
from provisioner.contracts.access import PortsSeen, WayIn
from provisioner.contracts.evidence import Evidence
from provisioner.facade import access

# Where a notice that was given still stands; trouble may hide it.
_NOTICED = (INTERRUPTING, DEGRADED, UNREACHABLE)
LOADED = ("offer__datacenter", "project", "template")


def describe(rental: Rental) -> dict[str, Any]:
    """The contract's rental object of one rental."""
    return describe_many([rental])[0]


def describe_many(rentals: Sequence[Rental]) -> list[dict[str, Any]]:
    """The same for rentals of one organization, with as many queries as for one."""
    if not rentals:
        return []
    spent = billing.spent(rental_refs=[rental.id for rental in rentals])
    funds_end_at = None
    if any(rental.state in COMMITTED for rental in rentals):
        funds_end_at = billing.balance(org_ref=rentals[0].organization_id).funds_end_at
    forecasts, places = restart_forecasts(rentals), positions(rentals)
    volumes = mounts.describe(rentals)
    refs = [rental.id for rental in rentals]
    ways = access.ways(rental_refs=refs)
    seen = access.ports_seen(rental_refs=[rental.id for rental in rentals if rental.ports])
    return [
        {
            **_rental(rental, spent.get(rental.id, 0), funds_end_at),
            "access": _access(rental, ways.get(rental.id), seen.get(rental.id)),
            "continuing_charges": continuing_charges(rental, volumes[rental.id]),
            "restart_forecast": forecasts.get(rental.id),
            "queue": places.get(rental.id),
            "volumes": volumes[rental.id],
        }
        for rental in rentals
    ]


def _rental(rental: Rental, spent_micro: int, funds_end_at: datetime | None) -> dict[str, Any]:
    offer = rental.offer
    open_ended = rental.state in COMMITTED
    return {
        "id": rental.public_id,
        "name": rental.name,
        "project": rental.project.public_id if rental.project else None,
        "labels": rental.labels,
        "state": rental.state,
        "state_since": rfc3339(rental.state_since),
        "reason": rental.reason,
        "reason_text": sentence(rental.reason),
        "fault": _fault(rental.reason),
        "desired_state": rental.desired_state,
        "actions": actions_of(rental),
        "lock": rental.locked,
        "failover": rental.failover,
        "idle_stop_minutes": rental.idle_stop_minutes,
        "interruptible": rental.interruptible,
        "interrupt_at": rfc3339(rental.interrupt_at) if rental.state in _NOTICED else None,
        "offer": offer.public_id,
        "quote": public("quote", rental.quote_id) if rental.quote_id else None,
        "accelerator": rental.accelerator,
        "gpus": rental.gpus,
        "disk_gib": rental.disk_gib,
        "region": offer.region,
        "country": offer.country,
        "datacenter": offer.datacenter.public_id,
        "ownership": offer.ownership,
        "template": rental.template.slug if rental.template else None,
        "image": rental.image,
        "secrets": rental.secrets,
        "registry_credentials": (
            public("registry_credential", rental.registry_credential_ref)
            if rental.registry_credential_ref
            else None
        ),
        "price": format_micro(rental.price_micro_h),
        "price_per_gpu_hour": format_micro(rental.price_micro_h // rental.gpus),
        "currency": rental.currency,
        "spent": format_micro(spent_micro),
        "funds_end_at": rfc3339(funds_end_at) if open_ended else None,
        "pull_progress": None,
        "ssh": rental.ssh,
        "ssh_keys": rental.ssh_keys,
        "instance": public("instance", rental.instance_ref) if rental.instance_ref else None,
        "ready_at": rfc3339(rental.ready_at),
        "expires_at": rfc3339(rental.expires_at),
        "contract_ends_at": rfc3339(rental.contract_ends_at),
        "maintenance_at": rfc3339(rental.maintenance_at),
        "stop_ack_at": rfc3339(rental.stop_ack_at),
        "ended_at": rfc3339(rental.ended_at),
        "created_at": rfc3339(rental.created_at),
        "version": rental.version,
    }


def _access(rental: Rental, way: WayIn | None, seen: PortsSeen | None) -> dict[str, Any]:
    """The ways in. By SSH only where it was found open: null until then."""
    ssh = None
    if way is not None and rental.ssh:
        port = "" if way.port == 22 else f"-p {way.port} "
        ssh = {
            "host": way.host,
            "port": way.port,
            "user": rental.public_id,
            "command": f"ssh {port}{rental.public_id}@{way.host}",
            "known_hosts_line": way.known_hosts_line,
            "proven_at": rfc3339(way.proven_at),
        }
    shown = port_views.describe(rental, seen)
    # Without keys of its own too: a member of the organization is known by signing in.
    page = f"{settings.GPUYARD_BASE_URL}/rentals/{rental.public_id}/terminal"
    return {
        "ssh": ssh,
        "ports": shown,
        "jupyter": port_views.jupyter(shown),
        "terminal": {"url": page} if way is not None else None,
    }


def _fault(reason: str) -> str | None:
    return REASONS[reason].fault if reason in REASONS else None


def continuing_charges(rental: Rental, volumes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What goes on costing as long as nobody acts, the rental's volumes among it: per hour, and for
    what. ``volumes``: its mounts as described."""
    metered = rental.state in BILLABLE and not (
        rental.state == DEGRADED and _fault(rental.reason) != RENTER
    )
    items: list[dict[str, Any]] = []
    if metered:
        items.append({"kind": "gpu", "per_hour": format_micro(rental.price_micro_h)})
    items += [
        {"kind": "disk", "volume": mount["volume"], "per_hour": mount["per_hour"]}
        for mount in volumes
        if parse_micro(mount["per_hour"])
    ]
    return {
        "per_hour": format_micro(sum(parse_micro(item["per_hour"]) for item in items)),
        "currency": rental.currency,
        "items": items,
    }


def describe_event(event: RentalEvent) -> dict[str, Any]:
    """One step of the timeline."""
    return {
        "id": public("event", event.id),
        "type": f"rental.{event.state}",
        "seq": event.seq,
        "at": rfc3339(event.at),
        "created_at": rfc3339(event.at),
        "rental": public("rental", event.rental_id),
        "state": event.state,
        "reason": event.reason,
        "fault": _fault(event.reason),
        "actor": event.actor,
        "text": event.text,
        "evidence": event.evidence,
    }


def describe_charge(
    charge: ChargeView, currency: str, size: VolumeMeter | None = None
) -> dict[str, Any]:
    """One usage line: an unbroken rated window inside one clock hour. size: of a volume's."""
    return {
        "id": public("charge", charge.id),
        **_charged(charge, size),
        "seq": charge.seq,
        "from": rfc3339(charge.from_at),
        "to": rfc3339(charge.to_at),
        "seconds": charge.seconds,
        "price_per_hour": format_micro(charge.price_micro_h),
        "amount": format_micro(charge.amount_micro),
        "not_charged": format_micro(charge.overrun_micro),
        "tax": format_micro(charge.tax_micro),
        "currency": currency,
        "transaction": public("transaction", charge.txn_id),
    }


def _charged(charge: ChargeView, size: VolumeMeter | None) -> dict[str, Any]:
    """What was charged: cards of a rental, or a volume at one of its sizes."""
    if size is None:
        rental = public("rental", charge.rental_ref)
        return {
            "kind": "gpu",
            "rental": rental,
            "volume": None,
            "gpus": charge.gpus,
            "size_gib": None,
        }
    volume = public("volume", size.volume_id)
    return {"kind": "disk", "rental": None, "volume": volume, "gpus": 0, "size_gib": size.size_gib}


def describe_evidence(
    charge: ChargeView, evidence: Evidence, size: VolumeMeter | None = None
) -> dict[str, Any]:
    """The observations that justify a charge's seconds. size: of a volume's."""
    charged = _charged(charge, size)
    return {
        "charge": public("charge", charge.id),
        "rental": charged["rental"],
        "volume": charged["volume"],
        "from": rfc3339(charge.from_at),
        "to": rfc3339(charge.to_at),
        "seconds": charge.seconds,
        "instance": public("instance", evidence.instance_id) if evidence.instance_id else None,
        "interval": str(evidence.interval_id),
        "pod_uid": evidence.pod_uid,
        "opened_at": rfc3339(evidence.opened_at),
        "closed_at": rfc3339(evidence.closed_at),
        "close_reason": evidence.close_reason,
        "proof": evidence.proof,
        "observations": [{"at": rfc3339(at), "kind": kind} for at, kind in evidence.observations],
        "gaps": [
            {
                "from": rfc3339(gap.from_at),
                "to": rfc3339(gap.to_at),
                "seconds": int((gap.to_at - gap.from_at).total_seconds()),
                "bridged": gap.bridged,
            }
            for gap in evidence.gaps
        ],
        "unproven_seconds": evidence.unproven_seconds,
    }
