"""database/prepare.py folder: two folders of recordings become lists, a split, MOS and a config for main.py."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

import main
import prepare
from corpora.folder import Clip, split
from qamo import InputError
from qamo.trials.keys import read_keys
from qamo.trials.protocol import read_protocol

PARTS = ("train", "dev", "eval")


def recording(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 3000), 16000)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Ten real speakers in folders, two attacks, whose files are named after the speakers."""
    for i in range(60):
        recording(tmp_path / "own" / "real" / f"spk{i % 10}" / f"{i}.wav", i)
        recording(tmp_path / "own" / "fake" / ("xtts" if i % 3 else "bark") / f"spk{i % 10}_{i}.flac", 1000 + i)
    return tmp_path / "own"


def prepared(own: Path, *words: str) -> int:
    base = ["folder", "--real", str(own / "real"), "--fake", str(own / "fake"), "--to", str(own.parent / "db")]
    return prepare.main([*base, "--name", "mine", *words])


def rows(own: Path, part: str) -> list[dict[str, str]]:
    with open(own.parent / "db" / "mine" / f"{part}.csv") as file:
        return list(csv.DictReader(file))


def test_no_speaker_is_in_two_parts_and_nothing_is_lost(own, capsys):
    assert prepared(own, "--no-mos") == 0
    parts = {part: rows(own, part) for part in PARTS}
    assert sum(map(len, parts.values())) == 120
    speakers = [{row["speaker"] for row in part} for part in parts.values()]
    assert sum(map(len, speakers)) == len(set().union(*speakers)) == 10
    assert [len(s) for s in speakers] == [6, 2, 2]
    assert {row["attack"] for row in parts["train"]} == {"-", "xtts", "bark"}
    for part in parts.values():
        assert {row["label"] for row in part} == {"bonafide", "spoof"}
        assert all((row["label"] == "bonafide") == row["path"].startswith("real/") for row in part)
    said = capsys.readouterr().out
    assert "speakers: 10, by the folders of the real recordings; 60 of 60 fake recordings" in said
    assert "warning" not in said
    assert prepared(own, "--no-mos") == 0  # again: the same split
    assert capsys.readouterr().out.count("there already") == 6


def test_main_runs_by_the_config_that_is_written(own, capsys):
    rated = own.parent / "mos.txt"
    names = [path.relative_to(own).as_posix() for kind in ("real", "fake") for path in (own / kind).rglob("*.*")]
    rated.write_text("".join(f"{name} {1 + i % 30 / 10:.1f}\n" for i, name in enumerate(names)))
    assert prepared(own, "--mos", str(rated)) == 0
    assert (read_protocol(own.parent / "db" / "mine" / "train.csv").mos > 0).all()
    config = own.parent / "db" / "mine" / "config.yaml"
    assert capsys.readouterr().out.endswith(f"\nnext: python main.py --config {config}\n")
    assert main.main(["--config", str(config), "--check", "full", f"run.runs={own.parent}"]) == 0


def test_without_links_the_lists_hold_absolute_paths_that_are_read(own):
    assert prepared(own, "--no-mos", "--no-links") == 0
    home = own.parent / "db" / "mine"
    assert not (home / "real").exists()
    assert all(Path(row["path"]).is_file() for row in rows(own, "eval"))
    small = ["model.frontend=lfcc", "data.window_samples=3000", "train.max_epochs=1", "run.feature_cache=null"]
    words = ["--config", str(home / "config.yaml"), *small, f"run.runs={own.parent}", "--name", "r"]
    assert main.main(words) == 0
    scores = (own.parent / "r" / "scores" / "mine.txt").read_text().split()
    assert scores[0] == read_keys(home / "eval.csv").names[0]
    assert "OC" not in scores


def test_speakers_are_told_by_prefix_or_not_at_all(own, tmp_path, capsys):
    flat = tmp_path / "flat"
    for i in range(48):
        recording(flat / "real" / f"p{i % 6}-{i}.wav", i)
        recording(flat / "fake" / f"{i}.wav", 100 + i)
    assert prepared(flat, "--no-mos") == 0
    said = capsys.readouterr().out
    assert "speakers: 6, by the beginnings of the real recordings' names, such as p0" in said
    assert "warning: 48 of 96 recordings are split one by one (names tell no speaker)" in said
    assert prepared(flat, "--no-mos", "--speakers", "none", "--force") == 0
    assert "warning: all 96 recordings are split one by one (names tell 0 real speakers)" in capsys.readouterr().out


def test_copies_count_once_and_a_recording_of_both_kinds_is_refused(own, capsys):
    (own / "real" / "spk0" / "copy.wav").write_bytes((own / "real" / "spk0" / "0.wav").read_bytes())
    assert prepared(own, "--no-mos", "--dry-run") == 0
    assert "1 recordings are copies of others and left out (real/spk0/copy.wav)" in capsys.readouterr().out
    (own / "fake" / "bark" / "x.wav").write_bytes((own / "real" / "spk0" / "0.wav").read_bytes())
    assert prepared(own, "--no-mos", "--dry-run") == 2
    assert "are one recording, real and fake" in capsys.readouterr().err
    assert not (own.parent / "db").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["folder"], "expected --real DIR and --fake DIR"),
        (["folder", "--real", "none", "--fake", "none", "--name", "x"], "--real: none: no such folder"),
        (["folder", "--real", "own/real", "--fake", "own/empty"], "--fake: own/empty: expected recordings, found none"),
        (["folder", "--real", "own/real", "--fake", "own/fake", "--name", "a b"], "--name: expected a name"),
        (["folder", "--real", "own/real", "--fake", "own/blank"], "'fake/a b.wav', which holds a blank"),
        (["folder", "--real", "own/real", "--fake", "own/text"], "own data: 1 of 61 recordings unreadable"),
        (["folder", "--real", "own/real", "--fake", "own/one"], "and 1 fake ones are too few"),
        (
            ["folder", "--real", "own/real", "--fake", "own/fake", "--from", "own"],
            "--from, --authors and --partial have no",
        ),
        (["itw", "--real", "own/real"], "--real, --fake, --name have no effect but with folder"),
    ],
)
def test_mistakes_are_answered_with_a_sentence_and_nothing_is_written(own, monkeypatch, capsys, words, said):
    monkeypatch.chdir(own.parent)
    (own / "empty").mkdir()
    recording(own / "blank" / "a b.wav", 1)
    recording(own / "one" / "a.wav", 1001001)
    (own / "text").mkdir()
    (own / "text" / "a.wav").write_text("no sound")
    assert prepare.main([*words, "--to", "db", "--no-mos"]) == 2
    assert said in capsys.readouterr().err
    assert not Path("db").exists()


def test_too_few_recordings_for_a_part_are_said():
    clips = [Clip(f"{i}", Path(f"{i}"), i < 30, f"s{i % 2}", "-") for i in range(60)]
    parts, warning = split(clips)  # two speakers: by recording
    assert [len(parts[part]) for part in PARTS] == [36, 12, 12]
    assert "names tell 2 real speakers" in warning[0]
    with pytest.raises(InputError, match="9 real recordings of 1 speakers and 9 fake"):
        split([Clip(f"{i}", Path(f"{i}"), i < 9, "s", "-") for i in range(18)])
