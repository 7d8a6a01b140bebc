"""The relay of a cluster here: the program that a provider's bundle runs, with the same rights.

On a provider's cluster a Deployment starts it from the tools' image; here it is a program beside
the API server, like the reaper: the service network by which a pod would reach that is not there.
It gets the address, the CA and a token of the relay's own account, and what the platform names.
"""

from __future__ import annotations

import os
from pathlib import Path

from devstack.kube.api import Api
from devstack.kube.provision import RELAY, request_token
from devstack.podtools import build_podtools


def relay_command(
    admin: Api,
    folder: Path,
    ca_pem: str,
    *,
    cluster: str,
    gateway: str,
    seed: str,
    gateway_key: str,
) -> list[str]:
    """The command that runs it, its keys, token and CA written into the new ``folder``.

    The four values as POST /provider/clusters/{id}/relay names them. Raises ApiError, BuildError.
    """
    folder.mkdir(parents=True)
    for name, text in (
        ("relay.seed", seed),
        ("gateway.pub", gateway_key),
        ("token", request_token(admin, account=RELAY)),
        ("ca.crt", ca_pem),
    ):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    command = [str(build_podtools()), "relay", "-cluster", cluster, "-gateway", gateway]
    return [*command, "-keys", str(folder), "-account", str(folder), "-api", admin.url]
