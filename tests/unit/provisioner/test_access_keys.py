"""Keys of the way in: the same whenever they are made, none good for anything else."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import asyncssh
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from provisioner.instances import access_keys
from tests.sshkeys import new_line, print_of

ONE, OTHER = bytes(range(32)), bytes(range(1, 33))
MACHINE, ANOTHER = uuid4(), uuid4()
Made = Callable[[UUID, bytes], Ed25519PrivateKey]
PURPOSES: dict[str, Made] = {
    "host": lambda ref, key: access_keys.host_key(ref, key=key),
    "gateway": lambda ref, key: access_keys.gateway_key(ref, key=key),
    "probe": lambda ref, key: access_keys.probe_key(ref, key=key),
    "relay": lambda ref, key: access_keys.relay_key(ref, 1, key=key),
    "relay again": lambda ref, key: access_keys.relay_key(ref, 2, key=key),
}
NEEDS_KEYGEN = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="OpenSSH is not on this machine"
)


def keygen(*words: str | Path) -> str:
    done = subprocess.run(["ssh-keygen", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_same_key_is_made_again_and_no_two_are_alike() -> None:
    """Per purpose, per machine or cluster, per version of a relay's, per sealing key."""
    made = {
        (purpose, ref, key): access_keys.public_line(make(ref, key))
        for purpose, make in PURPOSES.items()
        for ref in (MACHINE, ANOTHER)
        for key in (ONE, OTHER)
    }
    for key in (ONE, OTHER):
        line = access_keys.public_line(access_keys.published_key(key=key))
        assert line == access_keys.public_line(access_keys.published_key(key=key))
        made["published", MACHINE, key] = line
    assert len(set(made.values())) == len(made) == len(PURPOSES) * 4 + 2
    for (purpose, ref, key), line in made.items():
        if purpose in PURPOSES:
            assert access_keys.public_line(PURPOSES[purpose](ref, key)) == line


def test_keys_stay_what_they_are_from_release_to_release() -> None:
    """Renters have the published one in their known_hosts, clusters their relay's in a Secret: with
    other ones after an update nobody would get in."""
    ref = UUID(int=7)
    lines = [
        access_keys.public_line(access_keys.published_key(key=ONE)),
        access_keys.public_line(access_keys.host_key(ref, key=ONE)),
        access_keys.public_line(access_keys.gateway_key(ref, key=ONE)),
        access_keys.public_line(access_keys.relay_key(ref, 1, key=ONE)),
    ]
    assert [print_of(line) for line in lines] == [
        "SHA256:1q6JUThRsKURN05hu61ZG0n8fjD8KR7WsbMzgubDpJo",
        "SHA256:Pwsf0fvOXChoa9wZW4yi3UPmDwhQn825SqWd5YRAWjQ",
        "SHA256:ga1yy7EgE4UHiXNYyvyZo1qdpE1JrmVVFg6/AXvgcgQ",
        "SHA256:Y5bPz2KdaAmkavVUSbCvRO/NQnEdWcPW63KbePl5CHo",
    ]


def test_a_relays_key_is_made_from_its_seed() -> None:
    seed = base64.b64decode(access_keys.relay_seed(MACHINE, 3, key=ONE), validate=True)
    assert len(seed) == 32
    made = Ed25519PrivateKey.from_private_bytes(seed)
    given = access_keys.relay_key(MACHINE, 3, key=ONE)
    assert access_keys.public_line(made) == access_keys.public_line(given)


@NEEDS_KEYGEN
def test_fingerprints_are_those_of_openssh(tmp_path: Path) -> None:
    curve = generate_private_key(SECP384R1()).public_key()
    rsa = generate_rsa(65537, 3072).public_key()
    lines = [
        new_line(),
        *(
            key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
            for key in (curve, rsa)
        ),
    ]
    for number, line in enumerate(lines):
        file = tmp_path / f"{number}.pub"
        file.write_text(f"{line} somebody@laptop\n")
        assert keygen("-l", "-f", file).split()[1] == access_keys.fingerprint(line)
        assert access_keys.fingerprint(f"{line} a comment") == access_keys.fingerprint(line)


def test_asyncssh_reads_the_private_text() -> None:
    made = access_keys.gateway_key(MACHINE, key=ONE)
    read = asyncssh.import_private_key(access_keys.private_text(made))
    line = access_keys.public_line(made)
    assert read.export_public_key().decode().split()[:2] == line.split()
    assert read.get_fingerprint() == access_keys.fingerprint(line)


@NEEDS_KEYGEN
def test_openssh_reads_the_private_text(tmp_path: Path) -> None:
    made = access_keys.host_key(MACHINE, key=ONE)
    file = tmp_path / "host-key"
    file.write_text(access_keys.private_text(made))
    file.chmod(0o600)
    assert keygen("-y", "-f", file).split()[:2] == access_keys.public_line(made).split()
