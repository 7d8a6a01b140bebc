"""`python -m devstack.kube.embed`: write the reaper into the file that a provider applies.

deploy/provider/reaper.py is the program; reaper.yaml carries the very same text in its ConfigMap,
so that what the tests run is what an owner reads and applies. A test keeps the two equal.
"""

from __future__ import annotations

import sys
import textwrap

from devstack.kube.provision import BUNDLE

PROGRAM, MANIFEST = BUNDLE / "reaper.py", BUNDLE / "reaper.yaml"
_BEGIN = "    reaper.py: |\n"
_INDENT = " " * 6


def embedded(manifest: str, program: str) -> str:
    """`manifest` with `program` as its only block scalar. Raises ValueError without one."""
    before, begin, rest = manifest.partition(_BEGIN)
    if not begin:
        raise ValueError("the manifest has no place for the program")
    lines = rest.splitlines(keepends=True)
    kept = 0
    while kept < len(lines) and (lines[kept].startswith(_INDENT) or not lines[kept].strip()):
        kept += 1
    return before + begin + textwrap.indent(program, _INDENT) + "\n" + "".join(lines[kept:])


def main() -> int:
    MANIFEST.write_text(embedded(MANIFEST.read_text(), PROGRAM.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
