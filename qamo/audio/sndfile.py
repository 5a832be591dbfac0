"""Decoding by libsndfile: WAV, FLAC, AIFF, Ogg and their kin, exactly and fast."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile

from qamo import InputError
from qamo.audio.mixing import check_form

BLOCK_SAMPLES = 1 << 18  # of all channels together


class Broken(Exception):
    """A file that was opened and could not be decoded to its end."""


class _Straight(soundfile.SoundFile):
    """A file read straight on. soundfile seeks after each read, which a stream of unknown length does not survive."""

    def seekable(self) -> bool:
        return False


class Memory(io.BytesIO):
    """Bytes as a file; a damaged header that seeks to nowhere lands at the end, and not in a callback's traceback."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except (OverflowError, ValueError):
            return super().seek(0, io.SEEK_END)


def look(source: bytes | BinaryIO) -> None:
    """Raise what is wrong with a file as far as its header shows."""
    with _Straight(source) as file:
        if not file.frames:
            raise InputError("expected speech, found a recording without samples; replace or remove the file")
        check_form(file.samplerate, file.channels)


def blocks(source: bytes | BinaryIO) -> Iterator[tuple[int, np.ndarray]]:
    """Rate in Hz and samples (n, channels) float32, until the decoder has no more.

    Args:
        source: a path as bytes (a name need not be UTF-8), or a file in memory.

    Raises:
        soundfile.SoundFileError: nothing that libsndfile reads.
        Broken: on the way.
    """
    with _Straight(source) as file:
        size = max(1, BLOCK_SAMPLES // file.channels)
        left = file.frames  # the header's word: decides the size of a buffer, not when to stop
        while True:
            buffer = np.empty((min(size, left) if left > 0 else size, file.channels), np.float32)
            try:
                block = file.read(out=buffer)
            except soundfile.SoundFileError as error:
                raise Broken(str(error)) from None
            if not len(block):
                return
            yield file.samplerate, block if len(block) == len(buffer) else block.copy()
            left -= len(block)
            if not left:  # libsndfile itself goes no further than the length it believes
                return
