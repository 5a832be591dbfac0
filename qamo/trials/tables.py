"""Text tables of blank-separated columns, read whole columns at a time.

The keys and score files of this field hold up to millions of lines, of which a few columns are wanted. A table is read
in blocks and a column is kept as one array of bytes (dtype `S`), so that no Python object is made for a field: a
million lines cost a fraction of a second and the memory of the wanted columns alone.

Blanks are spaces and, unless told otherwise, tabs; CRLF, a UTF-8 byte order mark, blank lines, blanks at the ends of a
line and a missing final newline are all allowed. N is the number of rows, W the width of the widest field in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qamo import InputError
from qamo.files import shown
from qamo.trials.text import blocks

EXTENSIONS = (b".wav", b".flac", b".mp3", b".ogg", b".opus", b".m4a")
N_SHOWN = 5  # offenders that an error names, besides their count
_CHUNK = 1 << 16  # names hashed at a time, to stay in the cache
_TAB, _NEWLINE, _RETURN, _SPACE = 9, 10, 13, 32
_MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)  # odd constants of xxHash


class Table(NamedTuple):
    """Some columns of a table, and where each row stood."""

    columns: list[np.ndarray]  # (N,) of dtype S, one for each column asked for
    lines: np.ndarray  # (N,) line numbers, from 1


class Columns(Mapping[str, list[str]]):
    """Columns by name; the texts of a column are made when it is first asked for."""

    def __init__(self, raw: dict[str, np.ndarray]):
        self.raw = raw  # (N,) of dtype S each
        self._texts: dict[str, list[str]] = {}

    def __getitem__(self, column: str) -> list[str]:
        if column not in self._texts:
            distinct, codes = self.levels(column)
            self._texts[column] = [distinct[code] for code in codes.tolist()]
        return self._texts[column]

    def levels(self, column: str) -> tuple[list[str], np.ndarray]:
        """The distinct texts of a column, sorted, and the index of each row's: L str, (N,) int64."""
        distinct, codes = levels(self.raw[column])
        return texts_of(distinct), codes

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


def read_table(
    path: Path | str,
    columns: Sequence[int],
    *,
    n_columns: int,
    expected: str,
    tabs: bool = True,
    skip: int = 0,
    convert: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None,
) -> Table:
    """Read the numbered `columns` (from 0) of a table in which every row has `n_columns` fields.

    Args:
        expected: what a row holds, for the error, such as "'name score'".
        tabs: whether a tab separates fields; if not, it belongs to the field.
        skip: lines above the first row, such as a header.
        convert: what to keep of some rows, from their columns; the result has these columns in place of those read.

    Raises:
        InputError: a row has another number of fields, or the file is not UTF-8 text; names the first lines.
    """
    pieces: list[list[np.ndarray]] = []
    line_pieces: list[np.ndarray] = []
    bad: list[tuple[int, str]] = []
    n_bad, n_lines = 0, skip
    for block in blocks(path, skip):
        starts, ends, lines, bad_lines, n_here = _split(block, n_columns, tabs, path)
        n_bad += len(bad_lines)
        bad += [(n_lines + i, _line(block, i)) for i in bad_lines[: N_SHOWN - len(bad)].tolist()]
        read = [_gather(block, starts[:, column], ends[:, column]) for column in columns]
        pieces.append(read if convert is None else convert(read))
        line_pieces.append(lines + n_lines)
        n_lines += n_here
    if bad:
        raise InputError(f"{path}:{bad[0][0]}: expected {expected}, got {bad[0][1]!r}{_others(bad, n_bad)}")
    lines = np.concatenate(line_pieces) if line_pieces else np.zeros(0, np.int64)
    if not pieces:
        return Table([np.zeros(0, "S1") for _ in columns], lines)
    return Table([_stack(pieces, i) for i in range(len(pieces[0]))], lines)


def to_float(table: Table, column: int, *, path: Path | str, what: str) -> np.ndarray:
    """A column of decimal numbers as float64, each correctly rounded; `nan` and `inf` are numbers here.

    Raises:
        InputError: some are not numbers; names their lines.
    """
    texts = table.columns[column]
    try:
        if b"_" in texts.tobytes():  # Python would take 1_000 for a number
            raise ValueError
        return texts.astype(np.float64)
    except ValueError:
        bad = np.array([i for i, text in enumerate(texts.tolist()) if not _is_number(text)])
    some = [(int(table.lines[i]), text_of(texts[i])) for i in bad[:N_SHOWN]]
    raise InputError(
        f"{path}:{some[0][0]}: expected {what} to be a number, got {some[0][1]!r}{_others(some, len(bad))}"
    )


