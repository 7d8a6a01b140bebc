"""The portal's terminal without its page: a real websocket client, the streams process, the
gateway, a relay, and the tools of a pod."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import websocket
from django.conf import settings

from kernel.grants import GRANT_SECONDS
from kernel.ids import new_id, public
from provisioner.contracts.streaming import LOGS_FOLLOW
from provisioner.instances import access_keys
from provisioner.streams.directory import terminal_name
from provisioner.streams.doors import Closed, Door
from provisioner.streams.frames import MOST_BYTES
from provisioner.streams.shell import MOST_UNSEEN
from tests.relayed import CLUSTER, SPACE, Book, Cluster, Served, relaying, write_seed
from tests.sshpod import MIB, NEEDS_OPENSSH, make_key, running, until
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
        **given: Any,
    ) -> Page:
        return Page(self.streams.port, granted(machine, owner, user, age=age, verb=verb), **given)


def fingerprint_of(instance: UUID, user: UUID) -> str:
    made = access_keys.terminal_key(instance, user, key=settings.GPUYARD_SEALING_KEY)
    return access_keys.fingerprint(access_keys.public_line(made))


@pytest.fixture(scope="module")
def site(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
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


def until_size(page: Page, size: str) -> None:
    deadline = time.monotonic() + 20
    while size not in page.shown.decode():
        assert time.monotonic() < deadline, page.shown
        page.type("stty size\n")
        page.hear()


def test_bytes_go_through_as_they_are(site: Site) -> None:
    page = site.open()
    page.type(
        "stty raw -echo; printf 'g%s' o.;"
        " head -c 300 | od -An -v -tu1 | tr -s ' \\n' ' '; stty sane\n"
    )
    page.until("go.")
    page.socket.send_binary(bytes(range(256)) + bytes(44))
    numbers = " ".join(str(each) for each in [*range(256), *[0] * 44])
    page.until(numbers)
    page.leave()


def test_a_visit_ends_with_its_page(site: Site) -> None:
    page = site.open()
    page.type("echo in\n")
    page.until("in\r\n")
    until(lambda: inside(site) == 1, "the gateway has the connection")
    page.leave()
    until(lambda: inside(site) == 0, "and not any more")


def inside(site: Site) -> int:
    return sum(each.name == NAME for each in list(site.gateway.gateway.connections))


@pytest.fixture
def alone(site: Site) -> Iterator[Site]:
    """With nobody inside, and the directory as it was afterwards."""
    until(lambda: inside(site) == 0, "nobody is inside")
    before = dict(site.book.doors)
    yield site
    site.book.doors = before


@pytest.mark.parametrize(
    ("then", "sentence"),
    [
        ("ended", "This machine was ended."),
        ("stopped", "This machine is being stopped."),
        ("anew", "This machine was started anew; connect again."),
    ],
)
def test_what_ends_a_machine_is_said_within_five_seconds(
    alone: Site, then: str, sentence: str
) -> None:
    page = alone.open()
    page.type("echo in\n")
    page.until("in\r\n")
    door = alone.book.doors[NAME]
    assert isinstance(door, Door)
    if then == "ended":
        del alone.book.doors[NAME]
    elif then == "stopped":
        alone.book.doors[NAME] = Closed("this machine is being stopped", door.authorized)
    else:
        # Its key for this person is another one too.
        alone.book.doors[NAME] = replace(door, instance=public("instance", new_id()), authorized={})
    began = time.monotonic()
    assert page.until_closed() == sentence
    assert time.monotonic() - began < 5


# --- who may not ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": settings.GPUYARD_BASE_URL + ".evil.example"},
        {"protocol": "gpuyard.terminal.0"},
    ],
)
def test_other_sites_and_other_versions_are_not_even_answered(
    site: Site, given: dict[str, Any]
) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        site.open(**given)
    assert refused.value.status_code == 403


def test_a_plain_request_is_no_terminal(site: Site) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{site.streams.port}/streams/terminal")
    with refused.value as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"age": GRANT_SECONDS + 5}, "expired"),
        ({"verb": LOGS_FOLLOW}, "something else"),
        ({"owner": uuid4()}, "no such machine"),
        ({"machine": uuid4()}, "no such machine"),
        ({"user": None}, "no such machine"),
        # The gateway knows the key of one person and one machine.
        ({"user": uuid4()}, "does not run"),
    ],
)
def test_who_may_not_reads_why(site: Site, given: dict[str, Any], sentence: str) -> None:
    page = site.open(**given)
    assert sentence in page.until_closed()
    assert page.shown == b""
    assert inside(site) == 0


def test_a_grant_is_renewed_by_the_same_person_alone(site: Site) -> None:
    page = site.open()
    page.say(grant=granted(MACHINE.instance, OWNER, ANA))
    page.type("echo still in\n")
    page.until("still in\r\n")
    page.say(grant=granted(MACHINE.instance, OWNER, uuid4()))
    assert page.until_closed() == "This machine was started anew. Connect again."


def test_rights_that_are_not_renewed_end(site: Site) -> None:
    """Signed a minute ago, almost: the 90 s from then are over half a minute from now."""
    page = site.open(age=GRANT_SECONDS - 3)
    began = time.monotonic()
    page.socket.settimeout(60)
    assert "could not be confirmed" in page.until_closed()
    assert 25 < time.monotonic() - began < 45


# --- who sends what no page sends -----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "[]",
        "{}",
        '{"resize": [0, 24]}',
        '{"resize": [80]}',
        '{"resize": [80, 1e3]}',
        '{"resize": [80, true]}',
        '{"resize": [100000, 24]}',
        '{"seen": -1}',
        '{"seen": 1e400}',
        '{"grant": ""}',
        '{"grant": 5}',
        '{"grant": "e30.e30"}',
        '{"exec": "reboot"}',
        '{"resize": [80, 24], "grant": ""}',
        '{"grant": "' + "x" * 5000 + '"}',
        "[" * 1000,
    ],
)
def test_hostile_texts_close_with_a_sentence(site: Site, text: str) -> None:
    page = site.open()
    page.socket.send(text)
    assert page.until_closed()
    until(lambda: inside(site) == 0, "it has left the machine too")


def test_more_at_once_than_a_page_sends_closes(site: Site) -> None:
    page = site.open()
    page.socket.send_binary(b"x" * (MOST_BYTES + 1))
    assert "More was sent at once" in page.until_closed()


def test_a_page_that_vanishes_leaves_nothing(site: Site) -> None:
    for _ in range(5):
        page = site.open()
        page.type("echo in\n")
        page.until("in\r\n")
        page.vanish()
    until(lambda: inside(site) == 0, "the gateway has none of them")
    page = site.open()
    page.type("echo in\n")
    page.until("in\r\n")
    page.leave()


def test_an_organization_has_its_share_of_places(alone: Site) -> None:
    site = alone
    pages = [site.open() for _ in range(20)]
    for each in pages:
        each.type("echo in\n")
        each.until("in\r\n")
    assert "20 streams open" in site.open().until_closed()
    pages.pop().leave()

    def one_more() -> bool:
        page = site.open()
        page.type("echo in\n")
        let_in = page.hear() is not None
        pages.append(page)
        return let_in

    until(one_more, "a place is free again")
    for each in pages:
        each.leave()


# --- floods ---------------------------------------------------------------------------------------


def test_a_flood_that_nobody_reads_waits_in_the_machine(site: Site) -> None:
    other = site.open()
    other.type("echo warm\n")
    other.until("warm\r\n")
    before = site.streams.mib
    page = site.open()
    page.type("cat /dev/zero | base64\n")
    page.until("AAAA")
    # It goes on writing; this page reads no more and the other notices nothing.
    grown = []
    for turn in range(30):
        other.type(f"echo turn-$(({turn}+100))\n")
        other.until(f"turn-{turn + 100}", deadline_s=5)
        grown.append(site.streams.mib - before)
    print(f"a flood that nobody reads: {max(grown):.1f} MiB more")
    assert max(grown) < 16
    sent = len(page.shown)
    # Reading on, without telling that it was drawn, gets what may be on the way and no more.
    page.say = lambda **_: None  # type: ignore[method-assign]
    page.socket.settimeout(2)
    with pytest.raises(websocket.WebSocketTimeoutException):
        page.until_closed()
    assert len(page.shown) - sent <= MOST_UNSEEN + MIB // 8
    page.leave()
    other.leave()


def test_a_flood_is_read_as_fast_as_its_page_draws(site: Site) -> None:
    page = site.open()
    began = time.monotonic()
    page.type("head -c 6000000 /dev/zero | base64; echo it is over\n")
    page.until_so(lambda: b"\nit is over" in page.shown[-200:], "the end", deadline_s=120)
    took = time.monotonic() - began
    print(f"{len(page.shown) / MIB:.0f} MiB through the terminal in {took:.1f} s")
    assert len(page.shown) > 7 * MIB
    page.leave()


def typed_until_it_waits(page: Page) -> int:
    sent = 0
    with suppress(websocket.WebSocketTimeoutException, BlockingIOError, TimeoutError):
        while sent < 100 * MIB:
            page.socket.send_binary(b"x" * 16384)
            sent += 16384
    return sent


def test_a_machine_that_reads_nothing_slows_whoever_types(site: Site) -> None:
    other = site.open()
    before = site.streams.mib
    page = site.open()
    page.type("stty raw -echo; printf 'g%s' o.; sleep 600\n")
    page.until("go.")
    page.socket.settimeout(1)
    sent = typed_until_it_waits(page)
    assert sent < 100 * MIB
    print(f"typed into a machine that reads nothing: {sent / MIB:.1f} MiB until it had to wait")
    assert site.streams.mib - before < 24
    other.type("echo not disturbed\n")
    other.until("not disturbed\r\n", deadline_s=5)
    other.leave()
    page.vanish()


def test_a_server_that_stops_leaves_nobody_inside(site: Site) -> None:
    """Last: nobody comes in afterwards. Its page notices the end of the connection."""
    page = site.open()
    page.type("echo in\n")
    page.until("in\r\n")
    site.streams.process.terminate()
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        page.until_closed()
    until(lambda: inside(site) == 0, "the gateway has nobody of it")
