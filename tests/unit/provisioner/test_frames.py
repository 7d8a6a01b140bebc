"""Frames of the terminal: what a page says is understood, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provisioner.streams.frames import (
    MOST_BYTES,
    MOST_TEXT,
    BadFrame,
    Renewed,
    Resize,
    Seen,
    Typed,
    closed,
    read,
)
from provisioner.streams.shell import sentence


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        ({"bytes": b"ls\n"}, Typed(b"ls\n")),
        ({"bytes": b"x" * MOST_BYTES, "text": None}, Typed(b"x" * MOST_BYTES)),
        ({"text": '{"resize": [80, 24]}'}, Resize(80, 24)),
        ({"text": '{"resize": [1, 1000]}'}, Resize(1, 1000)),
        ({"text": '{"grant": "a.b"}', "bytes": None}, Renewed("a.b")),
        ({"text": '{"seen": 65536}'}, Seen(65536)),
    ],
)
def test_what_a_page_says(message: dict[str, Any], frame: Any) -> None:
    assert read(message) == frame


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"text": None, "bytes": None},
        {"bytes": b"x" * (MOST_BYTES + 1)},
        {"text": '{"grant": "' + "x" * MOST_TEXT + '"}'},
        {"text": ""},
        {"text": "null"},
        {"text": "{}"},
        {"text": '[["resize", 1]]'},
        {"text": '{"resize": [0, 24]}'},
        {"text": '{"resize": [80, 1001]}'},
        {"text": '{"resize": [80, 24, 1]}'},
        {"text": '{"resize": [80.0, 24]}'},
        {"text": '{"resize": [true, 24]}'},
        {"text": '{"resize": "80x24"}'},
        {"text": '{"seen": 0}'},
        {"text": '{"seen": 1e400}'},
        {"text": '{"seen": NaN}'},
        {"text": '{"seen": ' + "9" * 900 + "}"},
        {"text": '{"grant": null}'},
        {"text": '{"closed": "x"}'},
        {"text": '{"seen": 1, "grant": "x"}'},
        {"text": "[" * 1000},
    ],
)
def test_what_no_page_says(message: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        read(message)


def test_the_last_frame_is_json_whatever_the_sentence() -> None:
    assert json.loads(closed('a "b"\n\u2028')) == {"closed": 'a "b"\n\u2028'}


def test_the_gateways_words_become_a_sentence() -> None:
    assert sentence("this machine was ended") == "This machine was ended."
    assert sentence("\x1b[31mthe\x07 end\u202e") == "The end."
