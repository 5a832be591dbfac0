"""What a person can get wrong: one sentence with a place in it, exit status 2, nothing half-written."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import main


def run(corpus: Path, *words: str) -> int:
    return main.main(["--config", str(corpus / "config.yaml"), "--name", "r", *words])


def refusal(corpus: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a refused command says; nothing that looks like a result may be left behind."""
    assert run(corpus, *words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in said if line.startswith("main.py: ")]
    assert len(lines) == 1
    assert "Traceback" not in "\n".join(said)
    folder = corpus / "exps" / "r"
    assert not (folder / "results.json").exists()
    assert not (folder / "model.pt").exists()
    assert not list(folder.rglob("*.tmp"))
    return lines[0]


def train_file(corpus: Path, number: int = 3) -> Path:
    return corpus / "LA" / "train" / "flac" / f"T_train_{number:03d}.flac"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_missing_database_names_the_key(corpus, capsys):
    said = refusal(corpus, capsys, "--database_path", str(corpus / "nowhere"))
    assert "24 of 24 recordings missing" in said or "no such folder" in said
    assert "data.database_path" in said or "eval.catalogue" in said


def test_a_missing_protocol_names_the_key(corpus, capsys):
    assert "data.train_protocol" in refusal(corpus, capsys, "data.train_protocol=none.txt")


def test_one_missing_recording_is_counted_and_named_before_training(corpus, capsys):
    train_file(corpus).unlink()
    said = refusal(corpus, capsys)
    assert "train: 1 of 24 recordings missing" in said
    assert "T_train_003.flac" in said
    assert not (corpus / "exps" / "r" / "last.pt").exists()


def test_a_missing_evaluation_recording_is_found_before_training(corpus, capsys):
    (corpus / "wild" / "4.wav").unlink()
    assert "wild: 1 of 10 recordings missing" in refusal(corpus, capsys)
    assert not (corpus / "exps" / "r" / "last.pt").exists()


def test_a_zero_byte_recording(corpus, capsys):
    train_file(corpus).write_bytes(b"")
    assert "T_train_003.flac: 0 bytes" in refusal(corpus, capsys)


def test_a_text_file_called_flac(corpus, capsys):
    train_file(corpus).write_text("this is no recording")
    said = refusal(corpus, capsys)
    assert "T_train_003.flac" in said
    assert "not a recording of a known kind" in said


def test_samples_that_are_not_finite(corpus, capsys):
    path = train_file(corpus)
    wave = np.zeros(9000, dtype=np.float32)
    wave[17] = np.nan
    path.unlink()
    soundfile.write(path, wave, 16_000, format="WAV", subtype="FLOAT")
    said = refusal(corpus, capsys)
    assert "T_train_003.flac: sample 17 is nan" in said


def test_an_empty_recording(corpus, capsys):
    path = train_file(corpus)
    path.unlink()
    soundfile.write(path, np.zeros(0, dtype=np.float32), 16_000, format="WAV")
    assert "without samples" in refusal(corpus, capsys)


def test_three_samples_stereo_and_44_khz_are_fine(corpus, capsys):
    rng = np.random.default_rng(0)
    soundfile.write(train_file(corpus, 0), rng.normal(size=3) * 0.1, 16_000)
    soundfile.write(train_file(corpus, 1), rng.normal(size=(9000, 2)) * 0.1, 16_000)
    soundfile.write(train_file(corpus, 2), rng.normal(size=20_000) * 0.1, 44_100)
    assert run(corpus, "train.max_epochs=1", "data.rawboost.probability=1.0") == 0
    assert "seen" in capsys.readouterr().out


