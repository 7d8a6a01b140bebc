"""The parts of a real node that need no machine: images, cards, its place, its settings."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tomllib
from pathlib import Path

import pytest

from devstack.kube.node import config
from devstack.kube.node.cards import FakeCards, Group
from devstack.kube.node.images import Folder, ImageError, Link, Start, pack
from devstack.kube.node.machine import Place

REF = "registry.example.com/team/app:1"


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {
            member.name: file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member))
        }


def test_an_image_is_what_it_was_made_of_and_its_reference_names_its_digest(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    tree = tmp_path / "tree/inner"
    tree.mkdir(parents=True)
    (tree / "note").write_text("hello")
    files = {
        "/bin/program": program,
        "/bin/sh": Link("/bin/program"),
        "/opt": tmp_path / "tree",
        "/tmp": Folder(0o1777),
        "/etc/motd": b"welcome",
    }
    start = Start(entrypoint=["/bin/program"], cmd=["x"], env={"A": "1"}, user="7")
    ref = pack(tmp_path / "image.tar", REF, files, start)
    found = blobs(tmp_path / "image.tar")
    name, digest = ref.split("@")
    assert name == REF
    index = json.loads(found["index.json"])
    named = [each["annotations"]["io.containerd.image.name"] for each in index["manifests"]]
    assert named == [REF, f"registry.example.com/team/app@{digest}"]
    for path, content in found.items():
        if path.startswith("blobs/"):
            assert hashlib.sha256(content).hexdigest() == path.rpartition("/")[2]
    manifest = json.loads(found[f"blobs/sha256/{digest[7:]}"])
    told = json.loads(found[f"blobs/sha256/{manifest['config']['digest'][7:]}"])["config"]
    assert (told["Entrypoint"], told["Cmd"], told["Env"], told["User"]) == (
        ["/bin/program"],
        ["x"],
        ["A=1"],
        "7",
    )
    layer = found[f"blobs/sha256/{manifest['layers'][0]['digest'][7:]}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        members = {each.name: each for each in tar.getmembers()}
    assert members["bin/program"].mode == 0o755
    assert members["bin/sh"].linkname == "/bin/program"
    assert members["opt/inner/note"].size == 5
    assert members["tmp"].mode == 0o1777
    assert all(member.uid == member.mtime == 0 for member in members.values())


def test_the_same_content_has_the_same_digest(tmp_path):
    refs = {pack(tmp_path / name, REF, {"/a": b"x"}, Start()) for name in ("one", "two")}
    assert len(refs) == 1
    assert refs != {pack(tmp_path / "three", REF, {"/a": b"y"}, Start())}


@pytest.mark.parametrize("ref", ["app", "app:1", "team/app:1", "host.example/app", "h.example:5/a"])
def test_a_reference_without_host_or_tag_is_refused(tmp_path, ref):
    with pytest.raises(ImageError, match="host/name:tag"):
        pack(tmp_path / "image", ref, {}, Start())


def test_cards_are_told_to_plugin_and_tools(tmp_path):
    cards = FakeCards(tmp_path, "dc", "real-1", [Group("h100-sxm", 2), Group("ascend-910b3", 1)])
    first, second, npu = cards.cards
    assert cards.resources == ["nvidia.com/gpu", "huawei.com/Ascend910"]
    assert cards.labels["nvidia.com/gpu.count"] == "2"
    assert (second.file, npu.file) == ("/dev/nvidia1", "/dev/davinci0")
    second.dead = True
    cards.write()
    assert cards.allocatable() == {"nvidia.com/gpu": "1", "huawei.com/Ascend910": "1"}
    assert (tmp_path / "dead").read_text() == second.id
    shown = json.loads((tmp_path / "shown/cards.json").read_text())
    assert [(each["id"], each["dead"]) for each in shown] == [
        (first.id, False),
        (second.id, True),
        (npu.id, False),
    ]
    nvidia, huawei = cards.plugin_spec(Path("/sockets"), Path("/tool"))["Resources"]
    assert [each["Visible"] for each in nvidia["Devices"]] == [first.id, second.id]
    assert [each["Visible"] for each in huawei["Devices"]] == ["0"]
    assert {"Host": "/tool", "Container": "/usr/bin/nvidia-smi"} in nvidia["Common"]["Mounts"]


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ([Group("abacus", 1)], "no card"),
        ([Group("mi300x", 1)], "no fake cards of amd.com/gpu"),
        ([Group("h100-sxm", 1), Group("l40s", 1)], "two kinds"),
    ],
)
def test_cards_that_cannot_be_played_are_refused(tmp_path, groups, why):
    with pytest.raises(ValueError, match=why):
        FakeCards(tmp_path, "dc", "real-1", groups)


def test_places_do_not_overlap():
    first, second = Place(1), Place(2)
    assert (first.address, first.pods, second.pods) == ("10.99.0.1", "10.98.0.0/24", "10.98.1.0/24")
    assert not {first.name, first.bridge, first.address} & {second.name, second.bridge}
    assert len(Place(250).bridge) <= 15  # the kernel's limit
    for number in (0, 251):
        with pytest.raises(ValueError, match="1 to 250"):
            Place(number)


def test_the_runtime_is_told_in_valid_toml():
    told = tomllib.loads(config.containerd(Path("/f"), Path("/r"), "host.example/pause", "native"))
    cri = told["plugins"]["io.containerd.grpc.v1.cri"]
    assert told["grpc"]["address"] == "/f/containerd.sock"
    assert cri["sandbox_image"] == "host.example/pause"
    assert cri["containerd"]["snapshotter"] == "native"
    assert cri["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == "/r/usr/sbin/runc"
