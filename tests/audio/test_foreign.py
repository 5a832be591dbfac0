"""Files of strangers: FFmpeg opens nothing but the given bytes, no decoder speaks, breaks or shows another's memory."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from qamo import InputError
from qamo.audio import ffmpeg, sndfile
from qamo.audio import load as audio
from tests.support.sounds import by_ffmpeg, encoded, seeds, voice

ROOT = Path(__file__).parents[2]
MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT3S">'
    '<Period><AdaptationSet mimeType="audio/wav"><Representation id="1" bandwidth="1"><BaseURL>secret.wav</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
TEXTS = {  # by the demuxer of FFmpeg that would follow them
    "concat": "ffconcat version 1.0\nfile secret.wav\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsecret.wav\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "dash": MPD,
    "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"/>',
    "vobsub": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 000000000\n",
    "image2": "%d.png",
    "lavfi": "amovie=secret.wav",
    "smoothstreaming": '<SmoothStreamingMedia MajorVersion="2" Duration="1"/>',
    "ffmetadata": ";FFMETADATA1\ntitle=x\n",
    "rtsp": "RTSPtext\nrtsp://127.0.0.1/x\n",
    "asf": "[Reference]\nRef1=http://127.0.0.1:9/secret.wav\n",
    "m3u": "secret.wav\n",
    "pls": "[playlist]\nFile1=secret.wav\nNumberOfEntries=1\n",
    "asx": '<asx version="3.0"><entry><ref href="secret.wav"/></entry></asx>',
}


@pytest.fixture
def beside_a_secret(tmp_path, monkeypatch):
    (tmp_path / "secret.wav").write_bytes(encoded(voice(3), "WAV"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("before", ["", "\ufeff", "ID3\x04\0\0\0\0\0\0"])
def test_texts_that_name_other_files_are_no_recordings(beside_a_secret, kind, before):
    text = (before + TEXTS[kind]).encode()
    for name in ("a.wav", "a.mp3", "a.m3u8", "a.sdp", "a.mpd", "a.ffconcat", "a.g722", "a.%d.png"):
        (beside_a_secret / name).write_bytes(text)
        for source in (beside_a_secret / name, Path(name), text):
            with pytest.raises(InputError):
                audio.read(source, name=name)


@pytest.mark.parametrize("kind", ["concat", "hls", "dash", "sdp", "image2", "vobsub", "lavfi"])
def test_a_reader_that_were_chosen_wrongly_could_open_nothing_either(beside_a_secret, kind):
    av = pytest.importorskip("av")
    (beside_a_secret / "list").write_text(TEXTS[kind])
    if kind == "concat":  # left alone, it does
        with av.open("list", format=kind) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) == 48_000
    findings = ffmpeg.Findings()
    try:
        heard = list(ffmpeg.blocks(io.BytesIO(TEXTS[kind].encode()), kind, findings))
    except (InputError, av.FFmpegError, OSError, ValueError):
        heard = []
    assert not heard


def test_a_title_in_any_bytes_is_no_reason_to_refuse_sound():
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        container.metadata["title"] = "cafeXX"
        stream = container.add_stream("pcm_s16le", rate=16_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.ones((1, 16_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
    raw = file.getvalue()
    assert raw.count(b"cafeXX") == 1
    assert len(audio.read(raw.replace(b"cafeXX", b"caf\xe9\xff\xfe"), name="a.mka").wave) == 16_000


def moov_that_points_to(path: Path, raw: bytes) -> bytes:
    """An MP4 whose samples lie in another file, by an alias record in its data reference."""
    name = os.fsencode(path)
    record = bytearray(150)
    record[4:6] = struct.pack(">H", 150)
    tail = struct.pack(">hH", 2, len(name)) + name + bytes(len(name) & 1) + struct.pack(">hH", -1, 0)
    alias = bytes(record) + tail
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    place = raw.index(b"dref") - 4
    length = struct.unpack(">I", raw[place : place + 4])[0]
    changed = raw[: place + 16] + entry + raw[place + length :]
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = changed.index(kind) - 4
        size = struct.unpack(">I", changed[at : at + 4])[0] + len(changed) - len(raw)
        changed = changed[:at] + struct.pack(">I", size) + changed[at + 4 :]
    return changed


def test_an_mp4_that_keeps_its_sound_in_another_file_does_not_get_it(beside_a_secret):
    av = pytest.importorskip("av")
    loud = by_ffmpeg(0.9 * np.sign(voice(3)), "pcm_s16le", "mov")
    (beside_a_secret / "loud.mov").write_bytes(loud)
    quiet = moov_that_points_to(beside_a_secret / "loud.mov", by_ffmpeg(0.01 * voice(3), "pcm_s16le", "mov"))
    (beside_a_secret / "a.mov").write_bytes(quiet)
    with pytest.raises(InputError, match="found 0 samples"):
        audio.read(beside_a_secret / "a.mov")
    with av.open(str(beside_a_secret / "a.mov"), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert max(np.abs(f.to_ndarray()).max() for f in container.decode(audio=0)) > 20_000  # where it is let


def test_nothing_is_said_by_c_libraries(capfd):
    for raw in (*seeds().values(), encoded(voice(), "MP3")):
        for content in (raw, raw[: len(raw) // 3], raw[:300], raw[: len(raw) // 2] + bytes(500) + raw[len(raw) // 2 :]):
            with contextlib.suppress(InputError):
                audio.read(content)
    assert capfd.readouterr() == ("", "")


def test_a_short_read_hands_out_what_was_read_and_not_what_lay_there(monkeypatch):
    """Memory is full of an earlier recording: none of it may be heard."""
    cut = encoded(0.1 * voice(12), "MP3")[:9_000]
    first = audio.read(cut).wave
    empty = np.empty
    monkeypatch.setattr(np, "empty", lambda *args, **more: np.full_like(empty(*args, **more), 0.9))
    for content in (cut, *seeds().values()):
        assert np.abs(audio.read(content).wave).max() < 0.8
    np.testing.assert_array_equal(audio.read(cut).wave, first)
    header_lies = bytearray(encoded(0.1 * voice(2), "FLAC"))
    header_lies[25] = header_lies[24] = 0xFF
    blocks = [block for _, block in sndfile.blocks(sndfile.Memory(bytes(header_lies)))]
    assert np.abs(np.concatenate(blocks)).max() < 0.1


def test_damaged_files_give_a_wave_or_a_sentence_within_bounds_and_nothing_of_other_memory():
    """Each in 5 s and 1 GB, and the same whatever fresh memory is filled with. By hand: 1,000 of each kind."""
    digests = set()
    for filling in ("85", "170"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.sounds", "60"],
            cwd=ROOT,
            env=os.environ | {"MALLOC_PERTURB_": filling, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        digests.add(done.stdout.splitlines()[-1])
    assert len(digests) == 1


def test_files_read_by_threads_side_by_side_are_each_their_own():
    contents = list(seeds().values())
    alone = [audio.read(content).wave for content in contents]
    with ThreadPoolExecutor(8) as pool:
        for place, wave in enumerate(pool.map(lambda content: audio.read(content).wave, contents * 10)):
            np.testing.assert_array_equal(wave, alone[place % len(alone)])
