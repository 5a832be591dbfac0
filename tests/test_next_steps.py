"""What a command says last, "results saved to ..." and "next: ...": the command that it names works as typed."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import predict_mos
from qamo import command
from qamo.command import say_saved, typed
from tests.support.reports import write_set
from tests.support.scripts import python, serve_a_while

ROOT = Path(__file__).parents[1]


@pytest.fixture
def place(built_corpus: Path, trained_run: Path, tmp_path: Path) -> Path:
    """A folder with a blank in its name, elsewhere than the checkout: a finished run, and a small set of scores."""
    folder = tmp_path / "my folder"
    folder.mkdir()
    shutil.copytree(trained_run, folder / "run")
    shutil.copy(built_corpus / "wild" / "0.wav", folder)
    return write_set(folder)


def given(line: str, folder: Path) -> tuple[str, str]:
    """Standard output and error of a command that must succeed, as typed in a folder."""
    words = shlex.split(line)
    assert words[0] == "python"
    if "webbrowser" in words:
        done = subprocess.run(
            words, cwd=folder, env={**os.environ, "BROWSER": "cat %s"}, capture_output=True, text=True
        )
        return done.stdout, done.stderr
    if words[1].endswith("serve.py"):
        status, out, err = serve_a_while([*words, "--port", "0", "--no-mos"], folder)
    else:
        status, out, err = python(words[1:], folder)
    assert status == 0, out + err
    return out, err


def last_lines(said: str) -> tuple[str, str]:
    """What was saved, and the command that comes next."""
    saved, then = said.splitlines()[-2:]
    assert saved.startswith("results saved to ")
    assert then.startswith("next: ")
    return saved.removeprefix("results saved to "), then.removeprefix("next: ")


def script(name: str) -> str:
    return f"python {ROOT / name}"


def test_a_run_leads_to_a_report_and_that_to_a_browser(place, built_corpus):
    config = shlex.quote(str(built_corpus / "config.yaml"))
    line = f"{script('main.py')} --config {config} --name one run.runs=runs train.max_epochs=1"
    saved, then = last_lines(given(line, place)[0])
    assert (place / saved / "results.json").is_file()
    page, then = last_lines(given(then, place)[0])
    assert page == "report_one_on_seen_and_wild.html"
    assert "<h1>one on seen and wild</h1>" in given(then, place)[0]
    assert last_lines(given(line, place)[0])[0] == saved  # of a finished run too


def test_runs_of_several_seeds_are_reported_together(place, built_corpus):
    config = shlex.quote(str(built_corpus / "config.yaml"))
    line = f"{script('main.py')} --config {config} --seeds 1 2 --name s run.runs=runs train.max_epochs=1"
    (then,) = given(line, place)[0].splitlines()[-1:]
    assert "s_seed1" in then
    assert "s_seed2" in then
    assert "<h1>s_seed1 and s_seed2 on " in given(last_lines(given(then[6:], place)[0])[1], place)[0]


@pytest.mark.parametrize("more", ["train.max_epochs=1", "--train=false --ckpt-path=run/model.pt"])
def test_a_run_without_an_error_rate_leads_to_the_page_of_its_detector(place, built_corpus, more):
    config = shlex.quote(str(built_corpus / "config.yaml"))
    line = f"{script('main.py')} --config {config} --name none run.runs=runs eval.sets=[] {more}"
    _, then = last_lines(given(line, place)[0])
    assert '"window_seconds":0.5' in given(then, place)[0]


@pytest.mark.parametrize("words", ["-o detector", "-o d.onnx --format onnx"])
def test_an_exported_detector_leads_to_its_page(place, words):
    saved, then = last_lines(given(f"{script('export.py')} run {words}", place)[0])
    assert saved == words.split()[1]
    assert '"window_seconds":0.5' in given(then, place)[0]


def test_a_report_without_a_name_is_called_by_what_it_shows(place):
    saved, then = last_lines(given(f"{script('report.py')} a.txt b.txt --keys meta.csv --resamples 9", place)[0])
    assert saved == "report_a_and_b_on_my_folder.html"
    assert "<h1>a and b on my folder</h1>" in given(then, place)[0]


def test_a_report_on_scores_of_runs_names_the_runs_and_their_set(place, built_corpus):
    shutil.copytree(place / "run", place / "other")
    words = f"run/scores/seen.txt other/scores/seen.txt --keys {built_corpus / 'seen.txt'} --resamples 9"
    saved, _ = last_lines(given(f"{script('report.py')} {words}", place)[0])
    assert saved == "report_run_and_other_on_seen.html"
    assert "<h1>run and other on seen</h1>" in (place / saved).read_text()


def test_an_error_rate_leads_to_a_report_and_stays_the_first_line(place):
    out, err = given(f"{script('score_ood_dataset.py')} a.txt meta.csv --mos mos.csv --unit trial", place)
    assert out.startswith("eer: ")
    assert "next" not in out
    (then,) = err.splitlines()[-1:]
    saved, _ = last_lines(given(then.removeprefix("next: "), place)[0])
    assert 'id="quality"' in (place / saved).read_text()


@pytest.mark.parametrize("form", ["--json", "--csv", ""])
def test_judgements_in_a_file_lead_to_the_page_and_nothing_is_said_into_them(place, form):
    out, err = given(f"{script('inference.py')} run 0.wav {form} -o judged.txt --plot plots", place)
    assert out == ""
    saved, then = last_lines(err)
    assert saved == "judged.txt, plots"
    assert "next" not in (place / "judged.txt").read_text()
    if form == "--json":
        assert len(json.loads((place / "judged.txt").read_text())) == 1
    assert '"window_seconds":0.5' in given(then, place)[0]
    assert "next" not in "".join(given(f"{script('inference.py')} run 0.wav {form}", place))  # nothing is written


def test_a_calibration_leads_to_a_report_on_what_it_was_fitted_to(place):
    saved, then = last_lines(given(f"{script('inference.py')} --calibrate a.txt meta.csv -o c.json", place)[0])
    assert saved == "c.json"
    assert last_lines(given(then, place)[0])[0] == "report_a_on_my_folder.html"


def test_a_protocol_with_mos_leads_to_a_dry_run_that_reads_it(corpus, monkeypatch):
    elsewhere = [f"data.{key}=nowhere" for key in ("database_path", "protocols_path")]
    for part in ("train", "dev"):
        monkeypatch.chdir(corpus)
        line = predict_mos.dry_run(Path(f"{part}.txt"), Path(f"LA/{part}/flac"))
        _, out, err = python([*shlex.split(line)[1:], "eval.sets=[]", "model.frontend=lfcc", *elsewhere], corpus)
        assert f"{part}: " in out, err
    (corpus / "names.txt").write_text("a\nb\n")
    assert predict_mos.dry_run(Path("names.txt"), None) == ""


def test_a_built_corpus_leads_to_a_training_on_it_wherever_it_lies(corpus, monkeypatch):
    build_mini = importlib.import_module("database.build_mini")
    monkeypatch.chdir(ROOT)
    assert build_mini.training(ROOT / "database" / "mini", "full") == "python main.py --config database/mini.yaml"
    monkeypatch.chdir(corpus)
    words = shlex.split(build_mini.training(corpus, "quick"))[1:]
    status, out, err = python([*words, "--print-config"], corpus)
    assert status == 0, err
    assert out.count(f"_path: {corpus}\n") == 2


def test_command_lines_hold_from_within_the_checkout_and_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert typed("report", Path("a b.txt"), Path("-x.txt")) == "python report.py 'a b.txt' ./-x.txt"
    monkeypatch.chdir(tmp_path)
    assert typed("report", "x") == f"{script('report.py')} x"
    monkeypatch.setenv("PATH", "/nowhere")
    assert shlex.split(typed("report"))[0] == command.sys.executable
    assert Path(shlex.split(typed("report"))[0]).is_file()


def test_an_installed_package_names_its_own_commands_and_none_that_it_lacks(monkeypatch, capsys):
    monkeypatch.setattr(command, "is_installed", lambda: True)
    monkeypatch.setattr(command, "_starts", lambda program: program == "qamo")
    assert typed("report", "a.txt") == "qamo report a.txt"
    assert typed("inference", "a") == "qamo judge a"
    assert typed("main", "--check") == ""
    say_saved(Path("a"), then="")
    say_saved()
    assert capsys.readouterr().out == "results saved to a\n"
