"""The commands of docs/walkthroughs.md, given to a tiny corpus, print what the page shows, but for the figures."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks import tiny_corpus
from tests.support.scripts import python

ROOT = Path(__file__).parents[2]

spec = importlib.util.spec_from_file_location("walkthroughs", ROOT / "docs" / "walkthroughs.py")
assert spec is not None
walkthroughs = importlib.util.module_from_spec(spec)
assert spec.loader is not None
spec.loader.exec_module(walkthroughs)

MADE = "database/mini-quick: built before with the same recipe; nothing to do"  # by make, before the command
PROTOCOLS = Path("LA") / "mini_cm_protocols"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A checkout whose quick corpus is the tiny one, under the names of the quick one."""
    root = tmp_path_factory.mktemp("walk")
    for item in ("*.py", "qamo", "config.yaml"):
        for source in ROOT.glob(item):
            shutil.copytree(source, root / source.name) if source.is_dir() else shutil.copy(source, root)
    home = root / "database" / "mini-quick"
    config = yaml.safe_load(tiny_corpus.build(home, n_eval=60).read_text())
    (home / PROTOCOLS).mkdir(parents=True)
    (home / "wild").rename(home / "mini_in_the_wild")
    sets = {}
    for name in ("mini_seen", "mini_unseen"):
        listed = PROTOCOLS / f"mini.eval_{name[5:]}.trl.score.txt"
        rows = (home / "seen.txt").read_text().splitlines()
        rows = [row.replace("A01", f"A0{1 + i % 2}") for i, row in enumerate(rows)]
        (home / listed).write_text("\n".join(rows) + "\n")
        sets[name] = {"audio": "LA/seen/flac", "trials": str(listed), "keys": str(listed)}
    sets["mini_ood"] = {"audio": "mini_in_the_wild", "trials": "wild.txt", "keys": "meta.csv"}
    config["eval"] |= {"sets": list(sets), "catalogue": sets}
    config["run"]["runs"] = "exps"
    (root / "database" / "mini-quick.yaml").write_text(yaml.safe_dump(config))
    return root


def given(command: str, place: Path) -> str:
    """What a command prints to standard output."""
    words = shlex.split(command)
    if words[0] == "make":
        words = ["python", "main.py", "--config", "database/mini-quick.yaml", *shlex.split(words[-1].partition("=")[2])]
    if words[0] == "head":
        return "".join((place / words[-1]).read_text().splitlines(keepends=True)[: int(words[2])])
    assert words[0] == "python"
    status, out, said = python(words[1:], place)
    assert status == 0, said
    return out.replace(f"{ROOT}/", "")  # from which this process has the package


def plain(output: str) -> list[str]:
    """Lines without figures, rules and names of trials, which differ from corpus to corpus; equal lines once."""
    text = re.sub(r"MINI_\w+|T_seen_\w+|A\d\d\b", "NAME", output)
    lines = [re.sub(r"[-+]?\d[\d.,e-]*|inf\b|nan\b", "#", line) for line in text.splitlines()]
    return list(dict.fromkeys(" ".join(line.split()) for line in lines))


def test_the_page_shows_what_the_commands_print(place):
    page = walkthroughs.PAGE.read_text()
    shown = [pair for block in walkthroughs.BLOCK.findall(page) for pair in walkthroughs.commands(block)]
    assert len(shown) >= 12
    for command, output in shown:
        printed = plain(walkthroughs.shortened(given(command, place)))
        expected = plain(output)
        missing = [line for line in expected if line not in ("...", MADE) and line not in printed]
        assert missing == [], f"$ {command}\n" + "\n".join(printed)


def test_outputs_are_written_below_their_commands_and_shortened():
    page = "a\n```console\n$ x -y\nold\n$ z\n```\nb\n"
    told = walkthroughs.rewritten(page, lambda command: f"{command}!\n" + "line \n" * 20 * (command == "z"))
    assert told.startswith("a\n```console\n$ x -y\nx -y!\n$ z\nz!\nline\n")
    assert told.endswith("line\n...\n```\nb\n")
    assert told.count("line") == walkthroughs.MOST_LINES - 1
    assert walkthroughs.commands("$ a\nb\nc\n$ d\n") == [("a", "b\nc\n"), ("d", "")]


def test_the_notebook_runs_on_a_run_of_the_demo(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    if not Path("exps/first").exists():
        given('make --silent demo ARGS="--name first"', place)
    cells = json.loads((ROOT / "docs" / "demo.ipynb").read_text())["cells"]
    namespace: dict[str, object] = {}
    capsys.readouterr()
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), namespace)
    said = capsys.readouterr().out
    assert "mini_seen    EER" in said
    assert "dev EER" in said
    assert f"{namespace['heard'].score}" in said
    assert all(cell["outputs"] for cell in cells if cell["cell_type"] == "code" and "print" in "".join(cell["source"]))
