"""The door to what makes devices one kind."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from provisioner.contracts.homogeneity import Certificate
from provisioner.inventory import homogeneity as _homogeneity
from provisioner.models import DeviceGroup


def fingerprint(group: DeviceGroup) -> str:
    """Of a loaded group: equal for groups that a renter could not tell apart, in any cluster."""
    return _homogeneity.fingerprint(group)


def certificate(*, rental_refs: Sequence[UUID]) -> Certificate:
    """Whether the machines of these rentals, each the latest, are all of one kind."""
    return _homogeneity.certificate(rental_refs)
