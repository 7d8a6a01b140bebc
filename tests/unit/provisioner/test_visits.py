"""The book of visits: ends after beginnings, and nobody waits for it or is kept out by it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

from provisioner.streams.visits import Leave, Visits

VISIT = uuid4()


class Shelf:
    """A book in memory. Nothing is written before ``open`` is set; ``broken``: never."""

    def __init__(self, visit: UUID | None = VISIT, broken: str = "") -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.open = asyncio.Event()
        self._visit, self._broken = visit, broken

    async def came(self, *, name: str, instance: str, who: str, address: str) -> UUID | None:
        await self.open.wait()
        if self._broken == "came":
            raise OSError("the book is lost")
        self.lines.append(("came", name, instance, who, address))
        return self._visit

    async def went(self, visit: UUID, *, bytes_in: int, bytes_out: int, why: str) -> None:
        if self._broken == "went":
            raise OSError("the book is lost")
        self.lines.append(("went", visit, bytes_in, bytes_out, why))


def enter(visits: Visits) -> Leave:
    return visits.enter(name="ren_1", instance="ins_1", who="SHA256:x", address="192.0.2.1")


CAME = ("came", "ren_1", "ins_1", "SHA256:x", "192.0.2.1")


def test_who_left_before_they_were_written_down_is_written_as_gone_after_it() -> None:
    async def scene() -> Shelf:
        shelf = Shelf()
        visits = Visits(shelf)
        enter(visits)(7, 9, "removed")
        await asyncio.sleep(0)  # whatever could run has run
        assert shelf.lines == []
        shelf.open.set()
        await visits.close()
        return shelf

    assert asyncio.run(scene()).lines == [CAME, ("went", VISIT, 7, 9, "removed")]


def test_who_is_inside_has_no_end() -> None:
    async def scene() -> Shelf:
        shelf = Shelf()
        shelf.open.set()
        visits = Visits(shelf)
        first, second = enter(visits), enter(visits)
        second(1, 2, "")
        await visits.close()
        assert shelf.lines == [CAME, CAME, ("went", VISIT, 1, 2, "")]
        first(3, 4, "")
        await visits.close()
        return shelf

    assert asyncio.run(scene()).lines[-1] == ("went", VISIT, 3, 4, "")


def test_closing_waits_for_everything_that_began_meanwhile() -> None:
    async def scene() -> Shelf:
        shelf = Shelf()
        visits = Visits(shelf)
        leave = enter(visits)
        closing = asyncio.create_task(visits.close())
        await asyncio.sleep(0)
        leave(1, 1, "")
        shelf.open.set()
        await closing
        return shelf

    assert [line[0] for line in asyncio.run(scene()).lines] == ["came", "went"]


def test_a_book_that_cannot_be_written_keeps_nobody_out() -> None:
    async def scene(broken: str) -> list[tuple[Any, ...]]:
        shelf = Shelf(broken=broken)
        shelf.open.set()
        visits = Visits(shelf)
        enter(visits)(1, 2, "")
        await visits.close()
        return shelf.lines

    assert asyncio.run(scene("came")) == []
    assert asyncio.run(scene("went")) == [CAME]


def test_what_the_book_does_not_note_has_no_end_in_it() -> None:
    async def scene() -> list[tuple[Any, ...]]:
        shelf = Shelf(visit=None)
        shelf.open.set()
        visits = Visits(shelf)
        enter(visits)(1, 2, "")
        await visits.close()
        return shelf.lines

    assert asyncio.run(scene()) == [CAME]


def test_without_a_book_everybody_comes_and_goes() -> None:
    async def scene() -> None:
        visits = Visits(None)
        enter(visits)(1, 2, "")
        await visits.close()

    asyncio.run(scene())
