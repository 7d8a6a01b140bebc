"""Grants hold for one verb, one subject and a minute, and for nobody who cannot sign."""

from __future__ import annotations

import base64
import json
from uuid import uuid4

import pytest

from kernel.grants import GRANT_SECONDS, BadGrant, Grant, derive, sign, verify

KEY = derive("a secret of the platform")
GRANT = Grant("logs.follow", uuid4(), uuid4())
NOW = 1_800_000_000.0


def test_a_grant_comes_back_as_it_was_signed() -> None:
    text = sign(GRANT, key=KEY, now=NOW)
    for later in (0, 1, GRANT_SECONDS):
        assert verify(text, verb="logs.follow", key=KEY, now=NOW + later) == GRANT
    assert text.isascii()
    assert "+" not in text
    assert "/" not in text, "it stands in addresses"


def test_it_names_a_person_where_that_matters() -> None:
    user = uuid4()
    grant = Grant("terminal", GRANT.subject, GRANT.owner, user)
    found = verify(sign(grant, key=KEY, now=NOW), verb="terminal", key=KEY, now=NOW)
    assert (found, found.user, found.until) == (grant, user, NOW + GRANT_SECONDS)
    assert found != Grant("terminal", GRANT.subject, GRANT.owner, uuid4())
    assert found != Grant("terminal", GRANT.subject, GRANT.owner)


def test_without_a_person_it_is_read_by_the_version_before() -> None:
    body = sign(GRANT, key=KEY, now=NOW).partition(".")[0]
    assert len(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))) == 4


@pytest.mark.parametrize("late", [GRANT_SECONDS + 1, 86_400, -10 * GRANT_SECONDS])
def test_it_lives_a_minute(late: float) -> None:
    with pytest.raises(BadGrant, match="expired"):
        verify(sign(GRANT, key=KEY, now=NOW), verb="logs.follow", key=KEY, now=NOW + late)


def test_it_is_for_its_verb_alone() -> None:
    with pytest.raises(BadGrant, match="something else"):
        verify(sign(GRANT, key=KEY, now=NOW), verb="terminal", key=KEY, now=NOW)


def test_no_other_use_of_the_secret_signs_grants() -> None:
    text = sign(GRANT, key=b"a secret of the platform", now=NOW)
    with pytest.raises(BadGrant):
        verify(text, verb="logs.follow", key=KEY, now=NOW)


def test_every_changed_letter_is_noticed() -> None:
    text = sign(GRANT, key=KEY, now=NOW)
    for place, letter in enumerate(text):
        other = "A" if letter != "A" else "B"
        changed = text[:place] + other + text[place + 1 :]
        with pytest.raises(BadGrant):
            verify(changed, verb="logs.follow", key=KEY, now=NOW)


def test_a_stranger_cannot_lengthen_it() -> None:
    body, _, signature = sign(GRANT, key=KEY, now=NOW).partition(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    claims[3] += 3600
    longer = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode())
    with pytest.raises(BadGrant, match="changed"):
        verify(f"{longer.decode().rstrip('=')}.{signature}", verb="logs.follow", key=KEY, now=NOW)


@pytest.mark.parametrize("text", ["", ".", "a", "a.b", "é.b", "x" * 5000, "e30.e30", "\0.\0"])
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(BadGrant):
        verify(text, verb="logs.follow", key=KEY, now=NOW)
