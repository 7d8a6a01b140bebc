"""A container's log as the kubelet gives it, made into lines of harmless text. PURE.

The bytes are hostile twice: the tenant writes them and the provider's kubelet passes them on. So
memory is bounded whatever arrives (a line of any length costs MAX_LINE bytes), what is no UTF-8 is
replaced, and a time that cannot be read is no time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from kernel.text import clean_line, rfc3339
from provisioner.contracts import LogLine

# A container runtime itself cuts lines into pieces of 16 KiB. Longer would let one line fill a
# page, shorter would cut stack traces of compilers.
MAX_LINE = 16 * 1024
_STAMP = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)(?: |$)", re.ASCII
)
_NANO = 1_000_000_000


@dataclass(frozen=True)
class Stamped:
    """A line with its time in nanoseconds since 1970, None where the kubelet gave none."""

    nanos: int | None
    line: LogLine


class Splitter:
    """Bytes in pieces of any size become lines; the end of a line too long is dropped."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = False

    def feed(self, piece: bytes) -> list[Stamped]:
        *ends, rest = piece.split(b"\n")
        lines = []
        for end in ends:
            self._add(end)
            lines.append(self._take())
        self._add(rest)
        return lines

    def finish(self) -> list[Stamped]:
        """What came after the last line feed."""
        return [self._take()] if self._kept else []

    def _add(self, part: bytes) -> None:
        room = MAX_LINE - len(self._kept)
        self._cut = self._cut or len(part) > room
        self._kept += part[:room]

    def _take(self) -> Stamped:
        raw = bytes(self._kept) + ("…".encode() if self._cut else b"")
        self._kept.clear()
        self._cut = False
        return parse(raw)


def parse(raw: bytes) -> Stamped:
    """One line with the time before it; raises nothing."""
    found = _STAMP.match(raw)
    at = None if found is None else _moment(found)
    if found is None or at is None:
        return Stamped(None, LogLine(None, _text(raw)))
    fraction = (found[2] or b"").decode()
    nanos = int(at.timestamp()) * _NANO + int(fraction.ljust(9, "0"))
    shown = at.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    return Stamped(nanos, LogLine(rfc3339(shown), _text(raw[found.end() :])))


def lines_of(raw: bytes) -> list[Stamped]:
    """A whole log at once."""
    splitter = Splitter()
    return [*splitter.feed(raw), *splitter.finish()]


def as_text(lines: Iterable[LogLine]) -> str:
    """How a log is stored: a line each, its time first; ``from_text`` reads it back."""
    return "\n".join(f"{line.at or '-'} {line.text}" for line in lines)


def from_text(text: str) -> list[LogLine]:
    return [
        LogLine(None if at == "-" else at, line)
        for at, _, line in (row.partition(" ") for row in text.split("\n") if row)
    ]


def _moment(found: re.Match[bytes]) -> datetime | None:
    """The whole second, or None for a 31st of February."""
    try:
        at = datetime.fromisoformat((found[1] + found[3].replace(b"Z", b"+00:00")).decode())
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _text(raw: bytes) -> str:
    return clean_line(raw.decode(errors="replace"), limit=MAX_LINE)


class Position:
    """Where a reader of a log is, so that reading may begin again anywhere before it.

    As text, the id of an event: the time of the last line and how many lines had that very time.
    The kubelet can only be asked for everything since a whole second, so what was read already is
    left out by counting; equal times are told apart by their number.
    """

    def __init__(self, nanos: int | None = None, count: int = 0) -> None:
        self.nanos = nanos
        self._count = count
        self._skipping = 0 if nanos is None else count

    @classmethod
    def read(cls, ident: str) -> Position:
        """From an event's id; one that is none of ours begins at the beginning."""
        nanos, _, count = ident.partition("-")
        if not all(
            part.isascii() and part.isdigit() and len(part) <= 20 for part in (nanos, count)
        ):
            return cls()
        return cls(int(nanos), int(count))

    @property
    def ident(self) -> str:
        return "" if self.nanos is None else f"{self.nanos}-{self._count}"

    def rewind(self) -> None:
        """The log will be read again from the second of this position."""
        self._skipping = self._count if self.nanos is not None else 0

    def is_new(self, line: Stamped) -> bool:
        """Whether this line was not read before; moves on if so.

        A line without a time is always shown: twice is better than never.
        """
        if line.nanos is None:
            return True
        if self.nanos is not None and self._skipping:
            if line.nanos < self.nanos:
                return False
            if line.nanos == self.nanos:
                self._skipping -= 1
                return False
            self._skipping = 0
        same = line.nanos == self.nanos
        self.nanos, self._count = line.nanos, self._count + 1 if same else 1
        return True
