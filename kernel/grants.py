"""Grants: permission to do one thing with one object for a minute, signed and not stored.

Whoever checks rights signs, whoever serves verifies, and neither asks the other: a process without
a single table of the askers can serve what it was shown a grant for. Limits: a grant cannot be
taken back, which is why it lives so short, and it may be shown more than once while it lives.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from uuid import UUID

# Time to connect, not to stay. Shorter loses people on slow lines and clocks that drift by
# seconds; longer lets a copied address live on after its owner's rights ended.
GRANT_SECONDS = 60
_LONGEST = 512


class BadGrant(Exception):
    """Not ours, changed, expired or for another verb; the message says which, for people."""


@dataclass(frozen=True)
class Grant:
    """verb: what may be done, e.g. ``"logs.follow"``; subject: to what; owner: for whom; user: by
    whom, where that matters. until: of one that was verified, when it ends (Unix seconds)."""

    verb: str
    subject: UUID
    owner: UUID
    user: UUID | None = None
    until: int = field(default=0, compare=False)


def derive(secret: str) -> bytes:
    """The signing key, of its own kind, so that no other use of ``secret`` makes valid grants."""
    return hmac.digest(secret.encode(), b"gpuyard grants 1", hashlib.sha256)


def sign(grant: Grant, *, key: bytes, now: float) -> str:
    """``grant`` as text for an address, good until GRANT_SECONDS after ``now`` (Unix seconds)."""
    claims = [grant.verb, grant.subject.hex, grant.owner.hex, int(now) + GRANT_SECONDS]
    # Only where there is one, so that a process of the version before reads all others.
    claims += [grant.user.hex] if grant.user else []
    body = _encoded(json.dumps(claims, separators=(",", ":")).encode())
    return f"{body}.{_signature(body, key)}"


def verify(text: str, *, verb: str, key: bytes, now: float) -> Grant:
    """The grant in ``text`` if it is ours, alive and for ``verb``; raises BadGrant.

    Nothing of the text is read before its signature holds.
    """
    body, _, signature = text.partition(".")
    if len(text) > _LONGEST or not text.isascii():
        raise BadGrant("This address was not made by us.")
    if not hmac.compare_digest(signature, _signature(body, key)):
        raise BadGrant("This address was not made by us, or it was changed.")
    try:
        signed_verb, subject, owner, until, *user = json.loads(_decoded(body))
    except (ValueError, binascii.Error) as error:
        raise BadGrant("This address is of another version of the platform.") from error
    # The upper bound is against a signer whose clock is far ahead: its grants would outlive it.
    if not now <= until <= now + 2 * GRANT_SECONDS:
        raise BadGrant("This address has expired. Ask for a new one.")
    if signed_verb != verb:
        raise BadGrant("This address is for something else.")
    by = UUID(hex=user[0]) if user else None
    return Grant(signed_verb, UUID(hex=subject), UUID(hex=owner), by, until)


def _signature(body: str, key: bytes) -> str:
    return _encoded(hmac.digest(key, body.encode(), hashlib.sha256))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
