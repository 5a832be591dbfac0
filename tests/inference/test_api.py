"""open_judge: a detector from Python, from any folder, for any form of a recording."""

from __future__ import annotations

import ast
import importlib
import io
import os
import subprocess
import sys
import typing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

import qamo
from qamo import InputError
from qamo.inference.api import Judge, open_judge
from qamo.inference.judge import Judgement

ROOT = Path(__file__).parents[2]


def closed(file):
    file.close()
    return file


@pytest.fixture(scope="module")
def judge(trained_run):
    return open_judge(trained_run)


@pytest.fixture(scope="module")
def clips(built_corpus):
    return sorted((built_corpus / "wild").glob("*.wav"))


def test_a_recording_may_come_in_any_form(judge, clips):
    expected = judge(clips[0])
    samples, rate = soundfile.read(clips[0], dtype="float32")
    whole, _ = soundfile.read(clips[0], dtype="int16")
    assert rate == 16_000
    with open(clips[0], "rb") as file:
        forms = {
            str(clips[0]): str(clips[0]),
            "recording": clips[0].read_bytes(),
            clips[0].as_posix(): file,
            "array": samples,
        }
        for name, form in forms.items():
            found = judge(form)
            assert (found.score, found.path) == (expected.score, name)
    memory = io.BytesIO(clips[0].read_bytes())
    for form in (memory, (samples, 16_000), whole, (whole, 16_000), samples[:, None], np.stack([samples, samples], 1)):
        assert judge(form).score == pytest.approx(expected.score, abs=1e-6)
    twice = np.repeat(samples, 2)
    assert judge((twice, 32_000)).duration_s == expected.duration_s


def test_integers_are_scaled_by_their_type(judge, clips):
    whole, _ = soundfile.read(clips[0], dtype="int16")
    unsigned = (whole.astype(np.int32) + 32_768).astype(np.uint16)
    level = judge(whole).level_dbfs
    assert judge(unsigned).level_dbfs == pytest.approx(level, abs=0.01)
    assert judge(whole.astype(np.int32) << 16).level_dbfs == pytest.approx(level, abs=0.01)


def test_a_judgement_has_the_attributes_of_the_json(judge, clips):
    found = judge(clips[0])
    assert isinstance(found, Judgement)
    content = found.as_dict()
    assert all(getattr(found, name) == value for name, value in content.items() if name != "windows")
    assert [vars(window) for window in found.windows] == content["windows"]
    assert found.duration_s == 0.5
    assert found.warnings
    assert found.error is None
    assert -60 < found.level_dbfs < 0
    assert 0 < found.bandwidth_hz <= 8_000
    assert found.clipped_ratio == 0.0
    assert 0 < found.speech_ratio <= 1


def test_many_are_judged_in_order_and_one_odd_one_does_not_stop_them(judge, clips, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"not sound")
    items = [clips[0], tmp_path / "bad.wav", clips[1], tmp_path / "gone.wav", b"", *clips[2:], np.zeros(0)]
    found = list(judge.each(items))
    assert len(found) == len(items)
    assert [j.error is None for j in found] == [True, False, True, False, False, *[True] * len(clips[2:]), False]
    assert found[1].path == str(tmp_path / "bad.wav")
    good = [j for j in found if j.error is None]
    for one, path in zip(good, clips):
        assert one.path == str(path)
        assert one.score == pytest.approx(judge(path).score, abs=1e-6)
    assert list(judge.each([])) == []
    assert [j.error is None for j in judge.each([b"x"])] == [False]


def test_threads_may_share_it(judge, clips):
    alone = [judge(path).score for path in clips]
    with ThreadPoolExecutor(8) as pool:
        together = [j.score for j in pool.map(judge, clips * 5)]
    assert together == alone * 5


