"""``manage.py unknown``: pods and Stripe objects with our name on them that we do not know."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from billing import facade as billing
from kernel.ids import public
from kernel.money import format_micro, from_minor
from provisioner import facade as provisioner


class Command(BaseCommand):
    """Reads only. Nothing listed here is ever deleted, credited or charged by the platform."""

    help = "List unknown pods and unknown objects at Stripe, as after a restore of the database."

    def handle(self, *args: Any, **options: Any) -> None:
        pods, objects = provisioner.unknown_pods(), billing.unknown_objects()
        for pod in pods:
            self.stdout.write(
                f"pod {pod.namespace}/{pod.name} in {pod.cluster}"
                f" ({public('cluster', pod.cluster_id)}): uid {pod.uid}, claims {pod.label};"
                f" seen {pod.first_seen_at} to {pod.last_seen_at}"
            )
        for found in objects:
            minor = found.amount_minor
            amount = "-" if minor is None else format_micro(from_minor(minor), places=2)
            self.stdout.write(
                f"stripe {found.type} {found.stripe_id}: {found.status}, {amount}"
                f" {found.currency}, customer {found.customer or '-'}, claims {found.names}"
                f" {found.claimed_ref}; seen {found.first_seen_at} to {found.last_seen_at}"
            )
        self.stdout.write(f"{len(pods)} unknown pods, {len(objects)} unknown objects at Stripe")
