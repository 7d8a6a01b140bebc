"""The log on the rental page: followed live by the page's script, or what was kept, as text."""

from __future__ import annotations

from typing import Any, Final

from marketplace.models import Rental
from marketplace.rentals.logs import Asked, Handed, log_of

# As many as people scroll through on a page; the script keeps at most ten times that.
_LINES: Final = 200


def log_panel(rental: Rental) -> dict[str, Any]:
    """What the panel's template needs. The lines are hostile text: the template escapes them.

    The page's script asks the API's own address, so that its rights are checked at every
    connection; no grant is written into the page.
    """
    found = log_of(rental, Asked(tail=_LINES))
    api = f"/api/v1/rentals/{rental.public_id}/logs?tail={_LINES}"
    if isinstance(found, Handed) or (found.instance_id is None and rental.ended_at is None):
        return {"live": True, "address": f"{api}&follow=true", "document": api, "lines": ()}
    return {
        "live": False,
        "lines": found.lines,
        "truncated": found.truncated,
        "detail": found.detail,
    }
