"""Secrets and signatures. Pure, but for the randomness of a new secret.

``Gpuyard-Signature: t=<unix>,v1=<hex>``: HMAC-SHA256 under the secret's text over the time, a dot
and the body's bytes. While a secret is being changed there are two ``v1``, the new one first.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

HEADER: Final = "Gpuyard-Signature"
PREFIX: Final = "whsec_"


def new_secret() -> str:
    """32 random bytes as text; the text itself, prefix included, is the key of the HMAC."""
    random = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return f"{PREFIX}{random}"


def sign(body: bytes, *, at: int, keys: Sequence[str]) -> str:
    """The header's value for a body sent at Unix second ``at``."""
    message = str(at).encode() + b"." + body
    made = [hmac.new(key.encode(), message, hashlib.sha256).hexdigest() for key in keys]
    return ",".join([f"t={at}", *(f"v1={value}" for value in made)])
