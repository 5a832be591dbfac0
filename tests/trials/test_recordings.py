"""Recordings found in folders and looked at before hours are spent on them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qamo import InputError
from qamo.trials.recordings import Recordings, check_recordings, find_recording, recordings_in
from tests.support.sounds import encoded, voice

WAV = encoded(voice(2), "WAV")


def test_recordings_are_found_by_their_endings_and_hidden_files_are_none(tmp_path):
    for name in ("b.wav", "A.WAV", "sub/c.m4a", "._b.wav", ".hidden.wav", "notes.txt", "d.g722"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(WAV)
    assert [path.name for path in recordings_in(tmp_path)] == ["A.WAV", "b.wav", "d.g722", "c.m4a"]


def test_a_name_may_lack_its_ending_and_may_not_leave_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.mp3", "in/take 1.wav"):
        (tmp_path / name).write_bytes(WAV)
    assert find_recording(tmp_path, "a") == find_recording(tmp_path, "a.mp3") == tmp_path / "a.mp3"
    assert find_recording(tmp_path / "in", "take 1") == tmp_path / "in/take 1.wav"
    for name in ("../a", str(tmp_path / "a"), "b"):
        assert find_recording(tmp_path / "in", name) is None


def test_each_look_finds_what_it_promises(tmp_path):
    whole, cut, damaged = tmp_path / "whole.wav", tmp_path / "cut.wav", tmp_path / "damaged.flac"
    flac = encoded(voice(2), "FLAC")
    whole.write_bytes(WAV)
    cut.write_bytes(WAV[: len(WAV) // 2])
    damaged.write_bytes(flac[:20_000] + bytes(900) + flac[20_900:])
    check_recordings([whole, cut, damaged], what="set", where="--audio", how="exist")
    with pytest.raises(InputError, match=r"1 of 3 .*cut\.wav: cut short"):
        check_recordings([whole, cut, damaged], what="set", where="--audio", how="header")
    with pytest.raises(InputError, match=r"2 of 3 .*cut\.wav: cut short.*damaged\.flac: damaged"):
        check_recordings([whole, cut, damaged], what="set", where="--audio", how="full")


def test_a_link_to_nothing_is_missing_and_its_neighbours_are_not(tmp_path):
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "b\x1b.wav").symlink_to(tmp_path / "gone")
    check_recordings([tmp_path / "a.wav"], what="set", where="--audio")
    with pytest.raises(InputError, match=r"1 of 2 .*b\\x1b\.wav: no such file"):
        check_recordings([tmp_path / "a.wav", tmp_path / "b\x1b.wav"], what="set", where="--audio")
    assert recordings_in(tmp_path) == [tmp_path / "a.wav"]
    assert os.listdir(tmp_path)


def test_a_file_whose_accents_are_written_otherwise_is_pointed_at(tmp_path):
    (tmp_path / "e\u0301.wav").write_bytes(WAV)  # as macOS writes it; lists often have one letter
    with pytest.raises(InputError, match=r"no such file, but one that looks the same: its accents are written other"):
        check_recordings([tmp_path / "\u00e9.wav"], what="set", where="--audio")


def test_files_are_found_by_stem_by_name_and_by_absolute_path(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("in/b.opus", "in/c.mp3"):
        (tmp_path / name).write_bytes(WAV)
    stems = Recordings(tmp_path / "in", ["lost", "b", "c.mp3"], None)  # the first that is there tells the ending
    assert list(stems) == [tmp_path / "in/lost.opus", tmp_path / "in/b.opus", tmp_path / "in/c.mp3"]
    assert Recordings(tmp_path / "in", ["b"], ".flac")[0] == tmp_path / "in/b.flac"
    absolute = Recordings(tmp_path, [str(tmp_path / "in/c.mp3")], None)
    check_recordings(absolute, what="set", where="--audio")
    assert absolute[0] == tmp_path / "in/c.mp3"


def test_recordings_of_the_current_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"x")
    check_recordings(Recordings(Path("."), ["a.wav"], ""), what="here", where="--audio")
    with pytest.raises(InputError, match=r"1 of 1 recordings missing or empty: b.wav: no such file; check --audio"):
        check_recordings(Recordings(Path("."), ["b.wav"], ""), what="here", where="--audio")
