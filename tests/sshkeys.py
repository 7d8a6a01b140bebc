"""Key pairs of people for tests, and their fingerprints, worked out apart from the product."""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def new_line() -> str:
    """A public key line without a comment; nobody has its private half."""
    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def print_of(line: str) -> str:
    """``SHA256:...`` as ssh-keygen -l shows it."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def prints_of(*lines: str) -> list[str]:
    """Of all, in order of the alphabet."""
    return sorted(print_of(line) for line in lines)


def line_of_seed(seed: str) -> str:
    """The public key line of the key that a seed in base64 makes."""
    made = Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed, validate=True))
    return made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
