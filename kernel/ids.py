"""Identifiers: UUID version 7 in the database, ``ren_01h…`` outside.

The public form is a prefix and the 128 bits in Crockford's base 32 (26 characters), as in the
TypeID convention: opaque, URL-safe, and sortable by creation.
"""

from __future__ import annotations

import os
import time
import uuid

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_LENGTH = 26

PREFIXES: dict[str, str] = {
    "organization": "org",
    "user": "usr",
    "project": "prj",
    "offer": "ofr",
    "quote": "quo",
    "rental": "ren",
    "instance": "ins",
    "visit": "vis",
    "volume": "vol",
    "api_key": "key",
    "ssh_key": "ssh",
    "template": "tpl",
    "secret": "sec",
    "registry_credential": "rgc",
    "webhook": "whk",
    "event": "evt",
    "delivery": "dlv",
    "provider": "prv",
    "datacenter": "dc",
    "cluster": "clu",
    "node": "nod",
    "slot": "slt",
    "brake": "brk",
    "break": "bre",
    "charge": "chg",
    "invoice": "inv",
    "topup": "top",
    "refund": "ref",
    "credit_note": "crn",
    "adjustment": "adj",
    "promotion": "prm",
    "dispute": "dsp",
    "payout": "po",
    "payout_run": "pru",
    "payment_method": "pay",
    "card_setup": "csu",
    "portal_session": "pts",
    "transaction": "txn",
    "listing": "ofr",
    "correlation": "err",
    "switch": "swi",
    "budget": "bud",
    "saved_search": "sav",
    "maintenance": "mnt",
    "abuse_report": "abr",
    "problem_report": "rep",
    "fee_change": "fee",
    "incident": "inc",
    "invitation": "ivt",
}


class BadId(ValueError):
    """The text is not an id of the wanted kind. Callers answer 404, as for any unknown id."""


def new_id() -> uuid.UUID:
    """A fresh UUIDv7: 48 bits of Unix milliseconds, then randomness.

    The time in it only sorts; nothing reads it as a fact (the one clock is the database's).
    """
    millis = time.time_ns() // 1_000_000
    value = (millis & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return uuid.UUID(int=value)


def public(kind: str, value: uuid.UUID) -> str:
    """``public("rental", u)`` -> ``"ren_…"``; raises KeyError for an unknown kind."""
    number = value.int
    letters = []
    for _ in range(_LENGTH):
        letters.append(_ALPHABET[number & 31])
        number >>= 5
    return f"{PREFIXES[kind]}_{''.join(reversed(letters))}"


def parse(kind: str, text: object) -> uuid.UUID:
    """The UUID behind a public id of ``kind``; raises BadId for anything else."""
    prefix = PREFIXES[kind] + "_"
    if not isinstance(text, str) or not text.startswith(prefix):
        raise BadId(f"not an id of the form {prefix}…")
    body = text[len(prefix) :]
    if len(body) != _LENGTH or body[0] > "7":
        raise BadId(f"not an id of the form {prefix}…")
    number = 0
    for letter in body:
        digit = _VALUES.get(letter)
        if digit is None:
            raise BadId(f"not an id of the form {prefix}…")
        number = number << 5 | digit
    return uuid.UUID(int=number)
