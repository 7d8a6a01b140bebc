"""The token with which the reporter in an instance's pod proves whose figures it sends.

``gy_rep_<instance>_<secret>``: the secret is derived from the sealing key and the instance's id
(HMAC-SHA-256, 256 bits), so it is stored nowhere and a create that is repeated after a crash makes
the very same one. A database that leaks holds nothing to forge it from; its end is that of the
instance, whose row is looked at with every report.

Limit: the tenant is root in the pod and can read it. It is good for that instance's figures and
for nothing else, which is why those figures never decide about money.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from uuid import UUID

from kernel.ids import BadId, parse, public

PREFIX = "gy_rep_"
# The key also wraps data keys: what is derived from it for another purpose says for which.
_PURPOSE = b"gpuyard instance report\0"


def token_of(instance_id: UUID, *, key: bytes) -> str:
    """The token of this instance."""
    identifier = public("instance", instance_id).removeprefix("ins_")
    return f"{PREFIX}{identifier}_{_secret(instance_id, key)}"


def instance_of(token: str, *, key: bytes) -> UUID | None:
    """The instance whose token this is; None for anything else. Whether that instance is still
    there is the caller's question."""
    body = token.removeprefix(PREFIX)
    identifier, _, secret = body.partition("_")
    if body == token or not secret.isascii():
        return None
    try:
        instance_id = parse("instance", f"ins_{identifier}")
    except BadId:
        return None
    return instance_id if hmac.compare_digest(_secret(instance_id, key), secret) else None


def _secret(instance_id: UUID, key: bytes) -> str:
    digest = hmac.new(key, _PURPOSE + instance_id.bytes, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
