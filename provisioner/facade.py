"""The provisioner's door: the only module, with contracts, that other areas may import.

Nothing behind this door talks to a network; calls marked "in a transaction" join the caller's and
leave the commit to it. Errors: Refusal subclasses for callers' mistakes, NoCandidate for a race.
"""

from __future__ import annotations
