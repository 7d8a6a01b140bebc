"""Looking as an organization: staff see its pages as its people do, and change nothing.

A look is a row: it names who, why and until when, ends by itself, and stands in the organization's
own audit log at both ends, where its people read it. It lives in one session of the portal and
never in a key. What may be seen is decided in http/seeing.py; here is that nothing may be changed:
the principal of a look has the scopes to read and no other, and is no staff while it lasts.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest
from kernel.text import clean
from marketplace.accounts import audit
from marketplace.accounts.access import READS, STAFF, Principal, find, lacks_factor, staff_actor
from marketplace.models import Look, Organization, User

# Enough to see what somebody describes on the phone. Longer, and it is forgotten in a tab.
LONGEST: Final = timedelta(minutes=30)
_BATCH: Final = 500
PLATFORM: Final = "platform"


def begin(*, acting: Principal, organization_id: str, reason: str) -> Look:
    """Begin to look, which ends what this person looked at before; joins the caller's transaction.

    Raises InvalidRequest without a reason, NotFound.
    """
    acting.require(STAFF)
    said = clean(reason, limit=300)
    if not said:
        raise InvalidRequest({"reason": ["say why: its people read it in their audit log"]})
    organization = find(Organization.objects.all(), organization_id)
    # Two looks of one person at once would be two answers to "who is this session".
    User.objects.select_for_update(no_key=True).get(pk=acting.user.pk)
    for before in _open().filter(user=acting.user):
        _close(before, by=staff_actor(acting.user))
    look = Look.objects.create(
        organization=organization, user=acting.user, reason=said, until=now() + LONGEST
    )
    audit.record(
        acting=acting,
        action="organization.look_begin",
        object=organization.public_id,
        organization_ref=organization.id,
        details={"reason": said, "until": look.until.isoformat()},
    )
    return look


def end(*, user: User, look_id: UUID) -> None:
    """End a look of this person; one that is over already stays as it is. Joins the caller's
    transaction."""
    look = _open().select_for_update(of=("self",)).filter(pk=look_id, user=user).first()
    if look is not None:
        _close(look, by=staff_actor(user))


def current(user: User, look_id: UUID) -> Look | None:
    """The look while it lasts: it is this person's, who is still of the staff."""
    if not user.is_staff or lacks_factor(user):
        return None
    return _open().filter(pk=look_id, user=user, until__gt=AppNow()).first()


def principal_in(look: Look) -> Principal:
    """Who looks, seen from the organization: with its eyes and without hands."""
    return Principal(
        user=look.user,
        organization=look.organization,
        scopes=READS,
        seen_by=staff_actor(look.user),
    )


def latest(user: User) -> Look | None:
    """The one that this person has open."""
    return _open().filter(user=user, until__gt=AppNow()).first()


def sweep() -> int:
    """Close those whose time is over; how many. A session ends its look by itself at that moment:
    this is for the audit log."""
    with transaction.atomic(durable=True):
        over = _open().select_for_update(of=("self",), skip_locked=True).filter(until__lte=AppNow())
        found = list(over.order_by("id")[:_BATCH])
        for look in found:
            _close(look, by=PLATFORM)
    return len(found)


def _open() -> QuerySet[Look]:
    return Look.objects.select_related("organization", "user").filter(ended_at__isnull=True)


def _close(look: Look, *, by: str) -> None:
    look.ended_at = now()
    look.save(update_fields=["ended_at"])
    audit.record(
        acting=by,
        action="organization.look_end",
        object=look.organization.public_id,
        organization_ref=look.organization_id,
        details={"by": staff_actor(look.user), "began_at": look.began_at.isoformat()},
    )
