"""Where stored values are still in use: what a deletion says about pods that keep their copy."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from kernel.ids import public
from marketplace.accounts import registry_credentials, secrets
from marketplace.accounts.access import Principal, visible
from marketplace.models import RegistryCredential, Rental, Secret, Template


@dataclass(frozen=True)
class Forgotten:
    """What was deleted, and who had been given it: ids of live rentals and of templates."""

    id: str
    live_rentals: list[str]
    templates: list[str]


def forget_secret(
    *, acting: Principal, secret_id: str, expected_version: int | None = None
) -> Forgotten:
    """Delete a secret; joins the caller's transaction. Raises NotFound, version_conflict."""
    secret: Secret = secrets.delete_secret(
        acting=acting, secret_id=secret_id, expected_version=expected_version
    )
    # An organization's open rentals are few, and a partial index finds them.
    live = _live(acting).exclude(secrets={}).values_list("id", "secrets")
    return Forgotten(
        id=secret.public_id,
        live_rentals=[
            public("rental", rental_id)
            for rental_id, used in live
            if secret.public_id in used.values()
        ],
        templates=[],
    )


def forget_credential(
    *, acting: Principal, credential_id: str, expected_version: int | None = None
) -> Forgotten:
    """Delete a registry credential; joins the caller's transaction. NotFound, version_conflict."""
    named = visible(Template, acting).filter(active=True)
    rows = named.filter(registry_credential__isnull=False).values_list(
        "slug", "registry_credential_id"
    )
    templates = list(rows)  # looked at first: the deletion takes the name out of them
    credential: RegistryCredential = registry_credentials.delete_credential(
        acting=acting, credential_id=credential_id, expected_version=expected_version
    )
    live = _live(acting).filter(registry_credential_ref=credential.id)
    return Forgotten(
        id=credential.public_id,
        live_rentals=[public("rental", found) for found in live.values_list("id", flat=True)],
        templates=[slug for slug, used in templates if used == credential.id],
    )


def _live(acting: Principal) -> QuerySet[Rental]:
    return visible(Rental, acting).filter(ended_at=None).order_by("id")
