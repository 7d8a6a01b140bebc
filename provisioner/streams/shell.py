"""A shell in a renter's machine, entered as everybody enters: by SSH through the gateway.

So whom it lets in, what it limits and what it writes down is the gateway's own, and this process
can do no more than a renter could. What the machine writes waits here for its reader, a little of
it, and then in the machine.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncssh
from django.conf import settings

from kernel.text import clean
from provisioner.instances import access_keys

# A way that is open answers in a moment. The gateway waits ten seconds for a relay and ten for
# the machine, and has a sentence for both.
PATIENCE_SECONDS: Final = 30
KEEPALIVE_SECONDS: Final = 30
# What waits here for one reader: this and a window. Less slows those who are far away, more fills
# the process with what nobody reads.
ROOM: Final = 64 * 1024
WINDOW: Final = 256 * 1024
# What a page may have been sent and not have drawn. 512 KiB are 5 MB/s at 100 ms.
MOST_UNSEEN: Final = 512 * 1024
_PIECE: Final = 32 * 1024
# Dragging a window's edge tells of a hundred sizes a second; programs redraw for each.
_RESIZE_PAUSE: Final = 0.05
_TERM: Final = "xterm-256color"
_OURS: Final = re.compile(r"gpuyard: ([^\r\n]{1,300})")


class NoWayIn(Exception):
    """The machine cannot be entered; the message is a sentence for people."""


@dataclass(frozen=True)
class Entrance:
    """The gateway as renters are told of it. published: its host key, one line. key_of: private,
    for a machine and a user."""

    address: tuple[str, int]
    published: str
    key_of: Callable[[UUID, UUID], str]


def entrance() -> Entrance | None:
    """This platform's; None where it has none."""
    if settings.GPUYARD_SSH_GATEWAY is None:
        return None
    key: bytes = settings.GPUYARD_SEALING_KEY

    def key_of(instance: UUID, user: UUID) -> str:
        return access_keys.private_text(access_keys.terminal_key(instance, user, key=key))

    published = access_keys.public_line(access_keys.published_key(key=key))
    return Entrance(settings.GPUYARD_SSH_GATEWAY, published, key_of)


class Shell(asyncssh.SSHClientSession[bytes]):
    """One shell with its reader and its writer, each slowed by the other end."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._unseen = 0
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._over = False
        self._said = ""
        self._status: int | None = None
        self._size = (0, 0)
        self._resizing: asyncio.TimerHandle | None = None

    # --- what asyncssh tells

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._chan = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype is not None and (ours := _OURS.search(data.decode(errors="replace"))):
            self._said = ours[1]  # a shell's own errors come by its terminal, like all it writes
        self._waiting += data
        if len(self._waiting) >= ROOM:
            self._chan.pause_reading()
        self._changed.set()

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._changed.set()
        self._writable.set()
        if self._resizing is not None:
            self._resizing.cancel()

    # --- what the terminal asks

    async def read(self) -> bytes:
        """What the machine wrote next, once the page has drawn enough of what was before; empty
        at the end."""
        while not self._over and (not self._waiting or self._unseen >= MOST_UNSEEN):
            self._changed.clear()
            await self._changed.wait()
        piece = bytes(self._waiting[:_PIECE])
        del self._waiting[:_PIECE]
        self._unseen += len(piece)
        if len(self._waiting) < ROOM and not self._over:
            self._chan.resume_reading()
        return piece

    def seen(self, count: int) -> None:
        """The page has drawn so many bytes more."""
        self._unseen = max(0, self._unseen - count)
        self._changed.set()

    async def write(self, data: bytes) -> None:
        """Waits for a machine that does not read."""
        await self._writable.wait()
        if not self._over:
            self._chan.write(data)

    def resize(self, columns: int, rows: int) -> None:
        """The latest of many in a moment counts."""
        if (columns, rows) != self._size and not self._over:
            self._size = (columns, rows)
            if self._resizing is None:
                loop = asyncio.get_running_loop()
                self._resizing = loop.call_later(_RESIZE_PAUSE, self._tell_size)

    def _tell_size(self) -> None:
        self._resizing = None
        if not self._over:
            self._chan.change_terminal_size(*self._size)

    @property
    def ending(self) -> str:
        """Why it is over, as a sentence."""
        if self._said:
            return sentence(self._said)
        if self._status is None:
            return "The connection to the machine was lost."
        return f"The shell has ended{f' with status {self._status}' if self._status else ''}."


@dataclass(frozen=True)
class Entered:
    """Close ``conn`` to leave."""

    conn: asyncssh.SSHClientConnection
    shell: Shell


async def enter(way: Entrance, name: str, key: str, size: tuple[int, int]) -> Entered:
    """A shell in the machine of that name. Raises NoWayIn."""
    conn: asyncssh.SSHClientConnection | None = None
    inside = Shell()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            conn = await asyncssh.connect(
                *way.address,
                username=name,
                known_hosts=([asyncssh.import_public_key(way.published)], [], []),
                client_keys=[asyncssh.import_private_key(key)],
                config=None,
                agent_path=None,
                preferred_auth="publickey",
                compression_algs=["none"],
                keepalive_interval=KEEPALIVE_SECONDS,
            )
            await conn.create_session(
                lambda: inside,
                request_pty="force",
                term_type=_TERM,
                term_size=size,
                encoding=None,
                window=WINDOW,
            )
    except (OSError, asyncssh.Error, TimeoutError) as error:
        if conn is not None:
            conn.abort()
        raise NoWayIn(_why(error)) from error
    return Entered(conn, inside)


def _why(error: Exception) -> str:
    if isinstance(error, asyncssh.PermissionDenied):
        return "This machine does not run, or it was started anew. Connect again."
    if isinstance(error, asyncssh.ChannelOpenError) and error.reason.startswith("gpuyard: "):
        return sentence(error.reason.removeprefix("gpuyard: "))
    if isinstance(error, asyncssh.ChannelOpenError | asyncssh.ConnectionLost):
        # It let us in and sent us away; the library forgets what it said.
        return "This machine cannot be entered at the moment; its page says how it stands."
    return "The way into machines does not answer. Try again in a moment."


def sentence(said: str) -> str:
    """The gateway's words, which begin small as SSH's do."""
    text = clean(said, limit=200)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
