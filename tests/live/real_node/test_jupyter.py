"""JupyterLab as a person has it: ordered, opened by its link in a browser, and a cell run on the
cards of a machine that really runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from devstack.way_in import Client, open_way, rent
from tests.browsers import RESULTS
from tests.live.real_node.conftest import RealWorld
from tests.sshpod import until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(600)]

Json = dict[str, Any]
# What a person would look at first.
CELL = "import subprocess; print(subprocess.getoutput('nvidia-smi -L'), 6 * 7)"
# The first page is ten megabytes of script, and a kernel imports a lot.
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def rental(real_world: RealWorld) -> Iterator[str]:
    client = Client.make(real_world.keys, "jupyter")
    made = rent(
        *(real_world.stack, real_world.renter, client),
        gpus=2,
        image=real_world.stack.jupyter_image(),
        env={"JUPYTER_TOKEN": "{{access_token}}"},
        ports=[{"port": 8888, "name": "jupyter"}],
    )
    open_way(real_world.renter, made["id"])
    yield made["id"]
    real_world.end(made["id"])


def test_a_cell_is_run_on_the_cards(real_world: RealWorld, rental: str, page: Page) -> None:
    api = real_world.renter.api
    until(
        lambda: api.get(f"/rentals/{rental}")["access"]["ports"][0]["state"] == "open",
        "its reporter tells that JupyterLab listens",
        deadline_s=120,
    )
    plain: Json = api.get(f"/rentals/{rental}")["access"]["ports"][0]
    page.set_default_timeout(PATIENCE_MS)
    refused = page.goto(plain["url"])
    assert refused is not None
    assert refused.status == 401
    page.goto(api.post(f"/rentals/{rental}/links", {"port": 8888})["url"])
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    # The kernel lives behind a websocket by the same name.
    idle = page.get_by_role("button", name="Python 3 (ipykernel) | Idle")
    expect(idle).to_be_visible(timeout=PATIENCE_MS)
    page.locator(".jp-Notebook .cm-content").first.click()
    page.keyboard.type(CELL)
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output").first
    expect(output).to_contain_text(re.compile(r"\b42\b"), timeout=PATIENCE_MS)
    RESULTS.mkdir(exist_ok=True)
    page.screenshot(path=RESULTS / "jupyter.png")
    assert output.inner_text().count("GPU ") == 2
    assert "token=" not in page.url
