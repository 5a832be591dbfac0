"""benchmarks/coverage.py: the tables go where they belong, and true rates are those asked for."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import coverage
from eval_metrics import equal_error_rate


def test_the_tables_replace_what_stands_between_the_marks(tmp_path, monkeypatch):
    document = tmp_path / "statistics.md"
    document.write_text(f"before\n{coverage.BEGIN}\nold\n{coverage.END}\nafter\n")
    monkeypatch.setattr(coverage, "N_RESAMPLES", 50)
    tables = coverage.document(2, numbers=(4, 5))
    monkeypatch.setattr(coverage, "document", lambda *_, **__: tables)
    assert coverage.main(["--write", str(document), "--repeats", "2"]) == 0
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    [line] = [line for line in text.splitlines() if line.startswith("| apart, 4 x 20 | 5 |")]
    assert line.split("|")[4].strip() == "-"  # too few speakers


def test_true_rates_of_the_drawn_sets_are_those_asked_for():
    for design in ("shared", "own", "apart", "uneven"):
        data = coverage.draw_speakers(np.random.default_rng(0), design, 2000, 20, 0.05)
        assert equal_error_rate(data.bonafide, data.spoof).eer == pytest.approx(0.05, abs=0.005)
    data = coverage.draw_trials(np.random.default_rng(0), 40_000, 40_000, 0.1)
    assert equal_error_rate(data.bonafide, data.spoof).eer == pytest.approx(0.1, abs=0.005)
