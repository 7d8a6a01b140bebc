"""What is kept here of others is what its README says: unchanged, complete, and used as it is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

VENDORED = Path(__file__).resolve().parents[2] / "static" / "vendor"


def test_each_file_is_the_one_that_was_published() -> None:
    folders = sorted(each for each in VENDORED.iterdir() if each.is_dir())
    assert folders
    for folder in folders:
        readme = (folder / "README.md").read_text()
        told = dict(re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", readme, re.MULTILINE))
        there = {
            each.name: hashlib.sha256(each.read_bytes()).hexdigest()
            for each in folder.iterdir()
            if each.name != "README.md"
        }
        assert told == there
