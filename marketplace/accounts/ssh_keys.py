"""SSH public keys: parsed strictly, kept in one canonical line.

Accepted: ed25519, ECDSA on the NIST curves, RSA from 3072 bits, and the security-key kinds of the
first two; one line without options. An option or a second line would be an instruction to whoever
puts the line into a file of theirs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from django.db import IntegrityError, connection, transaction

from kernel.arrays import array
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import BadId, parse
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.models import SshKey

TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
MIN_RSA_BITS = 3072
MAX_RSA_BITS = 16384  # a longer one costs an SSH server seconds per sign-in
_MAX_LINE = 8192
_LIMIT = 100
MAX_GIVEN = 32  # to one rental

# Against a deletion alone, and always in one order.
_HOLD = """
SELECT id FROM marketplace_sshkey WHERE id = ANY(%s::uuid[]) AND organization_id = %s
 ORDER BY id FOR KEY SHARE
"""


@dataclass(frozen=True)
class PublicKey:
    """line: type and base64, no comment. fingerprint: as ``ssh-keygen -l`` prints it."""

    line: str
    fingerprint: str
    comment: str


def parse_public_key(text: str) -> PublicKey:
    """Read one public key line; Refusal ssh_key_invalid says what is wrong with it."""
    line = text.strip(" \t\r\n")
    if not line or len(line) > _MAX_LINE:
        raise _invalid(f"It must be one line of at most {_MAX_LINE} characters.")
    if any(ord(letter) < 32 and letter != "\t" for letter in line):
        raise _invalid("It must be one line: give one key at a time.")
    if "PRIVATE KEY" in line:
        raise _invalid("This is a private key. Keep it secret; give the .pub file's line.")
    kind, _, rest = line.partition(" ")
    if kind not in TYPES:
        raise _invalid(_unknown_kind(kind))
    encoded, _, comment = rest.strip().partition(" ")
    blob = _decode(encoded)
    if _read_name(blob) != kind:
        raise _invalid(f"The line says {kind}, the key in it says something else.")
    try:
        key = load_ssh_public_key(f"{kind} {encoded}".encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _invalid(
            "The key in the line is damaged. Copy the .pub file's line again."
        ) from error
    if isinstance(key, RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise _invalid(
            f"RSA keys need {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, this has {key.key_size}. "
            "Make a new one with: ssh-keygen -t ed25519"
        )
    digest = base64.b64encode(hashlib.sha256(blob).digest()).rstrip(b"=").decode()
    canonical = base64.b64encode(blob).decode()
    return PublicKey(f"{kind} {canonical}", f"SHA256:{digest}", comment.strip())


def lines_of(acting: Principal, given: Sequence[str], *, locked: bool = False) -> tuple[str, ...]:
    """The canonical line of each, once: public key lines, or ids of the organization's own keys.

    ``locked``: in a transaction, before any rental is locked. Raises NotFound, Refusal
    ssh_key_invalid.
    """
    if locked:
        hold(acting, given)
    lines = []
    for each in given:
        if each.startswith("ssh_"):
            lines.append(get_visible(SshKey, acting, each).public_key)
        else:
            lines.append(parse_public_key(each).line)
    return tuple(dict.fromkeys(lines))


def hold(acting: Principal, given: Sequence[str]) -> None:
    """In a transaction, before anything else is locked: keys that are named by their ids cannot be
    deleted until it ends, so that whoever deletes one finds every machine that it was given to.
    NotFound for one that is gone already. Orders with the same key do not wait for each other."""
    ids = {pk for each in given if (pk := _id_of(each))}
    if not ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, [array(sorted(ids)), acting.org.id])
        if len(cursor.fetchall()) < len(ids):
            raise NotFound("ssh_key")


def _id_of(given: str) -> UUID | None:
    try:
        return parse("ssh_key", given)
    except BadId:
        return None


def add_key(*, acting: Principal, name: str, public_key: str) -> SshKey:
    """Store a key of the organization; joins the caller's transaction.

    Refusal ssh_key_invalid; InvalidRequest when the organization has this key already.
    """
    parsed = parse_public_key(public_key)
    if visible(SshKey, acting).count() >= _LIMIT:
        raise InvalidRequest({"public_key": [f"there are {_LIMIT} keys: delete some first"]})
    try:
        with transaction.atomic():
            key = SshKey.objects.create(
                organization=acting.org,
                name=name,
                public_key=parsed.line,
                fingerprint=parsed.fingerprint,
            )
    except IntegrityError as error:
        same = visible(SshKey, acting).filter(fingerprint=parsed.fingerprint).first()
        known = f"is stored already as {same.public_id}" if same else "is stored already"
        raise InvalidRequest({"public_key": [known]}) from error
    audit.record(
        acting=acting,
        action="ssh_key.create",
        object=key.public_id,
        organization_ref=acting.owner_ref,
        details={"name": name, "fingerprint": parsed.fingerprint},
    )
    return key


def forget_key(*, acting: Principal, key_id: str) -> str:
    """Forget a key; its line, which rentals may have a copy of (rentals/ssh_keys.py)."""
    key = get_visible(SshKey.objects.select_for_update(), acting, key_id)
    audit.record(
        acting=acting,
        action="ssh_key.delete",
        object=key.public_id,
        organization_ref=acting.owner_ref,
        details={"fingerprint": key.fingerprint},
    )
    key.delete()
    return key.public_key


def _decode(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded.encode("ascii"), validate=True)
    except (ValueError, binascii.Error) as error:
        raise _invalid("The part after the type is not base64. Copy the line again.") from error


def _read_name(blob: bytes) -> str:
    length = int.from_bytes(blob[:4], "big")
    return blob[4 : 4 + length].decode("ascii", errors="replace") if length < 64 else ""


def _unknown_kind(kind: str) -> str:
    if "-cert-v0" in kind:
        return "Certificates are not accepted: give the plain public key."
    if kind == "ssh-dss":
        return "DSA keys are not safe any more. Make a new one with: ssh-keygen -t ed25519"
    return (
        f"It must begin with one of {', '.join(TYPES)}. Options before the type are not accepted."
    )


def _invalid(why: str) -> Refusal:
    return Refusal("ssh_key_invalid", f"This SSH public key cannot be used. {why}")
