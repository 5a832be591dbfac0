"""What is kept of a set while it is being scored: one file of finished batches for each process."""

from __future__ import annotations

import json
import logging
import math
import os
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """One trial of a batch's line: its score as text, or why there is none."""

    name: str
    score: str | None
    fault: str | None


class Parts:
    """The part files of one score file, one of each process.

    A batch is a line of a checksum and JSON, CRC [number, [[name, score, fault], ...]]. A line that a kill cut short
    or that was damaged is none, so it is passed over, and its batch is computed again.
    """

    def __init__(self, out: Path, names: Sequence[str], batch_size: int):
        self.out = out
        self.names = names
        self.batch_size = batch_size
        self.n_batches = math.ceil(len(names) / batch_size)

    def indices(self, number: int) -> range:
        return range(number * self.batch_size, min((number + 1) * self.batch_size, len(self.names)))

    def paths(self) -> list[Path]:
        return sorted(self.out.parent.glob(f"{self.out.name}.part*"))

    def path(self, rank: int) -> Path:
        return self.out.with_name(f"{self.out.name}.part{rank}")

    def line(self, number: int, rows: list[Row]) -> bytes:
        content = json.dumps([number, rows]).encode()
        return b"%08x %b\n" % (zlib.crc32(content), content)

    def missing(self) -> list[int]:
        """Numbers of the batches that are still to be scored, or hold a recording that could not be read."""
        found = self._find()
        missing = [number for number in range(self.n_batches) if found.n_faults[number]]
        if len(missing) < self.n_batches:
            log.info("%s: %d of %d batches were scored before", self.out, self.n_batches - len(missing), self.n_batches)
        return missing

    def _find(self) -> _Found:
        """Where the lines are that are whole and agree with the list; of several the one with least faults."""
        found = _Found(self.n_batches)
        for file_number, path in enumerate(self.paths()):
            found.paths.append(path)
            with open(path, "rb") as file:
                start = 0
                for line in file:
                    read = self._read_line(line)
                    if read is not None:
                        number, rows = read
                        found.add(number, file_number, start, sum(row.fault is not None for row in rows))
                    start += len(line)
        return found

    def _read_line(self, line: bytes) -> tuple[int, list[Row]] | None:
        try:
            crc, _, content = line.rstrip(b"\n").partition(b" ")
            if int(crc, 16) != zlib.crc32(content):
                return None
            number, rows = json.loads(content)
            rows = [Row(*row) for row in rows]
        except (ValueError, TypeError):
            return None
        known = 0 <= number < self.n_batches
        agrees = known and [row.name for row in rows] == [self.names[i] for i in self.indices(number)]
        return (number, rows) if agrees else None

    def read(self) -> Iterator[list[Row]]:
        """The rows of all batches in protocol order."""
        found = self._find()
        with ExitStack() as stack:
            files: list[BinaryIO] = [stack.enter_context(open(path, "rb")) for path in found.paths]
            for number in range(self.n_batches):
                if found.n_faults[number] == _Found.NOWHERE:
                    raise RuntimeError(f"{self.out}: batch {number} was never scored")
                file = files[found.file[number]]
                file.seek(found.start[number])
                read = self._read_line(file.readline())
                assert read is not None
                yield read[1]

    @contextmanager
    def writer(self, rank: int) -> Iterator[Callable[[int, list[Row]], None]]:
        """A callable (number, rows) that appends a batch to one process's file."""
        with open(self.path(rank), "ab") as file:

            def write(number: int, rows: list[Row]) -> None:
                file.write(self.line(number, rows))
                file.flush()

            if file.tell():  # a line that a kill cut short must not swallow the next
                file.write(b"\n")
            try:
                yield write
            finally:
                file.flush()
                os.fsync(file.fileno())


class _Found:
    """For each batch the file and offset of its line, and how many of its recordings failed: 16 bytes a batch."""

    NOWHERE = 2**31 - 1  # in place of the number of faults of a batch without a line

    def __init__(self, n_batches: int):
        self.paths: list[Path] = []
        self.file = array("i", [0]) * n_batches
        self.start = array("q", [0]) * n_batches
        self.n_faults = array("i", [self.NOWHERE]) * n_batches

    def add(self, number: int, file: int, start: int, n_faults: int) -> None:
        if n_faults < self.n_faults[number]:
            self.file[number], self.start[number], self.n_faults[number] = file, start, n_faults
