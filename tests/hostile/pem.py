"""Certificates for hostile servers, and texts that a hostile owner calls a CA."""

from __future__ import annotations

import datetime
import functools
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A self-signed certificate and its key, in PEM."""

    certificate: str
    key: str

    @property
    def both(self) -> str:
        return self.certificate + self.key


def self_signed(name: str, *, expired: bool = False) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    # By its address an agent asks for it.
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    ends = datetime.datetime.now(datetime.UTC) + (-_DAY if expired else _DAY)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - 2 * _DAY)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(made.public_bytes(Encoding.PEM).decode(), private.decode())


@functools.cache
def good() -> Pair:
    return self_signed("k8s.partner.example")


@functools.cache
def hostile() -> list[tuple[str, str, bool]]:
    """(kind, text, whether it must be refused); what is let in must make no client."""
    pair = good()
    right, lines = pair.certificate, pair.certificate.strip().split("\n")
    head, tail = lines[0], lines[-1]
    return [
        ("no PEM", "not a certificate", True),
        ("empty", "", True),
        ("a path", "/etc/passwd", True),
        ("an address", "http://169.254.169.254/ca.pem", True),
        ("empty block", f"{head}\n{tail}\n", True),
        ("no base64", f"{head}\n!!!!\n{tail}\n", True),
        ("cut short", "\n".join([*lines[:4], tail]), True),
        ("huge", right * 2_000, True),
        ("beyond the limit", right + "#" * 65_536, True),
        ("thousands of blocks", f"{head}\nAAAA\n{tail}\n" * 1_000, True),
        ("a private key", pair.key, True),
        ("a private key beside it", pair.both, True),
        ("an old private key", right + pair.key.replace("PRIVATE", "EC PRIVATE"), True),
        ("nul", right.replace("\n", "\x00\n", 1), True),
        ("another word", right.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), True),
        ("text around it", f"é {right} \u202e\x1b[2J", True),
        ("twice", right * 2, False),
        ("a dozen", right * 12, False),
        ("ninety", right * 90, True),
        ("expired", self_signed("k8s.partner.example", expired=True).certificate, False),
    ]
