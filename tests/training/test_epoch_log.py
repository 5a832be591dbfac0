from __future__ import annotations

import io
import logging
import math
import re
import sys
import time
from pathlib import Path

import pytest

from qamo import progress
from qamo import progress as runlog
from qamo.config.schema import TrainConfig
from qamo.training import epoch_log, loggers, provenance
from qamo.training.folder import RunFolder
from tests.support.epochs import ROW, log_of


@pytest.fixture
def quick_lines(monkeypatch, caplog):
    monkeypatch.setattr(runlog, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(sys, "stderr", open("/dev/null", "w"))  # not a terminal  # noqa: SIM115
    caplog.set_level(logging.INFO)
    return caplog


def test_progress_off_a_terminal_is_a_readable_line_with_rate_and_rest(quick_lines):
    assert list(progress.progress(["ab", "cd", "e"], "scoring LA", total=5, unit="clip", count=len)) == [
        "ab",
        "cd",
        "e",
    ]
    said = [record.getMessage() for record in quick_lines.records]
    assert len(said) == 3
    assert said[0].startswith("scoring LA: 2 of 5 clips, ")
    assert said[0].endswith(" a second, 0 s left")
    assert said[-1].startswith("scoring LA: 5 of 5 clips")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("pause_s", "speed"), [(0.02, r"\d\d\.\d a second"), (1.2, r"1\.[23] s each batch")])
def test_a_bar_says_batches_and_a_slow_rate_as_seconds_each(monkeypatch, pause_s, speed):
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    for _ in progress.progress(range(12 if pause_s < 1 else 3), "dev", total=20, unit="batch"):
        time.sleep(pause_s)
    bars = [bar for bar in screen.getvalue().split("\r") if "batch" in bar]
    assert bars[0].startswith("dev:   0%|")
    assert " 0 of 20 batches [" in bars[0]
    assert re.search(rf"\| [1-9]\d* of 20 batches \[00:0\d<\d\d:\d\d, {speed}\]", bars[-1]), bars[-1]


def test_of_several_processes_one_speaks(quick_lines, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert list(progress.progress([1, 2], "training", total=2, unit="step")) == [1, 2]
    assert not quick_lines.records
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("LOCAL_RANK", "1")  # as Fabric starts processes
    assert not progress.is_first_process()


@pytest.mark.parametrize(("seconds", "text"), [(4, "4 s"), (61, "1 min 01 s"), (36_300, "10 h 05 min")])
def test_durations_for_a_person(seconds, text):
    assert progress._duration(seconds) == text


def test_an_empty_class_and_centroids_that_fall_together_are_warned_about(caplog):
    log = log_of()
    assert log.warnings(ROW) == []
    assert log.warnings({**ROW, "centroid_cosine": 0.985}) == [
        "two centroids are nearly one (cosine 0.985): quality no longer separates them"
    ]
    assert log.warnings({**ROW, "n_bonafide_class_0": 0}) == [
        "quality class 0 had no bona fide utterance in this epoch"
    ]
    assert log_of(n_classes=3).warnings(ROW) == ["quality class 2 had no bona fide utterance in this epoch"]
    assert log_of(n_classes=0).warnings({**ROW, "n_bonafide_class_0": 0}) == []  # a head that knows no quality
    with caplog.at_level(logging.WARNING):
        log.write({**ROW, "n_bonafide_class_1": 0})
    assert "quality class 1 had no bona fide utterance" in caplog.text


def test_tensorboard_events_hold_what_a_person_wants_to_see(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = log_of(loggers.open_loggers(["tensorboard", "jsonl"], RunFolder(tmp_path), {}))
    log.write(ROW)
    log.write({**ROW, "epoch": 4, "dev_loss": 0.125})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) >= {
        "loss/loss_total",
        "dev/dev_loss",
        "dev/dev_eer",
        "centroid/centroid_cosine",
        "share/share_class_0",
        "share/share_class_1",
        "lr/lr_body",
        "speed/speed_samples_per_s",
        "memory/memory_peak_mb",
    }
    assert [(e.step, e.value) for e in events.Scalars("dev/dev_loss")] == [(3, 0.25), (4, 0.125)]
    assert events.Scalars("share/share_class_0")[0].value == 0.25
    assert events.Scalars("memory/memory_peak_mb")[0].value > 50
    assert [event.value for event in events.Scalars("lr/lr_body")] == pytest.approx([1e-6 / 3, 1e-6 / 4])


def test_the_learning_rates_of_an_epoch_are_those_of_its_last_step():
    train = TrainConfig(lr=1e-6, head_lr=1e-3, max_epochs=4, warmup_steps=10, schedule="cosine")
    full, half, last = (epoch_log.rates_after(train, 10, epoch) for epoch in (1, 2, 4))
    assert full["lr_body"] == pytest.approx(1e-6 * 10 / 11)
    assert half["lr_head"] == pytest.approx(1e-3 * (0.5 + 0.5 * math.cos(math.pi * 9 / 30)))
    assert 0 < last["lr_head"] < 1e-5
    assert epoch_log.rates_after(TrainConfig(), 10, 7) == {
        "lr_body": TrainConfig().lr,
        "lr_head": TrainConfig().head_lr,
    }


def test_provenance_of_a_folder_without_git_is_not_invented(tmp_path):
    found = provenance.provenance(tmp_path)
    assert found["git_commit"] is None
    assert found["git_dirty"] is None
    assert provenance.provenance(Path(__file__).parents[2])["packages"].keys() >= {"torch", "numpy", "lightning-fabric"}


def test_messages_go_to_the_file_of_the_run_and_later_to_another(tmp_path):
    root = logging.getLogger()
    level, before = root.level, list(root.handlers)
    try:
        for name in ("a.log", "b.log"):
            progress.start_log(tmp_path / name)
            logging.getLogger("main").info("to %s", name)
        assert (tmp_path / "a.log").read_text().strip().endswith("INFO to a.log")
        assert (tmp_path / "b.log").read_text().strip().endswith("INFO to b.log")
    finally:
        for handler in set(root.handlers) - set(before):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
