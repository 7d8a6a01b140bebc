"""Change what may be changed while a rental lives: name, labels, end date, lock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kernel.errors import InvalidRequest, Refusal
from kernel.text import clean, rfc3339
from marketplace.accounts import audit
from marketplace.accounts.access import Principal
from marketplace.models import Rental
from marketplace.rentals import notice
from marketplace.rentals.order import end_mistakes, label_mistakes
from marketplace.rentals.state import ENDING, actions_of
from marketplace.rentals.stop import check_version, lock_visible


def change(
    *,
    acting: Principal,
    rental_id: str,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    expires_at: datetime | None = None,
    lock: bool | None = None,
    expected_version: int | None = None,
) -> Rental:
    """Change what is given; joins the caller's transaction.

    Raises NotFound, InvalidRequest, Refusal version_conflict; invalid_transition for a new end
    date of a rental that is ending. Name and labels of ended rentals may still be put in order.
    """
    rental = lock_visible(acting, rental_id)
    check_version(rental, expected_version)
    mistakes = [*end_mistakes(expires_at), *label_mistakes(labels or {})]
    if name is not None and not clean(name, limit=80):
        mistakes.append(("name", "give a name of 1 to 80 characters"))
    if mistakes:
        raise InvalidRequest({field: [message] for field, message in mistakes})
    if expires_at is not None and rental.state in ENDING:
        raise Refusal(
            "invalid_transition",
            f"The rental is {rental.state}: its end date cannot be moved any more.",
            state=rental.state,
            actions=actions_of(rental),
        )
    changed = _apply(rental, name, labels, expires_at, lock)
    if changed:
        rental.version += 1
        rental.save(update_fields=[*changed, "version"])
        audit.record(
            acting=acting,
            action="rental.change",
            object=rental.public_id,
            organization_ref=rental.organization_id,
            details=changed,
        )
    if "expires_at" in changed:
        notice.withdraw(rental, "end_date", text="The end date was moved.")
    return rental


def _apply(
    rental: Rental,
    name: str | None,
    labels: Mapping[str, str] | None,
    expires_at: datetime | None,
    lock: bool | None,
) -> dict[str, Any]:
    """Set the fields that differ; what they are now, for the audit row."""
    changed: dict[str, Any] = {}
    if name is not None and clean(name, limit=80) != rental.name:
        rental.name = changed["name"] = clean(name, limit=80)
    if labels is not None and dict(labels) != rental.labels:
        rental.labels = changed["labels"] = dict(labels)
    if expires_at is not None and expires_at != rental.expires_at:
        rental.expires_at = expires_at
        changed["expires_at"] = rfc3339(expires_at)
    if lock is not None and lock != rental.locked:
        rental.locked = changed["locked"] = lock
    return changed
