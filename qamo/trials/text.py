"""Text files as blocks of whole lines, whatever their packing: plain, gzip, UTF-16, or lines that end in CR alone.

A plain UTF-8 file is read a block at a time. The others are rare and small enough to be decoded at once.
"""

from __future__ import annotations

import gzip
import io
import shlex
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from qamo import InputError
from qamo.files import naming, open_regular

BLOCK_BYTES = 1 << 20  # small enough to keep the scratch arrays of a block in a few MB
LONGEST_LINE_BYTES = 1 << 20  # a longer line is no table: stop before it fills the memory
MOST_UNPACKED_BYTES = 1 << 30  # of gzip: 16 times the score file of ASVspoof 2021 DF
CONTROL_BYTES = 1024  # of a block, in which no text has control characters
PACKINGS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7z"}
GZIP, ZIP, UTF8_MARK, UTF16_MARKS = b"\x1f\x8b", b"PK\x03\x04", b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


def blocks(path: Path | str, skip: int = 0) -> Iterator[bytes]:
    """Yield a text file as blocks of whole lines, each ending in a newline, without its first `skip` lines.

    Raises:
        InputError: it is no text, is not in UTF-8 or UTF-16, or has a line of more than 1 MiB.
    """
    path = Path(path)
    with naming(path), open_regular(path) as raw:
        file = _opened(raw, path)
        rest = file.read(3)
        rest = b"" if rest == UTF8_MARK else rest
        for _ in range(skip):
            line = rest + file.readline(LONGEST_LINE_BYTES)
            end = line.find(b"\n") + 1
            rest = line[end:] if end else b""
        while data := file.read(BLOCK_BYTES):
            end = data.rfind(b"\n") + 1
            if end:
                yield _checked(rest + data[:end], path)
                rest = data[end:]
            else:
                rest += data
                if len(rest) > LONGEST_LINE_BYTES:
                    raise InputError(
                        f"{path}: a line of more than {LONGEST_LINE_BYTES} bytes; this is not a text table"
                    )
    if rest:
        yield _checked(rest + b"\n", path)


def head(path: Path | str, n: int = 2) -> list[tuple[int, str]]:
    """The first `n` lines that are not blank, with their numbers from 1."""
    found: list[tuple[int, str]] = []
    number = 0
    for block in blocks(path):
        for line in block.split(b"\n")[:-1]:
            number += 1
            if line.strip():
                found.append((number, line.decode().strip("\r\n")))
                if len(found) == n:
                    return found
    return found


def converted(command: str, path: Path, ending: str) -> str:
    """A line for the shell that runs a command on a file and writes its result beside, whatever the file is called."""
    return f"try: {command} {shlex.quote(str(path))} > {shlex.quote(path.stem + ending)}"


def _opened(raw: IO[bytes], path: Path) -> IO[bytes]:
    """The bytes of a text file in UTF-8, unpacked and decoded where they are not."""
    start = raw.read(4)
    raw.seek(0)
    if start[:2] == GZIP:
        try:
            content = gzip.GzipFile(fileobj=raw).read(MOST_UNPACKED_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: a damaged gzip file ({error}); fetch it again") from None
        if len(content) > MOST_UNPACKED_BYTES:
            raise InputError(
                f"{path}: unpacks to more than {MOST_UNPACKED_BYTES >> 20} MiB; try: gunzip -k {shlex.quote(str(path))}"
            )
        return _decoded(content, path)
    if start == ZIP:
        raise InputError(f"{path}: a zip archive or a spreadsheet; {converted('unzip -p', path, '.unpacked.txt')}")
    if start[:2] in UTF16_MARKS:
        return _decoded(raw.read(), path)
    first = raw.read(BLOCK_BYTES)
    raw.seek(0)
    return _decoded(raw.read(), path) if b"\r" in first and b"\n" not in first else raw


def _decoded(content: bytes, path: Path) -> IO[bytes]:
    """Content in memory, as UTF-8 with newlines."""
    if content[:2] in UTF16_MARKS:
        try:
            content = content.decode("utf-16").encode()
        except (UnicodeDecodeError, UnicodeEncodeError):
            raise InputError(f"{path}: not a text file in UTF-8 or UTF-16; give a text file") from None
    if b"\r" in content and b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    return io.BytesIO(content)


def _checked(block: bytes, path: Path) -> bytes:
    if not block.isascii():
        try:
            block.decode("utf-8")
        except UnicodeDecodeError:
            if any(byte < 32 and byte not in b"\t\n\v\f\r" for byte in block[:CONTROL_BYTES]):
                raise InputError(f"{path}: not a text file in UTF-8{_packing(block) or '; give a text file'}") from None
            raise InputError(
                f"{path}: not a text file in UTF-8; if it is Western European text, "
                f"{converted('iconv -f CP1252 -t UTF-8', path, f'.utf8{path.suffix}')}"
            ) from None
    return block


def _packing(start: bytes) -> str:
    """Which other program packed a file, as a part of a sentence."""
    return next(
        (f" but one packed by {name}: unpack it" for mark, name in PACKINGS.items() if start.startswith(mark)), ""
    )
