"""A deterministic simulation of the whole platform in one process: see docs/simulation.md.

`python -m tests.simulation` runs schedules; the tests beside it run fresh ones each time and prove
that every invariant can fail.
"""