@pytest.mark.parametrize(
    ("recording", "said"),
    [
        ("/none.wav", "/none.wav: no such file"),
        (b"", "recording: expected a recording, found an empty file"),
        (np.zeros((2, 16_000)), r"expected samples \(T,\) or \(T, channels\), found shape \(2, 16000\)"),
        (np.zeros(0), "found shape"),
        (np.full(1_000, np.nan), "are not finite"),
        (1e4 * np.ones(1_000), "divide by their full scale"),
        (np.ones(1_000, complex), "expected real samples, found complex128"),
        ((16_000, np.zeros(1_000)), r"\(array, rate\), found tuple"),
        ((np.zeros(1_000), 2), "expected a rate"),
        ((np.zeros(1_000), "16000"), "found '16000'"),
        (np.full(1_000, 1e300), "are not finite"),
        (closed(io.BytesIO()), "cannot be read .* closed file"),
        (io.StringIO("text"), "opened with mode 'rb', found one opened for text"),
        (7, "found int"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_sentence(judge, recording, said):
    with pytest.raises(InputError, match=said):
        judge(recording)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"threshold": "0.3"}, "--threshold: expected a number, found '0.3'"),
        ({"aggregate": ["mean"]}, "--aggregate: expected mean or min or first"),
        ({"overlap": None}, "--overlap: expected a share .* found None"),
        ({"prior": "x"}, "--prior: expected a share"),
        ({"confidence": "x"}, "--confidence: expected a probability"),
        ({"batch_size": 2.5}, "--batch-size: expected a whole number from 1 on, found 2.5"),
        ({"batch_size": 0}, "--batch-size: expected a whole number from 1 on, found 0"),
        ({"threads": "2"}, "--threads: expected a whole number from 0 on, found '2'"),
        ({"threads": -1}, "--threads: expected"),
        ({"device": "gpu"}, "--device: expected auto or cpu or cuda"),
    ],
)
def test_a_setting_that_is_none_is_refused_in_a_sentence_before_anything_is_judged(trained_run, settings, said):
    with pytest.raises(InputError, match=said):
        open_judge(trained_run, **settings)


def test_each_channel_and_each_recording_have_a_call_of_their_own(judge, clips):
    with pytest.raises(InputError, match="`channels` judges each by itself"):
        judge(clips[0], channel="each")
    for one in (str(clips[0]), clips[0], clips[0].read_bytes()):
        with pytest.raises(InputError, match="expected several recordings, such as a list of them, found one"):
            list(judge.each(one))


def test_what_type_checkers_see_is_what_is_there():
    package = Path(qamo.__file__).parent
    assert (package / "py.typed").exists()
    seen = ast.parse((package / "__init__.pyi").read_text()).body
    imported = [node for node in seen if isinstance(node, ast.ImportFrom)]
    assert {node.names[0].asname for node in imported} == {"Judge", "Judgement", "open_judge"}
    for node in imported:
        name = node.names[0].name
        assert getattr(qamo, name) is getattr(importlib.import_module(node.module), name)
    assert typing.get_type_hints(Judge.__call__)["return"] is Judgement


def test_the_package_starts_without_pytorch_and_works_from_another_folder(trained_run, clips, tmp_path):
    code = (
        "import sys\nfrom qamo import open_judge\nassert 'torch' not in sys.modules\n"
        "print(open_judge(sys.argv[1])(sys.argv[2]).score)"
    )
    command = [sys.executable, "-c", code, str(trained_run), str(clips[0])]
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(open_judge(trained_run)(clips[0]).score, abs=1e-6)


def test_where_the_checkout_is_missing_a_pytorch_detector_says_so(trained_run, tmp_path):
    (tmp_path / "model.py").write_text("")  # somebody else's
    code = (
        "import sys\nfrom qamo import open_judge, InputError\n"
        "try: open_judge(sys.argv[1])\nexcept InputError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(trained_run)]
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "needs PyTorch and this project's model.py" in done.stdout
    assert "export.py" in done.stdout
