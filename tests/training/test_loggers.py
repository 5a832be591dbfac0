"""Where the numbers of each epoch go: each logger by itself, none, and one whose package is missing."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

import main
from qamo.files import sha256
from qamo.training.folder import RunFolder
from qamo.training.loggers import PACKAGES, open_loggers
from tests.support.epochs import ROW, log_of

STAND_IN = """
import json, os

class Error(Exception): ...

def init(**about):
    if "STAND_IN" not in os.environ:
        raise Error("No API key configured. Use `wandb login` to log in.\\nMore lines.")
    tell(about)
    return Run()

class Run:
    def log(self, metrics, step):
        tell({"step": step, **metrics})

def tell(what):
    with open(os.environ["STAND_IN"], "a") as file:
        file.write(json.dumps(what) + "\\n")
"""


def test_wandb_is_told_each_epoch_and_a_resume_goes_on_with_its_run(tmp_path, monkeypatch):
    (tmp_path / "wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setenv("STAND_IN", str(tmp_path / "told"))
    folder = RunFolder(tmp_path / "a_run")
    folder.path.mkdir()
    folder.record.write_text("{}")
    for epoch in (3, 4):  # the second time as a resume opens it
        log_of(open_loggers(["wandb"], folder, {"seed": 7})).write({**ROW, "epoch": epoch})
    first, row, again, after = map(json.loads, (tmp_path / "told").read_text().splitlines())
    assert first == again
    assert first == {
        "name": "a_run",
        "id": sha256(folder.record)[:16],
        "resume": "allow",
        "dir": str(folder.path),
        "config": {"seed": 7},
    }
    assert (row["step"], row["dev/dev_loss"], after["step"]) == (3, 0.25, 4)
    assert not folder.tensorboard.exists()


def test_where_nobody_is_logged_in_a_sentence_says_what_to_do_instead(corpus, capsys, tmp_path, monkeypatch):
    (tmp_path / "wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.delenv("STAND_IN", raising=False)
    assert main.main(["--config", str(corpus / "config.yaml"), "name=r", "run.loggers=[wandb]"]) == 2
    assert capsys.readouterr().err.endswith(
        "main.py: run.loggers: wandb: No API key configured. Use `wandb login` to log in; or set WANDB_MODE=offline, "
        "or leave wandb out of run.loggers\n"
    )


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("how", [["--check"], []], ids=["check", "start"])
def test_a_logger_whose_package_is_missing_is_a_sentence_with_what_to_do(corpus, capsys, monkeypatch, how, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more))
    arguments = ["--config", str(corpus / "config.yaml"), "name=r", f"run.loggers=[jsonl,{package}]", *how]
    assert main.main(arguments) == 2
    assert capsys.readouterr().err.endswith(
        f"main.py: run.loggers: {package} is not installed; pip install {package}, or set run.loggers=[jsonl]\n"
    )
    assert not (corpus / "exps" / "r").exists()


def test_loggers_decide_what_is_kept_of_the_numbers_and_nothing_else(corpus):
    for name, loggers in (("all", "[tensorboard,jsonl]"), ("none", "[]")):
        arguments = [f"name={name}", f"run.loggers={loggers}", "train.max_epochs=1"]
        assert main.main(["--config", str(corpus / "config.yaml"), *arguments]) == 0
    kept, bare = ({path.name for path in (corpus / "exps" / name).iterdir()} for name in ("all", "none"))
    assert kept - bare == {"metrics.jsonl", "tensorboard"}
    assert sha256(corpus / "exps" / "all" / "model.pt") == sha256(corpus / "exps" / "none" / "model.pt")
