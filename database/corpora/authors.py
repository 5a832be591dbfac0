"""Fetch the authors' lists, MOS protocols and keys to where every command looks, each checked by its SHA-256."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from corpora.plan import MOS_KEYS
from qamo import InputError
from qamo.files import check_writable, sha256
from qamo.trials.authors import FILES, URL, Published

TIMEOUT_S = 30
BLOCK_BYTES = 1 << 16
ENVIRONMENT = "QAMO_AUTHORS_URL"


class Unavailable(Exception):
    """A file cannot be had; the message says why."""


def fetch_authors(to: Path, *, url: str = "", force: bool = False) -> tuple[list[str], list[str]]:
    """Fetch every file that is not there yet; a broken download goes on where it ended.

    Args:
        to: data.protocols_path.
        url: the published repository at its commit, or a mirror; "": the environment's, or GitHub's.
        force: replace files that hold something else.

    Returns:
        Sentences on what was done, and on what could not be had.

    Raises:
        InputError: the address is none of http.
    """
    base = (url or os.environ.get(ENVIRONMENT) or URL).rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise InputError(f"{base}: expected an address that begins with https:// or http://")
    check_writable(to)
    done, failed = [], []
    for file in FILES:
        target = to / file.target
        if target.exists() and sha256(target) == file.sha256:
            done.append(f"{target}: there already")
        elif target.exists() and not force:
            failed.append(f"{target}: holds something else; move it away, or say --force to replace it")
        else:
            try:
                done.append(f"{target}: fetched from {_fetch(file, base, target)}")
            except Unavailable as error:
                failed.append(str(error))
                if "cannot be reached" in str(error):
                    break
    return done, failed


def fetched(to: Path, corpus: str) -> list[Path]:
    """Folders of the authors' list, protocols and keys of a corpus as `fetch_authors` leaves them; [] if one lacks."""
    files = [file for file in FILES if file.corpus == corpus and not file.target.endswith(MOS_KEYS)]
    there = all((to / file.target).is_file() and sha256(to / file.target) == file.sha256 for file in files)
    return list(dict.fromkeys((to / file.target).parent for file in files)) if files and there else []


def _fetch(file: Published, base: str, target: Path) -> str:
    """Fetch a file and return its address."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{file.sha256[:8]}.part")
    for source in file.sources:
        address = f"{base}/{source}"
        resumed = part.exists()
        if not _download(address, part, file):
            continue
        if sha256(part) != file.sha256 and resumed:  # what was there may have been of something else
            part.unlink()
            _download(address, part, file)
        found = sha256(part)
        if found != file.sha256:
            part.unlink()
            raise Unavailable(f"{address}: expected SHA-256 {file.sha256}, found {found}; nothing was kept of it")
        os.replace(part, target)
        return address
    raise Unavailable(f"{target}: not found at {base}/ as {' or '.join(file.sources)}")


def _download(address: str, part: Path, file: Published) -> bool:
    """Bring `part` to its full length; False: nothing is published at this address."""
    begun = part.stat().st_size if part.exists() else 0
    if begun >= file.n_bytes:
        return True
    try:
        request = urllib.request.Request(address, headers={"Range": f"bytes={begun}-"} if begun else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            resumes = answer.status == 206 and begun > 0
            with open(part, "ab" if resumes else "wb") as out:
                left = file.n_bytes - (begun if resumes else 0) + 1  # one more tells a file that is too long
                while left > 0 and (block := answer.read(min(BLOCK_BYTES, left))):
                    out.write(block)
                    left -= len(block)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            return False
        raise Unavailable(f"{address}: the server answered {error.code} {error.reason}; try again later") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(_offline(address, str(reason) or type(error).__name__)) from None
    except ValueError:  # of urllib, or of http.client
        raise InputError(f"{address}: expected an address such as {URL}; correct --url or {ENVIRONMENT}") from None
    if part.stat().st_size < file.n_bytes:
        raise Unavailable(
            f"{address}: ended after {part.stat().st_size:,} of {file.n_bytes:,} bytes; start the same command again, "
            "it goes on from there"
        )
    return True


def _offline(address: str, reason: str) -> str:
    return (
        f"{address} cannot be reached ({reason}); with a network start the same command again, or copy the folder "
        "database/ of the published repository (git clone https://github.com/ductuantruong/QAMO) here and give it to "
        "`python database/prepare.py la2019`, `itw` and `for` with --authors"
    )


def report(done: Sequence[str], failed: Sequence[str]) -> str:
    """What was done, and how much of it."""
    return "\n".join([*done, f"{len(done)} of {len(FILES)} of the authors' files are in place"])
