"""Who belongs to an organization: roles changed, people removed, leaving.

Only owners decide about others, and nobody gives what they have not: a key gives roles whose
scopes it has itself. An organization always keeps an owner. All calls join the caller's transaction
and hold the organization's row, so two owners cannot remove each other at the same moment.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import BadId, parse, public
from marketplace.accounts import audit, keys, letters, tokens
from marketplace.accounts.access import ROLE_SCOPES, Principal, visible
from marketplace.accounts.phrases import Said
from marketplace.accounts.vault import lock_organization
from marketplace.models import EmailToken, Invitation, Membership

_OWNER = Membership.Role.OWNER


def first_members(org_refs: Collection[UUID]) -> dict[UUID, str]:
    """By organization, the address of whoever belongs to it longest, for staff. One query."""
    rows = Membership.objects.filter(organization__in=org_refs).order_by("organization_id", "id")
    first = rows.distinct("organization_id")
    return dict(first.values_list("organization_id", "user__email"))


def require_owner(acting: Principal) -> None:
    """Refuse whoever is no owner of the organization acted for."""
    mine = Membership.objects.filter(user=acting.user, organization=acting.org, role=_OWNER)
    if not mine.exists():
        raise Refusal(
            "insufficient_scope",
            "Only owners of the organization decide who belongs to it. Ask one of them.",
            scope="account:write",
        )


def check_role(acting: Principal, role: str) -> None:
    """InvalidRequest for an unknown role, or one that may do more than who gives it."""
    if role not in ROLE_SCOPES:
        raise InvalidRequest({"role": [f"one of {', '.join(ROLE_SCOPES)}"]})
    beyond = sorted(ROLE_SCOPES[role] - acting.scopes)
    if beyond:
        raise InvalidRequest(
            {"role": [f"may do more than you here: {', '.join(beyond)}. Use a key with these."]}
        )


def change_role(*, acting: Principal, user_id: str, role: str) -> Membership:
    """Another role for a member; the same again changes nothing.

    NotFound; InvalidRequest for a role one may not give; Refusal for who is no owner, and
    invalid_transition for the last owner.
    """
    lock_organization(acting)
    membership = _member(acting, user_id)
    require_owner(acting)
    check_role(acting, role)
    before = membership.role
    if before == role:
        return membership
    if before == _OWNER:
        _keep_an_owner(membership)
        _withdraw_theirs(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    audit.record(
        acting=acting,
        action="member.change",
        object=public("user", membership.user_id),
        organization_ref=acting.org.id,
        details={"email": membership.user.email, "from": before, "to": role},
    )
    _tell(
        acting,
        membership,
        "member.changed",
        before=letters.ROLE_NAMES[before],
        role=letters.ROLE_NAMES[role],
    )
    return membership


def remove(*, acting: Principal, user_id: str) -> None:
    """Take a member out, or leave. Their keys for the organization end, and what they offered.

    What belongs to the organization stays: rentals, SSH keys, secrets, volumes. NotFound; Refusal
    for who is no owner and not the member, and invalid_transition for the last owner.
    """
    lock_organization(acting)
    membership = _member(acting, user_id)
    leaves = membership.user_id == acting.user.id
    if not leaves:
        require_owner(acting)
    if membership.role == _OWNER:
        _keep_an_owner(membership)
    _withdraw_theirs(membership)
    ended = keys.revoke_all(user=membership.user, organization_id=acting.org.id)
    audit.record(
        acting=acting,
        action="member.leave" if leaves else "member.remove",
        object=public("user", membership.user_id),
        organization_ref=acting.org.id,
        details={"email": membership.user.email, "role": membership.role, "keys_revoked": ended},
    )
    _tell(acting, membership, "member.removed", left=leaves)
    membership.delete()


def _member(acting: Principal, user_id: str) -> Membership:
    try:
        identifier = parse("user", user_id)
    except BadId as error:
        raise NotFound("member") from error
    found = visible(Membership.objects.select_related("user"), acting).filter(user_id=identifier)
    membership = found.first()
    if membership is None:
        raise NotFound("member")
    return membership


def _keep_an_owner(membership: Membership) -> None:
    others = Membership.objects.filter(
        organization=membership.organization_id, role=_OWNER, user__is_active=True
    ).exclude(pk=membership.pk)
    if not others.exists():
        raise Refusal(
            "invalid_transition",
            "This is the organization's last owner. Nothing was changed. Make somebody else an "
            "owner first.",
            state=_OWNER.value,
            actions=[],
        )


def _withdraw_theirs(membership: Membership) -> None:
    """An owner no more has nothing to give: what they offered and nobody took ends with it."""
    offered = Invitation.objects.filter(
        organization=membership.organization_id,
        invited_by=membership.user_id,
        accepted_at=None,
        withdrawn_at=None,
    )
    for invitation in offered.select_for_update():
        invitation.withdrawn_at = now()
        invitation.version += 1
        invitation.save(update_fields=["withdrawn_at", "version"])
        tokens.end_about(EmailToken.Purpose.INVITE, str(invitation.id))


def _tell(acting: Principal, membership: Membership, event: str, **facts: Said) -> None:
    """The owners, and the person, who may be no member by the time it is sent."""
    told = {
        "email": membership.user.email,
        "by": acting.user.email,
        "organization": acting.org.name,
        "path": "/team",
        **facts,
    }
    letters.tell(acting.org.id, event, cause=f"{membership.id}:{now().isoformat()}", facts=told)
    if membership.role != _OWNER or event == "member.removed":
        letters.tell_person(membership.user, event, facts=told)
