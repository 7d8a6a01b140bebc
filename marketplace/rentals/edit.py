"""Change what may be changed while a rental lives: name, labels, ways in, end, idle stop, lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final

from kernel.errors import InvalidRequest, Refusal
from kernel.text import clean, rfc3339
from marketplace.accounts import audit
from marketplace.accounts.access import Principal
from marketplace.accounts.ports import Given
from marketplace.accounts.ssh_keys import MAX_GIVEN, lines_of
from marketplace.models import Rental
from marketplace.rentals import notice, ports, tenure
from marketplace.rentals.order import end_mistakes, idle_mistakes, label_mistakes
from marketplace.rentals.ssh_keys import give
from marketplace.rentals.state import ENDING, actions_of
from marketplace.rentals.stop import check_version, lock_visible


class Unset(Enum):
    """Not given, where None has a meaning of its own."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


def change(
    *,
    acting: Principal,
    rental_id: str,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    expires_at: datetime | None = None,
    idle_stop_minutes: int | Unset | None = UNSET,
    lock: bool | None = None,
    keys: Sequence[str] | None = None,
    given_ports: Sequence[Given] | None = None,
    expected_version: int | None = None,
) -> Rental:
    """Change what is given; joins the caller's transaction. idle_stop_minutes None: never.
    keys: ids or public key lines that open it from now on, instead of those before; given_ports:
    ports that have names from now on, likewise.

    Raises NotFound, InvalidRequest, Refusal version_conflict, ssh_key_invalid; invalid_transition
    for a new end date, keys or ports of a rental that is ending. Name and labels of ended rentals
    may still be put in order.
    """
    # Before the rental, as whoever deletes a key does.
    lines = None if keys is None else lines_of(acting, keys[: MAX_GIVEN + 1], locked=True)
    rental = lock_visible(acting, rental_id)
    check_version(rental, expected_version)
    idle = rental.idle_stop_minutes if isinstance(idle_stop_minutes, Unset) else idle_stop_minutes
    mistakes = [*end_mistakes(expires_at), *tenure.mistakes(rental, expires_at)]
    mistakes += [*label_mistakes(labels or {}), *idle_mistakes(idle)]
    if name is not None and not clean(name, limit=80):
        mistakes.append(("name", "give a name of 1 to 80 characters"))
    if keys is not None and len(keys) > MAX_GIVEN:
        mistakes.append(("ssh_keys", f"at most {MAX_GIVEN} keys"))
    if given_ports is not None:
        mistakes += ports.change_mistakes(rental, given_ports)
    if mistakes:
        raise InvalidRequest({field: [message] for field, message in mistakes})
    _check_living(rental, end=expires_at is not None, way=(keys, given_ports) != (None, None))
    changed = _apply(rental, name, labels, expires_at, lock)
    if idle != rental.idle_stop_minutes:
        rental.idle_stop_minutes = changed["idle_stop_minutes"] = idle
    saved = list(changed)
    if lines is not None and list(lines) != rental.ssh_keys:
        give(rental, lines)
        saved += ["ssh_keys", "ssh"]
        changed["ssh_keys"] = len(lines)
    if given_ports is not None and ports.give(rental, given_ports):
        saved.append("ports")
        changed["ports"] = rental.ports
    if changed:
        rental.version += 1
        rental.save(update_fields=[*saved, "version"])
        audit.record(
            acting=acting,
            action="rental.change",
            object=rental.public_id,
            organization_ref=rental.organization_id,
            details=changed,
        )
    if "expires_at" in changed:
        notice.withdraw(rental, "end_date", text="The end date was moved.")
    if "idle_stop_minutes" in changed:
        notice.withdraw(rental, "idle", text="Its idle stop was changed.")
    return rental


def _check_living(rental: Rental, *, end: bool, way: bool) -> None:
    """Refuse a new end date, or another way in, of a rental that is ending."""
    if rental.state not in ENDING or not (end or way):
        return
    what = "its end date cannot be moved" if end else "nobody can come in"
    raise Refusal(
        "invalid_transition",
        f"The rental is {rental.state}: {what} any more.",
        state=rental.state,
        actions=actions_of(rental),
    )


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
