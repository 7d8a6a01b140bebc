"""How billing fares, as figures: what waits for Stripe or came from it and is not applied, and what
differs between the books and Stripe.

Reads only, over partial indexes. How late settled hours are is measured where
the proof lies: the provisioner's ``tick_lag``.
"""

from __future__ import annotations

from typing import Any

from django.db import connection

from billing.payments.returns_vitals import returns_vitals
from kernel.vitals import COUNT, Vital

_QUEUES = """
SELECT outbox.count, outbox.age, stuck.count, inbox.count, inbox.age,
       breaks.count, breaks.age, compared.age, payout.age FROM
  -- A transfer that waits for cash or the end of a hold is no sign of Stripe's.
  (SELECT count(*) AS count,
     coalesce(extract(epoch FROM app_now() - min(created_at)), 0)::float8 AS age
   FROM billing_stripecall WHERE state = 'pending'
    AND NOT (kind = 'transfer' AND error_code = 'not_ready')) outbox,
  (SELECT coalesce(extract(epoch FROM app_now() - min(created_at)), 0)::float8 AS age
   FROM billing_stripecall WHERE state = 'pending' AND kind = 'transfer'
    AND error_code = 'not_ready') payout,
  (SELECT count(*) AS count FROM billing_stripecall WHERE state = 'stuck') stuck,
  (SELECT count(*) AS count,
     coalesce(extract(epoch FROM app_now() - min(received_at)), 0)::float8 AS age
   FROM billing_stripeevent WHERE applied_at IS NULL) inbox,
  (SELECT count(*) AS count,
     coalesce(extract(epoch FROM app_now() - min(first_seen_at)), 0)::float8 AS age
   FROM billing_break WHERE resolved_at IS NULL) breaks,
  (SELECT coalesce(extract(epoch FROM app_now() - min(read_to)), 0)::float8 AS age
   FROM billing_stripecursor WHERE name LIKE 'reconciled%') compared
"""


def vitals() -> list[Vital]:
    """Everything measured here, in a fixed order."""
    with connection.cursor() as cursor:
        cursor.execute(_QUEUES)
        row: tuple[Any, ...] | None = cursor.fetchone()
    nothing = (0, 0.0, 0, 0, 0.0, 0, 0.0, 0.0, 0.0)
    waiting, waiting_age, stuck, unapplied, unapplied_age, *others = row or nothing
    breaks, break_age, compared_age, payout_age = others
    return [
        Vital("stripe_out", waiting, "Intents that Stripe has not answered", COUNT),
        Vital("stripe_out_age", max(waiting_age, 0.0), "Since the oldest of them was ordered"),
        Vital("stripe_stuck", stuck, "Intents whose outcome only a person can find out", COUNT),
        Vital("stripe_in", unapplied, "Events of Stripe that are not applied", COUNT),
        Vital("stripe_in_age", max(unapplied_age, 0.0), "Since the oldest of them came"),
        Vital("breaks", breaks, "Differences that the reconciliation found", COUNT),
        Vital("breaks_age", max(break_age, 0.0), "Since the oldest of them was found"),
        Vital("reconciled_age", max(compared_age, 0.0), "Since the moment up to which all agrees"),
        *returns_vitals(),
        Vital("payout_wait", max(payout_age, 0.0), "Since the oldest payout that waits began"),
    ]
