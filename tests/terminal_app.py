"""The streams process without a database: `granian --factory tests.terminal_app:make`.

MACHINE in the environment is the one instance there is, as JSON: instance, rental and owner.
"""

from __future__ import annotations

import json
import os
from typing import Any
from uuid import UUID

import django


def make() -> Any:
    django.setup()
    from provisioner.models import Cluster
    from provisioner.streams.app import Streams
    from provisioner.streams.place import Place

    known = {name: UUID(text) for name, text in json.loads(os.environ["MACHINE"]).items()}

    def find(instance: UUID, tenant: UUID) -> Place | None:
        if (instance, tenant) != (known["instance"], known["owner"]):
            return None
        return Place(Cluster(), known["rental"], "gpuyard-r-01", "gy-one", True, False)

    return Streams(find=find)
