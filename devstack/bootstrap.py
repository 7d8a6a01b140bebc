"""Makes the virtual environment from nothing, then becomes the command that was asked for.

    python3 -m devstack.bootstrap [--bound] [ARGUMENTS OF PYTHON...]

Standard library only, from Python 3.11 on. Installs exactly requirements/dev.txt, every file
checked against its hash, by a uv that is itself pinned and checked (requirements/bootstrap.txt).
A stamp in the environment names what it was made from, so a warm start reads two files and goes
on. `--bound` puts a guard in between (devstack.guard), so that nothing the command started, builds
included, outlives make, the command or the guard, whichever is killed.
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devstack import guard
from devstack.cache import cache_dir, cached, exclusive
from devstack.console import fail, say, started_at
from devstack.debian import Apt, DebianError, unpack
from devstack.guard import PR_SET_PDEATHSIG, prctl

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "dev.txt"
INSTALLER = ROOT / "requirements" / "bootstrap.txt"
OLDEST = (3, 11)

# What a command may take to end after Ctrl-C. A demo stops its servers one after the other, which
# takes seconds; what is left after a minute hangs.
STOP_GRACE_S = 60


def main(arguments: list[str]) -> None:
    """Bring the environment up to date and replace this process by its Python with `arguments`."""
    started_at()
    bound = arguments[:1] == ["--bound"]
    rest = arguments[1:] if bound else arguments
    if bound:
        _bind_to_parent()
    if sys.version_info < OLDEST:
        raise fail(f"Python {OLDEST[0]}.{OLDEST[1]} or later is needed: make PYTHON=python3.11 ...")
    try:
        ensure()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if not rest:
        return
    os.environ["VIRTUAL_ENV"] = str(VENV)
    os.environ["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    python = str(VENV / "bin" / "python")
    command = [python, *rest]
    if bound:
        options = [str(number) for number in (-1, int(signal.SIGINT), STOP_GRACE_S, -1)]
        command = [python, "-I", "-S", guard.__file__, *options, *command]
    os.execv(python, command)


def ensure() -> None:
    """Make or update the environment if its stamp says that it is not the locked one."""
    wanted = fingerprint()
    if _stamped() == wanted:
        return
    name = hashlib.sha256(str(VENV).encode()).hexdigest()[:16]
    with exclusive(cache_dir() / f"venv-{name}.lock", "virtual environment"):
        if _stamped() == wanted:
            return
        _stamp_file().unlink(missing_ok=True)  # from here until the end it is neither old nor new
        _make_venv()
        uv = find_uv()
        say("packages: installing what requirements/dev.txt locks")
        _sync(uv)
        part = _stamp_file().with_suffix(".part")
        part.write_text(wanted)
        part.rename(_stamp_file())
        say("packages: ready")


def fingerprint() -> str:
    """What the environment depends on: the locks, the interpreter and the place."""
    parts = [LOCK.read_bytes(), INSTALLER.read_bytes(), sys.version.encode(), bytes(VENV)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def find_uv() -> Path:
    """The pinned uv: from PATH when it is that version, else from the cache or installed there."""
    pinned = next(line for line in INSTALLER.read_text().splitlines() if line.startswith("uv=="))
    version = pinned.split()[0].removeprefix("uv==")
    on_path = shutil.which("uv")
    if on_path:
        shown = subprocess.run([on_path, "--version"], check=False, capture_output=True, text=True)
        if shown.stdout.split()[1:2] == [version]:
            return Path(on_path)
    recipe = INSTALLER.read_text() + os.uname().machine
    return cached("uv", recipe, _install_uv) / "bin" / "uv"


def _install_uv(entry: Path) -> None:
    say("installer: fetching uv")
    with tempfile.TemporaryDirectory(prefix="gpuyard-pip-") as scratch:
        pip, environment = _find_pip(Path(scratch))
        # Into a directory of its own: neither this Python nor the system's is changed.
        command = [*pip, "install", "--quiet", "--require-hashes", "--only-binary=:all:"]
        _run([*command, "--no-deps", "--target", str(entry), "-r", str(INSTALLER)], environment)


def _find_pip(scratch: Path) -> tuple[list[str], dict[str, str]]:
    """A pip to run once, as command and environment, on machines that may have none."""
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"], environment
    if importlib.util.find_spec("ensurepip"):
        _run([sys.executable, "-m", "venv", str(scratch / "venv")], environment)
        return [str(scratch / "venv" / "bin" / "python"), "-m", "pip"], environment
    # Debian's bare python3 has neither; its package of pip's wheel needs no root when unpacked.
    try:
        unpack(Apt().download(["python3-pip-whl"], scratch / "debs"), scratch / "root")
    except DebianError as error:
        raise fail(
            f"this Python has neither pip nor ensurepip, and pip could not be fetched: {error}\n"
            "Install python3-venv (or python3-pip), or put uv on PATH, and run this again."
        ) from error
    (wheel,) = (scratch / "root").rglob("pip-*.whl")
    return [sys.executable, "-m", "pip"], {**environment, "PYTHONPATH": str(wheel)}


def _make_venv() -> None:
    """A virtual environment of this interpreter without pip; one of another is replaced."""
    config = VENV / "pyvenv.cfg"
    version = ".".join(str(part) for part in sys.version_info[:3])
    if config.is_file() and (VENV / "bin" / "python").exists() and version in config.read_text():
        return
    if VENV.exists():
        say("virtual environment: of another Python, making it anew")
        shutil.rmtree(VENV)
    say(f"virtual environment: making it for Python {version}")
    if not importlib.util.find_spec("venv"):
        raise fail("this Python has no venv module; install python3-venv and run this again")
    _run([sys.executable, "-m", "venv", "--without-pip", str(VENV)], dict(os.environ))


def _sync(uv: Path) -> None:
    python = str(VENV / "bin" / "python")
    command = [str(uv), "pip", "sync", "--quiet", "--require-hashes", "--python", python, str(LOCK)]
    environment = {**_index_settings(), **os.environ}
    done = subprocess.run(command, check=False, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        say("packages: that failed; once more from the cache alone")
        again = [*command, "--offline"]
        if subprocess.run(again, check=False, env=environment, stdin=subprocess.DEVNULL).returncode:
            raise fail(
                "the packages of requirements/dev.txt could not be installed, see above. A package "
                "index must be reachable once; pip's index-url and cert settings are respected."
            )


def _index_settings() -> dict[str, str]:
    """What pip is told about the index and its certificate, in uv's words: uv does not read it."""
    files = [
        Path("/etc/pip.conf"),
        Path.home() / ".pip" / "pip.conf",
        Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "pip" / "pip.conf",
        Path(os.environ.get("PIP_CONFIG_FILE", os.devnull)),
    ]
    parser = configparser.RawConfigParser(strict=False)
    with contextlib.suppress(configparser.Error):  # pip itself will complain about the file
        parser.read(files)
    found = {}
    for pip_name, uv_name in (("index-url", "UV_DEFAULT_INDEX"), ("cert", "SSL_CERT_FILE")):
        configured = parser.get("global", pip_name, fallback="")
        value = os.environ.get(f"PIP_{pip_name.upper().replace('-', '_')}", configured)
        if value:
            found[uv_name] = value
    return found


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, check=False, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise fail(f"this failed, see above: {' '.join(command)}")


def _stamp_file() -> Path:
    return VENV / "gpuyard.stamp"


def _stamped() -> str:
    try:
        return _stamp_file().read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _bind_to_parent() -> None:
    """SIGTERM when the parent dies, kept over the exec. An orphan already is left alone."""
    parent = os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
