"""Keys and tokens of the way in, each made from the sealing key and what it is for.

Stored nowhere: a create that is repeated after a crash and a second gateway process make the very
same ones, and a database that leaks holds nothing to open a door with. One key per purpose
(HMAC-SHA-256 as the seed of an Ed25519 key, RFC 8032), so none is worth anything elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

_HOST, _GATEWAY, _PUBLISHED, _PROBE, _RELAY, _TOKEN, _TERMINAL = (
    b"gpuyard pod host\0",
    b"gpuyard pod gateway\0",
    b"gpuyard gateway host\0",
    b"gpuyard proof\0",
    b"gpuyard relay\0",
    b"gpuyard port token\0",
    b"gpuyard terminal\0",
)


def host_key(instance_id: UUID, *, key: bytes) -> Ed25519PrivateKey:
    """What a pod's SSH server shows to the gateway."""
    return _made(_HOST + instance_id.bytes, key)


def gateway_key(instance_id: UUID, *, key: bytes) -> Ed25519PrivateKey:
    """What the gateway proves itself with to this pod, which trusts nothing else."""
    return _made(_GATEWAY + instance_id.bytes, key)


def published_key(*, key: bytes) -> Ed25519PrivateKey:
    """The gateway's own host key: what renters and relays see, the same in each process."""
    return _made(_PUBLISHED, key)


def probe_key(instance_id: UUID, *, key: bytes) -> Ed25519PrivateKey:
    """What the platform comes in with as a renter would, to prove that the way in is open."""
    return _made(_PROBE + instance_id.bytes, key)


def terminal_key(instance_id: UUID, user_ref: UUID, *, key: bytes) -> Ed25519PrivateKey:
    """What the portal's terminal comes in with for this member, and into this machine alone."""
    return _made(_TERMINAL + instance_id.bytes + user_ref.bytes, key)


def relay_seed(cluster_id: UUID, version: int, *, key: bytes) -> str:
    """What a provider puts into the Secret of the relay: 32 bytes in base64."""
    return base64.b64encode(_seed(_relay(cluster_id, version), key)).decode()


def relay_key(cluster_id: UUID, version: int, *, key: bytes) -> Ed25519PrivateKey:
    """What the relay of a cluster proves itself with, made from its seed."""
    return _made(_relay(cluster_id, version), key)


def access_token(rental_ref: UUID, version: int, *, key: bytes) -> str:
    """What opens the ports of a rental that are for whoever has it: 43 url-safe characters."""
    purpose = _TOKEN + rental_ref.bytes + version.to_bytes(4, "big")
    return base64.urlsafe_b64encode(_seed(purpose, key)).rstrip(b"=").decode()


def private_text(made: Ed25519PrivateKey) -> str:
    """In OpenSSH's format, without a passphrase."""
    encoded = made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return encoded.decode()


def public_line(made: Ed25519PrivateKey) -> str:
    """``ssh-ed25519 AAAA...`` without a comment."""
    return made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def fingerprint(line: str) -> str:
    """``SHA256:...`` of a public key line, as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1], validate=True)).digest()
    return f"SHA256:{base64.b64encode(digest).rstrip(b'=').decode()}"


def _relay(cluster_id: UUID, version: int) -> bytes:
    return _RELAY + cluster_id.bytes + version.to_bytes(4, "big")


def _made(purpose: bytes, key: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_seed(purpose, key))


def _seed(purpose: bytes, key: bytes) -> bytes:
    return hmac.new(key, purpose, hashlib.sha256).digest()
