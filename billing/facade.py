"""Billing's door: the only module, with contracts, that other areas may import.

Nothing behind this door talks to Stripe: intents are rows, executed later by a loop. Calls marked
"in a transaction" join the caller's and leave the commit to it.
"""

from __future__ import annotations
