"""One SSH session carried from a renter's connection into their pod's.

Bytes, sizes, signals, ends and exit status go through as they come; a side that reads slowly slows
the other, so nothing piles up here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import asyncssh

# A way in takes a fraction of it; who waits longer is told for what.
SILENT_SECONDS = 2.0
# What OpenSSH itself says when the connection, and not the command, ended.
CUT_OFF = 255

Inward = Callable[[], Awaitable[asyncssh.SSHClientConnection]]


class Outer(asyncssh.SSHServerSession[bytes]):
    """The renter's end. ``inward``: the connection into the pod, or ChannelOpenError; ``cut_off``:
    why that was lost, once it was; ``heard``: something was said, by either end."""

    def __init__(
        self,
        inward: Inward,
        cut_off: Callable[[], str],
        heard: Callable[[], None],
        gone: Callable[[Outer], None],
    ) -> None:
        self._inward, self.cut_off, self.heard, self._gone = inward, cut_off, heard, gone
        heard()
        self._command: str | None = None
        self._subsystem: str | None = None
        self._inner: Inner | None = None
        # What came before the pod's end was open; at most a window of the channel.
        self._early: list[bytes] = []
        self._early_end = False
        self._terminal: tuple[str, tuple[int, int, int, int], Mapping[int, int]] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self.chan = chan

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone(self)
        if self._inner is not None:
            self._inner.chan.close()

    # --- what is wanted

    def pty_requested(
        self,
        term_type: str,
        term_size: tuple[int, int, int, int],
        term_modes: Mapping[int, int],
    ) -> bool:
        self._terminal = (term_type, term_size, term_modes)
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        self._subsystem = subsystem
        return True

    def session_started(self) -> None:
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        kind, size, modes = self._terminal or (None, None, None)
        try:
            inward = await self._waited_for(asyncio.ensure_future(self._inward()))
            inner = Inner(self)
            await inward.create_session(
                lambda: inner,
                self._command if self._command is not None else (),
                subsystem=self._subsystem if self._subsystem is not None else (),
                env=[*self.chan.get_environment_bytes().items()],
                request_pty="force" if self._terminal else False,
                term_type=kind,
                term_size=size,
                term_modes=modes,
                encoding=None,
            )
        except asyncssh.ChannelOpenError as error:
            self.say(error.reason)
            return
        if self.chan.is_closing():
            inner.chan.close()
            return
        self._inner = inner
        for each in self._early:
            inner.chan.write(each)
        self._early.clear()
        if self._early_end:
            inner.chan.write_eof()
        self.chan.resume_reading()

    async def _waited_for(
        self, opening: asyncio.Future[asyncssh.SSHClientConnection]
    ) -> asyncssh.SSHClientConnection:
        await asyncio.wait((opening,), timeout=SILENT_SECONDS)
        if not opening.done() and not self.chan.is_closing():
            self.chan.write_stderr(b"gpuyard: waiting for this machine\r\n")
        return await opening

    def say(self, sentence: str) -> None:
        """The last words of a session, on its error stream, and its end."""
        if not self.chan.is_closing():
            self.chan.write_stderr(f"\r\n{sentence}\r\n".encode())
            self.chan.exit(CUT_OFF)

    # --- inward

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self.heard()
        if self._inner is not None:
            self._inner.chan.write(data)
        else:
            self._early.append(data)
            self.chan.pause_reading()

    def eof_received(self) -> bool:
        if self._inner is not None:
            self._inner.chan.write_eof()
        else:
            self._early_end = True
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._inner is not None:
            self._inner.chan.change_terminal_size(width, height, pixwidth, pixheight)

    def signal_received(self, signal: str) -> None:
        if self._inner is not None:
            self._inner.chan.send_signal(signal)

    def break_received(self, msec: int) -> bool:
        if self._inner is not None:
            self._inner.chan.send_break(msec)
        return True

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.chan.pause_reading()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.chan.resume_reading()


class Inner(asyncssh.SSHClientSession[bytes]):
    """The pod's end."""

    def __init__(self, outer: Outer) -> None:
        self._outer = outer
        self._status: int | None = None
        self._signal: tuple[str, bool, str, str] | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self.chan = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._outer.heard()
        self._outer.chan.write(data, datatype)

    def eof_received(self) -> bool:
        self._outer.chan.write_eof()
        return True

    def exit_status_received(self, status: int) -> None:
        self._status = status  # told when all is carried: it may overtake data

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._signal = (signal, core_dumped, msg, lang)

    def pause_writing(self) -> None:
        self._outer.chan.pause_reading()

    def resume_writing(self) -> None:
        self._outer.chan.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        chan = self._outer.chan
        if chan.is_closing():
            return
        if self._signal is not None:
            chan.exit_with_signal(*self._signal)
        elif self._status is not None:
            chan.exit(self._status)
        else:
            self._outer.say(f"gpuyard: {self._outer.cut_off()}")
