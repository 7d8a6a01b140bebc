"""One stack with a real node for the tests of this folder: pods that really run, and the way in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page

from devstack.kube.api import Api
from devstack.kube.node.able import why_not
from devstack.people import PASSWORD, RENTER_SCOPES, Person, join, make_staff, top_up
from devstack.play import await_state
from devstack.stack import REAL, Stack
from devstack.state import State
from devstack.way_in import furnish_real
from tests.browsers import browser, page, pytest_runtest_makereport  # noqa: F401


@dataclass(frozen=True)
class RealWorld:
    stack: Stack
    provider: Person
    renter: Person
    other: Person  # of another organization
    keys: Path

    def end(self, rental: str) -> None:
        """Given back, and its pod killed as its host's owner could: what most images run does not
        heed SIGTERM, and would take the minute that a machine has to save its work."""
        self.renter.api.delete(f"/rentals/{rental}")
        admin = Api.from_kubeconfig(Path(self.stack.clusters[REAL].admin_kubeconfig))
        query = f"labelSelector=gpuyard.io/rental%3D{rental}"
        for pod in admin.get(f"/api/v1/pods?{query}")["items"]:
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            admin.delete(path, {"gracePeriodSeconds": 0})
        await_state(self.renter, rental, "terminated")


def sign_in(opened: Page, world: RealWorld, person: Person) -> None:
    opened.goto(f"{world.stack.base_url}/sign-in")
    opened.get_by_label("E-mail").fill(person.email)
    opened.get_by_label("Password").fill(PASSWORD)
    opened.locator("main").get_by_role("button", name="Sign in").click()
    opened.wait_for_url(f"{world.stack.base_url}/")


@pytest.fixture(scope="session")
def real_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWorld]:
    if reason := why_not():
        pytest.skip(reason)
    if not all(map(shutil.which, ("ssh", "scp", "ssh-keygen"))):
        pytest.skip("OpenSSH's clients are not on this machine")
    with State.temporary("real") as state:
        stack = Stack(state, clusters=(REAL,), durable=False)
        try:
            stack.start()
            staff = make_staff(stack, "staff@example.com")
            provider = furnish_real(stack, staff)
            people = []
            for email, name in (("renter@example.com", "Labs"), ("other@example.com", "Others")):
                people.append(join(stack, email, name, RENTER_SCOPES))
                top_up(stack, people[-1], "500.00")
            renter, other = people
            yield RealWorld(stack, provider, renter, other, tmp_path_factory.mktemp("keys"))
        finally:
            stack.stop()
