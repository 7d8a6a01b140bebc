"""The kernel's promises: ids, money, sealed values, harmless text, whole seconds, back-off."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import ids, money, sealed
from kernel.clock import ceil_second, floor_second, hour_of
from kernel.retry import backoff
from kernel.text import clean, rfc3339

MOMENTS = st.datetimes(
    min_value=datetime(2020, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)
)


@given(st.uuids())
def test_an_id_survives_the_way_out_and_back(value: uuid.UUID) -> None:
    text = ids.public("rental", value)
    assert text.startswith("ren_")
    assert len(text) == 30
    assert ids.parse("rental", text) == value


def test_ids_sort_by_creation_and_are_version_seven() -> None:
    made = [ids.new_id() for _ in range(200)]
    assert all(value.version == 7 for value in made)
    millis = [value.int >> 80 for value in made]
    assert millis == sorted(millis)
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    "text",
    [
        *("", "ren_", "vol_01h455vb4pex5vsknk084sn02q", "ren_01h455vb4pex5vsknk084sn02"),
        *("ren_81h455vb4pex5vsknk084sn02q", "ren_01h455vb4pex5vsknk084sn02!", "REN_01h", None, 7),
        "ren_01H455VB4PEX5VSKNK084SN02Q",
    ],
)
def test_what_is_no_rental_id_is_refused(text: object) -> None:
    with pytest.raises(ids.BadId):
        ids.parse("rental", text)


@given(st.integers(min_value=-money.MAX_MICRO, max_value=money.MAX_MICRO))
def test_money_survives_the_way_out_and_back(micro: int) -> None:
    assert money.parse_micro(money.format_micro(micro)) == micro


@pytest.mark.parametrize(
    ("micro", "text"),
    [(650_000, "0.6500"), (1, "0.000001"), (-1_500_000, "-1.5000"), (0, "0.0000")],
)
def test_money_shows_every_part_it_has(micro: int, text: str) -> None:
    assert money.format_micro(micro) == text


@pytest.mark.parametrize(
    "text", ["", "1e3", "0.0000001", "NaN", "--1", "1,5", " 1", "1 ", 1.5, None, "9" * 33, "1.2.3"]
)
def test_what_is_no_amount_is_refused(text: object) -> None:
    with pytest.raises(money.BadAmount):
        money.parse_micro(text)


def test_no_part_of_a_cent_vanishes_on_the_way_to_stripe() -> None:
    assert money.to_minor(1_230_000) == 123
    assert money.from_minor(123) == 1_230_000
    with pytest.raises(money.BadAmount):
        money.to_minor(1_230_001)


def test_a_sealed_value_opens_only_for_its_owner_field_and_key() -> None:
    key = os.urandom(32)
    box = sealed.seal(b"token", key=key, owner="clu_1", field="token")
    assert b"token" not in box
    assert sealed.unseal(box, key=key, owner="clu_1", field="token") == b"token"
    for other in (
        {"key": os.urandom(32), "owner": "clu_1", "field": "token"},
        {"key": key, "owner": "clu_2", "field": "token"},
        {"key": key, "owner": "clu_1", "field": "ca"},
    ):
        with pytest.raises(sealed.CannotOpen):
            sealed.unseal(box, **other)  # type: ignore[arg-type]


@given(st.integers(min_value=0, max_value=150), st.integers(min_value=1, max_value=255))
def test_a_changed_sealed_value_does_not_open(position: int, flip: int) -> None:
    key = b"k" * 32
    box = bytearray(sealed.seal(b"a longer secret value" * 3, key=key, owner="o", field="f"))
    box[position % len(box)] ^= flip
    with pytest.raises(sealed.CannotOpen):
        sealed.unseal(bytes(box), key=key, owner="o", field="f")


def test_text_of_others_is_made_harmless() -> None:
    assert clean("\x1b[31mred\x1b[0m\x00 and\u202e back") == "red and back"
    assert clean("one\ntwo") == "one two"
    assert clean("one\ntwo", lines=True) == "one\ntwo"
    assert clean("x" * 600, limit=10) == "x" * 9 + "…"


@given(st.text())
def test_cleaned_text_holds_no_control_character(text: str) -> None:
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in clean(text))


@given(MOMENTS)
def test_windows_round_inwards(moment: datetime) -> None:
    assert floor_second(moment) <= moment <= ceil_second(moment)
    assert ceil_second(moment) - floor_second(moment) in (timedelta(0), timedelta(seconds=1))
    assert hour_of(moment) <= moment < hour_of(moment) + timedelta(hours=1)


def test_times_are_written_in_utc() -> None:
    assert rfc3339(datetime(2026, 11, 1, 12, tzinfo=UTC)) == "2026-11-01T12:00:00Z"
    assert rfc3339(None) is None


@given(st.integers(min_value=0, max_value=10_000), st.floats(min_value=0, max_value=0.999))
def test_back_off_stays_between_half_its_window_and_the_cap(attempt: int, fraction: float) -> None:
    wait = backoff(attempt, base=1.0, cap=60.0, fraction=fraction)
    window = min(60.0, 2.0 ** min(attempt, 30))
    assert window / 2 <= wait <= window
