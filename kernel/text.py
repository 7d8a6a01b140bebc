"""Text that others wrote (nodes, pods, images, people) made harmless before it is stored.

Escaping for HTML stays with the templates; here go control characters, ANSI sequences,
bidirectional overrides (they can make a name read as another one), and length.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import overload

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
_BIDI = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F])
# Controls but the tab, lone surrogates, line and paragraph separators: one C-speed pass, because
# logs and lists of pods come by the megabyte.
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def clean(value: object, *, limit: int = 500, lines: bool = False) -> str:
    """``value`` as plain text of at most ``limit`` characters; line feeds only if ``lines``."""
    text = str(value)
    if not (text.isascii() and text.isprintable()):  # most of what clusters say is, by the million
        text = _ANSI.sub("", text).translate(_BIDI).replace("\t", " ")
        kept = text.split("\n") if lines else [text]
        text = "\n".join(_CONTROLS.sub(" ", part) for part in kept)
    joined = text.strip() if lines else " ".join(text.split())
    return joined if len(joined) <= limit else joined[: limit - 1] + "…"


def clean_line(value: str, *, limit: int) -> str:
    """One line of a program's output: as ``clean``, but its spaces and tabs stay as they are."""
    text = _CONTROLS.sub(" ", _ANSI.sub("", value).translate(_BIDI)).rstrip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def wrapped(text: str, *, width: int = 72) -> str:
    """Text in short lines, as mail programs without wrapping show it: paragraphs are broken between
    words, and between wide characters, each of which takes the room of two others; what is indented
    stays so. A single long word, such as an address, keeps its line."""
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    stripped = line.strip(" ")
    indent = line[: len(line) - len(line.lstrip(" "))]
    hanging = indent + "  " if stripped.startswith("* ") else indent
    lines, room, gap = [indent], width - len(indent), ""
    for piece, space in _PIECE.findall(stripped):
        if _columns(gap + piece) > room and lines[-1].strip():
            lines.append(hanging)
            room, gap = width - len(hanging), ""
        lines[-1] += gap + piece
        room, gap = room - _columns(gap + piece), " " if space else ""
    return "\n".join(lines) if stripped else ""


# A word, or one wide character with the signs that may not begin a line; and the space behind it.
_WIDE = "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60"
_CLOSING = "、。，．：；！？）】》」』”’…％"
_PIECE = re.compile(rf"((?:[{_WIDE}]|[^\s{_WIDE}]+)[{_CLOSING}]*)(\s*)")


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


@overload
def rfc3339(moment: datetime) -> str: ...
@overload
def rfc3339(moment: None) -> None: ...
def rfc3339(moment: datetime | None) -> str | None:
    """A time as every answer writes it: UTC with Z; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
