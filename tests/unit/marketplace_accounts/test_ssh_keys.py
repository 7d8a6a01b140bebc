"""SSH public keys: what is accepted, what is refused, and how it is kept."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from kernel.errors import Refusal
from marketplace.accounts.ssh_keys import parse_public_key


def line_of(private: Any) -> str:
    return str(private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def packed(*parts: bytes) -> str:
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return base64.b64encode(blob).decode()


ED25519 = line_of(ed25519.Ed25519PrivateKey.generate())
RAW = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
POINT = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
)
SK_ED = "sk-ssh-ed25519@openssh.com"
SK_EC = "sk-ecdsa-sha2-nistp256@openssh.com"
CYRILLIC = "\u0410" * 68


@pytest.mark.parametrize(
    "line",
    [
        ED25519,
        line_of(ec.generate_private_key(ec.SECP256R1())),
        line_of(ec.generate_private_key(ec.SECP384R1())),
        line_of(ec.generate_private_key(ec.SECP521R1())),
        line_of(rsa.generate_private_key(65537, 3072)),
        f"{SK_ED} {packed(SK_ED.encode(), RAW, b'ssh:')}",
        f"{SK_EC} {packed(SK_EC.encode(), b'nistp256', POINT, b'ssh:')}",
    ],
    ids=["ed25519", "p256", "p384", "p521", "rsa3072", "sk-ed25519", "sk-p256"],
)
def test_known_kinds_are_kept_as_type_and_base64(line: str) -> None:
    key = parse_public_key(f"  {line} ada@laptop and more \r\n")
    assert key.line == line
    assert key.comment == "ada@laptop and more"
    assert key.fingerprint.startswith("SHA256:")
    assert len(key.fingerprint) == len("SHA256:") + 43


def test_one_key_has_one_line_whatever_its_spacing() -> None:
    kind, blob = ED25519.split()
    assert parse_public_key(f"{kind}   {blob}").line == parse_public_key(ED25519).line


OTHER = ED25519.split()[1]
PRIVATE = (
    ed25519.Ed25519PrivateKey.generate()
    .private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    .decode()
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "one line"),
        ("ssh-ed25519", "base64|something else"),
        (f"{ED25519}\n{ED25519}", "one line"),
        (f"{ED25519}\r{ED25519}", "one line"),
        (f"{ED25519}\x00", "one line"),
        (f'command="rm -rf /" {ED25519}', "Options"),
        (f"no-pty {ED25519}", "Options"),
        (f"ssh-ed25519-cert-v01@openssh.com {OTHER}", "Certificates"),
        (f"ssh-rsa {OTHER}", "something else"),
        (f"ssh-ed25519 {OTHER[:-4]}", "damaged"),
        (f"ssh-ed25519 {OTHER[:20]}!{OTHER[21:]}", "not base64"),
        (f"ssh-ed25519 {packed(b'ssh-ed25519', RAW, b'more')}", "damaged"),
        (f"ssh-ed25519 {packed(b'ssh-ed25519', RAW[:31])}", "damaged"),
        (f"{SK_ED} {packed(SK_ED.encode(), RAW)}", "damaged"),
        (line_of(rsa.generate_private_key(65537, 2048)), "2048"),
        (f"ssh-rsa {packed(b'ssh-rsa', b'', b'')}", "damaged"),
        (f"ssh-rsa {packed(b'ssh-rsa', bytes([1, 0, 1]), bytes(384))}", "damaged"),
        (line_of(dsa.generate_private_key(1024)), "DSA"),
        (PRIVATE, "one line|private"),
        (PRIVATE.splitlines()[0], "private"),
        ("A" * 9000, "one line"),
        (f"ssh-ed25519 {CYRILLIC}", "base64"),
    ],
)
def test_everything_else_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(Refusal, match=why) as refused:
        parse_public_key(text)
    assert refused.value.slug == "ssh_key_invalid"
