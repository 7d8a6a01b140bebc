"""The Helm chart of the provider bundle has the very objects of its files, for each server.

There is no Helm here: what the chart says with it is a handful of lines, which are worked out below
as Helm's documentation has them.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack import chart

FOLDER = chart.SOURCES
_IF = re.compile(r"\{\{- if (.+) \}\}")
_RANGE = re.compile(r'semverCompare "(>=|<)1\.(\d+)-0" \.Capabilities\.KubeVersion\.Version')
RELAY = {
    "enabled": True,
    "cluster": "clu_x",
    "gateway": "ssh.example.com:22",
    "seed": "c2VlZA==",
    "gatewayKey": "ssh-ed25519 AAAA",
    "image": "registry.example.com/podtools@sha256:" + "ab" * 32,
}


def holds(condition: str, minor: int, values: dict[str, Any]) -> bool:
    found = _RANGE.fullmatch(condition)
    if found is not None:
        return minor >= int(found[2]) if found[1] == ">=" else minor < int(found[2])
    place: Any = values
    for part in condition.removeprefix(".Values.").split("."):
        place = place[part]
    return bool(place)


def value_of(call: re.Match[str], values: dict[str, Any]) -> str:
    place: Any = values
    for part in call[1].split("."):
        place = place[part]
    assert place, "required"
    return f'"{place}"' if "| quote" in call[0] else str(place)


def rendered(minor: int, values: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for path, text in chart.files().items():
        if not path.startswith("templates/"):
            continue
        shown, lines = [True], []
        for line in text.splitlines(keepends=True):
            asked = _IF.fullmatch(line.strip())
            if asked is not None:
                shown.append(holds(asked[1], minor, values))
            elif line.strip() == "{{- else }}":
                shown[-1] = not shown[-1]
            elif line.strip() == "{{- end }}":
                shown.pop()
            elif all(shown):
                lines.append(line)
        whole = re.sub(
            r'\{\{ required "[^"]+" \.Values\.([a-zA-Z.]+)(?: \| quote)? \}\}',
            lambda call: value_of(call, values),
            "".join(lines),
        )
        whole = whole.replace('{{ "{{" }}', "{{")
        found += [item for item in yaml.safe_load_all(whole) if item is not None]
    return found


def items(*names: str) -> list[dict[str, Any]]:
    return [item for n in names for item in yaml.safe_load((FOLDER / n).read_text())["items"]]


def key(item: dict[str, Any]) -> tuple[str, ...]:
    meta = item["metadata"]
    return item["kind"], meta.get("namespace", ""), meta["name"]


def values() -> dict[str, Any]:
    return dict(yaml.safe_load(chart.files()["values.yaml"]))


@pytest.mark.parametrize(
    ("minor", "more"),
    [
        (20, ["psp-1.24-and-older.yaml"]),
        (22, ["egress-1.22-and-newer.yaml", "psp-1.24-and-older.yaml"]),
        (25, ["egress-1.22-and-newer.yaml"]),
        (31, ["egress-1.22-and-newer.yaml", "admission-1.30-and-newer.yaml"]),
    ],
)
def test_each_server_gets_the_objects_of_its_files_once(minor: int, more: list[str]) -> None:
    """A later file's object takes the place of an earlier one's, as with kubectl apply."""
    wanted = {key(item): item for item in items("bundle.yaml", "reaper.yaml", *more)}
    got = rendered(minor, values())
    assert {key(item): item for item in got} == wanted
    assert len(got) == len(wanted), "none is there twice: Helm takes that for a mistake"


def test_the_relay_comes_with_its_values_and_never_without() -> None:
    with_relay = {**values(), "relay": RELAY}
    got = {key(item): item for item in rendered(25, with_relay)}
    assert {key(item) for item in items("relay.yaml")} <= got.keys()
    secret = got["Secret", "gpuyard-system", "gpuyard-relay"]
    assert secret["stringData"] == {
        "cluster": "clu_x",
        "gateway": "ssh.example.com:22",
        "relay.seed": "c2VlZA==",
        "gateway.pub": "ssh-ed25519 AAAA",
    }
    pods = got["Deployment", "gpuyard-system", "gpuyard-relay"]["spec"]["template"]["spec"]
    assert [each["image"] for each in pods["containers"]] == [RELAY["image"]]
    with pytest.raises(AssertionError, match="required"):
        rendered(25, {**values(), "relay": {**RELAY, "seed": ""}})


def test_the_reaper_may_be_left_out() -> None:
    got = {key(item) for item in rendered(25, {**values(), "reaper": False})}
    assert not got & {key(item) for item in items("reaper.yaml")}


def test_the_package_is_one_folder_and_the_same_each_time(tmp_path: Path) -> None:
    made = chart.package(tmp_path)
    assert made.name == f"gpuyard-provider-{chart.version()}.tgz"
    with tarfile.open(made) as archive:
        assert sorted(archive.getnames()) == sorted(f"gpuyard-provider/{n}" for n in chart.files())
    first = made.read_bytes()
    assert chart.package(tmp_path).read_bytes() == first
