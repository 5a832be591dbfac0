"""The packages that the mini corpus is made of: fetched from their registries, checked and unpacked.

Nothing is installed and no root is needed: `apt-get download` with `dpkg-deb -x`, and `pip download`. Whatever was
fetched before is used again, so a second build works offline. `packages.yaml` says what they are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from qamo import InputError
from qamo.files import sha256

DOWNLOAD_TIMEOUT_S = 600


@dataclass(frozen=True)
class Package:
    """One download of a registry, and what is owed to its authors."""

    name: str
    registry: str  # debian or pypi
    holds: str
    licence: str
    credit: str
    archive: str  # name of the file that the documented figures were measured on
    sha256: str  # of that file; another release has another name
    version: str = ""  # PyPI: the pinned version


PACKAGES = {
    name: Package(name, **about)
    for name, about in yaml.safe_load(Path(__file__).with_name("packages.yaml").read_text("utf-8")).items()
}


@dataclass(frozen=True)
class Fetched:
    package: Package
    archive: Path
    sha256: str
    folder: Path  # unpacked


class Unavailable(Exception):
    """A package cannot be had; the message says why."""


def fetch(name: str, downloads: Path, *, offline: bool = False) -> Fetched:
    """Fetch a package into `downloads` and unpack it there; what is there already is not fetched again.

    Args:
        offline: ask no registry.

    Raises:
        Unavailable: it is not there and cannot be fetched.
        InputError: the archive is not the one that its name says.
    """
    package = PACKAGES[name]
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        archive = _archive(package, downloads)
        if archive is None and offline:
            raise Unavailable(f"{downloads} does not hold it, and --offline forbids to fetch it")
        return _unpacked(package, archive or _download(package, downloads), downloads)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(_reason(error)) from None


def _archive(package: Package, downloads: Path) -> Path | None:
    if package.registry == "debian":
        found = sorted(downloads.glob(f"{package.name}_*.deb"))
    else:
        found = sorted(downloads.glob(f"{package.name.replace('-', '_')}-{package.version}.tar.gz"))
        found += sorted(downloads.glob(f"{package.name}-{package.version}.tar.gz"))
    return found[0] if found else None


def prefetch(names: list[str], downloads: Path) -> dict[str, str]:
    """Download the Debian packages among `names` that are not there, together -> why not, for those that failed."""
    wanted = [name for name in names if PACKAGES[name].registry == "debian"]
    downloads.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in wanted if _archive(PACKAGES[name], downloads) is None]
    if not wanted:
        return {}
    with _receiving(downloads, "debian") as folder:
        try:
            return _apt_download(wanted, folder, downloads / "apt")
        except (OSError, subprocess.SubprocessError) as error:
            return dict.fromkeys(wanted, _reason(error))


def _download(package: Package, downloads: Path) -> Path:
    with _receiving(downloads, package.name) as folder:
        if package.registry == "debian":
            reasons = _apt_download([package.name], folder, downloads / "apt")
            if reasons:
                raise FileNotFoundError(reasons[package.name])
        else:
            requirement = f"{package.name}=={package.version}"
            flags = ["--no-deps", "--no-binary", ":all:", "--disable-pip-version-check", "-q", "-d", str(folder)]
            _run([sys.executable, "-m", "pip", "download", *flags, requirement])
    archive = _archive(package, downloads)
    if archive is None:
        raise FileNotFoundError(f"the registry's client left no archive of {package.name}")
    return archive


@contextlib.contextmanager
def _receiving(downloads: Path, name: str) -> Iterator[Path]:
    """A folder to download into; what is whole in the end is moved up in one step each."""
    folder = downloads / f".{name}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        for path in folder.iterdir():  # the clients keep what is not whole under other names or in other folders
            if path.is_file() and path.name.endswith((".deb", ".tar.gz")):
                os.replace(path, downloads / path.name)
        shutil.rmtree(folder, ignore_errors=True)


def _apt_download(names: list[str], folder: Path, lists: Path) -> dict[str, str]:
    """Download packages into `folder` -> the names that the registry does not have, and what it said.

    Where the machine has no package lists, or old ones, they are fetched into `lists`, which needs no root.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise FileNotFoundError("this machine has no apt-get and dpkg-deb")
    if not lists.exists():
        try:
            _run(["apt-get", "download", *names], cwd=folder)
            return {}
        except subprocess.CalledProcessError:
            _update(lists)
    try:
        _run(["apt-get", *_apt_options(lists), "download", *names], cwd=folder)
        return {}
    except subprocess.CalledProcessError as error:
        if len(names) == 1:
            return {names[0]: _reason(error)}
    # one name that does not exist fails them all
    reasons: dict[str, str] = {}
    for name in names:
        reasons.update(_apt_download([name], folder, lists))
    return reasons


def _update(lists: Path) -> None:
    partial = lists.with_name(f".{lists.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for part in ("lists/partial", "cache/archives/partial"):
        (partial / part).mkdir(parents=True)
    try:
        # without the error mode, apt-get is content with lists that it could not fetch
        _run(["apt-get", *_apt_options(partial), "-o", "APT::Update::Error-Mode=any", "update"])
        os.replace(partial, lists)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _apt_options(folder: Path) -> list[str]:
    folder = folder.resolve()
    return [
        *("-o", f"Dir::State::Lists={folder}/lists"),
        *("-o", f"Dir::Cache={folder}/cache"),
        *("-o", "Acquire::Retries=2", "-o", "APT::Update::Post-Invoke-Success="),
    ]


def _run(command: list[str], cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line.strip() for line in (error.stderr or error.stdout or "").splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("E:", "ERROR:"))] or lines
        return told[-1] if told else f"{error.cmd[0]} ended with status {error.returncode}"
    return str(error)


def _unpacked(package: Package, archive: Path, downloads: Path) -> Fetched:
    digest = sha256(archive)
    if archive.name == package.archive and digest != package.sha256:
        raise InputError(f"{archive}: expected sha256 {package.sha256}, found {digest}; remove it and start again")
    folder = downloads / "unpacked" / f"{archive.name}-{digest[:12]}"
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if package.registry == "debian":
            _run(["dpkg-deb", "-x", str(archive), str(partial)])
        else:
            _extract_recordings(archive, partial)
        os.replace(partial, folder)
    return Fetched(package, archive, digest, folder)


def _extract_recordings(archive: Path, folder: Path) -> None:
    wanted = (".wav", ".flac", ".opus", ".mp3", ".raw", ".lab", ".txt")
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile() or not member.name.endswith(wanted) or "/test" not in member.name:
                continue
            target = folder / Path(member.name).name  # flat: names are unique there, and no path can escape
            stream = tar.extractfile(member)
            if stream is not None and not target.exists():
                target.write_bytes(stream.read())
