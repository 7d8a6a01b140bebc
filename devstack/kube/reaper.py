"""The reaper of a cluster here: the program that a provider's bundle runs, with the same rights.

On a real cluster a Deployment starts it; here no pod really runs, so it is a program beside the
API server. It gets nothing but the address, the CA and a token of the reaper's own account.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from devstack.kube.api import Api
from devstack.kube.embed import PROGRAM
from devstack.kube.provision import REAPER, request_token

# Ten seconds as in the bundle would make tests wait for nothing; one would keep a core busy.
_PERIOD_S = 3.0


class Plane(Protocol):
    """What of a control plane, real or simulated, its reaper needs."""

    @property
    def ca_pem(self) -> str: ...

    @property
    def api_url(self) -> str: ...

    def admin(self) -> Api: ...


def reaper_command(plane: Plane, folder: Path) -> list[str]:
    """The command that runs it, its token and CA written below `folder`. Raises ApiError."""
    ca, token = folder / "reaper-ca.pem", folder / "reaper-token"
    ca.write_text(plane.ca_pem)
    token.unlink(missing_ok=True)
    descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(request_token(plane.admin(), account=REAPER))
    parts = urlsplit(plane.api_url)
    command = [sys.executable, "-I", str(PROGRAM), "--host", str(parts.hostname)]
    command += ["--port", str(parts.port), "--ca", str(ca), "--token-file", str(token)]
    return [*command, "--period", str(_PERIOD_S)]
