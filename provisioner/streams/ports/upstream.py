"""The stream to a port of a pod that one client's requests are passed on by, one after another."""

from __future__ import annotations

from typing import Any, Final

import asyncssh
import h11

from provisioner.streams.ports.doors import PortDoor, Streams

# Of a head, either way. What people's programs send stays below a quarter of it; more is held in
# memory for each connection that does not finish its own.
HEAD_BYTES: Final = 64 * 1024
# Read at once: a window's worth in small pieces, so that many streams stay small.
CHUNK: Final = 64 * 1024


class Lost(Exception):
    """The stream ended in the middle: the pod's server, the pod or the way to it is gone."""


class Upstream:
    """Open, until `close`. used: it has carried a request already."""

    def __init__(self, door: PortDoor, reader: Any, writer: Any) -> None:
        self.door = door
        self.reader, self.writer = reader, writer
        self.used = False
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)

    @classmethod
    async def open(cls, streams: Streams, door: PortDoor) -> Upstream:
        """asyncssh.ChannelOpenError and NoRelay, as `Relays.stream` raises them."""
        assert door.way is not None
        return cls(door, *await streams.stream(door.way.cluster, door.way.target, door.port))

    def is_ready(self, door: PortDoor) -> bool:
        """Whether the next request, to that door, may go by it; made ready then."""
        if self.reader.at_eof() or self.door.outlived(door):
            return False
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
            self.used = True
        return self.http.our_state is h11.IDLE and not self.http.trailing_data[0]

    async def send(self, event: Any) -> None:
        """Lost when nothing can be sent any more; its answer may still be read."""
        data = self.http.send(event)
        try:
            if data:
                self.writer.write(data)
                await self.writer.drain()
        except (OSError, asyncssh.Error) as error:
            raise Lost from error

    async def event(self) -> Any:
        """The next of h11's events. Lost, and h11.RemoteProtocolError for what is no HTTP."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.read())
        if isinstance(event, h11.ConnectionClosed):
            raise Lost
        return event

    async def read(self) -> bytes:
        try:
            data: bytes = await self.reader.read(CHUNK)
        except (OSError, asyncssh.Error) as error:
            raise Lost from error
        return data

    def close(self) -> None:
        self.writer.close()
