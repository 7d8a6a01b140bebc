"""The standing order to top up, as it crosses the door."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class AutoTopUpWish:
    """What is to be: below ``threshold_micro`` one charge up to ``target_micro``, at most
    ``daily_micro`` in any 24 hours, of that saved card or (None) the newest."""

    enabled: bool
    threshold_micro: int
    target_micro: int
    daily_micro: int
    method_id: UUID | None


@dataclass(frozen=True)
class AutoTopUpView:
    """What is. state: off, on, waiting (for a charge under way), action_required (the bank wants
    its owner: confirm by a top-up, then it goes on). off_reason: failed, no_card or empty."""

    state: str
    off_reason: str
    wish: AutoTopUpWish
    charged_micro: int  # in the last 24 hours
    failures: int  # in a row
    last_topup: UUID | None
    last_at: datetime | None
    last_failure: str | None
    version: int


@dataclass(frozen=True)
class AutoTopUpNews:
    """What an organization's people have to be told. what: failed (three times: it is off now),
    no_card (off), action (the bank wants its owner)."""

    org_ref: UUID
    what: str
    amount_micro: int
    failure: str
