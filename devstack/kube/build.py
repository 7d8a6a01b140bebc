"""Kubernetes 1.20 from Debian's own source package, compiled in a few minutes without root.

No Debian package carries the control plane any more and nothing may be downloaded from elsewhere,
but bookworm still has the source, vendored whole, and a Go compiler that can build it after two
repairs (`repair_reflect2`, `_generate_openapi`). Compiler, sources and build cache are thrown away
afterwards; only the binaries stay.
"""

from __future__ import annotations

import dataclasses
import lzma
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from devstack.cache import cached
from devstack.console import say
from devstack.debian import Apt, unpack

SUITE = "bookworm"
VERSION = "1.20.2"  # what upstream tagged; Debian's version says 1.20.5+really1.20.2
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
PACKAGES = (
    "golang-1.19-go",
    "golang-1.19-src",
    "golang-github-modern-go-reflect2-dev",
    "etcd-server",
    "patch",
)
TAGS = "providerless dockerless"
# Raise when a step below changes, so that caches are built anew.
REVISION = 2

_KUBERNETES = "k8s.io/kubernetes"
_PROGRESS_EVERY_S = 10


class BuildError(Exception):
    """A step failed; the message ends with what the tool said."""


def build_control_plane(components: Sequence[str] = CONTROL_PLANE) -> Path:
    """Directory with `components` and etcd, from the cache or built now (minutes).

    Raises BuildError or devstack.debian.DebianError; a failed build leaves nothing in the cache.
    """
    recipe = repr(
        (SUITE, VERSION, PACKAGES, TAGS, sorted(components), os.uname().machine, REVISION)
    )
    return cached(
        "kubernetes", recipe, lambda entry: _ControlPlaneBuild(entry, tuple(components)).run()
    )


