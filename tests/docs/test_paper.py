"""docs/paper.md: the lines that it names are there, and its commands are taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import main
from qamo.config.effect import check_effect
from qamo.config.flags import PRESETS, config_from, overrides_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "paper.md").read_text()
NAMED = re.findall(r"`([\w/]+\.py)`: `([\w.]+)`", TEXT)
WORDS = [span for span in re.findall(r"`([^`]+)`", TEXT) if span.startswith("--model")]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_lines_that_compute_an_equation_are_there(file, name):
    source = (ROOT / file).read_text()
    for part in name.split("."):
        assert re.search(rf"^\s*(def|class) {part}\b", source, re.MULTILINE), (file, part)


@pytest.mark.parametrize("words", dict.fromkeys(WORDS))
def test_the_command_of_a_row_is_taken_and_all_of_it_has_an_effect(words):
    args = main.build_parser().parse_intermixed_args(words.split())
    cfg = config_from(args, main.CONFIG)
    check_effect(cfg, overrides_of(args), PRESETS.get(args.preset, {}))


def test_every_row_of_the_tables_has_a_command_and_says_what_it_rests_on():
    rows = [line for line in TEXT.splitlines() if line.startswith(("| Conformer", "| Nes2Net", "| ablation"))]
    assert len(rows) == 9
    assert all(re.search(r"`--model [^`]+`", row) and row.rstrip("| ").rpartition("|")[2].strip() for row in rows)
    assert len(NAMED) == 16
