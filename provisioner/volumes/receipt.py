"""The proof of a volume's end: what was deleted, and which list showed that it is gone. Signed.

What it proves is the absence of the claim, which is all that our rights in a cluster let us see.
What happens to the medium then is the storage class's reclaim policy, which the receipt names.
The signing key is derived from the platform's sealing key; anybody can check a receipt with the
public key on it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.db import transaction

from kernel.ids import public
from kernel.text import rfc3339
from provisioner.contracts import VolumeState
from provisioner.models import Volume, VolumeReceipt
from provisioner.volumes.move import move

_PURPOSE = b"gpuyard volume receipts"


@dataclass(frozen=True)
class Absence:
    """The list that does not show the claim any more. ``sent_at``: before it was asked for."""

    sent_at: datetime
    list_version: str
    claims_listed: int


def finish(row: Volume, absence: Absence, *, at: datetime, claim: UUID | None) -> bool:
    """The claim's absence was observed: deleted, with its receipt; False if not ours any more."""
    content = _content(row, absence)
    digest = digest_of(content)
    key = _signing_key()
    with transaction.atomic():
        if not move(
            row,
            to=VolumeState.DELETED,
            reason="deleted",
            at=at,
            claim=claim,
            evidence=content["absence"],
            deleted_at=at,
            due_at=None,
        ):
            return False
        VolumeReceipt.objects.create(
            volume=row,
            at=at,
            content=content,
            sha256=digest.hex(),
            signature=key.sign(digest).hex(),
            public_key=_public_bytes(key).hex(),
        )
    return True


def digest_of(content: dict[str, Any]) -> bytes:
    """SHA-256 over the content as JSON with sorted keys and no spaces."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).digest()


def is_genuine(content: dict[str, Any], signature: str, public_key: str) -> bool:
    """What anybody with the public key can check."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), digest_of(content))
    except (InvalidSignature, ValueError):
        return False
    return True


def _content(row: Volume, absence: Absence) -> dict[str, Any]:
    return {
        "volume": public("volume", row.pk),
        "organization": public("organization", row.tenant_ref),
        "cluster": public("cluster", row.cluster_id),
        "namespace": row.namespace.name,
        "claim": row.pvc_name,
        "claim_uid": row.pvc_uid,
        "storage_class": row.storage_class,
        "reclaim_policy": row.reclaim,
        "size_gib": row.bound_gib,
        "bound_at": rfc3339(row.bound_at),
        "delete_requested_at": rfc3339(row.delete_requested_at),
        "delete_reason": row.reason,
        "absence": {
            "observed_by": "full list of our claims in the namespace",
            "list_sent_at": rfc3339(absence.sent_at),
            "list_resource_version": absence.list_version,
            "claims_listed": absence.claims_listed,
        },
    }


@cache
def _derived(sealing_key: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_PURPOSE).derive(sealing_key)


def _signing_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_derived(settings.GPUYARD_SEALING_KEY))


def _public_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