@dataclasses.dataclass
class SourceBuild:
    """Debian's source of Kubernetes with a compiler, unpacked below the cache entry `entry`."""

    entry: Path

    def __post_init__(self) -> None:
        self.work = self.entry / "work"
        self.root = self.work / "root"
        self.gopath = self.work / "gopath"
        self.tree = self.gopath / "src" / _KUBERNETES
        self.tools = self.work / "tools"

    def fetch(self) -> None:
        apt = Apt(sources=True, suites=(SUITE,))
        # The suite is named with each package: newer releases carry versions that do not fit.
        debs = apt.download([f"{name}/{SUITE}" for name in PACKAGES], self.work / "debs")
        unpack(debs, self.root)
        dsc = apt.source(f"kubernetes/{SUITE}", self.work / "source")
        if f"really{VERSION}-" not in dsc.name:
            raise BuildError(f"{dsc.name} is not the expected kubernetes {VERSION}")
        self._unpack_source(dsc.parent)

    def _unpack_source(self, folder: Path) -> None:
        """What dpkg-source does for format 3.0 (quilt), with the standard library and `patch`."""
        (original,) = folder.glob("*.orig.tar.*")
        (packaging,) = folder.glob("*.debian.tar.xz")
        self.tree.parent.mkdir(parents=True)
        unpacked = self.work / "unpacked"
        _extract(original, unpacked)
        (top,) = unpacked.iterdir()
        top.rename(self.tree)
        _extract(packaging, self.tree)
        patches = self.tree / "debian" / "patches"
        for line in (patches / "series").read_text().splitlines():
            name = line.split("#", 1)[0].strip()
            if name:
                program = str(self.root / "usr/bin/patch")
                self.run_tool(
                    [program, "-p1", "--batch", "-i", str(patches / name)], f"patch {name}"
                )

    def repair_reflect2(self) -> None:
        """The vendored 1.0.1 breaks with Go >= 1.18: the server then drops every JSON body."""
        good = self.root / "usr/share/gocode/src/github.com/modern-go/reflect2"
        vendored = self.tree / "vendor/github.com/modern-go/reflect2"
        shutil.rmtree(vendored)
        shutil.copytree(good, vendored, ignore=shutil.ignore_patterns("*_test.go"))

    def go_build(self, targets: Sequence[str], dest: Path, options: Sequence[str]) -> None:
        dest.mkdir(exist_ok=True)
        program = str(self.root / "usr/lib/go-1.19/bin/go")
        command = [program, "build", "-v", "-trimpath", *options, "-o", f"{dest}/", *targets]
        self.run_tool(command, f"compiling {', '.join(Path(target).name for target in targets)}")

    def _environment(self) -> dict[str, str]:
        goroot = self.root / "usr/lib/go-1.19"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("GO")}
        return {
            **kept,
            "PATH": f"{goroot / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "GOROOT": str(goroot),
            "GOPATH": str(self.gopath),
            "GOCACHE": str(self.work / "gocache"),
            "GOTMPDIR": str(self.work),
            "GO111MODULE": "off",  # module mode refuses a tree whose staging links go outside
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
            "LC_ALL": "C.UTF-8",
        }

    def run_tool(self, command: Sequence[str], what: str) -> None:
        """Run in the source tree; every few seconds say how many lines the tool has printed."""
        log = self.work / "step.log"
        began = time.monotonic()
        with log.open("w") as output:
            child = subprocess.Popen(
                command,
                cwd=self.tree,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while True:
                    try:
                        child.wait(timeout=_PROGRESS_EVERY_S)
                        break
                    except subprocess.TimeoutExpired:
                        packages = log.read_bytes().count(b"\n")
                        say(f"kubernetes: {what}, {packages} packages so far")
            except BaseException:
                # An interrupted build must not go on writing into what is being removed: the
                # compilers that go has started are in its process group.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                raise
        if child.returncode:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise BuildError(f"{what} failed with status {child.returncode}:\n{tail}")
        if time.monotonic() - began > _PROGRESS_EVERY_S:
            say(f"kubernetes: {what} took {time.monotonic() - began:.0f} s")


@dataclasses.dataclass
class _ControlPlaneBuild(SourceBuild):
    components: tuple[str, ...]

    def run(self) -> None:
        say(f"kubernetes {VERSION}: building {', '.join(self.components)} (once, a few minutes)")
        say("kubernetes: KUBE=sim make demo shows the same on simulated control planes, at once")
        self.fetch()
        self.repair_reflect2()
        self._generate_openapi()
        targets = [f"./cmd/{name}" for name in self.components]
        self.go_build(targets, self.entry, ["-tags", TAGS, "-ldflags", version_flags()])
        shutil.copy2(self.root / "usr/bin/etcd", self.entry / "etcd")
        shutil.rmtree(self.work)
        say(f"kubernetes {VERSION}: built")

    def _generate_openapi(self) -> None:
        """The source package lacks this generated file, without which nothing compiles."""
        say("kubernetes: generating the OpenAPI definitions")
        self.go_build(["./vendor/k8s.io/kube-openapi/cmd/openapi-gen"], self.tools, [])
        command = [str(self.tools / "openapi-gen"), "--logtostderr"]
        command += ["-i", ",".join(f"{_KUBERNETES}/{folder}" for folder in self._marked_packages())]
        command += ["-p", f"{_KUBERNETES}/pkg/generated/openapi", "-O", "zz_generated.openapi"]
        command += ["-h", "hack/boilerplate/boilerplate.generatego.txt"]
        command += ["-r", str(self.work / "api-rule-violations")]
        self.run_tool(command, "openapi-gen")

    def _marked_packages(self) -> list[str]:
        """Packages with a `+k8s:openapi-gen=` tag, staged ones by their vendored import path."""
        folders = set()
        for top in ("pkg", "staging/src", "vendor/k8s.io/kube-openapi/pkg"):
            for file in (self.tree / top).rglob("*.go"):
                if b"+k8s:openapi-gen=" in file.read_bytes():
                    folders.add(str(file.parent.relative_to(self.tree)))
        named = {re.sub(r"^staging/src/", "vendor/", folder) for folder in folders}
        unused = ("vendor/k8s.io/code-generator/", "vendor/k8s.io/sample-apiserver/")
        return sorted(name for name in named if not name.startswith(unused))


def version_flags() -> str:
    """Two copies: --version reads the first, /version the second. Without the vendored
    import path the linker ignores the setting and the server claims to be v0.0.0."""
    packages = ("component-base/version", "client-go/pkg/version")
    major, minor, _ = VERSION.split(".")
    values = {
        "gitVersion": f"v{VERSION}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
    }
    settings = [
        f"-X {_KUBERNETES}/vendor/k8s.io/{package}.{key}={value}"
        for package in packages
        for key, value in values.items()
    ]
    return " ".join(["-s", "-w", *settings])


def _extract(archive: Path, dest: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            # apt has checked the archive against Debian's signed lists; links inside the tree are
            # wanted, so the stricter "data" filter is used only where this Python has it.
            if hasattr(tarfile, "data_filter"):
                tar.extractall(dest, filter="tar")
            else:
                tar.extractall(dest)
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise BuildError(f"cannot unpack {archive.name}: {error}") from error
