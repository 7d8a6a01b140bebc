"""A certificate authority of one cluster and what it issues, made locally and valid for a year.

Keys are written with mode 0600 next to their certificates.
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = datetime.timedelta(days=365)
_BACKDATED = datetime.timedelta(hours=1)  # for a clock that is set back a little


@dataclasses.dataclass(frozen=True)
class Pair:
    """Files of one certificate and its private key, both PEM."""

    cert: Path
    key: Path


class Authority:
    """A new CA with its files in `folder`, where also goes what it issues."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.pair = Pair(folder / "ca.crt", folder / "ca.key")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._cert = self._self_signed(name)
        _write(self.pair.key, _pem_of(self._key))
        _write(self.pair.cert, self._cert.public_bytes(serialization.Encoding.PEM))

    @property
    def pem(self) -> str:
        return self._cert.public_bytes(serialization.Encoding.PEM).decode()

    def client(self, user: str, groups: Sequence[str]) -> Pair:
        """A client certificate that Kubernetes reads as `user` in `groups`."""
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        parts.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(user.replace(":", "-"), x509.Name(parts), usage, ())

    def server(self, name: str, hosts: Sequence[str]) -> Pair:
        """A server certificate for `hosts`, names or IP addresses."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._issue(name, subject, ExtendedKeyUsageOID.SERVER_AUTH, hosts)

    def _self_signed(self, name: str) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}-ca")])
        public = self._key.public_key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        builder = (
            _builder(subject, subject, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())

    def _issue(
        self, file: str, subject: x509.Name, usage: x509.ObjectIdentifier, hosts: Sequence[str]
    ) -> Pair:
        pair = Pair(self.folder / f"{file}.crt", self.folder / f"{file}.key")
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._key.public_key()
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            _builder(subject, self._cert.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(identifier, critical=False)
            .add_extension(authority, critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        _write(pair.key, _pem_of(key))
        signed = builder.sign(self._key, hashes.SHA256())
        _write(pair.cert, signed.public_bytes(serialization.Encoding.PEM))
        return pair


def token_key(folder: Path) -> Path:
    """A new key that signs service-account tokens."""
    path = folder / "service-accounts.key"
    _write(path, _pem_of(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    return path


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    """A new file, readable by us alone from the first moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
