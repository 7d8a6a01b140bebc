"""Debian packages and their sources without root: fetched and unpacked, never installed.

Works on apt's own verified path (signed lists, checksums) with lists of our own in the cache, so
the machine's package state is neither read nor changed. Where packages come from is taken from the
machine's configuration in either format, one-line `.list` or deb822 `.sources`. `deb-src`, and on
request another suite of the same archive, is derived from the `deb` entries.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from devstack.cache import cache_dir, exclusive
from devstack.console import say

# Younger lists are used as they are: long enough for one cold set-up to fetch them once, short
# enough that a package replaced on the archive in the meantime is rarely asked for.
LISTS_MAX_AGE_S = 3600

# Options whose one-line spelling is not the deb822 field name in other letters.
_ONE_LINE_OPTIONS = {"arch": "Architectures", "lang": "Languages", "target": "Targets"}


class DebianError(Exception):
    """Fetching or unpacking failed; the message ends with what apt or dpkg said."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One source of packages: where, which suites and components, and apt's options for it."""

    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()

    def stanza(self) -> str:
        """The entry in deb822 format."""
        fields = {
            "Types": " ".join(self.types),
            "URIs": " ".join(self.uris),
            "Suites": " ".join(self.suites),
            "Components": " ".join(self.components),
            **dict(self.options),
        }
        return "".join(f"{key}: {value}\n" for key, value in fields.items() if value)


def parse_one_line(text: str) -> list[Entry]:
    """Entries of a `sources.list` file."""
    entries = []
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        found = re.fullmatch(r"(deb|deb-src)\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)", line)
        if not found:
            continue
        kind, options, uri, suite, components = found.groups()
        pairs = [option.split("=", 1) for option in (options or "").split() if "=" in option]
        entries.append(
            Entry(
                types=(kind,),
                uris=(uri,),
                suites=(suite,),
                components=tuple(components.split()),
                options=tuple(
                    (_ONE_LINE_OPTIONS.get(key, key.title()), value.replace(",", " "))
                    for key, value in pairs
                ),
            )
        )
    return entries


def parse_deb822(text: str) -> list[Entry]:
    """Entries of a `.sources` file; disabled ones are left out."""
    entries = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1].isspace() and key:
                fields[key] += f"\n{line}"  # an inline key keeps its lines
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.strip()
        if "uris" not in fields or fields.pop("enabled", "yes").lower() in {"no", "false", "0"}:
            continue
        types, uris, suites, components = (
            tuple(fields.pop(name, "").split())
            for name in ("types", "uris", "suites", "components")
        )
        options = tuple((name.title(), value) for name, value in fields.items())
        entries.append(Entry(types, uris, suites, components, options))
    return entries


