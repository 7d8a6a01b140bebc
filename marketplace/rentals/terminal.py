"""Who gets a shell in a machine through the portal: whoever may change the rental, while it runs.

The web process opens nothing. It signs for a minute that this person may enter this machine; the
streams process goes in, by the gateway like everybody, and asks for a new signature as long as it
stays (docs/access.md).
"""

from __future__ import annotations

import time
from urllib.parse import urlencode

from django.conf import settings

from kernel.errors import Refusal
from kernel.grants import Grant, sign
from marketplace.accounts.access import Principal
from marketplace.models import Rental
from marketplace.rentals.state import actions_of
from provisioner import facade as provisioner
from provisioner.contracts.streaming import STREAM_PATHS, TERMINAL
from provisioner.facade import access


def grant_for(acting: Principal, rental: Rental) -> str:
    """Good for a minute. Raises Refusal insufficient_scope, and invalid_transition while nobody
    can come in."""
    acting.require("rentals:write")
    machines = provisioner.instances(rental_ref=rental.id)
    if not machines or rental.id not in access.ways(rental_refs=[rental.id]):
        raise Refusal(
            "invalid_transition",
            f"The rental is {rental.state}. Its terminal opens while it runs and its way in was "
            "tried and found open.",
            state=rental.state,
            actions=actions_of(rental),
        )
    grant = Grant(
        TERMINAL, subject=machines[0].id, owner=rental.organization_id, user=acting.user.pk
    )
    return sign(grant, key=settings.GPUYARD_GRANT_KEY, now=time.time())


def address_of(grant: str) -> str:
    """Where a page connects with it."""
    return f"{STREAM_PATHS[TERMINAL]}?{urlencode({'grant': grant})}"
