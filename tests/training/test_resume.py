"""The real command, interrupted in every way, against itself undisturbed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import main
from qamo.files import holding
from tests.support.kill import contents

ROOT = Path(__file__).parents[2]


def run(corpus: Path, *more: str) -> int:
    return main.main(["--config", str(corpus / "config.yaml"), "name=r", *more])


CHOICES = "data.window=random data.window_samples=3000 train.schedule=cosine train.warmup_steps=3 train.clip_norm=1.0"


@pytest.mark.parametrize("settings", ["", f"{CHOICES} score.windows=all model.backend=asp"])
def test_a_few_kills_change_not_one_byte(settings):
    """A shorter form of `make kill-test`; with the settings that draw or count something of their own too."""
    command = [sys.executable, "-m", "tests.support.kill", "--kills", "7", "--seed", "1", "train.max_epochs=2"]
    done = subprocess.run([*command, *settings.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("kills: 7 (1 in step, 1 in dev, 1 in write, 1 in average, 1 in score, 1 in between")
    assert "differences: 0" in done.stdout


def n_epochs(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_being_asked_to_stop_saves_and_says_how_to_go_on(corpus, capsys):
    """With fp16, so that the state of the gradient scaler is a part of what must come back."""
    keys = [
        "name=r",
        "train.precision=16-mixed",
        "run.emulate=true",
        "train.max_epochs=12",
        "train.patience=12",
        "train.n_best=1",
    ]
    command = [sys.executable, "main.py", "--config", str(corpus / "config.yaml"), *keys, "train.n_average=1"]
    folder = corpus / "exps" / "r"
    for number in (signal.SIGTERM, signal.SIGINT):
        before = n_epochs(folder)
        started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while started.poll() is None and n_epochs(folder) == before:
            time.sleep(0.005)
        started.send_signal(number)
        said = started.communicate()[1]
        assert started.returncode == 130, said
        again = re.search(r"stopped and saved; the same command goes on from here: python (.*)", said)
        assert again is not None
        assert shlex.split(again[1]) == command[1:]
        state = torch.load(folder / "last.pt", weights_only=True)
        assert state["scaler"]["scale"] > 0
        assert not state["train_state"]["finished"]
    assert main.main(command[2:]) == 0
    resumed = contents(folder)
    folder.rename(corpus / "exps" / "resumed")
    assert main.main(command[2:]) == 0
    undisturbed = contents(folder)
    assert resumed.keys() == undisturbed.keys()
    assert [name for name in resumed if resumed[name] != undisturbed[name]] == []
    lines = (corpus / "exps" / "resumed" / "resumed.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["device"] == "cpu"


def test_workers_change_nothing_and_a_finished_run_is_left_alone(corpus, capsys):
    folder = corpus / "exps" / "r"
    assert run(corpus, "data.n_workers=2") == 0
    with_workers = contents(folder)
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}
    assert run(corpus, "--resume") == 0
    assert "EER %" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")} == before
    folder.rename(corpus / "exps" / "with workers")
    assert run(corpus, "data.n_workers=0") == 0
    without = contents(folder)
    differing = {name for name in {**without, **with_workers} if without.get(name) != with_workers.get(name)}
    assert differing == {"config.yaml"}  # which says how many workers there were
    about = json.loads((folder / "run.json").read_text())
    assert about["data"]["train"]["n"] == 24
    assert len(about["data"]["dev"]["sha256"]) == 64
    assert about["packages"]["torch"] == torch.__version__
    assert about.keys() >= {"git_commit", "git_dirty", "command", "device", "machine", "started", "frontend_weights"}

    assert run(corpus, "train.lr=0.5", "data.rawboost.algorithm=5", "data.n_workers=2") == 2
    said = capsys.readouterr().err
    assert "holds a run of another config" in said
    assert "train.lr is 0.5 but was 0.003" in said
    assert "data.rawboost.algorithm is 5 but was 4" in said
    assert "n_workers" not in said
    assert contents(folder) == without


class Trap:
    """Unpickled by code that trusts the file, it would leave a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_damaged_or_hostile_state_is_refused_and_left_where_it_is(corpus, tmp_path, capsys):
    folder = corpus / "exps" / "r"
    assert run(corpus, "eval.sets=[]") == 0
    capsys.readouterr()
    for path in (folder / "model.pt", folder / "results.json"):
        path.unlink()
    good = (folder / "last.pt").read_bytes()

    (folder / "last.pt").write_bytes(good[: len(good) // 2])
    assert run(corpus, "eval.sets=[]") == 2
    said = capsys.readouterr().err
    assert "last.pt: a checkpoint that ends too early" in said
    assert "move it away to start the run anew" in said
    assert len((folder / "last.pt").read_bytes()) == len(good) // 2

    mark = tmp_path / "executed"
    content = torch.load(folder / "epoch_003.pt", weights_only=True)
    for hostile, words in ((folder / "last.pt", []), (tmp_path / "w.pt", ["--train", "false"])):
        torch.save({**content, "train_state": Trap(mark)}, hostile)
        more = [*words, "--ckpt_path", str(hostile), "name=s"] if words else ["eval.sets=[]"]
        assert run(corpus, *more) == 2
        assert "could run code; refused" in capsys.readouterr().err
        assert not mark.exists()
    torch.load(folder / "last.pt", weights_only=False)
    assert mark.exists()  # the trap is a real one

    (folder / "last.pt").write_bytes(good)
    (folder / ".last.pt.99999.tmp").write_bytes(b"left by a kill")
    (folder / "scores" / ".seen.txt.99999.tmp").write_bytes(b"left by a kill")
    assert run(corpus, "eval.sets=[]") == 0  # the training is finished; only the average was missing
    assert not list(folder.rglob(".*.tmp"))


def test_a_run_that_another_process_holds_is_refused(corpus, capfd):
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with holding(corpus / "exps" / "r", doing="training or scoring"):
            os.write(ready[1], b".")
            os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    try:
        assert run(corpus) == 2
        said = capfd.readouterr().err
        assert f"in use by another process (pid {child}, training or scoring)" in said
        assert not list((corpus / "exps" / "r").glob("*.pt"))
    finally:
        os.write(go[1], b".")
        os.waitpid(child, 0)


def test_scoring_with_other_weights_into_the_same_place_is_refused(corpus, capsys):
    folder = corpus / "exps" / "r"
    assert run(corpus) == 0
    before = contents(folder)
    capsys.readouterr()
    other = ["--train", "false", "--ckpt_path", str(folder / "epoch_003.pt"), "eval.sets=[seen]"]
    assert run(corpus, *other) == 2
    assert "seen.txt: holds or awaits scores of another weights" in capsys.readouterr().err
    assert contents(folder) == before
    assert run(corpus, *other, "comment_eval=third") == 0
    assert (folder / "scores" / "seen_third.txt").exists()
    assert run(corpus, "--train", "false", "eval.sets=[seen]", "score.batch_size=4") == 2
    assert "another batch_size" in capsys.readouterr().err


def test_a_series_of_seeds_gives_mean_deviation_and_each(corpus, capsys):
    words = ["train.max_epochs=1", "eval.sets=[seen]", "eval.n_resamples=0"]
    assert run(corpus, *words, "--seeds", "1", "2", "3") == 0
    shown = capsys.readouterr().out
    eers = [
        json.loads((corpus / "exps" / f"r_seed{seed}" / "results.json").read_text())["sets"]["seen"]["eer"]
        for seed in (1, 2, 3)
    ]
    assert "EER % over 3 seeds (1, 2, 3)" in shown
    mean = sum(eers) / 3
    deviation = (sum((eer - mean) ** 2 for eer in eers) / 2) ** 0.5
    row = next(line for line in shown.splitlines() if "deviation" in line)
    assert f"mean {mean:6.2f}" in row
    assert f"deviation {deviation:5.2f}" in row
    assert row.endswith("each " + ", ".join(f"{eer:.2f}" for eer in eers))
    models = [(corpus / "exps" / f"r_seed{seed}" / "model.pt").read_bytes() for seed in (1, 2, 3)]
    assert len(set(models)) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_fills_up_keeps_the_last_good_state(corpus, tmp_path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "none", str(small)], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    folder = small / "r"
    words = [f"run.runs={small}", "eval.sets=[]", "train.max_epochs=1"]
    try:
        (small / "filler").write_bytes(bytes(450_000))
        assert run(corpus, *words) == 2
        said = capsys.readouterr().err
        assert re.search(r"2 epochs and the state of a training take 0\.\d\d MB, but 0\.\d\d MB are free", said)
        assert not list(folder.glob("*.pt"))
        (small / "filler").unlink()

        def fill(frame, event, argument):  # once the run has looked how much room there is
            if event == "call" and frame.f_code.co_name == "dev_loss" and not (small / "filler").exists():
                os.sync()
                free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
                (small / "filler").write_bytes(bytes(free - 120_000))

        words[-1] = "train.max_epochs=3"
        sys.setprofile(fill)
        try:
            assert run(corpus, *words) == 2
        finally:
            sys.setprofile(None)
        assert re.search(r"\.pt: cannot be written \(No space left on device\).*kept", capsys.readouterr().err)
        assert not list(folder.rglob(".*.tmp"))
        (small / "filler").unlink()
        assert run(corpus, *words) == 0
        full = contents(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)  # the log file is still open
    assert run(corpus, "eval.sets=[]") == 0
    for name in ("model.pt", "metrics.jsonl", "last.pt"):
        assert full[name] == (corpus / "exps" / "r" / name).read_bytes()
