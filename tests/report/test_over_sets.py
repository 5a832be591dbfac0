"""The table of systems and sets: seeds, averages, differences, from runs and from files."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import report
from eval_metrics import equal_error_rate
from qamo.evaluation import seeds
from qamo.evaluation.breakdown import System
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores
from tests.support.reports import table, write_set


def run(*words: object) -> int:
    return report.main([str(word) for word in words])


@pytest.fixture
def runs(trained_run: Path, tmp_path: Path) -> list[Path]:
    """Three seeds of one system and one seed of another, on the same two sets."""
    made = []
    rng = np.random.default_rng(0)
    for name, seed, setting in (("a1", 1, 0.1), ("a2", 2, 0.1), ("a3", 3, 0.1), ("b1", 1, 0.2)):
        folder = tmp_path / name
        shutil.copytree(trained_run, folder)
        config = (folder / "config.yaml").read_text()
        for old, new in (("seed: 1234", f"seed: {seed}"), ("quality_weight: 0.1", f"quality_weight: {setting}")):
            assert old in config
            config = config.replace(old, new)
        (folder / "config.yaml").write_text(config)
        for path in (folder / "scores").glob("*.txt"):
            scores = read_scores(path)
            values = scores.values + rng.normal(0, 0.2, len(scores.values))
            path.write_text("".join(f"{n.decode()} {v}\n" for n, v in zip(scores.name_bytes, values)))
        made.append(folder)
    return made


def eers(folders: list[Path], corpus: Path, name: str) -> list[float]:
    keys = read_keys(corpus / {"seen": "seen.txt", "wild": "meta.csv"}[name])
    values = [keys.align(read_scores(folder / "scores" / f"{name}.txt")) for folder in folders]
    return [float(equal_error_rate(v[keys.bonafide], v[~keys.bonafide]).eer) for v in values]


def test_runs_that_differ_in_the_seed_alone_are_one_system(runs, built_corpus, tmp_path):
    assert run("--runs", *runs, "-o", tmp_path / "r.html", "--csv", tmp_path / "csv") == 0
    first, second = table(tmp_path / "csv", "systems-by-sets")
    assert (first["system"], first["seeds"]) == ("lfcc, conformer_tcm, qamo, quality_weight=0.1", "3")
    assert (second["system"], second["seeds"]) == ("lfcc, conformer_tcm, qamo, quality_weight=0.2", "1")
    found = {name: eers(runs[:3], built_corpus, name) for name in ("seen", "wild")}
    for name, own in found.items():
        assert float(first[f"{name} EER"]) == pytest.approx(statistics.mean(own))
        assert float(first[f"{name} ±"]) == pytest.approx(statistics.stdev(own))
        assert second[f"{name} ±"] == ""
    averages = [statistics.mean(pair) for pair in zip(*found.values())]
    assert float(first["average of sets EER"]) == pytest.approx(statistics.mean(averages))
    rows = table(tmp_path / "csv", "differences-by-sets")
    assert [row["set"] for row in rows] == ["seen", "wild"]
    assert all(row["p"] == row["p, Holm"] == "" or float(row["p, Holm"]) >= float(row["p"]) for row in rows)
    assert [row["interval"] for row in rows] == ["too few trials (4) for an interval", "by trial, 10 trials"]


def test_labels_name_the_systems_and_one_seed_twice_is_refused(runs, tmp_path, capsys):
    out = ["-o", tmp_path / "r.html", "--md", tmp_path / "r.md"]
    assert run("--runs", f"ours={runs[0]}", f"theirs={runs[3]}", *out) == 0
    assert "| ours |" in (tmp_path / "r.md").read_text()
    assert run("--runs", f"x={runs[0]}", f"x={runs[3]}", *out) == 2
    assert "'x' twice with the seed 1" in capsys.readouterr().err
    assert run("--runs", runs[0], runs[0], *out) == 2  # or it would count as two seeds without a difference
    assert "leave one out, or name them" in capsys.readouterr().err


def test_further_sets_come_by_their_files(tmp_path):
    sets = [write_set(tmp_path / name, n) for name, n in (("one", 60), ("two", 90)) if not (tmp_path / name).mkdir()]
    words = [sets[0] / "a.txt", sets[0] / "b.txt", "--keys", sets[0]]
    further = ["--set", sets[1] / "a.txt", sets[1] / "b.txt", sets[1] / "meta.csv"]
    assert run(*words, *further, "-o", tmp_path / "r.html", "--csv", tmp_path / "csv") == 0
    first, _ = table(tmp_path / "csv", "systems-by-sets")
    parts = []
    for folder in sets:
        keys = read_keys(folder / "meta.csv")
        v = keys.align(read_scores(folder / "a.txt"))
        parts.append((v[keys.bonafide], v[~keys.bonafide]))
        assert float(first[f"{folder.name} EER"]) == equal_error_rate(*parts[-1]).eer
    assert run(*words, *further[1:3], "--keys", sets[1], "-o", tmp_path / "s.html", "--csv", tmp_path / "again") == 0
    assert (tmp_path / "again" / "systems-by-sets.csv").read_text() == (
        tmp_path / "csv" / "systems-by-sets.csv"
    ).read_text()
    pooled = equal_error_rate(*(np.concatenate(both) for both in zip(*parts))).eer
    assert float(first["pooled trials EER"]) == pooled


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "a.txt", "."], "expected a score file for each of 2 systems, in their order, and the keys; got 1"),
        (["--set", "a.txt", "b.txt", "."], "was given before; leave it out, or rename its key"),
        (["--by", "nothing"], "expected A or A*B with columns of meta.csv: "),
        (["--runs", "nowhere"], "nowhere/config.yaml is not there; give folders of finished runs"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, monkeypatch, capsys, words, said):
    write_set(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("a.txt", "b.txt", "--keys", ".", *words, "-o", "r.html") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_a_run_that_was_not_scored_is_said(trained_run, tmp_path, capsys):
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text(json.dumps({"sets": {}}))
    assert run("--runs", tmp_path / "run", "-o", tmp_path / "r.html") == 2
    assert "has no results yet" in capsys.readouterr().err


# ---- the difference of two systems over seeds


def trained(
    rng: np.random.Generator, gap: float, deviation: float, trials: np.ndarray, is_bonafide: np.ndarray
) -> System:
    """A made-up training: how well it tells the classes apart is drawn anew for each seed."""
    own = gap + rng.normal(0, deviation)
    return System("s", Path("s"), trials + rng.normal(0, 0.3, len(trials)) + own * is_bonafide, is_bonafide)


def test_without_a_difference_between_seeds_the_figure_is_that_of_the_trials():
    rng = np.random.default_rng(0)
    is_bonafide = np.arange(400) % 2 == 0
    a = trained(rng, 1.5, 0, rng.normal(size=400), is_bonafide)
    b = trained(rng, 1.0, 0, rng.normal(size=400), is_bonafide)
    alone = seeds.difference([a], [b])
    again = seeds.difference([a, a, a], [b, b, b])
    assert alone.p == pytest.approx(again.p)
    t = alone.value / alone.error
    assert alone.p == pytest.approx(2 * stats.t.sf(abs(t), alone.df), rel=1e-6)


def test_equal_systems_whose_seeds_vary_are_seldom_told_apart():
    """Trials alone find a difference between two equal systems in most of these sets."""
    is_bonafide = np.arange(1200) % 2 == 0
    false = {"seeds": 0, "trials": 0}
    for k in range(60):
        rng = np.random.default_rng(k)
        trials = rng.normal(size=1200)
        a, b = ([trained(rng, 1.5, 0.25, trials, is_bonafide) for _ in range(3)] for _ in "ab")
        false["seeds"] += seeds.difference(a, b, n_resamples=100).p < 0.05
        false["trials"] += seeds.difference(a[:1], b[:1], n_resamples=100).p < 0.05
    assert false["seeds"] <= 6  # 5 % of 60, and two deviations more
    assert false["trials"] >= 15
