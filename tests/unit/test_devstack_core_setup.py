"""Bootstrap stamp, cache entries, Debian sources, and what `make test` decides to run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import bootstrap, testrun
from devstack.cache import cache_dir, cached
from devstack.debian import Entry, derive, parse_deb822, parse_one_line


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bootstrap's paths in an empty place, with its slow steps replaced by what they leave."""
    for name in ("LOCK", "INSTALLER"):
        file = tmp_path / f"{name}.txt"
        file.write_text(f"{name}==1\n")
        monkeypatch.setattr(bootstrap, name, file)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "venv")
    monkeypatch.setenv("GPUYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bootstrap, "_make_venv", lambda: (tmp_path / "venv").mkdir(exist_ok=True))
    monkeypatch.setattr(bootstrap, "find_uv", lambda: Path("uv"))
    return tmp_path


def count_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    syncs: list[Path] = []
    monkeypatch.setattr(bootstrap, "_sync", syncs.append)
    return syncs


def test_packages_are_installed_once_and_again_when_a_lock_changes(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = count_syncs(monkeypatch)
    bootstrap.ensure()
    bootstrap.ensure()
    assert len(syncs) == 1
    bootstrap.LOCK.write_text("LOCK==2\n")
    bootstrap.ensure()
    assert len(syncs) == 2
    bootstrap.INSTALLER.write_text("INSTALLER==2\n")
    bootstrap.ensure()
    bootstrap.ensure()
    assert len(syncs) == 3


def test_an_interrupted_installation_is_not_taken_for_a_finished_one(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = count_syncs(monkeypatch)
    bootstrap.ensure()
    bootstrap.LOCK.write_text("LOCK==2\n")
    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "_sync", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            bootstrap.ensure()
    bootstrap.LOCK.write_text("LOCK==1\n")  # back to what the stamp said before
    bootstrap.ensure()
    assert len(syncs) == 2


def _interrupted(_: Path) -> None:
    raise KeyboardInterrupt


def test_the_installer_is_pinned_with_hashes() -> None:
    lines = bootstrap.INSTALLER.read_text().splitlines()
    assert [line.split("==")[0] for line in lines if "==" in line] == ["uv"]
    assert any("--hash=sha256:" in line for line in lines)


def test_the_locks_name_no_download_address() -> None:
    for lock in sorted(bootstrap.LOCK.parent.glob("*.txt")):
        assert "://" not in lock.read_text(), lock.name


def test_a_cache_entry_is_complete_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUYARD_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path

    def half(folder: Path) -> None:
        (folder / "one").write_text("1")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        cached("thing", "recipe", half)
    assert not list(tmp_path.glob("thing-*"))
    abandoned = tmp_path / "thing-0123.part-x"
    abandoned.mkdir()

    built = cached("thing", "recipe", lambda folder: _write(folder / "one"))
    assert (built / "one").read_text() == "1"
    assert not abandoned.exists()
    assert cached("thing", "recipe", half) == built
    assert cached("thing", "other recipe", lambda folder: None) != built


def _write(file: Path) -> None:
    file.write_text("1")


ONE_LINE = """
# deb http://commented.example.com/debian stable main
deb [arch=amd64,arm64 signed-by=/k.gpg] http://a.example.com/debian bookworm main contrib # mine
deb-src http://a.example.com/debian bookworm main
deb http://b.example.com/flat ./
"""
DEB822 = """
Types: deb
# an older snapshot
URIs: http://a.example.com/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
Enabled: no
URIs: http://off.example.com/debian
Suites: bookworm
Components: main
"""


def test_sources_are_read_in_both_formats() -> None:
    first, second, flat = parse_one_line(ONE_LINE)
    assert first == Entry(
        ("deb",),
        ("http://a.example.com/debian",),
        ("bookworm",),
        ("main", "contrib"),
        (("Architectures", "amd64 arm64"), ("Signed-By", "/k.gpg")),
    )
    assert second.types == ("deb-src",)
    assert (flat.suites, flat.components) == (("./",), ())
    (entry,) = parse_deb822(DEB822)
    assert entry.suites == ("bookworm", "bookworm-updates")
    assert parse_deb822(entry.stanza()) == [entry], "what is written must read back the same"


def test_source_packages_and_another_suite_are_derived() -> None:
    entries = parse_deb822(DEB822)
    (plain,) = derive(entries, sources=False, suites=())
    assert plain.types == ("deb",)
    (same,) = derive(entries, sources=True, suites=("bookworm",))
    assert same.types == ("deb", "deb-src")
    _, other = derive(entries, sources=True, suites=("trixie",))
    assert (other.suites, other.uris) == (("trixie",), ("http://a.example.com/debian",))
    assert derive(parse_one_line(ONE_LINE)[2:], sources=False, suites=("trixie",)) == [
        parse_one_line(ONE_LINE)[2]
    ], "a flat archive has no other suites"


def test_suites_run_in_order_and_none_is_forgotten(tmp_path: Path) -> None:
    for name in ("unit", "flows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test_it.py").touch()
    assert testrun.chosen([], tmp_path) == list(testrun.SUITES)
    assert testrun.chosen(["flows", "unit"], tmp_path) == ["unit", "flows"]
    with pytest.raises(SystemExit, match="no suite 'unitt'"):
        testrun.chosen(["unitt"], tmp_path)
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "deep" / "test_it.py").touch()
    with pytest.raises(SystemExit, match="tests/new is not in SUITES"):
        testrun.chosen([], tmp_path)


def test_every_suite_of_this_repository_is_run() -> None:
    assert testrun.chosen([]) == list(testrun.SUITES)


def test_a_run_ends_with_what_its_failed_tests_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_fine(): pass\n"
        "def test_short(): assert not ['a'], 'a sentence'\n"
        "def test_long(): assert False, '\\n'.join(map(str, range(100)))\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError('no disk')\n"
        "def test_broken(broken): pass\n"
    )
    results = tmp_path / "results.xml"
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:django", "-c", os.devnull]
    subprocess.run([*run, "--junitxml", results, tmp_path], check=False, capture_output=True)
    found = tuple(testrun.failures(results))
    testrun.report([testrun.Outcome("unit", 1, 2.0, found)], 3.0)
    said = capsys.readouterr().out
    assert "fine" not in said
    assert "FAILED test_it::test_short\nE   AssertionError: a sentence\n" in said
    assert "FAILED test_it::test_broken\n" in said
    assert "no disk" in said
    assert " 99\n" in said
    assert " 50\n" not in said
    assert said.endswith("FAILED (status 1)\nall            3.0 s\n")
    assert not list(testrun.failures(tmp_path / "none.xml"))