def refuse_repeats(names: np.ndarray, lines: np.ndarray, *, path: Path | str, what: str) -> None:
    """Raise InputError if a name stands twice: `what` says what happened to it before, such as 'was scored before'."""
    hashes = hash_names(names)
    order = np.argsort(hashes)
    ordered = hashes[order]
    if not (ordered[1:] == ordered[:-1]).any():
        return
    # Equal hashes may be different names: decide on the names themselves.
    suspects = np.sort(order[np.isin(ordered, ordered[1:][ordered[1:] == ordered[:-1]])])
    seen: set[bytes] = set()
    again = []
    for i, name in zip(suspects.tolist(), names[suspects].tolist()):
        if name in seen:
            again.append(i)
        seen.add(name)
    if again:
        others = ", ".join(f"{some_of(names[[i]])} (line {lines[i]})" for i in again[1:N_SHOWN])
        more = f"; {len(again)} names in all: also {others}{'' if len(again) <= N_SHOWN else ', ...'}" if others else ""
        raise InputError(f"{path}:{lines[again[0]]}: {some_of(names[again[:1]])} {what}{more}")


def match(wanted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Index in `given` (distinct names) of each `wanted` name, or -1: (N,), (M,) of dtype S -> (N,) int64."""
    if len(wanted) == len(given) and np.array_equal(wanted, given):
        return np.arange(len(wanted))
    if not len(given):
        return np.full(len(wanted), -1)
    width = max(wanted.dtype.itemsize, given.dtype.itemsize)
    wanted_hash, given_hash = hash_names(wanted, width), hash_names(given, width)
    given_order = np.argsort(given_hash)
    given_sorted = given_hash[given_order]
    wanted_order = np.argsort(wanted_hash)
    found = np.full(len(wanted), -1)
    if np.array_equal(wanted_hash[wanted_order], given_sorted):  # the same names in another order
        found[wanted_order] = given_order
    else:
        place = np.minimum(np.searchsorted(given_sorted, wanted_hash), len(given) - 1)
        hit = given_sorted[place] == wanted_hash
        found[hit] = given_order[place[hit]]
    if (given_sorted[1:] == given_sorted[:-1]).any() or (given[found[found >= 0]] != wanted[found >= 0]).any():
        index = {name: i for i, name in enumerate(given.tolist())}  # two names of one hash: once in 10^7 files
        found = np.array([index.get(name, -1) for name in wanted.tolist()], dtype=np.int64)
    return found


def levels(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct texts, sorted, and which of them each is: (N,) -> (L,), (N,) int64 with levels[codes] == texts."""
    hashes = hash_names(texts)
    _, first, codes = np.unique(hashes, return_index=True, return_inverse=True)
    distinct = texts[first]
    if not np.array_equal(distinct[codes], texts):  # two texts of one hash
        distinct, codes = np.unique(texts, return_inverse=True)
        return distinct, codes
    order = np.argsort(distinct)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return distinct[order], rank[codes]


def without_extension(names: np.ndarray, extensions: Sequence[bytes] = EXTENSIONS) -> np.ndarray:
    """Names without an extension of an audio file at their end: (N,) of dtype S -> (N,) of dtype S."""
    width = names.dtype.itemsize
    shorter = names.copy()
    for start in range(0, len(names), 1 << 16):  # some at a time: ten million names would take gigabytes at once
        letters = shorter[start : start + (1 << 16)].view(np.uint8).reshape(-1, width)
        length = width - (letters[:, ::-1] != 0).argmax(axis=1)
        hits = []
        for extension in extensions:
            n = len(extension)
            last = np.maximum(length[:, None] - np.arange(n, 0, -1), 0)
            ending = np.take_along_axis(letters, last, axis=1)
            ending = np.where((ending >= ord("A")) & (ending <= ord("Z")), ending + 32, ending)
            hit = (ending == list(extension)).all(axis=1) & (length > n)
            hits.append((np.flatnonzero(hit)[:, None], last[hit]))
        for rows, last in hits:  # one extension a name: `a.wav.flac` is `a.wav`
            letters[rows, last] = 0
    return shorter


def hash_names(names: np.ndarray, width: int = 0) -> np.ndarray:
    """64-bit hashes of byte strings: (N,) -> (N,) uint64; equal names of equal `width` have equal hashes."""
    width = -8 * (-max(width, names.dtype.itemsize, 1) // 8)  # whole words of 8 bytes
    hashes = np.zeros(len(names), np.uint64)
    for start in range(0, len(names), _CHUNK):
        chunk = hashes[start : start + _CHUNK]
        words = np.ascontiguousarray(names[start : start + _CHUNK].astype(f"S{width}")).view(np.uint64)
        words = words.reshape(len(chunk), -1)
        for i in range(words.shape[1]):
            chunk ^= words[:, i]
            chunk *= _MIXERS[i % 2]
            chunk ^= chunk >> np.uint64(29)
    return hashes


def texts_of(names: np.ndarray) -> list[str]:
    """Byte strings as a list of text: (N,) of dtype S -> N str."""
    return [name.decode("utf-8", "replace") for name in names.tolist()]


def text_of(name: bytes) -> str:
    """One byte string as text."""
    return bytes(name).decode("utf-8", "replace")


def some_of(names: np.ndarray) -> str:
    """The first few names, for an error: `a, b, c, d, e, ...`."""
    return ", ".join(map(shown, texts_of(names[:N_SHOWN]))) + (", ..." if len(names) > N_SHOWN else "")


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return b"_" not in text


def _others(bad: list[tuple[int, str]], n_bad: int) -> str:
    if n_bad == 1:
        return ""
    numbers = ", ".join(str(line) for line, _ in bad)
    return f" ({n_bad} such lines: {numbers}{', ...' if n_bad > len(bad) else ''})"


def _line(block: bytes, index: int) -> str:
    """Line `index` (from 1) of a block, shortened for an error."""
    text = block.split(b"\n", index)[index - 1].rstrip(b"\r").decode("utf-8", "replace")
    return text if len(text) <= 80 else text[:77] + "..."


def _split(
    block: bytes, n_columns: int, tabs: bool, path: Path | str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Where each field starts and ends, (N, n_columns) each; the lines (from 1) of the rows, and of the bad ones."""
    bytes_ = np.frombuffer(block, np.uint8)
    blanks = np.flatnonzero(bytes_ <= _SPACE)
    kinds = bytes_[blanks]
    # The usual file: one space between fields, one newline after a row, nothing else.
    if len(blanks) % n_columns == 0:
        ends = blanks.reshape(-1, n_columns)
        regular = kinds.reshape(-1, n_columns)
        if (regular[:, -1] == _NEWLINE).all() and (regular[:, :-1] == _SPACE).all():
            starts = np.concatenate([[0], blanks[:-1] + 1]).reshape(-1, n_columns)
            if (ends > starts).all():
                n_rows = len(ends)
                return starts, ends, np.arange(1, n_rows + 1), np.zeros(0, np.int64), n_rows
    if ((kinds < _TAB) | ((kinds > _NEWLINE) & (kinds != _RETURN) & (kinds != _SPACE))).any():
        raise InputError(f"{path}: holds control characters, so it is not a text table; give a text file")
    blank = (bytes_ == _SPACE) | (bytes_ == _NEWLINE) | (bytes_ == _RETURN) | ((bytes_ == _TAB) if tabs else False)
    edges = np.flatnonzero(np.diff(blank, prepend=True))  # a block ends in a newline, so the edges come in pairs
    starts, ends = edges[0::2], edges[1::2]
    newlines = np.flatnonzero(bytes_ == _NEWLINE)
    counts = np.diff(np.searchsorted(starts, newlines), prepend=0)  # fields of each line
    good = counts == n_columns
    good_fields = np.repeat(good, counts)
    return (
        starts[good_fields].reshape(-1, n_columns),
        ends[good_fields].reshape(-1, n_columns),
        np.flatnonzero(good) + 1,
        np.flatnonzero((counts > 0) & ~good) + 1,
        len(newlines),
    )


def _gather(block: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The fields at the given places: (N,), (N,) -> (N,) of dtype S."""
    if not len(starts):
        return np.zeros(0, "S1")
    widths = ends - starts
    width = int(widths.max())
    padded = np.frombuffer(block + bytes(width), np.uint8)
    fields = np.lib.stride_tricks.sliding_window_view(padded, width)[starts]
    if int(widths.min()) < width:
        fields[np.arange(width) >= widths[:, None]] = 0
    return fields.view(f"S{width}").reshape(-1)


def _stack(pieces: list[list[np.ndarray]], column: int) -> np.ndarray:
    """Join the pieces of a column, letting go of each on the way."""
    dtype = max((piece[column].dtype for piece in pieces), key=lambda dtype: dtype.itemsize)
    joined = np.empty(sum(len(piece[column]) for piece in pieces), dtype)
    start = 0
    for piece in pieces:
        end = start + len(piece[column])
        joined[start:end] = piece[column]
        piece[column] = joined[:0]
        start = end
    return joined
