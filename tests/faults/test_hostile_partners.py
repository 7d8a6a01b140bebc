"""A hundred hostile inputs in a process of its own: the short form of `make hostile`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 100
SEED = os.environ.get("HOSTILE_SEED") or os.urandom(4).hex()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_a_hundred_hostile_inputs_break_no_limit(database_url: str, broker_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile"],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "MALLOC_ARENA_MAX": "2",  # as docs/operators.md says for every process
            "N": str(INPUTS),
            "SEED": SEED,
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    said = f"SEED={SEED}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    assert done.returncode == 0, said
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["inputs"] == INPUTS, said
    assert report["connections_seen"] > INPUTS // 4, (
        "nothing was connected to, so nothing is proven"
    )
