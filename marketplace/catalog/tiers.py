"""What the tier of an offer promises beside its price. Pure data."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

# How long a host may be in trouble before its rentals are given up, in seconds. The better the
# data centre, the longer it pays to wait: its nodes come back with the data that lies on them.
_GRACE: Final[dict[str, int]] = {"standard": 600, "new": 600}
# Of a cluster on probation, and what it becomes; another tier is staff's word and stays.
NEW, STANDARD = "new", "standard"
_LONGEST: Final = 1800
# How long before a host is taken down its renters are told. Two days reach over a weekend's jobs;
# owners of spare capacity rarely know more than that ahead.
NOTICE: Final = timedelta(hours=48)


def grace_of(tier: str) -> int:
    """Seconds of trouble until a rental on an offer of ``tier`` goes elsewhere or fails."""
    return _GRACE.get(tier, _LONGEST)
