"""Fetch the keys of ASVspoof 2021 from the organisers' site, verify them and unpack them.

    python download.py             all three tracks, into keys/ beside this file
    python download.py LA DF       some tracks

A download that was cut off goes on where it stopped; an archive whose md5 is not the organisers' is never unpacked.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from qamo import InputError  # noqa: E402
from qamo.command import Parser, run_command  # noqa: E402
from qamo.trials.keys import ARCHIVES, ARCHIVES_URL  # noqa: E402

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def build_parser() -> Parser:
    parser = Parser("download.py", __doc__)
    parser.add_argument("tracks", nargs="*", metavar="TRACK", help="LA, PA or DF (default: all)")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, help="folder in which keys/ is made")
    parser.add_argument("--url", default=ARCHIVES_URL, help="another place with the same archives")
    return parser


def command(args: argparse.Namespace) -> int:
    for track in args.tracks or ARCHIVES:
        if track not in ARCHIVES:
            raise InputError(f"{track}: no such track; choose from {', '.join(ARCHIVES)}")
    for track in args.tracks or ARCHIVES:
        fetch(track, args.to, args.url, tell=lambda text: print(text, flush=True))
    return 0


def fetch(track: str, folder: Path, url: str, *, tell: Callable[[str], None]) -> None:
    """Make `folder`/keys/`track`, unless it is there.

    Raises:
        InputError: the archive cannot be had, or is not the organisers'.
    """
    name, md5 = ARCHIVES[track]
    if (folder / "keys" / track).is_dir():
        tell(f"{folder / 'keys' / track}: there already")
        return
    folder.mkdir(parents=True, exist_ok=True)
    archive, part = folder / name, folder / f"{name}.part"
    if not archive.is_file():
        tell(f"{url}{name} -> {archive}")
        download(url + name, part)
        found = md5_of(part)
        if found != md5:
            part.unlink()
            raise InputError(f"{url}{name}: expected md5 {md5}, got {found}; the file was deleted, start again")
        os.replace(part, archive)
    found = md5_of(archive)
    if found != md5:
        raise InputError(f"{archive}: expected md5 {md5}, got {found}; delete it and start again")
    unpack(archive, track, folder / "keys")
    tell(f"{folder / 'keys' / track}: ready; {archive} may be deleted")


def download(url: str, part: Path) -> None:
    """Append to `part` what it lacks of the file at `url`.

    Raises:
        InputError: the server does not give the file.
    """
    done = part.stat().st_size if part.is_file() else 0
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            resumed = done > 0 and response.status == 206
            with open(part, "ab" if resumed else "wb") as file:
                shutil.copyfileobj(response, file, BLOCK_BYTES)
                received = file.tell() - (done if resumed else 0)
            expected = response.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is left to send: the part is whole
            return
        raise InputError(f"{url}: the server answers {error.code} {error.reason}; try again later") from None
    except (urllib.error.URLError, http.client.HTTPException) as error:
        raise InputError(f"{url}: {error}; start again to go on where it stopped") from None
    except ValueError:  # of urllib, or of http.client
        raise InputError(f"{url}: expected an address such as {ARCHIVES_URL}; correct --url") from None
    if expected is not None and received < int(expected):
        raise InputError(f"{url}: cut off after {part.stat().st_size} bytes; start again to go on from there")


def unpack(archive: Path, track: str, keys: Path) -> None:
    """Unpack the folder of a track out of its archive into `keys`, in one step.

    Raises:
        InputError: the archive holds no such folder.
    """
    scratch = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(scratch, filter="data")
            else:  # Python before 3.10.12: the md5 vouches for the archive
                tar.extractall(scratch)
        found = sorted(path for path in scratch.rglob(track) if (path / "CM" / "trial_metadata.txt").is_file())
        if not found:
            raise InputError(f"{archive}: holds no {track}/CM/trial_metadata.txt")
        keys.mkdir(parents=True, exist_ok=True)
        os.replace(found[0], keys / track)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def md5_of(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
