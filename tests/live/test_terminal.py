"""The portal's terminal without its page: a real websocket client, the streams process, the
gateway, a relay, and the tools of a pod."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import websocket
from django.conf import settings

from kernel.grants import GRANT_SECONDS
from kernel.ids import new_id, public
from provisioner.contracts import LOGS_FOLLOW
from provisioner.instances import access_keys
from provisioner.streams.directory import terminal_name
from provisioner.streams.doors import Closed, Door
from provisioner.streams.frames import MOST_BYTES
from provisioner.streams.shell import MOST_UNSEEN
from tests.relayed import CLUSTER, SPACE, Book, Cluster, Served, relaying, write_seed
from tests.sshpod import MIB, NEEDS_OPENSSH, running, until
from tests.terminals import Machine, Page, Streaming, granted, streaming

pytestmark = [pytest.mark.live, pytest.mark.slow, NEEDS_OPENSSH]

OWNER, ANA = uuid4(), uuid4()
MACHINE = Machine(instance=new_id(), rental=new_id(), owner=OWNER)
NAME = terminal_name(MACHINE.rental, ANA)


@dataclass
class Site:
    """A streams process, the directory of its gateway, and that gateway."""

    streams: Streaming
    book: Book
    gateway: Served

    def open(
        self,
        *,
        age: float = 0,
        machine: UUID = MACHINE.instance,
        owner: UUID = OWNER,
        user: UUID | None = ANA,
        verb: str = "terminal",
        **given: str,
    ) -> Page:
        return Page(self.streams.port, granted(machine, owner, user, age=age, verb=verb), **given)


def fingerprint_of(instance: UUID, user: UUID) -> str:
    made = access_keys.terminal_key(instance, user, key=settings.GPUYARD_SEALING_KEY)
    return access_keys.fingerprint(access_keys.public_line(made))


@pytest.fixture(scope="module")
def site(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    from tests.sshpod import make_key

    folder = tmp_path_factory.mktemp("terminal")
    keys = folder / "keys"
    keys.mkdir()
    for name in ("host-key", "gateway"):
        make_key(keys, name)
    published = access_keys.published_key(key=settings.GPUYARD_SEALING_KEY)
    book, cluster = Book(), Cluster(folder)
    with running(binary, keys, address="127.0.0.3") as pod:
        cluster.add("gy-one", pod.address)
        book.relays[CLUSTER] = write_seed(keys / "relay", access_keys.public_line(published))
        book.doors[NAME] = Door(
            instance=public("instance", MACHINE.instance),
            cluster=CLUSTER,
            target=f"gy-one.{SPACE}",
            port=pod.port,
            host_key=pod.host_key,
            client_key=(keys / "gateway").read_text(),
            authorized={fingerprint_of(MACHINE.instance, ANA): f"portal:{ANA.hex}"},
        )
        served = Served(book, access_keys.private_text(published))
        with (
            relaying(binary, keys / "relay", cluster, served.port),
            streaming(MACHINE, served.port) as streams,
        ):
            try:
                yield Site(streams, book, served)
            finally:
                served.stop()
    cluster.stop()


def test_a_shell_of_the_pages_size_that_follows_it(site: Site) -> None:
    page = site.open(columns=97, rows=31)
    page.type("stty size; echo $TERM; tty\n")
    page.until("31 97")
    page.until("xterm-256color")
    page.until("/dev/pts")
    page.say(resize=[120, 40])
    until_size(page, "40 120")
    page.type("exit 3\n")
    assert page.until_closed() == "The shell has ended with status 3."
    assert page.code == 1000


def until_size(page: Page, size: str) -> None:
    deadline = time.monotonic() + 20
    while size not in page.shown.decode():
        assert time.monotonic() < deadline, page.shown
        page.type("stty size\n")
        page.hear()
