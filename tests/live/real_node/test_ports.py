"""A port of a machine that really runs, by its name: opened by a link, told of by the machine's own
reporter, changed while it runs."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from devstack.play import await_state
from devstack.way_in import Client, open_way, rent
from tests.live.real_node.conftest import RealWorld
from tests.ported import read_all
from tests.sshpod import until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]

Json = dict[str, Any]
PORT = 8000
# Busybox's web server, and a page with what the program was given.
SERVER = "mkdir /www; echo token $GIVEN >/www/index.html; exec httpd -f -p 8000 -h /www"


class Opened:
    """A rental on the real node with a web server in it."""

    def __init__(self, world: RealWorld, rental: Json) -> None:
        self.world, self.id = world, rental["id"]
        self.api = world.renter.api

    @property
    def port(self) -> Json:
        (found,) = self.api.get(f"/rentals/{self.id}")["access"]["ports"]
        return dict(found)

    def link(self, **more: Any) -> str:
        body = {"port": PORT, **more}
        return str(self.api.post(f"/rentals/{self.id}/links", body)["url"])


def get(url: str) -> tuple[int, bytes]:
    """Names below localhost are this machine, as browsers take them."""
    where = urlsplit(url)
    assert where.hostname
    assert where.hostname.endswith(".pods.localhost")
    local = url.replace(where.netloc, f"127.0.0.1:{where.port}")
    request = urllib.request.Request(local, headers={"Host": where.netloc})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert isinstance(answer, HTTPResponse)
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture(scope="module")
def machine(real_world: RealWorld) -> Iterator[Opened]:
    client = Client.make(real_world.keys, "ports")
    rental = rent(
        real_world.stack,
        real_world.renter,
        client,
        command=["sh", "-c", SERVER],
        env={"GIVEN": "{{access_token}}"},
        ports=[PORT],
    )
    open_way(real_world.renter, rental["id"])
    yield Opened(real_world, rental)
    real_world.renter.api.delete(f"/rentals/{rental['id']}")
    await_state(real_world.renter, rental["id"], "terminated")


def test_a_link_opens_it_and_its_program_knows_the_token(machine: Opened) -> None:
    url = machine.link()
    token = url.partition("?token=")[2]
    until(lambda: get(url) == (200, f"token {token}\n".encode()), "it answers", deadline_s=30)
    assert get(machine.port["url"])[0] == 401
    assert get(machine.port["url"].replace(f"{PORT}-", f"{PORT + 1}-"))[0] == 404


def test_the_machine_tells_that_something_listens(machine: Opened) -> None:
    until(lambda: machine.port["state"] == "open", "the reporter has told", deadline_s=60)


def test_another_token_and_another_mode_are_in_force_at_once(machine: Opened) -> None:
    before, after = machine.link(), machine.link(replace=True)
    until(lambda: get(after)[0] == 200, "the new one opens", deadline_s=5)
    until(lambda: get(before)[0] == 401, "the one before opens nothing", deadline_s=5)
    public = [{"port": PORT, "access_mode": "public"}]
    machine.api.patch(f"/rentals/{machine.id}", {"ports": public})
    until(lambda: get(machine.port["url"])[0] == 200, "anybody comes in", deadline_s=5)
    machine.api.patch(f"/rentals/{machine.id}", {"ports": [PORT]})
    until(lambda: get(machine.port["url"])[0] == 401, "and nobody again", deadline_s=5)


def test_a_raw_port_leads_there_by_its_number_until_it_is_taken_away(machine: Opened) -> None:
    raw = {"port": PORT, "protocol": "tcp"}
    machine.api.patch(f"/rentals/{machine.id}", {"ports": [raw]})
    address = urlsplit(machine.port["url"])
    assert (address.scheme, address.hostname) == ("tcp", "127.0.0.1")

    def page() -> bytes:
        assert address.port
        try:
            with socket.create_connection(("127.0.0.1", address.port), timeout=30) as made:
                made.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return read_all(made)
        except ConnectionRefusedError:
            return b""

    until(lambda: b"\r\n\r\ntoken " in page(), "its program answers", deadline_s=10)
    machine.api.patch(f"/rentals/{machine.id}", {"ports": [PORT]})
    until(lambda: page() == b"", "the number leads nowhere", deadline_s=5)
