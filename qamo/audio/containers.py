"""What kind of file holds a recording, judged by its first bytes, and where in it the sound really is.

Lengths in headers are hints. A file is laid out here as parts, each one stream of sound that a decoder reads to its
end: a length that is too small is corrected, files that were joined are parted, and what is cut short is known as such.

Shapes of chunks: RIFF, RF64, W64, AIFF, CAF. FLAC: RFC 9639. Ogg: RFC 3533. MP4: ISO 14496-12.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal, NamedTuple

from qamo import InputError
from qamo.audio import flac

HEAD_BYTES = 512
SCAN_BYTES = 1 << 20
TAIL_BYTES = 4_096  # behind the last FLAC frame: tags
MAX_CHUNKS = 100_000  # looked at; an hour in fragments has some thousand
SLACK_S = 0.02  # what a header may be wrong by without a word
UNSPOKEN = range(0x7FFF_0000, 0x8000_0001), range(0xFFFF_FF00, 1 << 32), range((1 << 63) - 4096, 1 << 64)  # "unknown"
EXTRA = {b"LIST", b"id3 ", b"ID3 ", b"JUNK", b"junk", b"bext", b"iXML", b"_PMX", b"PAD ", b"FLLR", b"cue ", b"smpl"}
_SNDFILE_HEADS = re.compile(
    rb"RIF[FX]|RF64|FFIR|riff\x2e\x91\xcf\x11|FORM....(AIF[FC]|8SVX|16SV)|caff|\.snd|dns\.|\0ds\.|\0dns|NIST_1A"
    rb"|Creative Voice File|PVF1|2BIT| paf|fap |MATLAB 5\.0|ALawSoundFile|Extended Instrument|\xf0\x7e..\x01"
    rb"|[\x64\0]\xa3[\0-\x10]|[\0-\x10]\xa3\x64",
    re.DOTALL,
)
_FFMPEG_HEADS = [  # what libsndfile does not read, or not to its end
    (rb"....(ftyp|moov|mdat|free|skip|wide|pnot)", "mov"),
    (rb"\x1a\x45\xdf\xa3", "matroska"),
    (rb"#!AMR", "amr"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (rb"\x0b\x77", "ac3"),
    (rb"wvpk", "wv"),
    (rb"TTA[12]", "tta"),
    (rb"MAC ", "ape"),
    (rb"RIFF....AVI ", "avi"),
    (rb"FLV\x01", "flv"),
    (rb"G.{187}G.{187}G", "mpegts"),
    (rb"ADIF|\xff[\xf0\xf1\xf8\xf9]", "aac"),
    (rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd]|APETAGEX", "mp3"),
]
_FFMPEG = [(re.compile(pattern, re.DOTALL), demuxer) for pattern, demuxer in _FFMPEG_HEADS]
_BY_ENDING = {".g722": "g722", ".gsm": "gsm"}  # streams without any mark
_DEMUXERS = {b"FORM": "aiff", b"caff": "caf", b"riff": "w64"}  # else wav


@dataclass(frozen=True)
class Part:
    """One stream of sound: bytes [start, end) of a file, some of them to be read as others."""

    start: int
    end: int
    demuxer: str  # FFmpeg's name of the container; "" where only libsndfile may try
    sndfile: bool  # whether libsndfile reads it first
    patch: tuple[int, bytes] | None = None  # a place from `start` on, and what stands there
    cut: bool = False  # the header announces more than there is
    doubted: bool = False  # whether FFmpeg should check the length that libsndfile found


class _Shape(NamedTuple):
    """How a family of files is chunked."""

    first: int  # where the first chunk starts
    name_bytes: int
    size_bytes: int
    order: Literal["little", "big"]
    align: int
    whole: bool  # the size counts the chunk's own head


_RIFF = _Shape(12, 4, 4, "little", 2, False)
_SHAPES = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"RIFX": _RIFF._replace(order="big"),
    b"FORM": _RIFF._replace(order="big"),
    b"riff": _Shape(40, 16, 8, "little", 8, True),
    b"caff": _Shape(8, 4, 8, "big", 1, False),
}


def parts(file: BinaryIO, size: int, ending: str) -> list[Part]:
    """The streams of sound in a file, in order; at least one.

    Args:
        ending: of its name, such as ".g722", which decides where the content has no mark of its own.

    Raises:
        InputError: without the file's name: nothing that is known, or sound that cannot be reached.
    """
    start = _behind_id3(file, size)
    head = _at(file, start, HEAD_BYTES)
    if head[:4] == b"fLaC":
        return [_flac(file, start, size)]
    if head[:4] == b"OggS":
        return _ogg(file, start, size)
    for pattern, demuxer in _FFMPEG:
        if pattern.match(head):
            plain = [Part(start, size, demuxer, False)]
            return _mp4(file, start, size) if demuxer == "mov" else plain
    if head[:4] in _SHAPES:
        return _chunked(file, start, size, head)
    if head[:4] == b".snd" and len(head) >= 24:
        return [_au(head, start, size)]
    if head[:7] == b"NIST_1A":
        return [_nist(head, start, size)]
    if _SNDFILE_HEADS.match(head):
        return [Part(start, size, "", True)]
    if ending.lower() in _BY_ENDING and not _is_text(head):
        return [Part(start, size, _BY_ENDING[ending.lower()], False)]
    if start:  # a tag in front of something: MP3 with a few stray bytes, most likely
        return [Part(start, size, "mp3", False)]
    raise InputError(f"not a recording of a known kind (it starts with {head[:8]!r}); copy or convert it again")


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


# ---- places in a file


def _at(file: BinaryIO, place: int, n_bytes: int) -> bytes:
    file.seek(place)
    return file.read(n_bytes)


def _behind_id3(file: BinaryIO, size: int) -> int:
    """Where the content starts behind ID3v2 tags, of which there may be several."""
    place = 0
    while (head := _at(file, place, 10))[:3] == b"ID3" and len(head) == 10 and place < size:
        length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place += 10 + length + (10 if head[5] & 0x10 else 0)
    return min(place, size)


def _found(file: BinaryIO, mark: bytes, start: int, end: int) -> Iterator[int]:
    """Places of a mark in [start, end); an expression finds a rare byte faster than `bytes.find` does four."""
    pattern = re.compile(re.escape(mark))
    while start + len(mark) <= end and len(piece := _at(file, start, min(SCAN_BYTES, end - start))) >= len(mark):
        yield from (start + match.start() for match in pattern.finditer(piece))
        start += len(piece) - len(mark) + 1


# ---- FLAC


def _flac(file: BinaryIO, start: int, size: int) -> Part:
    """libsndfile reads what is as long as it says, or does not say; FFmpeg the rest, and what was joined."""
    head = _at(file, start, 42)
    whole = len(head) == 42
    if total := int.from_bytes(head[18:26], "big") & (1 << 36) - 1:
        longest = int.from_bytes(head[15:18], "big") or 1 << 15  # frame in bytes
        from_tail = max(start, size - longest - TAIL_BYTES)
        whole = flac.end_of(_at(file, from_tail, size - from_tail), head) == total
    joined = any(_at(file, place + 5, 3) == b"\0\0\x22" for place in _found(file, b"fLaC", start + 42, size))
    return Part(start, size, "flac", whole and not joined)


# ---- Ogg and MP4


def _ogg(file: BinaryIO, start: int, size: int) -> list[Part]:
    """The links of a chain; tracks that run side by side begin with first pages right behind each other."""
    pages = [(place, _at(file, place, 27 + 255)) for place in _found(file, b"OggS\0", start, size)]
    if not pages:
        raise InputError("not an Ogg file of a known version; copy or convert it again")
    links: list[list[tuple[int, bytes]]] = []
    for place, page in pages:
        before = links[-1][-1] if links else (start, b"")
        if page[5:6] == b"\2" and not (before[1][5:6] == b"\2" and place == before[0] + _page_bytes(before[1])):
            links.append([])
        if links:
            links[-1].append((place, page))
    starts = [start, *(link[0][0] for link in links[1:])]
    found = []
    for link, begin, end in zip(links or [pages], starts, [*starts[1:], size]):
        side_by_side = sum(page[5:6] == b"\2" for _, page in link) > 1
        ends = [int.from_bytes(page[6:14], "little", signed=True) for _, page in link[-2:]]
        if not side_by_side and len(ends) == 2 and 0 <= ends[1] < ends[0]:
            raise InputError("it tells an end before its sound ends; convert it anew")
        found.append(Part(begin, end, "ogg", not side_by_side, doubted=True))
    last, page = pages[-1]
    whole = len(page) >= 27 and page[5] & 4 and last + _page_bytes(page) <= size
    return [*found[:-1], replace(found[-1], cut=not whole)]


def _page_bytes(page: bytes) -> int:
    return 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) >= 27 else 0


def _mp4(file: BinaryIO, start: int, size: int) -> list[Part]:
    """Files in a row start anew with their kind; without an index nothing can be read."""
    starts, place, indexed, cut = [start], start, False, False
    for _ in range(MAX_CHUNKS):
        if place + 8 > size:
            break
        head = _at(file, place, 16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = size - place
        if head[4:8] == b"ftyp" and place > start and indexed:
            starts.append(place)
        indexed = indexed or head[4:8] == b"moov"
        cut = place + length > size
        if length < 8 or cut:
            break
        place += length
    if not indexed:
        raise InputError("cut short: its index (moov), which stands at its end, is missing; copy it again")
    found = [Part(a, b, "mov", False) for a, b in zip(starts, [*starts[1:], size])]
    return [*found[:-1], replace(found[-1], cut=cut)]


# ---- files of chunks


def _chunked(file: BinaryIO, start: int, size: int, head: bytes) -> list[Part]:
    """Part a file of chunks: correct the length of its sound where more follows, part what was joined."""
    shape = _SHAPES[head[:4]]
    demuxer = _DEMUXERS.get(head[:4], "wav")
    plain = Part(start, size, demuxer, True)
    bytes_per_s, sndfile, longer = 32_000, True, b""
    for name, body, length in _chunks(file, start + shape.first, size, shape):
        if name == b"fmt " and demuxer in ("wav", "w64"):
            content = _at(file, body, 16)
            sndfile = int.from_bytes(content[:2], shape.order) not in (0x50, 0x55)  # MPEG: mpg123 talks
            bytes_per_s = int.from_bytes(content[8:12], shape.order) or bytes_per_s
        elif name == b"ds64":
            longer = _at(file, body + 8, 8)
        elif name in (b"data", b"SSND"):
            if longer and length == 0xFFFF_FFFF:
                length = int.from_bytes(longer, "little")
            break
    else:
        return [replace(plain, sndfile=sndfile)]
    plain = replace(plain, sndfile=sndfile)
    slack, there = max(64, int(SLACK_S * bytes_per_s)), size - body
    if length > there:
        unknown = any(length in span for span in UNSPOKEN)
        cut = not unknown and length - there > slack
        patched = _with_length(file, plain, shape, body, there) if demuxer == "caf" else plain
        return [replace(patched, cut=cut)]
    end, again = _behind_sound(file, body, length, size, shape)
    if again:
        return [replace(plain, end=end), *_chunked(file, end, size, _at(file, end, HEAD_BYTES))]
    if size - end <= slack or not _at(file, end, size - end).strip(b"\0"):
        return [plain]
    if end > body + length + shape.align:
        raise InputError(
            f"{size - end:,} bytes that are neither sound nor notes follow its sound; convert it to FLAC or WAV anew"
        )
    return [_with_length(file, plain, shape, body, there)]


def _chunks(file: BinaryIO, place: int, size: int, shape: _Shape) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the body and announced length of each chunk; a padding byte that was forgotten is understood."""
    head_bytes = shape.name_bytes + shape.size_bytes
    for _ in range(MAX_CHUNKS):
        if place + head_bytes > size:
            return
        head = _at(file, place, head_bytes)
        if shape.align == 2 and not _is_name(head[:4]) and _is_name(before := _at(file, place - 1, 4)):
            place, head = place - 1, before + _at(file, place + 3, 4)
        length = int.from_bytes(head[shape.name_bytes :], shape.order) - (head_bytes if shape.whole else 0)
        yield head[:4], place + head_bytes, length
        if length < 0 or not _is_name(head[:4]):
            return
        place += head_bytes + length
        place += -(place if shape.align == 8 else length) % shape.align


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _behind_sound(file: BinaryIO, body: int, length: int, size: int, shape: _Shape) -> tuple[int, bool]:
    """Where what cannot be explained starts behind the sound, or a file that was joined; `size` where all is well."""
    end = min(size, body + length + -(body + length if shape.align == 8 else length) % shape.align)
    if shape.align == 2 and not _is_name(_at(file, end, 4)) and _is_name(_at(file, end - 1, 4)):
        end -= 1  # a padding byte that was forgotten
    for name, inside, n_bytes in _chunks(file, end, size, shape):
        if name == b"data" and n_bytes > 0:
            raise InputError("holds several chunks of sound, of which programs play different ones; convert it anew")
        if name in _SHAPES and shape.name_bytes == 4:
            return end, True
        if not _is_name(name) or not (0 <= n_bytes <= size + 1 - inside or name in EXTRA):
            break
        end = min(size, inside + n_bytes + n_bytes % shape.align)
    return end, False


