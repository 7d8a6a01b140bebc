"""Secrets at rest: AES-256-GCM under a data key that a key outside the database wraps.

The associated data names owner and field, so a ciphertext moved to another row does not open.
Layout: version byte, 12-byte wrap nonce, wrapped data key (48), 12-byte nonce, ciphertext + tag.
"""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_WRAP = b"gpuyard data key"


class CannotOpen(Exception):
    """Wrong key, wrong owner or field, or a changed ciphertext."""


def parse_key(text: str) -> bytes:
    """A 32-byte key from its base64 text; raises ValueError when it is anything else."""
    key = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
    if len(key) != 32:
        raise ValueError("the sealing key must be 32 bytes in base64")
    return key


def seal(plaintext: bytes, *, key: bytes, owner: str, field: str) -> bytes:
    """Encrypt ``plaintext`` so that it opens only as ``field`` of ``owner`` under ``key``."""
    data_key = AESGCM.generate_key(256)
    wrap_nonce, nonce = os.urandom(12), os.urandom(12)
    wrapped = AESGCM(key).encrypt(wrap_nonce, data_key, _WRAP)
    body = AESGCM(data_key).encrypt(nonce, plaintext, f"{owner}/{field}".encode())
    return _VERSION + wrap_nonce + wrapped + nonce + body


def unseal(sealed: bytes, *, key: bytes, owner: str, field: str) -> bytes:
    """The plaintext; raises CannotOpen."""
    sealed = bytes(sealed)
    if sealed[:1] != _VERSION or len(sealed) < 1 + 12 + 48 + 12 + 16:
        raise CannotOpen("not a sealed value")
    wrap_nonce, wrapped, nonce = sealed[1:13], sealed[13:61], sealed[61:73]
    try:
        data_key = AESGCM(key).decrypt(wrap_nonce, wrapped, _WRAP)
        return AESGCM(data_key).decrypt(nonce, sealed[73:], f"{owner}/{field}".encode())
    except InvalidTag as error:
        raise CannotOpen("wrong key, owner or field, or a changed value") from error