def machine_entries() -> list[Entry]:
    """What this machine's apt is configured with, in the order apt reads it."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise DebianError("apt-get and dpkg-deb are needed to fetch Debian packages; not found")
    shown = subprocess.run(
        [
            "apt-config",
            "shell",
            "list",
            "Dir::Etc::sourcelist/f",
            "parts",
            "Dir::Etc::sourceparts/d",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    where = dict(re.findall(r"^(\w+)='(.*)'$", shown, re.MULTILINE))
    files = [Path(where["list"])] if "list" in where else []
    if "parts" in where:
        files += sorted(Path(where["parts"]).glob("*"))
    entries: list[Entry] = []
    for file in files:
        if file.is_file() and file.suffix in {".list", ".sources"}:
            parse = parse_one_line if file.suffix == ".list" else parse_deb822
            entries += parse(file.read_text())
    if not entries:
        raise DebianError("apt has no package sources configured on this machine")
    return entries


def derive(entries: Iterable[Entry], *, sources: bool, suites: Sequence[str]) -> list[Entry]:
    """The `deb` entries, with `deb-src` when `sources`, and repeated for other base `suites`."""
    types = ("deb", "deb-src") if sources else ("deb",)
    kept = [dataclasses.replace(entry, types=types) for entry in entries if "deb" in entry.types]
    for suite in suites:
        if any(suite in entry.suites for entry in kept):
            continue
        for entry in list(kept):
            # A base suite is a plain word; "-updates", "-security" and flat paths are not.
            if "main" in entry.components and any(name.isalpha() for name in entry.suites):
                kept.append(dataclasses.replace(entry, suites=(suite,)))
                break
    return kept


@dataclasses.dataclass(frozen=True)
class Package:
    """One binary package apt would fetch; `size` in bytes."""

    name: str
    version: str
    arch: str
    size: int


class Apt:
    """apt with private lists. `sources` adds source packages, `suites` other Debian releases."""

    def __init__(self, *, sources: bool = False, suites: Sequence[str] = ()) -> None:
        self._stanzas = "\n".join(
            entry.stanza() for entry in derive(machine_entries(), sources=sources, suites=suites)
        )
        digest = hashlib.sha256(self._stanzas.encode()).hexdigest()[:16]
        self.root = cache_dir() / f"apt-{digest}"

    def update(self) -> None:
        """Fetch the package lists unless they are younger than LISTS_MAX_AGE_S."""
        with exclusive(self.root.with_suffix(".lock"), "package lists"):
            stamp = self.root / "updated"
            if stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_MAX_AGE_S:
                return
            self._lay_out()
            say("package lists: fetching")
            done = self._run(["apt-get", "update"], check=False)
            if done.returncode or re.search(r"^(W: Failed|E:|Err:)", done.stdout, re.MULTILINE):
                # One dead third-party source must not stop us: a package that is really missing
                # is reported by name when it is asked for.
                say(f"package lists: incomplete\n{_tail(done.stdout)}")
            else:
                stamp.touch()

    def closure(self, names: Sequence[str]) -> list[Package]:
        """`names` and all they depend on, as on a machine with nothing installed."""
        self.update()
        command = ["apt-get", "install", "--print-uris", "--yes", "--no-install-recommends"]
        shown = self._run([*command, *names]).stdout
        packages = []
        for file, size in re.findall(r"^'[^']+' (\S+\.deb) (\d+) ", shown, re.MULTILINE):
            name, version, arch = unquote(file).removesuffix(".deb").split("_")
            packages.append(Package(name, version, arch, int(size)))
        if not packages:
            raise DebianError(f"apt found nothing to fetch for {' '.join(names)}:\n{_tail(shown)}")
        return packages

    def download(self, packages: Iterable[str | Package], dest: Path) -> list[Path]:
        """Fetch packages (`name`, `name=version` or Package) into `dest`; their files, sorted."""
        self.update()
        wanted = [
            p if isinstance(p, str) else f"{p.name}:{p.arch}={p.version}".replace(":all=", "=")
            for p in packages
        ]
        dest.mkdir(parents=True, exist_ok=True)
        self._run_with_progress(["apt-get", "download", *wanted], dest, f"{len(wanted)} packages")
        return sorted(dest.glob("*.deb"))

    def source(self, spec: str, dest: Path) -> Path:
        """Fetch, not unpack, the source package `name` or `name=version`; its .dsc file."""
        self.update()
        dest.mkdir(parents=True, exist_ok=True)
        command = ["apt-get", "source", "--download-only", "--only-source", spec]
        self._run_with_progress(command, dest, f"source of {spec}")
        (dsc,) = dest.glob("*.dsc")
        return dsc

    def _lay_out(self) -> None:
        for folder in ("lists/partial", "cache/archives/partial", "sources"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "status").write_text("")  # nothing installed: a closure is then complete
        (self.root / "sources" / "machine.sources").write_text(self._stanzas)
        # Hooks that clean the machine's own caches have no business here, and fail without root.
        hooks = ("Update::Pre-Invoke", "Update::Post-Invoke", "Update::Post-Invoke-Success")
        (self.root / "apt.conf").write_text(
            "".join(f"#clear APT::{hook};\n" for hook in hooks) + 'Acquire::Languages "none";\n'
        )

    def _command(self, command: Sequence[str]) -> list[str]:
        options = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self.root / "sources",
            "Dir::State": self.root,
            "Dir::State::lists": self.root / "lists",
            "Dir::State::status": self.root / "status",
            "Dir::Cache": self.root / "cache",
            "Debug::NoLocking": "1",  # our own lock is held; the machine's is not ours to take
            "APT::Sandbox::User": "root",  # else apt as root cannot enter a private cache
        }
        pairs = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        return [command[0], "-c", str(self.root / "apt.conf"), *pairs, *command[1:]]

    def _run(
        self, command: Sequence[str], *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._command(command),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_plain_environment(),
        )
        if check and done.returncode:
            raise DebianError(f"{' '.join(command)} failed:\n{_tail(done.stdout)}")
        return done

    def _run_with_progress(self, command: Sequence[str], dest: Path, what: str) -> None:
        """Run in `dest`, saying every few seconds how much has arrived there."""
        log = self.root / f"fetch-{os.getpid()}.log"
        try:
            with log.open("w+") as output:
                child = subprocess.Popen(
                    self._command(command),
                    cwd=dest,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_plain_environment(),
                )
                while True:
                    try:
                        child.wait(timeout=3)
                        break
                    except subprocess.TimeoutExpired:
                        say(f"{what}: {_megabytes(dest):.0f} MB so far")
                    except BaseException:
                        child.terminate()
                        child.wait()
                        raise
                if child.returncode:
                    output.seek(0)
                    raise DebianError(f"{what}: fetching failed:\n{_tail(output.read())}")
        finally:
            log.unlink()
        say(f"{what}: {_megabytes(dest):.0f} MB fetched")


def unpack(debs: Iterable[Path], dest: Path) -> None:
    """Unpack binary packages over each other into `dest`; maintainer scripts do not run."""
    dest.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        done = subprocess.run(
            ["dpkg-deb", "-x", str(deb), str(dest)],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise DebianError(f"cannot unpack {deb.name}:\n{_tail(done.stdout)}")


def _plain_environment() -> Mapping[str, str]:
    """Our output is parsed, so it must not be translated."""
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _megabytes(folder: Path) -> float:
    total = 0
    for file in folder.iterdir():
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # apt renames its partial files while we look
            continue
    return total / 1e6


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