def test_a_protocol_without_mos_says_how_to_add_it(corpus, capsys):
    path = corpus / "train.txt"
    path.write_text("".join(" ".join(line.split()[:5]) + "\n" for line in path.read_text().splitlines()))
    said = refusal(corpus, capsys)
    assert "train.txt" in said
    assert "predict_mos.py" in said


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("A01 spoof", "A01 sppof", ["train.txt:2", "sppof"]),
        ("T_train_001", "T_train_000", ["train.txt", "T_train_000"]),
        ("T_train_001", "../../T_train_001", ["train.txt", "would leave the audio folder"]),
        ("T_train_001 - A01 spoof 2.20", "T_train_001 - A01 spoof high", ["train.txt:2", "high"]),
        ("T_train_001 - A01 spoof 2.20", "T_train_001 - A01 spoof nan", ["train.txt:2", "nan"]),
        ("T_train_001 - A01 spoof 2.20", "T_train_001 - A01 spoof 7.5", ["train.txt:2", "7.5"]),
        ("T_train_001 - A01 spoof 2.20", "T_train_001 - A01 spoof", ["train.txt:2"]),
        ("T_train_001 ", "T_train_\x1b[31m ", ["train.txt", "control character"]),
    ],
)
def test_a_bad_protocol_line_is_named_with_its_file(corpus, capsys, old, new, expected):
    edit(corpus / "train.txt", old, new)
    said = refusal(corpus, capsys)
    assert all(part in said for part in expected), said


def test_windows_line_ends_and_blank_lines_are_fine(corpus, capsys):
    for name in ("train.txt", "dev.txt", "seen.txt", "wild.txt", "meta.csv"):
        path = corpus / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_text().replace("\n", "\r\n").encode() + b"\r\n\r\n")
    assert run(corpus, "train.max_epochs=1") == 0
    assert "wild" in capsys.readouterr().out


def test_an_unknown_key(corpus, capsys):
    assert "did you mean train.patience?" in refusal(corpus, capsys, "train.patienc=3")


def test_a_batch_larger_than_the_training_set(corpus, capsys):
    said = refusal(corpus, capsys, "train.batch_size=25")
    assert "train.batch_size: 25 exceeds the 24 utterances" in said


def test_a_training_set_of_one_kind(corpus, capsys):
    path = corpus / "train.txt"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if "spoof" in line))
    assert "one kind only" in refusal(corpus, capsys)


def test_batches_without_bona_fide_rows_train_to_finite_losses(corpus, capsys):
    path = corpus / "train.txt"
    lines = path.read_text().splitlines()
    kept = [line for line in lines if "spoof" in line] + [line for line in lines if "bonafide" in line][:1]
    path.write_text("\n".join(kept) + "\n")  # 1 bona fide in 17: most batches of 2 have none
    assert run(corpus, "train.batch_size=2", "train.max_epochs=1") == 0


def test_a_score_folder_that_cannot_be_made(corpus, capsys):
    assert run(corpus, "train.max_epochs=1", "eval.sets=[]") == 0
    capsys.readouterr()
    (corpus / "exps" / "r" / "results.json").unlink()
    shutil.rmtree(corpus / "exps" / "r" / "scores")
    (corpus / "exps" / "r" / "scores").write_text("a file where a folder should be")
    assert run(corpus, "train.max_epochs=1") == 2
    assert "scores" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_runs_folder_without_permission(corpus, capsys):
    locked = corpus / "locked"
    locked.mkdir(mode=0o500)
    assert run(corpus, f"run.runs={locked}") == 2
    assert "locked" in capsys.readouterr().err


def test_a_missing_evaluation_set_says_how_to_leave_it_out(corpus, capsys):
    shutil.rmtree(corpus / "wild")
    said = refusal(corpus, capsys)
    assert "eval.catalogue.wild.audio" in said
    assert "leave wild out of eval.sets" in said


def test_a_config_that_differs_from_the_runs_is_refused_naming_the_keys(corpus, capsys):
    assert run(corpus, "train.max_epochs=1") == 0
    before = {p: p.read_bytes() for p in (corpus / "exps" / "r").glob("*.pt")}
    capsys.readouterr()
    assert run(corpus, "train.max_epochs=2", "model.qamo.margin=0.3") == 2
    said = capsys.readouterr().err
    assert "model.qamo.margin is 0.3 but was 0.4" in said
    assert "train.max_epochs is 2 but was 1" in said
    assert before == {p: p.read_bytes() for p in (corpus / "exps" / "r").glob("*.pt")}


