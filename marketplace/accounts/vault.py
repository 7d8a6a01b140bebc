"""How stored values are sealed and limited: what secrets and registry credentials share.

The associated data of each ciphertext names organization, row and field, so a value moved to
another row, or to another organization's, does not open there.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.conf import settings

from kernel import sealed
from kernel.errors import InvalidRequest, Refusal
from marketplace.accounts.access import Principal
from marketplace.models import Organization

# Together with others it becomes one Secret of the pod; the API server refuses above 1 MiB.
MAX_VALUE: Final = 32 * 1024


def seal(value: str, *, organization_id: UUID, row_id: UUID, field: str) -> bytes:
    """``value`` so that it opens only as this field of this row of this organization."""
    key = settings.GPUYARD_SEALING_KEY
    return sealed.seal(value.encode(), key=key, owner=_owner(organization_id, row_id), field=field)


def unseal(value: bytes | memoryview, *, organization_id: UUID, row_id: UUID, field: str) -> str:
    """The value in clear, for the pod's order or the registry; raises sealed.CannotOpen."""
    key = settings.GPUYARD_SEALING_KEY
    owner = _owner(organization_id, row_id)
    plain = sealed.unseal(bytes(value), key=key, owner=owner, field=field)
    return plain.decode()


def check_value(value: str, *, field: str) -> None:
    """Raise InvalidRequest for a value that is empty or too large."""
    if not value:
        raise InvalidRequest({field: ["must not be empty"]})
    if len(value.encode()) > MAX_VALUE:
        raise InvalidRequest({field: [f"at most {MAX_VALUE // 1024} KiB"]})


def lock_organization(acting: Principal) -> None:
    """Let one at a time add to a limited collection, or two could pass its limit together."""
    # no_key: rows that point to the organization may be inserted meanwhile.
    Organization.objects.select_for_update(no_key=True).get(id=acting.org.id)


def check_quota(count: int, limit: int, *, what: str) -> None:
    """Raise Refusal quota_exceeded when there are ``limit`` already."""
    if count >= limit:
        raise Refusal(
            "quota_exceeded",
            f"Your organization has {count} {what}, which is as many as it may. Nothing was "
            "stored. Delete some that you do not need any more.",
            limit=limit,
            needed=count + 1,
        )


def check_version(version: int, expected: int | None) -> None:
    """Raise version_conflict (412) when If-Match named another version."""
    if expected is not None and expected != version:
        raise Refusal(
            "version_conflict",
            "It changed since you read it. Nothing was done. Read it again and decide.",
            version=version,
        )


def _owner(organization_id: UUID, row_id: UUID) -> str:
    return f"{organization_id}/{row_id}"