def _with_length(file: BinaryIO, part: Part, shape: _Shape, body: int, length: int) -> Part:
    """The part with the true length in front of its sound."""
    head = _at(file, part.start, 40)
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        return replace(part, patch=(28, length.to_bytes(8, "little")))
    length = min(length + (24 if shape.whole else 0), (1 << 8 * shape.size_bytes) - 1)
    return replace(
        part,
        patch=(body - part.start - shape.size_bytes, length.to_bytes(shape.size_bytes, shape.order)),
    )


def _au(head: bytes, start: int, size: int) -> Part:
    """Sun's AU has nothing behind its sound, so all that is there is sound."""
    offset, length = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    there = size - start - offset
    if length < there:
        return Part(start, size, "au", True, patch=(8, b"\xff\xff\xff\xff"))
    return Part(start, size, "au", True, cut=length > there + 64 and not any(length in span for span in UNSPOKEN))


def _nist(head: bytes, start: int, size: int) -> Part:
    """libsndfile goes by the size of the file; the count of the header tells whether it is whole."""
    said = dict(re.findall(rb"(sample_count|sample_n_bytes|channel_count) -i (\d{1,12})", head))
    announced = 1
    for value in said.values():
        announced *= int(value)
    cut = len(said) == 3 and announced > size - start - 1024 + 64 and b"shorten" not in head
    return Part(start, size, "nistsphere", True, cut=cut)