def test_a_finished_run_says_so_and_changes_nothing(corpus, capsys):
    assert run(corpus, "train.max_epochs=1") == 0
    first = capsys.readouterr().out
    before = {p: p.stat().st_mtime_ns for p in (corpus / "exps" / "r").rglob("*") if p.is_file() and p.suffix != ".log"}
    assert run(corpus, "train.max_epochs=1") == 0
    again = capsys.readouterr()
    assert again.out == first
    assert "finished already" in again.err
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p.name not in (".lock", ".holder"))


def test_scoring_alone_needs_no_training_data(corpus, capsys):
    assert run(corpus, "train.max_epochs=1") == 0
    trained = (corpus / "exps" / "r" / "scores" / "seen.txt").read_text()
    for name in ("train.txt", "dev.txt"):
        (corpus / name).unlink()
    shutil.rmtree(corpus / "LA" / "train")
    model = str(corpus / "exps" / "r" / "model.pt")
    words = ["--config", str(corpus / "config.yaml"), "--train", "false", "--ckpt_path", model, "--name", "again"]
    assert main.main(words) == 0
    assert (corpus / "exps" / "again" / "scores" / "seen.txt").read_text() == trained
    capsys.readouterr()
    assert main.main([*words, "--comment_eval", "x"]) == 0
    assert (corpus / "exps" / "again" / "scores" / "seen_x.txt").read_text() == trained


def test_settings_asked_of_trained_weights_are_followed_or_refused_and_never_passed_over(corpus, capsys):
    assert run(corpus, "train.max_epochs=1") == 0
    model = str(corpus / "exps" / "r" / "model.pt")
    words = ["--config", str(corpus / "config.yaml"), "--train", "false", "--ckpt_path", model]
    plain = (corpus / "exps" / "r" / "scores" / "seen.txt").read_text()
    assert main.main([*words, "--name", "soft", "model.qamo.score=softmax"]) == 0
    assert (corpus / "exps" / "soft" / "scores" / "seen.txt").read_text() != plain
    assert main.main([*words, "--name", "soft", "model.qamo={score: softmax}"]) == 0  # the same, so scored before
    assert main.main([*words, "--name", "mean", "model.qamo.score=mean"]) == 0
    assert (corpus / "exps" / "mean" / "scores" / "seen.txt").read_text() == plain
    capsys.readouterr()
    for asked, says in (
        (
            ["model.conformer_tcm.n_blocks=3"],
            "model.conformer_tcm.n_blocks: .*model.pt was trained with 1, 3 was asked",
        ),
        (["model={head: wce}"], "model.head: .*model.pt was trained with qamo, wce was asked for"),
        (["--loss", "wce"], "model.head: .*model.pt was trained with qamo, wce was asked for; leave the setting out"),
    ):
        assert main.main([*words, "--name", "other", *asked]) == 2
        assert re.search(says, capsys.readouterr().err)
    # what is not of its parts, or does not decide scores, would be passed over in silence
    for idle in ("model.nes2net.scale=4", "model.xlsr.weights=null", "model.qamo.margin=0.1", "train.average=mean"):
        assert main.main([*words, "--name", "other", idle]) == 2
        assert f"{idle.partition('=')[0]} has no effect: " in capsys.readouterr().err


def test_scoring_alone_without_weights_says_so(corpus, capsys):
    assert "no trained weights there" in refusal(corpus, capsys, "--train", "false")


def test_an_evaluation_file_that_breaks_is_skipped_reported_and_told_by_the_exit_status(corpus, capsys):
    (corpus / "wild" / "2.wav").write_text("not a recording at all")
    assert run(corpus, "train.max_epochs=1") == 2
    folder = corpus / "exps" / "r" / "scores"
    assert len((folder / "wild.txt").read_text().splitlines()) == 9
    assert (folder / "wild.failed.txt").read_text().startswith("2.wav ")
    out = capsys.readouterr().out
    assert "no EER: 1 recordings could not be read" in out
    assert "seen" in out


def test_on_bad_audio_fail_stops_at_the_first(corpus, capsys):
    (corpus / "wild" / "2.wav").write_text("not a recording at all")
    said = refusal_after_training(corpus, capsys, "train.max_epochs=1", "--on-bad-audio", "fail")
    assert "2.wav" in said
    assert not (corpus / "exps" / "r" / "scores" / "wild.txt").exists()


def refusal_after_training(corpus: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(corpus, *words) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]
