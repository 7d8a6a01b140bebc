"""Container images made here from files, without a registry, and how containerd takes them in.

An archive holds one image in the OCI layout with a single uncompressed layer. The same content
gives the same digest, whenever and wherever it is packed. The image gets two names, `host/name:tag`
and `host/name@sha256:...`: the second is what a reference with a tag and a digest is looked up by.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

NAMESPACE = "k8s.io"  # containerd's own namespace for everything that a kubelet uses
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_IMAGE_NAME = "io.containerd.image.name"
_IMPORT_WITHIN_S = 120


class ImageError(Exception):
    """An image could not be packed or taken in; the message ends with what the tool said."""


@dataclasses.dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclasses.dataclass(frozen=True)
class Folder:
    """An empty directory."""

    mode: int = 0o755


# bytes: a file with mode 0644. Path: a file with its mode, or a directory with all it holds.
Content = bytes | Path | Link | Folder


@dataclasses.dataclass(frozen=True)
class Start:
    """How a container of an image starts unless its pod says otherwise."""

    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    user: str = ""
    workdir: str = "/"


def pack(archive: Path, ref: str, files: Mapping[str, Content], start: Start) -> str:
    """Write `archive`; the reference `host/name:tag@sha256:...` of what is in it.

    `ref` is `host/name:tag`, `files` maps absolute paths to contents, all owned by root.
    Raises ImageError for a reference without host or tag.
    """
    name, _, tag = ref.rpartition(":")
    if "/" in tag or "." not in name.partition("/")[0]:
        raise ImageError(f"an image is called host/name:tag, not {ref!r}")
    layer = _layer(files)
    config = _json(
        {
            "architecture": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {
                "Entrypoint": list(start.entrypoint),
                "Cmd": list(start.cmd),
                "Env": [f"{key}={value}" for key, value in start.env.items()],
                "User": start.user,
                "WorkingDir": start.workdir,
            },
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    kind = "application/vnd.oci.image"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": _descriptor(f"{kind}.config.v1+json", config),
            "layers": [_descriptor(f"{kind}.layer.v1.tar", layer)],
        }
    )
    described = _descriptor(f"{kind}.manifest.v1+json", manifest)
    names = (ref, f"{name}@{_digest(manifest)}")
    index = _json(
        {
            "schemaVersion": 2,
            "manifests": [{**described, "annotations": {_IMAGE_NAME: each}} for each in names],
        }
    )
    blobs = {f"blobs/sha256/{_digest(each)[7:]}": each for each in (layer, config, manifest)}
    layout = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index}
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in {**layout, **blobs}.items():
            _add_file(tar, path, content, 0o644)
    return f"{ref}@{_digest(manifest)}"


def take_in(ctr: Path, socket: Path, archive: Path, snapshotter: str) -> None:
    """Import an archive into the containerd at `socket`. Raises ImageError."""
    command = [str(ctr), "--address", str(socket), "--namespace", NAMESPACE]
    command += ["images", "import", "--snapshotter", snapshotter, str(archive)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_IMPORT_WITHIN_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{archive.name}: not taken in within {_IMPORT_WITHIN_S} s") from error
    if done.returncode:
        raise ImageError(f"{archive.name}: {done.stderr.strip()[-500:]}")


def base_files(busybox: Path) -> dict[str, Content]:
    """A small system with a shell and the usual commands."""
    listed = subprocess.run(
        [str(busybox), "--list-full"], capture_output=True, text=True, check=True
    ).stdout.split()
    links: dict[str, Content] = {f"/{each}": Link("/bin/busybox") for each in listed}
    return {
        **links,
        "/bin/busybox": busybox,
        "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        "/etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        "/root": Folder(0o700),
        "/run": Folder(),
        "/tmp": Folder(0o1777),
        "/var/tmp": Folder(0o1777),
    }


def _layer(files: Mapping[str, Content]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        made: set[str] = set()
        for path, content in sorted(files.items()):
            relative = path.strip("/")
            if isinstance(content, Path) and content.is_dir():
                for inside in sorted(content.rglob("*")):
                    below = str(PurePosixPath(relative, inside.relative_to(content).as_posix()))
                    _add(tar, made, below, _read(inside))
            else:
                _add(tar, made, relative, content)
    return buffer.getvalue()


def _read(path: Path) -> Content:
    """What is at `path` of a directory tree, links as links."""
    if path.is_symlink():
        return Link(os.readlink(path))
    return Folder(path.stat().st_mode & 0o7777) if path.is_dir() else path


def _add(tar: tarfile.TarFile, made: set[str], path: str, content: Content) -> None:
    """One entry, its parents before it."""
    for parent in reversed(PurePosixPath(path).parents[:-1]):
        if str(parent) not in made:
            _add(tar, made, str(parent), Folder())
    made.add(path)
    if isinstance(content, Folder):
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, content.mode
        tar.addfile(entry)
    elif isinstance(content, Link):
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, content.target
        tar.addfile(entry)
    elif isinstance(content, Path):
        _add_file(tar, path, content.read_bytes(), content.stat().st_mode & 0o7777)
    else:
        _add_file(tar, path, content, 0o644)


def _add_file(tar: tarfile.TarFile, path: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
