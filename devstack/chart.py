"""The provider bundle as a Helm chart, made from the very files that an owner reads.

deploy/provider/ is the source; nothing of it is written twice. The chart chooses by the server's
version what the head of bundle.yaml tells people to choose, and takes the relay's values.

    python -m devstack.chart FOLDER     gpuyard-provider-VERSION.tgz there, always the same bytes
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from devstack.console import say

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = ROOT / "deploy" / "provider"
NAME: Final = "gpuyard-provider"

Json = dict[str, Any]

_VALUES: Final = """\
# Ends pods whose lease ran out while gpuyard is away.
reaper: true

# Lets renters reach their own pods. Your cluster's page at gpuyard names these values and the
# image, by its digest.
relay:
  enabled: false
  cluster: ""
  gateway: ""
  seed: ""
  gatewayKey: ""
  image: ""
"""
_SECRET: Final = """\
---
apiVersion: v1
kind: Secret
metadata:
  name: gpuyard-relay
  namespace: gpuyard-system
stringData:
  cluster: {{ required "relay.cluster: see your page" .Values.relay.cluster | quote }}
  gateway: {{ required "relay.gateway: see your page" .Values.relay.gateway | quote }}
  relay.seed: {{ required "relay.seed: see your page" .Values.relay.seed | quote }}
  gateway.pub: {{ required "relay.gatewayKey: see your page" .Values.relay.gatewayKey | quote }}
"""
_IMAGE: Final = '{{ required "relay.image: by digest, see your page" .Values.relay.image }}'


def version() -> str:
    """The project's, which the chart's follows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return str(project["project"]["version"])


def files() -> dict[str, str]:
    """Every file of the chart, by its path in it."""
    bundle, narrow = _items("bundle.yaml"), _items("egress-1.22-and-newer.yaml")
    named = {_key(item) for item in narrow}
    wide = [item for item in bundle if _key(item) in named]
    rest = [item for item in bundle if _key(item) not in named]
    relay = _documents(_items("relay.yaml")).replace("image: IMAGE", f"image: {_IMAGE}")
    return {
        "Chart.yaml": yaml.safe_dump(
            {
                "apiVersion": "v2",
                "name": NAME,
                "version": version(),
                "description": "What an owner applies, so that gpuyard can rent spare cards out",
            },
            sort_keys=False,
        ),
        "values.yaml": _VALUES,
        "templates/bundle.yaml": _documents(rest),
        "templates/egress.yaml": _since("1.22", _documents(narrow), otherwise=_documents(wide)),
        "templates/psp.yaml": _when(
            _compared("<1.25-0"), _documents(_items("psp-1.24-and-older.yaml"))
        ),
        "templates/admission.yaml": _since(
            "1.30", _documents(_items("admission-1.30-and-newer.yaml"))
        ),
        "templates/reaper.yaml": _when(".Values.reaper", _documents(_items("reaper.yaml"))),
        "templates/relay.yaml": _when(".Values.relay.enabled", relay + _SECRET),
    }


def package(folder: Path) -> Path:
    """The chart as Helm takes it, with no time and no person in it."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{NAME}-{version()}.tgz"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, text in files().items():
            data = text.encode()
            entry = tarfile.TarInfo(f"{NAME}/{path}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    made.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return made


def _items(name: str) -> list[Json]:
    return list(yaml.safe_load((SOURCES / name).read_text())["items"])


def _key(item: Mapping[str, Any]) -> tuple[str, str, str]:
    meta = item["metadata"]
    return str(item["kind"]), str(meta.get("namespace", "")), str(meta["name"])


def _documents(items: Iterable[Json]) -> str:
    """Each object by itself: Helm orders objects by their kind, and a list has none."""
    texts = (yaml.dump(item, Dumper=_Plain, sort_keys=False, width=1000) for item in items)
    # What a program in them writes between double braces is not the chart's.
    return "".join("---\n" + text.replace("{{", '{{ "{{" }}') for text in texts)


class _Plain(yaml.SafeDumper):
    """Without references: whoever reads what a chart rendered sees each object whole."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _since(kubernetes: str, text: str, *, otherwise: str = "") -> str:
    return _when(_compared(f">={kubernetes}-0"), text, otherwise=otherwise)


def _compared(range_: str) -> str:
    return f'semverCompare "{range_}" .Capabilities.KubeVersion.Version'


def _when(condition: str, text: str, *, otherwise: str = "") -> str:
    other = f"{{{{- else }}}}\n{otherwise}" if otherwise else ""
    return f"{{{{- if {condition} }}}}\n{text}{other}{{{{- end }}}}\n"


if __name__ == "__main__":
    say(f"chart: {package(Path(sys.argv[1]))}")
