from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from qamo import InputError
from qamo.config.schema import ScoreConfig
from qamo.evaluation.score_set import check_free, score_trials
from qamo.training.signals import Interrupted, StopFlag

NAMES = [f"T_{i:02d}" for i in range(11)]
IDENTITY = {"weights": "w", "config": "c", "list": "l"}


class Detector(nn.Module):
    """Scores a wave by its mean; counts the waves it was given, and sets a flag once it has seen enough."""

    def __init__(self, stop_after: int | None = None):
        super().__init__()
        self.stop = StopFlag()
        self.stop_after = stop_after
        self.n_waves = 0

    def forward(self, wave: Tensor) -> SimpleNamespace:
        self.n_waves += len(wave)
        self.stop.asked = self.stop_after is not None and self.n_waves >= self.stop_after
        return SimpleNamespace(score=wave.mean(dim=1))


def wave_of(name: str) -> Tensor:
    return torch.randn(50, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def score(out: Path, detector: Detector | None = None, *, bad: tuple[str, ...] = (), **options) -> int:
    names = options.pop("names", NAMES)

    def read(batches: list[range]) -> Iterator[tuple[Tensor, list[str]]]:
        for batch in batches:
            some = [names[i] for i in batch]
            yield torch.stack([wave_of(n) for n in some]), [f"folder/{n}: damaged" * (n in bad) for n in some]

    detector = detector or Detector()
    identity = options.pop("identity", IDENTITY)
    score = ScoreConfig(**{"batch_size": 3, **options})
    return score_trials(
        Fabric(accelerator="cpu"), detector, names, read, out, score, identity=identity, stop=detector.stop
    )


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    out = tmp_path / "undisturbed" / "a.txt"
    assert score(out) == 0
    return out.read_bytes()


def test_each_name_stands_once_in_the_order_of_the_list(tmp_path, whole):
    lines = [line.split(" ") for line in whole.decode().splitlines()]
    assert [name for name, _ in lines] == NAMES
    for name, value in lines:
        assert float(value) == pytest.approx(wave_of(name).mean().item(), abs=1e-6)
    folder = tmp_path / "undisturbed"
    assert sorted(p.name for p in folder.iterdir()) == ["a.txt", "a.txt.json"]
    known = json.loads((folder / "a.txt.json").read_text())
    assert known == {"identity": IDENTITY, "complete": True, "n_scored": 11, "n_failed": 0}


def test_a_stopped_call_goes_on_with_what_is_missing(tmp_path, whole):
    out = tmp_path / "a.txt"
    with pytest.raises(Interrupted):
        score(out, Detector(stop_after=5))
    assert not out.exists()
    rest = Detector()
    assert score(out, rest) == 0
    assert rest.n_waves == len(NAMES) - 6  # two batches of three were kept
    assert out.read_bytes() == whole
    idle = Detector()
    assert score(out, idle) == 0
    assert idle.n_waves == 0


@pytest.mark.parametrize("left", ["", "[1, [[", '[1, [["T_03", "0.5", null]]]', "17\n", '[9, []]\n{"a": 1}\n', "\0\0"])
def test_a_line_that_a_kill_or_a_disk_spoiled_is_computed_again(tmp_path, whole, left):
    out = tmp_path / "a.txt"
    with pytest.raises(Interrupted):
        score(out, Detector(stop_after=3))
    with open(tmp_path / "a.txt.part0", "a") as file:
        file.write(left)
    assert score(out) == 0
    assert out.read_bytes() == whole


def test_part_files_of_several_processes_are_put_together(tmp_path, whole):
    out = tmp_path / "a.txt"
    with pytest.raises(Interrupted):
        score(out, Detector(stop_after=9))
    lines = (tmp_path / "a.txt.part0").read_bytes().splitlines(keepends=True)
    (tmp_path / "a.txt.part0").write_bytes(lines[2])
    (tmp_path / "a.txt.part1").write_bytes(lines[1] + lines[0])
    rest = Detector()
    assert score(out, rest) == 0
    assert rest.n_waves == 2
    assert out.read_bytes() == whole
    assert not list(tmp_path.glob("*.part*"))


def test_scores_of_another_model_are_refused_not_continued(tmp_path, whole):
    out = tmp_path / "undisturbed" / "a.txt"
    with pytest.raises(InputError, match=r"a.txt: holds or awaits scores of another weights; .*comment_eval"):
        score(out, identity={**IDENTITY, "weights": "other"})
    with pytest.raises(InputError, match="another config, list"):
        score(out, identity={**IDENTITY, "config": "x", "list": "y"})
    assert out.read_bytes() == whole


def test_a_score_file_of_unknown_origin_is_refused_before_anything_is_computed(tmp_path):
    out = tmp_path / "a.txt"
    check_free(out)
    out.write_text("T_00 1.0\n")
    detector = Detector()
    with pytest.raises(InputError, match="nothing tells which model made it"):
        score(out, detector)
    assert detector.n_waves == 0
    assert out.read_text() == "T_00 1.0\n"
    out.unlink()
    (tmp_path / "a.txt.part3").touch()
    with pytest.raises(InputError, match="nothing tells"):
        check_free(out)


def test_unreadable_recordings_are_named_and_tried_again_the_next_time(tmp_path, whole):
    out = tmp_path / "a.txt"
    assert score(out, bad=("T_01", "T_10")) == 2
    kept = [line for line in whole.decode().splitlines() if line.split()[0] not in ("T_01", "T_10")]
    assert out.read_text().splitlines() == kept
    failed = tmp_path / "a.failed.txt"
    assert failed.read_text() == "T_01 folder/T_01: damaged\nT_10 folder/T_10: damaged\n"
    known = json.loads((tmp_path / "a.txt.json").read_text())
    assert (known["n_scored"], known["n_failed"]) == (9, 2)

    assert score(out, bad=("T_10",)) == 1  # one was replaced
    assert failed.read_text() == "T_10 folder/T_10: damaged\n"
    last = Detector()
    assert score(out, last) == 0
    assert last.n_waves == 2  # the batch of the last one
    assert out.read_bytes() == whole
    assert not failed.exists()


def test_a_failure_that_was_met_before_a_kill_is_tried_again_too(tmp_path, whole):
    out = tmp_path / "a.txt"
    with pytest.raises(Interrupted):
        score(out, Detector(stop_after=6), bad=("T_04",))
    assert score(out) == 0
    assert out.read_bytes() == whole


def test_not_one_readable_recording_is_an_error_that_can_be_mended(tmp_path, whole):
    out = tmp_path / "a.txt"
    with pytest.raises(InputError, match="not one of 11 recordings could be read; the first: folder/T_00: damaged"):
        score(out, bad=tuple(NAMES))
    assert not out.exists()
    assert score(out) == 0
    assert out.read_bytes() == whole


def test_on_request_the_first_unreadable_recording_stops_the_scoring(tmp_path, whole):
    out = tmp_path / "a.txt"
    detector = Detector()
    with pytest.raises(InputError, match="folder/T_04: damaged"):
        score(out, detector, bad=("T_04",), on_bad_audio="fail")
    assert detector.n_waves == 3
    assert score(out, on_bad_audio="fail") == 0
    assert out.read_bytes() == whole


def test_a_score_that_is_not_finite_is_an_error(tmp_path):
    class Broken(Detector):
        def forward(self, wave: Tensor) -> SimpleNamespace:
            return SimpleNamespace(score=wave.mean(dim=1) / 0)

    with pytest.raises(InputError, match=r"the score of T_00 is -?inf; the weights are damaged"):
        score(tmp_path / "a.txt", Broken())


def test_a_kill_between_the_last_two_writes_leaves_no_part_file_behind(tmp_path, whole):
    out = tmp_path / "undisturbed" / "a.txt"
    (out.parent / "a.txt.part0").write_text("[0, []]\n")
    assert score(out) == 0
    assert out.read_bytes() == whole
    assert not list(out.parent.glob("*.part*"))


def test_one_trial_and_one_batch_work(tmp_path):
    out = tmp_path / "a.txt"
    assert score(out, names=["only"], batch_size=50) == 0
    assert len(out.read_text().splitlines()) == 1
