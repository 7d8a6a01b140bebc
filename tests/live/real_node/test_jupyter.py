"""JupyterLab runs in a machine of the real node; its way to the outside is tested where that is."""

from __future__ import annotations

import json
import secrets

import pytest

from devstack.play import await_state
from devstack.way_in import Client, open_way, rent
from tests.live.real_node.conftest import RealWorld
from tests.sshpod import until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]


def test_jupyter_answers_inside_to_whoever_has_its_token(real_world: RealWorld) -> None:
    client = Client.make(real_world.keys, "jupyter")
    token = secrets.token_urlsafe(24)
    image = real_world.stack.jupyter_image()
    rental = rent(
        *(real_world.stack, real_world.renter, client),
        image=image,
        env={"JUPYTER_TOKEN": token},
    )
    way = open_way(real_world.renter, rental["id"])

    def asked(path: str) -> str:
        return client.run(way, f"wget -q -O - 'http://127.0.0.1:8888{path}'").stdout

    until(lambda: asked("/api") != "", "the server answers", deadline_s=90)
    assert asked("/api/status") == "", "and not to strangers"
    status = json.loads(asked(f"/api/status?token={token}"))
    assert status["kernels"] == 0
    specs = json.loads(asked(f"/api/kernelspecs?token={token}"))
    assert "python3" in specs["kernelspecs"]
    assert "jupyter-config-data" in asked(f"/lab?token={token}")
    real_world.renter.api.delete(f"/rentals/{rental['id']}")
    await_state(real_world.renter, rental["id"], "terminated")
