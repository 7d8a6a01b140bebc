"""API keys: made, checked at every request, revoked.

A key reads ``gy_live_<id>_<secret>``: the id finds the row, the secret (32 random bytes) proves
the holder and is stored as its SHA-256 only. Nothing is cached, so a revoked key is dead with the
next request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import F, Q, QuerySet

from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest
from kernel.ids import BadId, parse
from marketplace.accounts import audit, letters
from marketplace.accounts.access import SCOPES, Principal, get_visible, scopes_of, visible
from marketplace.accounts.phrases import phrase
from marketplace.models import ApiKey, Membership, User

PREFIX = "gy_live_"
# Writing last_used_at with every request would turn each read into a write.
_USED_EVERY = timedelta(minutes=1)
_LIVE_LIMIT = 100


@dataclass(frozen=True)
class NewKey:
    """A fresh key with its secret, which exists nowhere else."""

    key: ApiKey
    secret: str


def create_key(
    *, acting: Principal, name: str, scopes: Sequence[str], expires_at: datetime | None
) -> NewKey:
    """Make a key for the acting person's organization; joins the caller's transaction.

    InvalidRequest: unknown scopes, more rights than the maker has, an end in the past.
    """
    wanted = sorted(set(scopes))
    problems = [f'there is no scope "{scope}"' for scope in wanted if scope not in SCOPES]
    problems += [
        f'you do not have the scope "{scope}" yourself'
        for scope in wanted
        if scope in SCOPES and scope not in acting.scopes
    ]
    if not wanted:
        problems.append("at least one scope")
    if problems:
        raise InvalidRequest({"scopes": problems})
    present = now()
    if expires_at is not None and expires_at <= present:
        raise InvalidRequest({"expires_at": ["must lie in the future"]})
    if _live(acting).count() >= _LIVE_LIMIT:
        raise InvalidRequest({"name": [f"there are {_LIVE_LIMIT} live keys: revoke some first"]})
    token = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    key = ApiKey.objects.create(
        organization=acting.organization,
        created_by=acting.user,
        name=name,
        secret_hash=_hash(token),
        scopes=wanted,
        expires_at=expires_at,
    )
    audit.record(
        acting=acting,
        action="api_key.create",
        object=key.public_id,
        organization_ref=acting.owner_ref,
        details={"name": name, "scopes": wanted},
    )
    if acting.organization is not None:
        letters.tell(
            acting.organization.id,
            "api_key.created",
            cause=key.public_id,
            facts={
                "name": name,
                "at": letters.moment(present),
                "by": acting.user.email,
                "scopes": ", ".join(wanted),
                "ends": letters.moment(expires_at) if expires_at else phrase("never"),
                "path": "/api-keys",
            },
            also=[acting.user.id],
        )
    identifier = key.public_id.removeprefix("key_")
    return NewKey(key=key, secret=f"{PREFIX}{identifier}_{token}")


def revoke_key(*, acting: Principal, key_id: str) -> ApiKey:
    """End a key at once; repeating it changes nothing. Joins the caller's transaction."""
    key = get_visible(ApiKey.objects.select_for_update(of=("self",)), acting, key_id)
    if key.revoked_at is None:
        key.revoked_at = now()
        key.version += 1
        key.save(update_fields=["revoked_at", "version"])
        audit.record(
            acting=acting,
            action="api_key.revoke",
            object=key.public_id,
            organization_ref=acting.owner_ref,
        )
    return key


def revoke_all(*, user: User, organization_id: UUID) -> int:
    """End every key that a person made for an organization they are no member of any more; how
    many. Joins the caller's transaction, which says so in its own audit row."""
    live = ApiKey.objects.filter(created_by=user, organization_id=organization_id, revoked_at=None)
    return live.update(revoked_at=now(), version=F("version") + 1)


def live_of(*, user: User, organization_id: UUID) -> int:
    """How many keys would end if the person were no member any more."""
    live = Q(expires_at=None) | Q(expires_at__gt=AppNow())
    made = ApiKey.objects.filter(live, created_by=user, organization_id=organization_id)
    return made.filter(revoked_at=None).count()


def state_of(key: ApiKey) -> str:
    """``active``, ``expired`` or ``revoked``."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now() else "active"


def authenticate(token: str) -> Principal | None:
    """The principal behind a bearer token; None for anything that is no live key."""
    body = token.removeprefix(PREFIX)
    identifier, _, secret = body.partition("_")
    if body == token or not secret or not secret.isascii():
        return None
    try:
        key_id = parse("api_key", f"key_{identifier}")
    except BadId:
        return None
    key = (
        ApiKey.objects.select_related("created_by", "organization")
        .annotate(present=AppNow())
        .filter(pk=key_id)
        .first()
    )
    if key is None or not hmac.compare_digest(bytes(key.secret_hash), _hash(secret)):
        return None
    present: datetime = key.present
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= present):
        return None
    scopes = _scopes(key)
    if scopes is None:
        return None
    if key.last_used_at is None or key.last_used_at < present - _USED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=present)
    return Principal(user=key.created_by, organization=key.organization, scopes=scopes, key=key)


def _scopes(key: ApiKey) -> frozenset[str] | None:
    """What it may do now: a key never outlives the rights of the person who made it. None when the
    person is gone, or belongs to its organization no more."""
    user, membership = key.created_by, None
    if not user.is_active:
        return None
    if key.organization_id is not None:
        membership = Membership.objects.filter(
            user=user, organization_id=key.organization_id
        ).first()
        if membership is None:
            return None
    return frozenset(key.scopes) & scopes_of(user, membership)


def _live(acting: Principal) -> QuerySet[ApiKey]:
    return visible(ApiKey, acting).filter(
        Q(expires_at=None) | Q(expires_at__gt=AppNow()), revoked_at=None
    )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
