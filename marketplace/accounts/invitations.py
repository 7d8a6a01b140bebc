"""Invitations: a place in an organization offered to an e-mail address, by a link in a mail.

The link's proof is derived when the mail is sent (tokens.py) and stored nowhere; it is good once
and for seven days. Nothing here tells whether an address has an account: whoever invites gets the
same answer for every address, and only who has the link is asked to sign in or to sign up.
All calls join the caller's transaction.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import public
from kernel.text import clean
from marketplace.accounts import audit, letters, tokens
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.accounts.join import check_password, check_terms
from marketplace.accounts.phrases import spoken
from marketplace.accounts.team import check_role, require_owner
from marketplace.accounts.vault import check_quota, lock_organization
from marketplace.models import EmailToken, Invitation, Membership, User

_PURPOSE: Final = EmailToken.Purpose.INVITE
VALID_FOR: Final = tokens.VALID_FOR[_PURPOSE]
# Each mails a stranger: a stolen session must not become a way to flood mailboxes.
_PER_DAY: Final = 50
_DAY: Final = timedelta(days=1)


def invite(*, acting: Principal, email: str, role: str) -> Invitation:
    """Offer a place; the mail goes out with the commit.

    InvalidRequest: a member already, an open invitation, a role one may not give. Refusal: no
    owner, email_unverified, account_frozen, quota_exceeded.
    """
    acting.require_verified()
    acting.require_unfrozen()
    lock_organization(acting)
    require_owner(acting)
    check_role(acting, role)
    address = email.lower()
    if Membership.objects.filter(organization=acting.org, user__email=address).exists():
        raise InvalidRequest({"email": ["is a member already"]})
    lately = visible(Invitation, acting).filter(created_at__gt=now() - _DAY)
    check_quota(lately.count(), _PER_DAY, what="invitations of the last 24 hours")
    open_one = _pending(acting).filter(email=address).first()
    if open_one is not None and state_of(open_one, now()) == "open":
        raise InvalidRequest({"email": ["is invited already: send it again, or withdraw it"]})
    if open_one is not None:
        _close(open_one)
    invitation = Invitation.objects.create(
        organization=acting.org,
        email=address,
        role=role,
        invited_by=acting.user,
        expires_at=now() + VALID_FOR,
    )
    _send(invitation, acting)
    _record(acting, "invitation.create", invitation)
    return invitation


def resend(*, acting: Principal, invitation_id: str) -> Invitation:
    """Send it again, good for seven days from now; the earlier link ends. Refusal
    invalid_transition when it was taken or withdrawn."""
    acting.require_verified()
    acting.require_unfrozen()
    lock_organization(acting)
    invitation = _locked(acting, invitation_id)
    require_owner(acting)
    check_role(acting, invitation.role)
    _require_pending(invitation)
    if tokens.ordered_lately(_PURPOSE, str(invitation.id)):
        return invitation  # it is on its way: a second mail in the same minute helps nobody
    invitation.expires_at = now() + VALID_FOR
    invitation.invited_by = acting.user
    invitation.version += 1
    invitation.save(update_fields=["expires_at", "invited_by", "version"])
    _send(invitation, acting)
    _record(acting, "invitation.resend", invitation)
    return invitation


def withdraw(*, acting: Principal, invitation_id: str) -> Invitation:
    """Take it back; repeating that changes nothing. Refusal invalid_transition when taken."""
    lock_organization(acting)
    invitation = _locked(acting, invitation_id)
    require_owner(acting)
    if invitation.withdrawn_at is not None:
        return invitation
    _require_pending(invitation)
    _close(invitation)
    _record(acting, "invitation.withdraw", invitation)
    return invitation


def state_of(invitation: Invitation, at: datetime) -> str:
    """``open``, ``expired``, ``accepted`` or ``withdrawn``."""
    if invitation.accepted_at is not None:
        return "accepted"
    if invitation.withdrawn_at is not None:
        return "withdrawn"
    return "open" if invitation.expires_at > at else "expired"


def waiting(acting: Principal) -> QuerySet[Invitation]:
    """What is neither taken nor withdrawn, newest first."""
    return _pending(acting).select_related("invited_by").order_by("-id")


def behind(token: str) -> Invitation:
    """The open invitation that a link is about, locked; InvalidRequest for a useless link."""
    row = tokens.redeem(token, _PURPOSE)
    found = (
        Invitation.objects.select_for_update(of=("self",))
        .select_related("organization", "invited_by")
        .filter(pk=UUID(row.about), accepted_at=None, withdrawn_at=None, expires_at__gt=AppNow())
        .first()
    )
    if found is None:
        raise tokens.useless()
    return found


def accept(*, acting: Principal, token: str) -> Invitation:
    """Take the place with the account one is signed in with, which must have that address.

    A member already: the invitation ends, their role stays. InvalidRequest: a useless link,
    another address. Refusal: email_unverified.
    """
    invitation = behind(token)
    if acting.user.email.lower() != invitation.email:
        raise InvalidRequest(
            {"token": ["is for another address"]},
            "This invitation was sent to another address than yours. Sign out, and open the link "
            "again with the account that has that address.",
        )
    acting.require_verified()
    _take(invitation, acting.user)
    return invitation


def accept_new(
    *, token: str, name: str, password: str, terms_version: str, language: str = "en"
) -> User:
    """Make an account for the invited address and take the place.

    The link came to that address, so it is proven. language: of the mails to them.
    InvalidRequest: a useless link, other terms, a weak password, an address that has an account.
    """
    invitation = behind(token)
    check_terms(terms_version)
    person = clean(name, limit=120)
    check_password(password, User(email=invitation.email, name=person))
    user = User(
        email=invitation.email,
        password=make_password(password),
        name=person,
        language=language,
        terms_version=settings.TERMS_VERSION,
        terms_accepted_at=now(),
        email_verified_at=now(),
    )
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError as error:
        raise InvalidRequest(
            {"token": ["this address has an account"]},
            "There is an account with this address. Sign in with it, then accept. If you do not "
            "know its password, set a new one.",
        ) from error
    _take(invitation, user)
    return user


def mailed(invitation_id: UUID) -> dict[str, Any]:
    """What the mail says, in the language that is active."""
    rows = Invitation.objects.select_related("organization", "invited_by")
    invitation = rows.get(pk=invitation_id)
    return {"invitation": invitation, "role": spoken(letters.ROLE_NAMES[invitation.role])}


def _take(invitation: Invitation, user: User) -> None:
    invitation.accepted_at = now()
    invitation.version += 1
    invitation.save(update_fields=["accepted_at", "version"])
    tokens.end_about(_PURPOSE, str(invitation.id))
    membership, made = Membership.objects.get_or_create(
        organization=invitation.organization, user=user, defaults={"role": invitation.role}
    )
    details = {"email": user.email, "role": membership.role, "invitation": invitation.public_id}
    audit.record(
        acting=f"user:{public('user', user.id)}",
        action="member.join",
        object=public("user", user.id),
        organization_ref=invitation.organization_id,
        details=details,
    )
    if made:
        facts = {
            "email": user.email,
            "role": letters.ROLE_NAMES[membership.role],
            "organization": invitation.organization.name,
            "by": invitation.invited_by.email,
            "path": "/team",
        }
        letters.tell(
            invitation.organization_id, "member.joined", cause=invitation.public_id, facts=facts
        )


def _pending(acting: Principal) -> QuerySet[Invitation]:
    return visible(Invitation, acting).filter(accepted_at=None, withdrawn_at=None)


def _locked(acting: Principal, invitation_id: str) -> Invitation:
    return get_visible(Invitation.objects.select_for_update(of=("self",)), acting, invitation_id)


def _require_pending(invitation: Invitation) -> None:
    state = state_of(invitation, now())
    if state not in ("open", "expired"):
        raise Refusal(
            "invalid_transition",
            f"This invitation was {state} already. Nothing was done.",
            state=state,
            actions=[],
        )


def _close(invitation: Invitation) -> None:
    invitation.withdrawn_at = now()
    invitation.version += 1
    invitation.save(update_fields=["withdrawn_at", "version"])
    tokens.end_about(_PURPOSE, str(invitation.id))


def _send(invitation: Invitation, acting: Principal) -> None:
    about = str(invitation.id)
    tokens.end_about(_PURPOSE, about)
    tokens.order_notice(acting.user, _PURPOSE, about=about, address=invitation.email)


def _record(acting: Principal, action: str, invitation: Invitation) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=invitation.public_id,
        organization_ref=acting.org.id,
        details={"email": invitation.email, "role": invitation.role},
    )
