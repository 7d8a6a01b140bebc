"""Word of change: one look for all who watch, the present version at once, no word for nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from provisioner.streams import changes as module
from provisioner.streams.changes import Changes

ONE, OTHER = uuid4(), uuid4()


class Board:
    """Versions as the database has them, and who asked for which."""

    def __init__(self) -> None:
        self.versions = {ONE: "1", OTHER: "7"}
        self.asked: list[set[UUID]] = []
        self.broken = False

    def look(self, subjects: Sequence[UUID]) -> dict[UUID, str]:
        self.asked.append(set(subjects))
        if self.broken:
            raise RuntimeError("the database is away")
        return {each: self.versions[each] for each in subjects if each in self.versions}


class Reader:
    """A client's end of a stream."""

    def __init__(self) -> None:
        self.text = b""
        self.over = False
        self._grown = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        self.text += message["body"]
        self.over = not message["more_body"]
        self._grown.set()

    @property
    def versions(self) -> list[str]:
        found = [part for part in self.text.split(b"\n\n") if part.startswith(b"event: version")]
        return [json.loads(part.split(b"data: ")[1]) for part in found]

    async def until_versions(self, wanted: list[str]) -> None:
        await self.until(lambda: self.versions == wanted)

    async def until(self, right: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not right():
                self._grown.clear()
                await self._grown.wait()


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    return Board()


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        await story()

    asyncio.run(all_of_it())


def test_the_present_version_comes_at_once_and_each_new_one_once(board: Board) -> None:
    async def story() -> None:
        changes, reader = Changes(board.look), Reader()
        stream = asyncio.create_task(changes.follow(ONE, reader.send))
        await reader.until(lambda: reader.versions == ["1"])
        board.versions[ONE] = "2"
        await reader.until(lambda: reader.versions == ["1", "2"])
        board.versions[OTHER] = "8"  # nobody watches it
        looks = len(board.asked)
        while len(board.asked) < looks + 3:
            await asyncio.sleep(0.005)
        assert reader.versions == ["1", "2"]
        assert all(asked == {ONE} for asked in board.asked)
        stream.cancel()

    run(story)


def test_one_look_serves_all_who_watch_and_none_looks_when_nobody_does(board: Board) -> None:
    async def story() -> None:
        changes, readers = Changes(board.look), [Reader() for _ in range(20)]
        streams = [
            asyncio.create_task(changes.follow(OTHER if n % 2 else ONE, reader.send))
            for n, reader in enumerate(readers)
        ]
        for n, reader in enumerate(readers):
            await reader.until_versions(["7" if n % 2 else "1"])
        assert len(board.asked) < 10, "not one look per reader"
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        assert changes._task is not None
        await asyncio.wait_for(changes._task, 5)  # it ends by itself
        assert changes._watchers == {}
        assert changes._known == {}

    run(story)


def test_a_database_that_is_away_is_asked_again(board: Board) -> None:
    async def story() -> None:
        changes, reader = Changes(board.look), Reader()
        board.broken = True
        stream = asyncio.create_task(changes.follow(ONE, reader.send))
        while len(board.asked) < 3:
            await asyncio.sleep(0.005)
        assert reader.versions == []
        board.broken = False
        await reader.until(lambda: reader.versions == ["1"])
        stream.cancel()

    run(story)


def test_a_stream_ends_so_that_rights_are_checked_again(board: Board) -> None:
    async def story() -> None:
        reader = Reader()
        await asyncio.wait_for(Changes(board.look).follow(ONE, reader.send, seconds=0.1), 5)
        assert reader.over
        assert b"retry: " in reader.text

    run(story)
