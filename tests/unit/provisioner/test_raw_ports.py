"""Raw TCP ports at the gateway: numbers that come and go, bytes both ways, ends of each side."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from devstack.ports import free_port, release
from provisioner.streams.ports.doors import TCP, PortDoor
from provisioner.streams.ports.raw import RawPorts
from tests.ported import OTHER, RENTAL, Loopback, Numbers, PortBook, Proxy, begun, door, read_all
from tests.relayed import listening
from tests.relayed import send_back as echo
from tests.sshpod import counting_server, until

HOST = "127.0.0.1"


class Raw:
    """The listener beside a proxy, as `manage.py gateway` has them."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy, self.table = proxy, Numbers()
        self.listener = RawPorts(proxy.inside, self.table, HOST)
        proxy.call(begun(self.listener))

    def give(self, of: PortDoor) -> int:
        """A number for the door, once it can be connected to."""
        number = free_port()
        self.table.rows[number] = (of.rental, of.port)
        until(lambda: number in self.listener.listening, "it listens")
        return number

    def stop(self) -> None:
        self.proxy.call(self.listener.stop())
        for number in self.table.rows:
            release(number)


@pytest.fixture
def raw() -> Iterator[Raw]:
    proxy = Proxy(PortBook(), Loopback())
    made = Raw(proxy)
    yield made
    made.stop()
    proxy.stop()
    assert not proxy.inside._counts, "every stream was given back"


@contextmanager
def behind(raw: Raw, port: int, *, rental: UUID = RENTAL) -> Iterator[socket.socket]:
    of = raw.proxy.book.add(door(port, rental=rental, protocol=TCP))
    with socket.create_connection((HOST, raw.give(of)), timeout=30) as made:
        yield made


def refused(number: int) -> bool:
    try:
        with socket.create_connection((HOST, number), timeout=30) as made:
            return read_all(made) == b""
    except ConnectionRefusedError:
        return True


def is_closed(made: socket.socket) -> bool:
    try:
        return made.recv(1) == b""
    except ConnectionResetError:
        return True


def test_bytes_go_both_ways(raw: Raw) -> None:
    with listening(HOST, echo) as port, behind(raw, port) as made:
        for size in (1, 70_000, 1):
            data = os.urandom(size)
            made.sendall(data)
            got = b""
            while len(got) < size:
                got += made.recv(65536)
            assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def test_who_has_sent_all_still_gets_the_answer(raw: Raw) -> None:
    with counting_server() as port, behind(raw, port) as made:
        made.sendall(b"x" * 3_000_000)
        made.shutdown(socket.SHUT_WR)
        assert read_all(made) == b"3000000"
    until(lambda: not raw.proxy.inside.guests, "nothing is left of it")


def test_a_machine_that_hangs_up_ends_it(raw: Raw) -> None:
    def bye(made: socket.socket) -> None:
        made.sendall(b"bye")

    with listening(HOST, bye) as port, behind(raw, port) as made:
        assert made.recv(9) == b"bye"
        made.shutdown(socket.SHUT_WR)
        assert is_closed(made)
    until(lambda: not raw.proxy.inside.guests, "nothing is left of it")


def test_a_number_that_is_taken_back_listens_no_more_and_cuts_who_is_inside(raw: Raw) -> None:
    with listening(HOST, echo) as port, behind(raw, port) as made:
        made.sendall(b"x")
        assert made.recv(1) == b"x"
        (number,) = raw.table.rows
        del raw.proxy.book.doors[RENTAL, port]
        raw.table.rows.clear()
        assert is_closed(made), "its rental has ended"
        until(lambda: refused(number), "nobody is let in")
        # The socket is closed a moment before the listener says so.
        until(lambda: raw.listener.listening == [], "the number is nobody's")
        release(number)


def test_a_number_that_goes_to_another_leads_there_alone(raw: Raw) -> None:
    def says(word: bytes):
        return lambda made: made.sendall(word)

    with listening(HOST, says(b"one")) as one, listening(HOST, says(b"two")) as two:
        number = raw.give(raw.proxy.book.add(door(one, protocol=TCP)))
        with socket.create_connection((HOST, number), timeout=30) as made:
            assert made.recv(3) == b"one"
        raw.proxy.book.add(door(two, rental=OTHER, protocol=TCP))
        raw.table.rows[number] = (OTHER, two)

        def answer() -> bytes:
            try:
                with socket.create_connection((HOST, number), timeout=30) as made:
                    return made.recv(3)
            except OSError:
                return b""

        until(lambda: answer() == b"two", "it leads to the other")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda of: replace(of, way=None, sentence="it does not run"),
        lambda of: replace(of, protocol="http"),
        lambda of: None,
    ],
)
def test_nothing_is_reached_where_nothing_is_offered(raw: Raw, spoil) -> None:
    with listening(HOST, echo) as port:
        of = raw.proxy.book.add(door(port, protocol=TCP))
        number = raw.give(of)
        made = spoil(of)
        if made is None:
            del raw.proxy.book.doors[of.rental, of.port]
        else:
            raw.proxy.book.add(made)
        assert refused(number)
        assert raw.proxy.streams.opened == 0


def test_by_its_name_a_raw_port_is_not_there(raw: Raw) -> None:
    of = raw.proxy.book.add(door(8000, protocol=TCP))
    assert raw.proxy.ask(of).status == 404


def test_a_pod_that_does_not_listen_closes(raw: Raw) -> None:
    with listening(HOST, echo) as port:
        gone = port
    with behind(raw, gone) as made:
        assert is_closed(made)


def test_one_machine_has_as_many_as_it_may(raw: Raw) -> None:
    raw.proxy.inside.per_rental = 1
    with listening(HOST, echo) as port, behind(raw, port) as made:
        made.sendall(b"x")
        assert made.recv(1) == b"x"
        (number,) = raw.table.rows
        assert refused(number)


def test_while_the_table_is_away_everything_stays_as_it_was(raw: Raw) -> None:
    with listening(HOST, echo) as port, behind(raw, port) as made:
        made.sendall(b"x")
        assert made.recv(1) == b"x"
        (number,) = raw.table.rows
        raw.table.broken = raw.proxy.book.broken = True
        made.settimeout(5)
        with pytest.raises(TimeoutError):
            made.recv(1)  # two looks long
        raw.proxy.book.broken = False
        with socket.create_connection((HOST, number), timeout=30) as second:
            second.sendall(b"y")
            assert second.recv(1) == b"y"
        raw.table.broken = False


def test_a_number_that_another_program_has_is_tried_again(raw: Raw) -> None:
    with listening(HOST, echo) as port:
        of = raw.proxy.book.add(door(port, protocol=TCP))
        with socket.create_server((HOST, 0)) as taken:
            number = taken.getsockname()[1]
            raw.table.rows[number] = (of.rental, of.port)
            until(lambda: raw.listener._refused == {number}, "it was refused")
        until(lambda: raw.listener.listening == [number], "it listens")
        raw.table.rows.clear()
