"""Decoding by FFmpeg, through PyAV: MP3, AAC, M4A, WebM, the sound of a video, and what libsndfile gives up on.

FFmpeg is told which container it has before it and sees nothing but the given bytes: it chooses no reader by itself
(texts such as ffconcat, SDP, HLS or DASH name other files), opens no protocol and gets no file beside. It logs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from qamo import InputError

BLOCK_SAMPLES = 1 << 16  # small frames are joined up to this
APART_S = 0.2  # by which an announced length may miss what was read
_XING = re.compile(rb"(Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f](....)", re.DOTALL)  # counts frames
SEAMS = 2  # packets that MP3s lose where they were joined: they refer to bits of packets before
_SCALE = {"u1": 128.0, "i2": 32768.0, "i4": 2147483648.0, "f4": 1.0, "f8": 1.0}


@dataclass
class Findings:
    """What decoding showed beside the sound."""

    cut: bool = False
    short: bool = False  # less than was announced
    damaged: bool = False
    n_tracks: int = 1

    def add(self, other: Findings, *, broken: bool) -> None:
        """Take in what a part showed; `broken`: libsndfile met damage in it, which explains what is missing."""
        self.cut = self.cut or other.cut or (other.short and not (broken or other.damaged))
        self.damaged = self.damaged or other.damaged or (broken and not other.cut)
        self.n_tracks = max(self.n_tracks, other.n_tracks)


def opened(file: BinaryIO, demuxer: str) -> Any:
    """An input container of PyAV over an open file, at its start."""
    try:
        import av
    except ImportError:
        raise InputError("reading this kind of file needs PyAV; pip install av") from None

    def refuse(url: str, flags: int, options: dict[str, str]) -> Any:
        raise PermissionError("a recording may not name other files")

    before_19 = int(av.__version__.partition(".")[0]) < 19
    text: Any = {"metadata_errors": "replace"} if before_19 else {}  # titles in any bytes, which 19 takes by itself
    file.seek(0)
    return av.open(
        file,
        "r",
        format=demuxer,
        container_options={"protocol_whitelist": "none"},
        io_open=refuse,
        **text,
    )


def blocks(file: BinaryIO, demuxer: str, findings: Findings) -> Iterator[tuple[int, np.ndarray]]:
    """Rate in Hz and samples (n, channels) float32 of the first sound track; what else is found goes to `findings`."""
    import av

    with opened(file, demuxer) as container:
        stream = _sound_of(container)
        findings.n_tracks = len(container.streams.audio)
        announced_s = _announced_s(container, stream, file, demuxer)
        stream.codec_context.thread_count = 1
        read_s, last_was_bad, n_bad = 0.0, False, 0
        waiting: list[np.ndarray] = []
        n_waiting = 0  # samples; frames may have one each
        kind: tuple[int, int] | None = None
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                if kind is None:
                    raise
                last_was_bad = True
                break
            if packet is None:
                break
            try:
                frames = packet.decode()
            except (av.FFmpegError, EOFError):
                last_was_bad, n_bad = True, n_bad + 1
                continue
            for frame in frames:
                piece = _samples(frame)
                read_s += len(piece) / frame.sample_rate
                last_was_bad = False
                if waiting and (kind != (frame.sample_rate, piece.shape[1]) or n_waiting >= BLOCK_SAMPLES):
                    yield kind[0], np.concatenate(waiting)  # type: ignore[index]
                    waiting, n_waiting = [], 0
                kind = frame.sample_rate, piece.shape[1]
                waiting.append(piece)
                n_waiting += len(piece)
        if waiting and kind:
            yield kind[0], np.concatenate(waiting)
        findings.damaged = n_bad - last_was_bad > (SEAMS if demuxer == "mp3" else 0)
        findings.cut = last_was_bad
        findings.short = read_s + max(APART_S, 0.01 * announced_s) < announced_s


def look(file: BinaryIO, demuxer: str) -> None:
    """Raise what is wrong with a file as far as its header shows."""
    with opened(file, demuxer) as container:
        _sound_of(container)


def is_longer(file: BinaryIO, demuxer: str, seconds: float) -> bool:
    """Whether the packets, which are not decoded, speak of another length than `seconds`."""
    import av

    try:
        with opened(file, demuxer) as container:
            stream = _sound_of(container)
            told = sum((packet.duration or 0) * packet.time_base for packet in container.demux(stream))
    except (InputError, av.FFmpegError):
        return False
    return abs(float(told) - seconds) > APART_S


def _sound_of(container: Any) -> Any:
    if not container.streams.audio:
        raise InputError("expected a recording, found a file without sound")
    if container.streams.audio[0].codec_context is None:
        raise ValueError("no decoder for its sound")
    return container.streams.audio[0]


def _announced_s(container: Any, stream: Any, file: BinaryIO, demuxer: str) -> float:
    """Seconds that a header promises; 0 where FFmpeg guesses from the size of the file."""
    if demuxer in ("mov", "flac") and stream.duration:
        return float(stream.duration * stream.time_base)
    if demuxer == "matroska" and not container.streams.video:
        return (container.duration or 0) / 1e6
    if demuxer == "mp3" and stream.rate:
        place = file.tell()
        file.seek(0)
        count = _XING.search(file.read(1 << 16))
        file.seek(place)
        return (
            int.from_bytes(count[2], "big") * (1152 if stream.rate >= 32_000 else 576) / stream.rate if count else 0.0
        )
    return 0.0


def _samples(frame: Any) -> np.ndarray:
    """A decoded frame as (n, channels) float32 in [-1, 1]."""
    values = frame.to_ndarray()  # (channels, n) where planar, else (1, n * channels)
    values = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    code = values.dtype.str[1:]
    if code == "u1":
        values = values.astype(np.float32) - 128
    with np.errstate(invalid="ignore"):  # a damaged float may be no number, which is said when the wave is whole
        return np.ascontiguousarray(values, np.float32) / np.float32(_SCALE[code])
