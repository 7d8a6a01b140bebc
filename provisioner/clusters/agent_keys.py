"""By what the platform and the agent of a cluster know one another.

Made from the sealing key, the cluster and the version of its relay's key, and stored nowhere, as
the keys of the way in are (instances/access_keys.py).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from django.conf import settings

from provisioner.contracts.access import AGENT_HOST, AgentValues
from provisioner.models import Cluster

_KEY, _TOKEN = b"gpuyard agent\0", b"gpuyard agent token\0"
# It ends when its key is replaced, not by time.
_FROM: Final = datetime(2026, 1, 1, tzinfo=UTC)
_UNTIL: Final = datetime(2126, 1, 1, tzinfo=UTC)


def values(cluster: Cluster) -> AgentValues:
    """What the owner gives to the agent."""
    private = _key(cluster).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return AgentValues(pem=certificate(cluster) + private.decode(), token=token(cluster))


def certificate(cluster: Cluster) -> str:
    """What the platform knows the agent by, in PEM. The very same each time: Ed25519's signature
    has nothing random in it, and neither has the rest."""
    made = _key(cluster)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gpuyard agent")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(made.public_key())
        .serial_number(1)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(AGENT_HOST)]), critical=False)
    )
    return builder.sign(made, None).public_bytes(Encoding.PEM).decode()


def token(cluster: Cluster) -> str:
    """What the platform shows to the agent: 43 url-safe characters."""
    return base64.urlsafe_b64encode(_seed(_TOKEN, cluster)).rstrip(b"=").decode()


def _key(cluster: Cluster) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_seed(_KEY, cluster))


def _seed(purpose: bytes, cluster: Cluster) -> bytes:
    of = cluster.id.bytes + cluster.relay_version.to_bytes(4, "big")
    return hmac.new(settings.GPUYARD_SEALING_KEY, purpose + of, hashlib.sha256).digest()
