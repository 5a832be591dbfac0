"""inference.py: the real command on real files, with PyTorch and without."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import inference
from model import load_detector
from qamo import InputError, open_judge
from qamo.evaluation import calibration
from qamo.inference.judge import MOS_SEGMENT_SAMPLES, _mos
from qamo.inference.show import COLUMNS
from qamo.training.checkpoint import write_checkpoint
from qamo.trials.scores import read_scores

ROOT = Path(__file__).parents[2]


@pytest.fixture
def wild(built_corpus):
    return built_corpus / "wild"


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory):
    """Two seconds of speech-like noise, three of silence, two more; windows of the tiny run are 0.5 s."""
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=(2, 32_000))
    dark = np.arange(32_000) // 1_600 % 3 == 0  # every third 100 ms: a spectrum that changes
    noise[:, dark] = np.cumsum(noise, axis=1)[:, dark] / 10
    path = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(path, np.concatenate([noise[0], np.zeros(48_000), noise[1]]), 16_000)
    return path


def judged(capsys, *arguments):
    """(exit status, the objects that --json gives, what was said on the side)."""
    status = inference.main([str(a) for a in arguments] + ["--json"])
    said = capsys.readouterr()
    return status, json.loads(said.out), said.err


def test_the_first_window_scores_as_main_scores_a_corpus(trained_run, wild, capsys):
    status, rows, _ = judged(capsys, "--ckpt_path", trained_run, "--aggregate", "first", "--wav_path", wild)
    expected = read_scores(trained_run / "scores" / "wild.txt")
    assert status == 0
    assert [Path(row["path"]).name for row in rows] == sorted(expected.names)
    ours = {Path(row["path"]).name: row["score"] for row in rows}
    for name, value in zip(expected.names, expected.values):
        assert ours[name] == pytest.approx(value, abs=1e-6)


def test_scores_become_ratios_probabilities_and_verdicts(trained_run, wild, capsys):
    known = calibration.read(trained_run / "calibration.json")
    _, rows, said = judged(capsys, "--ckpt_path", trained_run, wild, "--prior", 0.3, "--confidence", 0.7)
    assert said == ""
    low, high = known.band(0.7, prior=0.3)
    for row in rows:
        ratio = known.slope * row["score"] + known.offset
        assert row["llr"] == pytest.approx(np.clip(ratio, -np.log(5), np.log(9)))  # 4 and 8 dev recordings
        assert (row["detector"], row["dev_eer"], row["n_dev_bonafide"], row["n_dev_spoof"]) == ("tiny", known.eer, 4, 8)
        odds = row["llr"] + math.log(0.3 / 0.7)
        assert row["probability_bonafide"] == pytest.approx(1 / (1 + math.exp(-odds)))
        verdict = "bona fide" if row["score"] >= high else "spoof" if row["score"] < low else "uncertain"
        assert row["verdict"] == verdict
        assert any("only 0.50 s long" in text for text in row["warnings"])


def test_a_given_threshold_decides_alone(trained_run, wild, capsys):
    """No probability stands beside it, which would be that of another rule: 91 % and `uncertain`."""
    for threshold, verdict, below in ((2, "spoof", 1.0), (-2, "bona fide", 0.0)):
        _, rows, _ = judged(capsys, "--ckpt_path", trained_run, wild, "--threshold", threshold)
        assert {row["verdict"] for row in rows} == {verdict}
        assert {row["ratio_below_threshold"] for row in rows} == {below}
        assert {row["probability_bonafide"] for row in rows} == {None}
    assert inference.main(["--ckpt_path", str(trained_run), str(wild), "--threshold", "0.25"]) == 0
    assert "the given threshold decides alone, without a probability" in capsys.readouterr().out


def test_the_least_of_several_windows_has_no_ratio_that_was_fitted_on_single_ones(trained_run, long_clip, capsys):
    _, [row], _ = judged(capsys, "--ckpt_path", trained_run, long_clip, "--aggregate", "min")
    assert (row["verdict"], row["llr"], row["probability_bonafide"]) == (None, None, None)
    _, [row], _ = judged(capsys, "--ckpt_path", trained_run, long_clip, "--aggregate", "min", "--threshold", "-5")
    assert (row["verdict"], row["llr"]) == ("bona fide", None)
    assert inference.main(["--ckpt_path", str(trained_run), str(long_clip), "--aggregate", "min"]) == 0
    assert "the calibration is for single windows" in capsys.readouterr().out


def test_a_weak_detector_gives_no_verdict_and_no_probability(trained_run, wild, tmp_path, capsys):
    known = dataclasses.replace(calibration.read(trained_run / "calibration.json"), eer=0.3375)
    calibration.write(tmp_path / "weak.json", known)
    _, rows, _ = judged(capsys, "--ckpt_path", trained_run, wild, "--calibration", tmp_path / "weak.json")
    for row in rows:
        assert (row["verdict"], row["probability_bonafide"], row["dev_eer"]) == ("uncertain", None, 0.3375)
        assert "a weak detector: its EER of 33.8 % on the dev set is above 20 %" in row["warnings"][-1]
    arguments = ["--ckpt_path", str(trained_run), str(wild), "--calibration", str(tmp_path / "weak.json")]
    assert inference.main([*arguments, "--plot", str(tmp_path / "plots")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Detector: tiny.\n")
    assert "No verdicts: a weak detector" in said
    _, rows, _ = judged(capsys, *arguments, "--confidence", "0.6")
    assert all(row["probability_bonafide"] is not None for row in rows)


def test_long_recordings_are_judged_window_by_window(trained_run, long_clip, capsys):
    _, [row], _ = judged(capsys, "--ckpt_path", trained_run, long_clip)
    scores = [window["score"] for window in row["windows"]]
    assert len(scores) == 27  # 7 s, 0.5 s each, half overlapping
    assert row["windows"][-1]["end_s"] == 7.0
    assert row["score"] == pytest.approx(np.mean(scores))
    assert row["score_min"] == min(scores)
    threshold = calibration.read(trained_run / "calibration.json").threshold()
    assert row["ratio_below_threshold"] == pytest.approx(np.mean(np.array(scores) < threshold))
    _, [least], _ = judged(capsys, "--ckpt_path", trained_run, long_clip, "--aggregate", "min")
    assert least["score"] == row["score_min"]


def test_a_doubtful_part_of_a_bona_fide_recording_is_pointed_out(trained_run, long_clip, capsys):
    _, [row], _ = judged(capsys, "--ckpt_path", trained_run, long_clip)
    scores = sorted(window["score"] for window in row["windows"])
    for place, expected in ((1, False), (8, True)):  # 1 and 8 of 27 windows below
        between = (scores[place - 1] + scores[place]) / 2
        assert between < row["score"]
        arguments = ["--ckpt_path", trained_run, long_clip, "--threshold", between, "--confidence", "0.5"]
        _, [found], _ = judged(capsys, *arguments)
        assert found["verdict"] == "bona fide"
        assert any("a part may be synthetic" in text for text in found["warnings"]) == expected


def test_pauses_are_passed_over_when_asked(trained_run, long_clip, capsys):
    _, [row], _ = judged(capsys, "--ckpt_path", trained_run, long_clip, "--vad", "--overlap", 0)
    silent = [w["score"] is None for w in row["windows"]]
    assert silent == [False] * 4 + [True] * 6 + [False] * 4
    assert row["score"] == pytest.approx(np.mean([w["score"] for w in row["windows"] if w["score"] is not None]))


def test_each_channel_can_be_judged_by_itself(trained_run, wild, tmp_path, capsys):
    def rows_of(path, *words):
        status, rows, _ = judged(capsys, "--ckpt_path", trained_run, path, *words)
        assert status == 0
        return rows

    left, right = (soundfile.read(wild / f"{i}.wav", dtype="int16")[0] for i in (0, 1))
    n = min(len(left), len(right))
    for name, samples in (("two", np.stack([left[:n], right[:n]], 1)), ("l", left[:n]), ("r", right[:n])):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000, subtype="PCM_16")
    two = tmp_path / "two.wav"
    alone = [rows_of(tmp_path / f"{name}.wav")[0]["score"] for name in ("l", "r")]
    each = rows_of(two, "--channel", "each")
    assert [row["path"] for row in each] == [f"{two} [1]", f"{two} [2]"]
    assert [row["score"] for row in each] == alone
    assert [rows_of(two, "--channel", c)[0]["score"] for c in ("left", "right")] == alone
    (mono,) = rows_of(tmp_path / "l.wav", "--channel", "each")
    assert (mono["path"], mono["score"]) == (str(tmp_path / "l.wav"), alone[0])

    judge = open_judge(trained_run)
    samples, rate = soundfile.read(two, dtype="float32")
    for recording in (two, two.read_bytes(), (samples, rate), samples):
        assert [judgement.score for judgement in judge.channels(recording)] == pytest.approx(alone, abs=1e-6)
        assert judge(recording, channel="right").score == pytest.approx(alone[1], abs=1e-6)
    with pytest.raises(InputError, match="--channel: expected mix, left, right, each, found 'both'"):
        judge(two, channel="both")


def test_silence_gets_no_verdict(trained_run, tmp_path, capsys):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    for more in ([], ["--vad"], ["--threshold", "-5"]):
        status, [row], _ = judged(capsys, "--ckpt_path", trained_run, tmp_path / "silence.wav", *more)
        assert status == 0
        assert (row["verdict"], row["llr"], row["probability_bonafide"]) == ("uncertain", None, None)
        assert "silence" in row["warnings"][0]
        assert row["level_dbfs"] is None  # -inf is no JSON


def test_one_bad_file_does_not_stop_a_folder(trained_run, wild, tmp_path, capsys):
    (tmp_path / "a_bad.wav").write_bytes(b"not sound")
    (tmp_path / "notes.txt").write_text("not looked at")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b_good.wav").write_bytes((wild / "0.wav").read_bytes())
    (tmp_path / "deep" / "c_empty.WAV").touch()
    status, rows, said = judged(capsys, "--ckpt_path", trained_run, tmp_path, tmp_path / "gone.wav")
    assert status == 2
    assert [Path(row["path"]).name for row in rows] == ["a_bad.wav", "b_good.wav", "c_empty.WAV", "gone.wav"]
    assert [row["score"] is None for row in rows] == [True, False, True, True]
    assert [row["error"] is None for row in rows] == [False, True, False, False]
    assert "3 of 4 recordings could not be read" in said


def test_the_table_says_what_the_scores_mean(trained_run, wild, tmp_path, capsys):
    assert inference.main(["--ckpt_path", str(trained_run), str(wild / "0.wav")]) == 0
    said = capsys.readouterr().out
    assert "Calibrated on 12 dev recordings (4 bona fide)" in said
    assert "rough guesses" in said
    assert "0.wav" in said.splitlines()[-2]
    assert "! only 0.50 s long" in said.splitlines()[-1]
    assert inference.main(["--ckpt_path", str(trained_run), str(wild / "0.wav"), "-o", str(tmp_path / "t.txt")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "t.txt").read_text() == said


def test_csv_has_a_line_for_each_recording(trained_run, wild, tmp_path, capsys):
    assert inference.main(["--ckpt_path", str(trained_run), str(wild), str(tmp_path / "no.wav"), "--csv"]) == 2
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == COLUMNS
    assert len(rows) == 11
    assert float(rows[0]["score"]) == pytest.approx(float(rows[0]["score_min"]))
    assert rows[-1]["score"] == ""
    assert "no such file" in rows[-1]["error"]


def test_pictures_are_drawn(trained_run, wild, long_clip, tmp_path, capsys):
    assert (
        inference.main(["--ckpt_path", str(trained_run), str(long_clip), "--vad", "--plot", str(tmp_path / "a.svg")])
        == 0
    )
    drawn = (tmp_path / "a.svg").read_text()
    assert "<svg" in drawn
    assert len(drawn) > 20_000
    two = [str(wild / "0.wav"), str(wild / "1.wav")]
    assert inference.main(["--ckpt_path", str(trained_run), *two, "--plot", str(tmp_path / "all")]) == 0
    pictures = sorted((tmp_path / "all").iterdir())
    assert [p.name for p in pictures] == ["0001_0.png", "0002_1.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    capsys.readouterr()
    assert inference.main(["--ckpt_path", str(trained_run), str(wild), "--plot", str(tmp_path / "a.png")]) == 2
    assert "name a folder" in capsys.readouterr().err


def test_without_a_calibration_a_score_is_said_to_be_a_cosine(trained_run, wild, tmp_path, capsys):
    bare = tmp_path / "model.pt"
    bare.write_bytes((trained_run / "model.pt").read_bytes())
    _, [row], said = judged(capsys, "--ckpt_path", bare, wild / "0.wav")
    assert (row["verdict"], row["llr"], row["probability_bonafide"]) == (None, None, None)
    assert "a cosine between -1 and 1" in said
    assert "not a probability" in said
    _, [row], _ = judged(capsys, "--ckpt_path", bare, wild / "0.wav", "--threshold", -1)
    assert row["verdict"] == "bona fide"


def test_a_calibration_of_other_weights_is_not_used(trained_run, wild, tmp_path, capsys):
    detector = load_detector(trained_run)
    state = {k: v + 0.1 if v.is_floating_point() else v for k, v in detector.state_dict().items()}
    write_checkpoint(tmp_path / "model.pt", model_state=state, model_config=detector.config, window_samples=8000)
    (tmp_path / "calibration.json").write_bytes((trained_run / "calibration.json").read_bytes())
    _, [row], said = judged(capsys, "--ckpt_path", tmp_path, wild / "0.wav")
    assert row["llr"] is None
    assert "belongs to other weights" in said
    arguments = ["--ckpt_path", str(tmp_path), str(wild / "0.wav"), "--calibration", str(tmp_path / "calibration.json")]
    assert inference.main(arguments) == 2
    assert "fitted on scores of the weights" in capsys.readouterr().err


def test_a_calibration_can_be_fitted_from_a_score_file(trained_run, built_corpus, tmp_path, capsys):
    out = tmp_path / "c.json"
    scores = trained_run / "scores" / "dev.txt"
    assert inference.main(["--calibrate", str(scores), str(built_corpus / "dev.txt"), "-o", str(out)]) == 0
    run = calibration.read(trained_run / "calibration.json")
    assert (calibration.read(out).slope, calibration.read(out).offset) == (run.slope, run.offset)
    capsys.readouterr()
    bare = tmp_path / "model.pt"
    bare.write_bytes((trained_run / "model.pt").read_bytes())
    clip = built_corpus / "wild" / "0.wav"
    _, [row], said = judged(capsys, "--ckpt_path", bare, "--calibration", out, clip)
    assert said == ""
    assert row["llr"] is not None


def test_quality_is_predicted_when_asked(trained_run, wild, capsys):
    _, [row], _ = judged(capsys, "--ckpt_path", trained_run, wild / "0.wav", "--mos")
    assert 1 <= row["mos"] <= 5


def test_the_first_path_is_the_detector_where_no_flag_names_it(trained_run, wild, capsys):
    _, expected, _ = judged(capsys, "--ckpt_path", trained_run, wild / "0.wav", wild / "1.wav", "--batch-size", 4)
    assert judged(capsys, trained_run, wild / "0.wav", wild / "1.wav", "--batch_size", 4)[1] == expected
    assert judged(capsys, trained_run, "--wav_path", wild / "0.wav", wild / "1.wav")[1] == expected


def test_names_on_other_peoples_disks(trained_run, wild, tmp_path, capsys, monkeypatch):
    clip = (wild / "0.wav").read_bytes()
    names = [b"-dash.wav", b"take 1.wav", b"\x1b[31mred.wav", b"latin\xe9.wav", b"._hidden.wav"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(clip)
    monkeypatch.chdir(tmp_path)
    assert inference.main([str(trained_run), "--json", "--", "-dash.wav", "take 1.wav"]) == 0
    assert [row["path"] for row in json.loads(capsys.readouterr().out)] == ["-dash.wav", "take 1.wav"]
    _, rows, _ = judged(capsys, trained_run, tmp_path)
    assert {os.fsencode(Path(row["path"]).name) for row in rows} == set(names[:-1])  # as the disk has them
    inference.main([str(trained_run), str(tmp_path), "-o", str(tmp_path / "table.txt")])
    table = (tmp_path / "table.txt").read_text()
    assert "\x1b" not in table
    assert "\\x1b[31mred.wav" in table


def test_ctrl_c_writes_what_was_judged_so_far(trained_run, wild, tmp_path, capsys, monkeypatch):
    read, n_read = inference.read, []

    def interrupted(path, **options):
        n_read.append(path)
        if len(n_read) == 3:
            raise KeyboardInterrupt
        return read(path, **options)

    monkeypatch.setattr(inference, "read", interrupted)
    assert inference.main([str(trained_run), str(wild), "--json", "-o", str(tmp_path / "s.json")]) == 130
    assert len(json.loads((tmp_path / "s.json").read_text())) == 2
    assert "stopped; 2 of 10 recordings were judged" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("length"), MemoryError(), AttributeError("codec")])
def test_whatever_a_decoder_raises_is_that_files_fault(trained_run, wild, capsys, monkeypatch, error):
    read = inference.read

    def odd(path, **options):
        if path.name == "1.wav":
            raise error
        return read(path, **options)

    monkeypatch.setattr(inference, "read", odd)
    status, rows, _ = judged(capsys, trained_run, wild)
    assert status == 2
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["1.wav"]
    assert f"1.wav: cannot be judged ({type(error).__name__}" in next(row["error"] for row in rows if row["error"])


def test_quality_of_a_long_recording_is_the_mean_over_segments():
    heard = []

    def predict(waves):
        heard.extend(len(wave) for wave in waves)
        return np.array([wave.mean() for wave in waves])

    ramp = np.linspace(1, 5, 3600 * 16_000, dtype=np.float32)
    assert _mos(ramp, predict, None) == pytest.approx(3, abs=0.01)
    assert set(heard) == {MOS_SEGMENT_SAMPLES}
    assert 295 < len(heard) < 305  # a segment every 12 s
    heard.clear()
    _mos(ramp[: 30 * 16_000], predict, None)
    assert heard == [30 * 16_000]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--ckpt-path: expected a run"),
        (["RUN"], "expected recordings or folders of them after the detector"),
        (["--ckpt_path", "RUN"], "expected recordings"),
        (["--ckpt_path", "/none", "a.wav"], "/none: no such file or folder"),
        (["--ckpt_path", "RUN", "a.wav", "--overlap", "1"], "--overlap: expected a share"),
        (["--ckpt_path", "RUN", "a.wav", "--prior", "1"], "--prior: expected a share"),
        (["--ckpt_path", "RUN", "a.wav", "--confidence", "0.2"], "--confidence: expected a probability"),
        (["--ckpt_path", "RUN", "a.wav", "--threshold", "nan"], "--threshold: expected a number"),
        (["--calibrate", "a", "b"], "say with -o where"),
    ],
)
def test_wrong_arguments_are_answered_in_one_sentence(trained_run, capsys, arguments, said):
    assert inference.main([str(trained_run) if a == "RUN" else a for a in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("inference.py: ")
    assert "Traceback" not in error


def test_the_table_starts_soon_and_a_pipe_gets_clean_json(trained_run, wild):
    command = [sys.executable, "inference.py", "--ckpt_path", str(trained_run), "--json", str(wild / "0.wav")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)[0]["path"].endswith("0.wav")
