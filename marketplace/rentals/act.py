"""One door for the contract's actions on a rental."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from kernel.errors import InvalidRequest
from marketplace.accounts.access import Principal
from marketplace.models import Rental
from marketplace.rentals import again, stop


@dataclass(frozen=True)
class Asked:
    """An action with what belongs to it: an end for extend, a queue for start and retry."""

    action: str
    expires_at: datetime | None = None
    hours: Decimal | None = None
    queue_seconds: int | None = None

    def mistakes(self) -> dict[str, list[str]]:
        """What was given with an action that has no use for it."""
        found = {}
        if self.action != "extend":
            for name in ("expires_at", "hours"):
                if getattr(self, name) is not None:
                    found[name] = ["only extend takes it"]
        if self.action not in ("start", "retry") and self.queue_seconds is not None:
            found["queue"] = ["only start and retry take it"]
        return found


def act(
    *, acting: Principal, rental_id: str, asked: Asked, expected_version: int | None = None
) -> Rental:
    """Carry it out; joins the caller's transaction.

    Raises NotFound, InvalidRequest, Refusal invalid_transition, version_conflict, locked, and for
    start and retry those of renting.
    """
    mistakes = asked.mistakes()
    if mistakes:
        raise InvalidRequest(mistakes)
    if asked.action == "terminate":
        return stop.terminate(acting=acting, rental_id=rental_id, expected_version=expected_version)
    if asked.action == "stop":
        return stop.stop(acting=acting, rental_id=rental_id, expected_version=expected_version)
    if asked.action == "restart":
        return again.restart(acting=acting, rental_id=rental_id, expected_version=expected_version)
    if asked.action == "extend":
        return again.extend(
            acting=acting,
            rental_id=rental_id,
            expires_at=asked.expires_at,
            hours=asked.hours,
            expected_version=expected_version,
        )
    return again.start(
        acting=acting,
        rental_id=rental_id,
        action=asked.action,
        queue_seconds=asked.queue_seconds,
        expected_version=expected_version,
    )
