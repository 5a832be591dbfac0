"""Every command and every line of code that the documents show is run as it stands there.

It happens in a small copy of the project, whose corpora are a few tones in the archives' layout, and which holds files
by the names that the documents use: `clip.wav`, `folder/`, `FOLDER`, `DIR`, `PROTOCOL` and so on. A command that is
added to a document must be added to COMMANDS, with what it leaves or says, or to ELSEWHERE, with what runs it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import torch
import yaml

import data_utils  # noqa: F401  (what the scripts import is to be the project's own, and not the copy's)
import inference
import main
import model
import serve
from benchmarks.tiny_corpus import RATE, tone
from eval_metrics import TDCFCoefficients
from qamo import InputError
from qamo.config.flags import config_from
from qamo.config.load import load_config
from qamo.config.parts import XLSRConfig
from qamo.config.schema import DataConfig, EvalConfig
from qamo.evaluation import tdcf
from qamo.export.model_card import LINES
from tests.support.scripts import python, serve_a_while
from tests.support.xlsr import as_fairseq, xlsr

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "2021" / "eval-package" / "README.md",
    ROOT / "benchmarks" / "README.md",
]
COMMAND = re.compile(r"(python3?|make|torchrun|cd|pip|pre-commit|hf|git|wget|curl|sh|bash) \S|[\w./-]+\.py -")
SETTING = re.compile(r"[a-z_]+(\.[a-z_0-9]+)+=\S+")
SMALL = "--config small.yaml"
# As wide as a published network, from which the number of heads is known, and small in all else.
XLSR_SIZES = {
    "hidden_size": 768, "n_layers": 1, "n_heads": 12, "ffn_size": 48, "conv_size": 16, "position_kernel": 16,
    "position_groups": 16,
}  # fmt: skip


class Shown(NamedTuple):
    """A command of a document, in the order in which it is run here."""

    command: str
    more: str = ""  # words added here: what makes it small, or sends it elsewhere
    leaves: str = ""  # a file that it makes
    says: str = ""  # a part of what it prints
    first: Callable[[Path], None] | None = None  # what is done to the project before


def keep_epochs(root: Path) -> None:
    """Five epochs as the published code keeps them."""
    (root / "best").mkdir()
    state = torch.load(root / "best.pth", weights_only=True)
    for i in range(5):
        shifted = {name: t + 1e-3 * i if t.is_floating_point() else t for name, t in state.items()}
        torch.save(shifted, root / "best" / f"best_{i}.pth")


COMMANDS = [
    *(
        Shown(
            f"python database/prepare.py {corpus} --from FOLDER", "--any-count", leaves, f"\nnext: python {ROOT / then}"
        )
        for corpus, leaves, then in (
            ("la2019", "database/LA/ASVspoof_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt", "predict_mos.py"),
            ("la2021", "database/keys/LA/CM/trial_metadata.txt", "main.py --check"),
            ("df2021", "database/keys/DF/CM/trial_metadata.txt", "main.py --check"),
            ("itw", "database/ood_ds_keys/ITW/meta.csv", "main.py --check"),
            ("for", "database/ood_ds_keys/FoR/meta.csv", "main.py --check"),
        )
    ),
    Shown(
        "python database/prepare.py la2019 --from FOLDER --authors DIR",
        "--any-count --to other",
        "other/LA/ASVspoof_LA_cm_protocols/ASVspoof2019.LA.cm.dev.trl.score.txt",
    ),
    *(
        Shown(
            "cd database/LA/ASVspoof_LA_cm_protocols && python ../../../predict_mos.py "
            f"ASVspoof2019.LA.cm.{part}.txt ../ASVspoof2019_LA_{folder}/flac -o ASVspoof2019.LA.cm.{part}.score.txt",
            "--jobs 1",
            f"database/LA/ASVspoof_LA_cm_protocols/ASVspoof2019.LA.cm.{part}.score.txt",
        )
        for part, folder in (("train.trn", "train"), ("dev.trl", "dev"))
    ),
    Shown("python predict_mos.py PROTOCOL AUDIO_FOLDER -o OUT", "--jobs 1", "OUT", "OUT: MOS of 12 recordings"),
    Shown(
        "python export.py --convert-xlsr pretrained/xlsr2_300m.pt -o pretrained/xlsr2_300m",
        "",
        "pretrained/xlsr2_300m/model.safetensors",
        "set model.xlsr.weights=pretrained/xlsr2_300m",
    ),
    Shown("python main.py --config /dev/null --print-config > config.yaml", leaves="config.yaml"),
    Shown("python main.py --print-schema", says='"title": "Config"'),
    Shown("python main.py --model conformer_tcm --check", SMALL, says="all that the run needs is there"),
    Shown("python main.py --model conformer_tcm --check full", SMALL, says="all that the run needs is there"),
    Shown("python main.py --model conformer_tcm", f"{SMALL} --name NAME", "exps/NAME/scores/FoR.txt", "FoR"),
    *(
        Shown(f"python score_ood_dataset.py exps/NAME/scores/{name}.txt database/ood_ds_keys/{name}", says="eer: ")
        for name in ("ITW", "FoR")
    ),
    *(
        Shown(
            "cd 2021/eval-package && python main.py --cm-score-file "
            f"../../exps/NAME/scores/{track}.txt --track {track} --subset eval --metadata ../../database/keys",
            says="Table for EERs",
        )
        for track in ("LA", "DF")
    ),
    Shown(
        "cd 2021/eval-package && python main.py --cm-score-file score.txt --track LA --subset eval",
        says="Table for min tDCFs",
    ),
    Shown("python inference.py exps/NAME clip.wav folder/", says="folder/0.wav"),
    Shown("python inference.py exps/NAME recording.wav folder/", says="recording.wav"),
    Shown("python inference.py exps/NAME --json folder/ > scores.json", leaves="scores.json"),
    Shown("python inference.py exps/NAME --plot plots/ interview.mp3", leaves="plots/0001_interview.png"),
    Shown("python inference.py --calibrate SCORES KEYS -o FILE", leaves="FILE"),
    Shown("python serve.py exps/NAME", "--port 0 --no-mos", says='"window_seconds":0.5'),
    Shown("python export.py exps/NAME -o detector", leaves="detector/qamo.json"),
    Shown("python export.py exps/NAME -o detector.onnx --format onnx", leaves="detector.onnx"),
    Shown("python inference.py detector.onnx recording.wav", says="recording.wav"),
    Shown("python export.py exps/NAME -o best.pth --format reference", leaves="best.pth"),
    Shown(
        "python main.py --train false --ckpt-path exps/NAME/model.pt model.qamo.score=softmax",
        f"{SMALL} --name soft",
        "exps/soft/scores/ITW.txt",
    ),
    Shown(
        "python main.py --train false --ckpt-path best.pth",
        f"{SMALL} --name theirs",
        "exps/theirs/scores/DF.txt",
    ),
    Shown(
        "python main.py --train false --ckpt-path best train.average=reference",
        f"{SMALL} --name authors",
        "exps/authors/scores/FoR.txt",
        first=keep_epochs,
    ),
    Shown("python export.py best -o averaged --average reference", leaves="averaged/qamo.json"),
    Shown(
        "python report.py exps/NAME/scores/ITW.txt --keys database/ood_ds_keys/ITW -o report.html", leaves="report.html"
    ),
    Shown("python report.py --run exps/NAME -o run.html", leaves="run.html"),
    Shown(
        "python database/prepare.py folder --real real/ --fake fake/ --name mine", "--jobs 1", "database/mine/dev.csv"
    ),
    Shown(
        "python main.py --config database/mine/config.yaml --name mine",
        "data.window_samples=8000 train.max_epochs=1 train.batch_size=6 eval.n_resamples=0",
        "exps/mine/scores/mine.txt",
        "mine",
    ),
    Shown(
        "python main.py --config database/mine/config.yaml --check full", "--name other", says="all that the run needs"
    ),
    Shown("python inference.py exps/mine recording.wav", says="recording.wav"),
    Shown("python predict_mos.py TABLE.csv FOLDER -o RATED.csv", "--jobs 1", "RATED.csv"),
    Shown("python score_ood_dataset.py SCORES TABLE.csv --by device", says="device"),
    Shown("python benchmarks/baselines.py", "--config wild.yaml", says="DistillMOS"),
    Shown("python benchmarks/onnx_cost.py exps/NAME", "--n 10", says="ONNX int8"),
]
# Command -> what runs it: a line of .ci/run, or a test and a word of the Makefile's recipe that stands in its file.
ELSEWHERE = {
    "make lint": ".ci/run",
    "make lock": "test_install.py::test_each_line_of_the_lock_has_hashes_and_none_is_of_cuda requirements.txt",
    "make fuzz": "test_fuzz.py::test_damaged_files_load_what_was_written_or_are_refused fuzz",
    "make help": "test_readme.py::test_make_says_what_it_can_make make",
    "python serve.py detector.onnx": "test_readme.py::test_the_command_does_what_is_said serve.py",
    "cd 2021/eval-package": "test_readme.py::test_the_command_does_what_is_said eval-package",
    "make test": ".ci/run",
    "make demo": ".ci/run",
    "make demo DEMO=quick": ".ci/run",
    "make study": "test_study.py::test_the_table_is_that_of_real_runs_and_a_second_start_runs_nothing study",
    "make bench": "test_speed.py::test_the_benchmark_measures_and_writes_its_tables speed",
    'make bench ARGS="--only data startup"': "test_speed.py::test_the_benchmark_measures_and_writes_its_tables speed",
    "make parity-original FILE=original.npz": (
        "test_parity_original.py::test_what_a_stand_in_records_is_computed_again parity_file"
    ),
    "python parity_original.py clip1.wav clip2.wav --xlsr xlsr2_300m.pt -o original.npz": (
        "test_parity_original.py::test_what_a_stand_in_records_is_computed_again parity_original"
    ),
    "python database/prepare.py authors": (
        "test_authors.py::test_the_authors_own_files_land_where_commands_look prepare"
    ),
    (
        "python report.py results/InTheWild --keys database/ood_ds_keys/ITW -o report.html --arena meta.yaml qamo.yaml"
    ): "test_submission.py::test_the_submission_has_the_benchmarks_fields_in_its_order arena",
    "python benchmarks/gpu.py": "test_gpu.py::test_the_script_runs_through_in_miniature_and_says_where_it_ran gpu",
    "python benchmarks/coverage.py": "test_coverage.py::test_the_tables_replace_what_stands_between_the_marks coverage",
    "make parity": "test_parity.py::test_equal_to_the_published_code parity",
    "cd 2021/eval-package && python download.py": (
        "test_asv21_package.py::test_keys_are_fetched_verified_and_unpacked_and_not_fetched_again download"
    ),
    "python main.py --model mean_pool": "test_contributing.py::test_adding_a_back_end_takes_the_three_steps_it_says",
    "torchrun --nproc_per_node 8 main.py --model conformer_tcm": (
        "test_distributed.py::test_a_killed_process_ends_the_job_and_another_number_of_processes_takes_it_up torchrun"
    ),
    "hf upload owner/detector detector": "test_hub.py::test_the_command_that_uploads_takes_a_folder upload",
    "hf auth login": "test_hub.py::test_what_cannot_be_fetched_is_a_sentence_that_says_why_and_what_to_do SAID",
    "pip install .": (
        "test_install.py::test_an_installed_package_judges_and_evaluates_without_a_checkout_and_without_pytorch install"
    ),
    "pre-commit install": "test_readme.py::test_the_commit_hooks_are_the_linters_of_the_makefile",
}


# ---- what the documents show


def code_blocks(text: str, language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for found, block in blocks if found == language]


def inline_code(text: str) -> list[str]:
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]


def commands_of(text: str) -> list[str]:
    """Commands of shell blocks, the `cd` lines of a block joined to those after them, and of inline code."""
    found = [span for span in inline_code(text) if COMMAND.match(span)]
    blocks = [*code_blocks(text, "sh"), *code_blocks(text, "bash")]
    blocks += [block for block in code_blocks(text, "") if COMMAND.match(block)]
    for block in blocks:
        place = ""
        for line in block.replace("\\\n", " ").splitlines():
            command = " ".join(re.sub(r"\s#.*", "", line).split())
            if command.startswith("cd ") and "&&" not in command:
                place = f"{command} && "
            elif command:
                found.append(place + command)
    return found


def shown(path: Path) -> list[str]:
    return list(dict.fromkeys(commands_of(path.read_text())))


SERVING = {line for line in shown(ROOT / "docs" / "serving.md") if re.match(r"curl|python (-c|serve.py)", line)}


def test_commands_are_found_however_they_stand():
    text = "Do `make\nit` and `a.py --b`.\n\n```sh\ncd x\npython y.py \\\n    -z  # why\nls\n```\n\n```python\nz\n```\n"
    assert commands_of(text) == ["make it", "a.py --b", "cd x && python y.py -z", "cd x && ls"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_shown_is_run_here_or_elsewhere(path):
    known = ELSEWHERE.keys() | {known.command for known in COMMANDS} | SERVING  # SERVING: test_serving.py
    assert [line for line in shown(path) if line not in known] == []


def test_every_command_run_here_is_shown():
    every = {command for path in DOCUMENTS for command in shown(path)}
    assert [known.command for known in COMMANDS if known.command not in every] == []
    assert ELSEWHERE.keys() - every == set()


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_is_run_elsewhere_is_really_run_there(command):
    if ELSEWHERE[command] == ".ci/run":
        lines = (ROOT / ".ci" / "run").read_text().splitlines()
        assert any(line.split()[:2] == command.split()[:2] for line in lines)  # demo: at its smallest
        return
    place, *words = ELSEWHERE[command].split()
    file, test = place.split("::")
    source = next((ROOT / "tests").rglob(file)).read_text()
    assert f"def {test}(" in source
    assert all(word in source for word in words)
    if command.startswith("make"):
        recipe = subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True)
        assert recipe.returncode == 0, recipe.stderr
        assert words[0] in recipe.stdout


def test_make_says_what_it_can_make():
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z0-9-]+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(targets) > 8
    assert re.findall(r"^make (\S+)", told, re.MULTILINE) == targets


def test_the_commit_hooks_are_the_linters_of_the_makefile():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    recipe = subprocess.run(["make", "-n", "lint"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [hook["entry"] for hook in hooks if hook["entry"].removesuffix(" .") not in recipe] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_shown_is_taken(path):
    settings = [word for span in inline_code(path.read_text()) for word in span.split() if SETTING.fullmatch(word)]
    for setting in settings:
        if setting != "section.key=value":
            assert config_from(main.build_parser().parse_args([setting]), main.CONFIG)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_shown_can_be_loaded(path, tmp_path):
    for block in code_blocks(path.read_text(), "yaml"):
        (tmp_path / "shown.yaml").write_text(block)
        assert load_config(tmp_path / "shown.yaml", {})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_flag_shown_by_itself_belongs_to_a_command(path):
    makers = [main, inference, serve]
    known = {"--nnodes", "--smoke"}  # torchrun's
    known |= {flag for module in makers for action in module.build_parser()._actions for flag in action.option_strings}
    for script in (
        "export",
        "report",
        "predict_mos",
        "score_ood_dataset",
        "score_asvspoof5",
        "database/prepare",
        "2021/eval-package/main",
    ):
        known |= set(re.findall(r'"(-[\w-]+)"', (ROOT / f"{script}.py").read_text()))
    flags = [span.split()[0].split("=")[0] for span in inline_code(path.read_text()) if span.startswith("--")]
    assert [flag for flag in flags if flag not in known] == []


def test_the_words_for_each_row_of_the_paper_are_taken():
    rows = re.findall(r"^\| [^|]+ \| (`--model [^|]+) \|$", (ROOT / "docs" / "reproduce.md").read_text(), re.MULTILINE)
    words = [span for row in rows for span in re.findall(r"`([^`]+)`", row)]
    assert len(words) == 10
    made = [config_from(main.build_parser().parse_intermixed_args(span.split()), main.CONFIG) for span in words]
    assert len({str(config.model) + str(config.train) for config in made}) == 10


# ---- a small project that is laid out as the documents say


def tones(folder: Path, names: list[str], bonafide: list[bool], *, n_samples: int = RATE // 2) -> None:
    rng = np.random.default_rng(len(names))
    for name, label in zip(names, bonafide):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, tone(rng, label, n_samples), RATE)


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def build(root: Path) -> None:
    """Everything that a user brings: archives unpacked to FOLDER, the authors' lists in DIR, XLS-R, some recordings."""
    for item in (
        "*.py",
        "qamo",
        "database/prepare.py",
        "database/mini.yaml",
        "database/corpora",
        "2021/eval-package/*.py",
        "benchmarks",
    ):
        for source in ROOT.glob(item):
            target = root / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            skipped = shutil.ignore_patterns("__pycache__", "out")
            shutil.copytree(source, target, ignore=skipped) if source.is_dir() else shutil.copy(source, target)
    archives, authors = root / "FOLDER", root / "DIR"
    for part, ending, letter, n in (("train", "train.trn", "T", 24), ("dev", "dev.trl", "D", 12)):
        names, labels = [f"LA_{letter}_{1_000_000 + i}" for i in range(n)], [i % 3 == 0 for i in range(n)]
        tones(archives / "LA" / f"ASVspoof2019_LA_{part}" / "flac", [f"{name}.flac" for name in names], labels)
        rows = [
            f"LA_{i % 4:04d} {name} - {'- bonafide' if label else 'A01 spoof'}"
            for i, (name, label) in enumerate(zip(names, labels))
        ]
        write(archives / "LA" / "ASVspoof2019_LA_cm_protocols" / f"ASVspoof2019.LA.cm.{ending}.txt", rows)
        rated = [f"{row} {2 + i % 3}" for i, row in enumerate(rows)]
        write(authors / "protocols" / f"ASVspoof2019.LA.cm.{ending}.score.txt", rated)
    attacks, codecs = [f"A{i:02d}" for i in range(7, 20)], ["none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus"]
    for track, n in (("LA", 30), ("DF", 24)):
        names, labels = [f"{track}_E_{1_000_000 + i}" for i in range(n)], [i % 3 == 0 for i in range(n)]
        folder = archives / f"ASVspoof2021_{track}_eval"
        tones(folder / "flac", [f"{name}.flac" for name in names], labels)
        write(folder / f"ASVspoof2021.{track}.cm.eval.trl.txt", names)
        tail = "" if track == "LA" else " neural_vocoder_autoregressive - - - -"
        rows = [
            f"LA_{i % 4:04d} {name} {codecs[i % 2] if track == 'LA' else 'nocodec'} loc_tx "
            f"{'bonafide bonafide' if label else 'A07 spoof'} notrim {'progress' if i % 10 == 9 else 'eval'}{tail}"
            for i, (name, label) in enumerate(zip(names, labels))
        ]
        write(archives / "keys" / track / "CM" / "trial_metadata.txt", rows)
    weights = {
        row: dict.fromkeys([*codecs, tdcf.POOLED], TDCFCoefficients(0.1, 0.9, 1.0)) for row in [*attacks, tdcf.POOLED]
    }
    tdcf.write_c012(archives / "keys" / "LA" / "LA-C012-eval.npy", weights)
    labels = [i % 2 == 0 for i in range(10)]
    wild = archives / "release_in_the_wild"
    tones(wild, [f"{i}.wav" for i in range(10)], labels)
    rows = [f"{i}.wav,Speaker {i % 3},{'bona-fide' if label else 'spoof'}" for i, label in enumerate(labels)]
    write(wild / "meta.csv", ["file,speaker,label", *rows])
    names = [f"{'real' if label else 'fake'}/file{i}.wav" for i, label in enumerate(labels)]
    tones(archives / "for-norm" / "testing", names, labels)

    network = xlsr(**XLSR_SIZES).eval().network
    (root / "pretrained").mkdir()
    as_fairseq(network, root / "pretrained").rename(root / "pretrained" / "xlsr2_300m.pt")
    small = {
        "data": {"window_samples": RATE // 2, "n_workers": 0},
        "model": {
            "xlsr": XLSR_SIZES,
            "conformer_tcm": {"embedding_size": 16, "n_heads": 2, "kernel_size": 7, "n_blocks": 1},
        },
        "train": {"batch_size": 6, "max_epochs": 2, "n_best": 1, "n_average": 1, "lr": 1e-3},
        "eval": {"n_resamples": 50},
        "run": {"n_threads": 1, "accelerator": "cpu"},
    }
    (root / "small.yaml").write_text(yaml.safe_dump(small))
    (root / "wild.yaml").write_text(yaml.safe_dump(small | {"eval": {"sets": ["ITW"]}}))

    tones(root, ["clip.wav", "recording.wav", "folder/0.wav", "folder/1.wav"], [True, False, True, False])
    places = [f"{label}/spk{i % 8}/{label[0]}{i}.wav" for label in ("real", "fake") for i in range(24)]
    tones(root, places, [place[0] == "r" for place in places], n_samples=RATE // 4)
    dev_flac = "LA/ASVspoof2019_LA_dev/flac"
    rows = [
        f"{dev_flac}/LA_D_{1_000_000 + i}.flac,{'fake' if i % 3 else 'real'},{'phone' if i < 6 else 'mic'}"
        for i in range(12)
    ]
    write(root / "TABLE.csv", ["path,label,device", *rows])
    soundfile.write(root / "interview.mp3", tone(np.random.default_rng(1), True, 3 * RATE), RATE)
    dev = archives / "LA" / "ASVspoof2019_LA_cm_protocols" / "ASVspoof2019.LA.cm.dev.trl.txt"
    shutil.copy(dev, root / "PROTOCOL")
    os.symlink(archives / "LA" / "ASVspoof2019_LA_dev" / "flac", root / "AUDIO_FOLDER")
    shutil.copy(dev, root / "KEYS")
    write(root / "SCORES", [f"LA_D_{1_000_000 + i} {0.1 * (i % 5) + (i % 3 == 0)}" for i in range(12)])
    (root / "SCORES.json").write_text(json.dumps({"identity": {"weights": "0" * 16, "config": "0" * 16}}))
    package = root / "2021" / "eval-package"
    os.symlink(archives / "keys", package / "keys")
    os.symlink("../../exps/NAME/scores/LA.txt", package / "score.txt")


class Done(NamedTuple):
    status: int
    said: str  # standard output and error
    left: bool  # the file that it makes was made by it


def run(known: Shown, root: Path) -> Done:
    """Run the command, with the words that make it small, as a shell in `root` would."""
    command, _, target = known.command.partition(" > ")
    *places, command = command.split(" && ")
    folder = root.joinpath(*(place.removeprefix("cd ") for place in places))
    words = [*shlex.split(command), *shlex.split(known.more)]
    if known.first:
        known.first(root)
    before = bool(known.leaves) and (root / known.leaves).exists()
    if words[1] == "serve.py":
        status, out, said = serve_a_while(words, folder)
    else:
        assert words[0] == "python"
        status, out, said = python(words[1:], folder)
    if target:
        (folder / target).write_text(out)
    left = not known.leaves or ((root / known.leaves).is_file() and not before)
    return Done(status, out + said, left)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Path, dict[str, Done]]:
    """The small project once every command has run in it, and what became of each."""
    root = tmp_path_factory.mktemp("readme") / "project"
    root.mkdir()
    build(root)
    return root, {known.command: run(known, root) for known in COMMANDS}


@pytest.mark.parametrize("known", COMMANDS, ids=lambda known: known.command)
def test_the_command_does_what_is_said(project, known):
    status, said, left = project[1][known.command]
    assert status == 0, said
    assert known.says in said
    assert left


def test_the_layout_shown_is_the_default_and_is_what_the_commands_made(project):
    (block,) = code_blocks((ROOT / "docs" / "reproduce.md").read_text(), "")
    paths = [line.split()[0] for line in block.splitlines()]
    assert [path for path in paths if not (project[0] / path).exists()] == []
    data, catalogue = DataConfig(), EvalConfig().catalogue
    wanted = [data.train_audio, data.train_protocol, data.dev_audio, data.dev_protocol]
    wanted += [path for entry in catalogue.values() for path in (entry.audio, entry.trials, entry.keys)]
    assert sorted(paths) == sorted([XLSRConfig().weights, *(f"database/{path}" for path in wanted)])


def test_the_md5_shown_are_those_that_the_download_is_held_to():
    from qamo.trials.keys import ARCHIVES, ARCHIVES_URL

    text = (ROOT / "docs" / "reproduce.md").read_text()
    for track in ("LA", "DF"):
        name, md5 = ARCHIVES[track]
        assert re.search(rf"^\| .*{re.escape(ARCHIVES_URL + name)} .* {md5} \|$", text, re.MULTILINE)
    assert len(re.findall(r"\b[0-9a-f]{32}\b", text)) == 2


def test_the_windows_of_a_recording_are_read_from_a_program(project, monkeypatch, capsys):
    lines, many = code_blocks((ROOT / "docs" / "inference.md").read_text(), "python")
    monkeypatch.chdir(project[0])
    exec(lines, {})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    command = ["--ckpt_path", "exps/NAME", "--aggregate", "min", "--vad", "--json", "interview.mp3"]
    assert inference.main(command) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert len(printed) > 1
    assert printed == [[str(window[key]) for key in ("start_s", "end_s", "score")] for window in found["windows"]]
    exec(many, {})
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("array ")
    assert second.startswith("recording.wav ")
    assert "recording None None [] recording: not a recording" in third


@pytest.mark.parametrize("name", ["none.wav", "folder", "small.yaml"])
def test_a_recording_that_cannot_be_read_is_an_error_in_a_program(project, name):
    judge = inference.open_judge(project[0] / "detector")
    with pytest.raises(InputError, match=name):
        judge(project[0] / name)


@pytest.mark.parametrize("settings", [{"aggregate": "median"}, {"device": "cuda:1"}, {"overlap": 1.0}])
def test_a_setting_that_a_program_got_wrong_is_refused_before_a_recording_is_read(project, settings):
    with pytest.raises(InputError, match=f"--{next(iter(settings))}: expected"):
        inference.open_judge(project[0] / "detector", **settings)


def test_every_program_shown_is_run():
    shown_code = {str(path.relative_to(ROOT)): len(code_blocks(path.read_text(), "python")) for path in DOCUMENTS}
    run_here = {"README.md": 1, "docs/inference.md": 2}
    run_elsewhere = {"CONTRIBUTING.md": 4}  # by tests/docs/test_contributing.py
    assert {name: n for name, n in shown_code.items() if n} == run_here | run_elsewhere


def test_three_lines_use_the_exported_detector_and_give_the_score_of_the_command(project, monkeypatch, capsys):
    (lines,) = code_blocks((ROOT / "README.md").read_text(), "python")
    assert sum(map(bool, lines.splitlines())) == 3
    assert lines == LINES.format(folder="detector", recording="clip.wav")
    monkeypatch.chdir(project[0])
    exec(lines, {})
    score = float(capsys.readouterr().out)
    assert inference.main(["--ckpt_path", "detector", "--json", "clip.wav"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert score == found["score"]
    # and by hand: clip.wav is as long as a window
    wave = torch.from_numpy(soundfile.read("clip.wav", dtype="float32")[0])[None]
    with torch.inference_mode():
        assert score == pytest.approx(model.load_detector(Path("exps/NAME"))(wave).score.item(), abs=1e-5)
