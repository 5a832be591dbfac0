"""Looking before leaping: `--check`, and the same looks at the start of every run."""

from __future__ import annotations

import shutil

import pytest

import main
from qamo.trials import recordings


def check(corpus, *more: str) -> int:
    return main.main(["--config", str(corpus / "config.yaml"), "--check", *more, "name=r"])


def test_a_sound_corpus_is_said_to_be_so_and_nothing_is_written(corpus, capsys):
    before = sorted(corpus.rglob("*"))
    for level in ([], ["header"], ["full"]):
        assert check(corpus, *level) == 0
        shown = capsys.readouterr().out
        assert "train: 24 utterances, 8 bona fide\ndev: 12 utterances, 4 bona fide\n" in shown
        assert "seen: 10 trials, keys" in shown
        assert "model: lfcc, conformer_tcm, qamo built and loaded; checkpoints take 0.35 MB, and there is room" in shown
        assert shown.endswith("all that the run needs is there\n")
    assert sorted(corpus.rglob("*")) == before


def test_all_faults_are_reported_at_once_with_counts_and_the_first_offenders(corpus, capsys):
    for number in range(7):
        (corpus / "LA" / "train" / "flac" / f"T_train_{number:03d}.flac").unlink()
    (corpus / "LA" / "dev" / "flac" / "T_dev_003.flac").write_bytes(b"no recording at all" * 9)
    lines = (corpus / "seen.txt").read_text().splitlines(keepends=True)
    (corpus / "seen.txt").write_text("".join([*lines, lines[4]]))
    (corpus / "exps" / "r").mkdir(parents=True)
    (corpus / "exps" / "r" / "scores").touch()
    assert check(corpus, "model.frontend=xlsr", "model.xlsr.weights=nowhere.pt") == 2
    said = capsys.readouterr()
    faults = said.err.splitlines()
    assert len(faults) == 5
    assert "train: 7 of 24 recordings missing or empty" in faults[0]
    assert "T_train_004.flac: no such file, and 2 more; check data.database_path and data.train_audio" in faults[0]
    assert "dev: 1 of 12 recordings unreadable" in faults[1]
    assert "seen.txt:11: " in faults[2]
    assert "model.xlsr.weights nowhere.pt: no such file" in faults[3]
    assert "scores is a file; move it away" in faults[4]
    assert "wild: 10 trials" in said.out
    assert said.out.endswith("5 of 7 checks failed\n")


def test_only_a_full_check_finds_a_recording_that_is_damaged_inside(corpus, capsys):
    path = corpus / "LA" / "dev" / "flac" / "T_dev_005.flac"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    assert check(corpus) == 0
    capsys.readouterr()
    assert check(corpus, "full") == 2
    assert "dev: 1 of 12 recordings unreadable" in capsys.readouterr().err


def test_a_run_starts_only_if_every_training_recording_opens(corpus, capsys):
    (corpus / "LA" / "train" / "flac" / "T_train_020.flac").write_text("text")
    assert main.main(["--config", str(corpus / "config.yaml"), "name=r"]) == 2
    assert "train: 1 of 24 recordings unreadable" in capsys.readouterr().err
    assert not (corpus / "exps" / "r" / "last.pt").exists()


def test_a_score_file_of_unknown_origin_stops_the_run_before_the_training(corpus, capsys):
    scores = corpus / "exps" / "r" / "scores"
    scores.mkdir(parents=True)
    (scores / "wild.txt").write_text("0.wav 1.0\n")
    assert main.main(["--config", str(corpus / "config.yaml"), "name=r"]) == 2
    assert "wild.txt: exists, but nothing tells which model made it" in capsys.readouterr().err
    assert not (corpus / "exps" / "r" / "last.pt").exists()


def test_checking_for_scoring_alone_looks_at_the_weights(corpus, capsys):
    shutil.rmtree(corpus / "LA" / "train")
    words = ["--train", "false", "--ckpt_path", str(corpus / "none.pt")]
    assert check(corpus, *words) == 2
    said = capsys.readouterr()
    faults = [line for line in said.err.splitlines() if line.startswith("main.py: ")]
    assert faults == [f"main.py: {corpus}/none.pt: expected a checkpoint file, found no such file"]
    assert said.out.endswith("1 of 5 checks failed\n")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a\x07b", "a\\..\\b"])
def test_no_name_of_a_list_leaves_its_folder_or_garbles_a_terminal(corpus, capsys, name):
    (corpus / "wild.txt").write_text(f"0.wav\n{name}\n")
    assert check(corpus) == 2
    said = capsys.readouterr().err
    refusals = ("wild.txt:2: the name", "wild.txt: holds control characters", "wild.txt: expected names that are all")
    assert any(refusal in said for refusal in refusals)
    assert "\x07" not in said


def test_paths_are_made_when_they_are_asked_for(tmp_path):
    paths = recordings.Recordings(tmp_path, ["a", "b/c", "d"], ".flac")
    assert list(paths) == [tmp_path / "a.flac", tmp_path / "b" / "c.flac", tmp_path / "d.flac"]
    assert len(paths) == 3
    assert paths[-1] == tmp_path / "d.flac"
    assert list(paths[1:]) == list(paths)[1:]


def test_recordings_in_two_lists_are_found_whatever_their_folder(corpus, capsys):
    """Same name and bytes in another folder, as where a corpus was copied; a name alone does not count."""
    for part in ("dev", "train"):
        folder = corpus / "LA" / part / "flac"
        assert folder.is_dir()
    lines = (corpus / "seen.txt").read_text().splitlines(keepends=True)
    seen = next(path for path in corpus.rglob("*") if path.is_file() and path.stem == lines[0].split()[1])
    dev = (corpus / "LA" / "dev" / "flac" / "T_dev_003.flac").read_bytes()
    (seen.parent / "T_dev_003.flac").write_bytes(dev)
    (seen.parent / "T_dev_004.flac").write_bytes(seen.read_bytes())  # another recording of that name
    fields = lines[0].split()
    more = [" ".join([fields[0], name, *fields[2:]]) + "\n" for name in ("T_dev_003", "T_dev_004")]
    (corpus / "seen.txt").write_text("".join([*lines, *more]))
    assert check(corpus, "eval.sets=[seen]") == 2
    said = capsys.readouterr().err
    assert "leakage: dev and seen share recordings: 1 of 2 that were compared by their bytes" in said
    assert "(T_dev_003)" in said
