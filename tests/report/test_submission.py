"""Results of the Anti-Spoofing Arena's benchmark as score files, and what is submitted to it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.optimize import brentq

import report
from eval_metrics import equal_error_rate
from qamo.report.arena import eer_percent
from tests.support.reports import table, write_set

ROOT = Path(__file__).parents[2]
META = """
dataset: {id: org/Set, revision: 0123abc, split: test}
artifact:
  scores_url: https://huggingface.co/me/detector/resolve/0123abc/.eval_results/org/Set/scores.txt
  bench_version: speech-spoof-bench==0.3.4
submitter: {hf_username: me, contact: me@example.com}
submitted_at: 2026-11-26
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder as the benchmark leaves it; its keys and a meta file lie beside it."""
    write_set(tmp_path)
    folder = tmp_path / "results" / "Set"
    folder.mkdir(parents=True)
    (tmp_path / "a.txt").rename(folder / "scores.txt")
    (tmp_path / "meta.yaml").write_text((ROOT / "examples" / "meta.yaml").read_text() + META)
    return folder


def run(folder: Path, *words: object) -> int:
    keys = folder.parents[1] / "meta.csv"
    return report.main([str(word) for word in (folder, "--keys", keys, "-o", keys.with_name("r.html"), *words)])


def test_a_folder_of_results_is_read_and_named_by_its_set(results):
    tables = results.parents[1] / "csv"
    assert run(results, "--csv", tables) == 0
    by_folder = (tables / "pooled.csv").read_text()
    assert [row["system"] for row in table(tables, "pooled")] == ["Set"]
    keys = results.parents[1] / "meta.csv"
    words = [f"Set={results / 'scores.txt'}", "--keys", str(keys), "-o", str(keys.with_name("f.html"))]
    assert report.main([*words, "--csv", str(tables)]) == 0
    assert (tables / "pooled.csv").read_text() == by_folder


def test_the_submission_has_the_benchmarks_fields_in_its_order(results):
    meta, out = results.parents[1] / "meta.yaml", results.parents[1] / "new" / "set.yaml"
    assert run(results, "--arena", meta, out) == 0
    made = yaml.safe_load(out.read_text())
    assert list(made) == [
        *("schema_version", "system", "dataset", "scores", "artifact", "reproduction", "submitter", "submitted_at"),
        "notes",
    ]
    assert made["schema_version"] == 4
    assert made["reproduction"] == {}
    said = yaml.safe_load(meta.read_text())
    assert made["system"] == said["system"]
    assert made["dataset"] == said["dataset"]
    assert made["submitted_at"] == "2026-11-26"  # a text, as JSON schema wants it
    assert made["artifact"]["scores_sha256"] == hashlib.sha256((results / "scores.txt").read_bytes()).hexdigest()
    assert made["scores"].keys() == {"eer_percent", "n_trials", "n_skipped"}
    assert (made["scores"]["n_trials"], made["scores"]["n_skipped"]) == (60, 0)
    first = out.read_bytes()
    assert run(results, "--arena", meta, out) == 0
    assert out.read_bytes() == first


def test_what_the_benchmark_wrote_beside_the_scores_need_not_be_said(results):
    meta, out = results.parents[1] / "meta.yaml", results.parents[1] / "set.yaml"
    text = meta.read_text().replace("dataset: {id: org/Set, revision: 0123abc, split: test}\n", "")
    meta.write_text(text.replace("  bench_version: speech-spoof-bench==0.3.4\n", ""))
    assert run(results, "--arena", meta, out) == 2
    written = {"schema_version": 4, "system": {"name": "qamo", "slug": None}, "submitted_at": ""}
    written |= {"dataset": {"id": "org/Set", "revision": "9b2040e", "split": "test"}, "scores": {"eer_percent": 1.0}}
    written |= {"artifact": {"scores_sha256": "0" * 64, "bench_version": "speech-spoof-bench==0.3.5"}}
    (results / "result.yaml").write_text(yaml.safe_dump(written))
    assert run(results, "--arena", meta, out) == 0
    made = yaml.safe_load(out.read_text())
    assert made["dataset"] == written["dataset"]
    assert made["artifact"]["bench_version"] == "speech-spoof-bench==0.3.5"
    assert made["artifact"]["scores_sha256"] != "0" * 64
    assert made["submitted_at"] == "2026-11-26"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("split: test", "splitt: test", "dataset.splitt is no field that a submission takes from here"),
        ("submitter: {hf_username: me, contact: me@example.com}", "", "needs submitter.hf_username, submitter.contact"),
        ("resolve/0123abc", "resolve/main", "artifact.scores_url: expected text like"),
        ("2026-11-26", "2026-11-31", "submitted_at: expected a day like 2026-11-26, found 2026-11-31"),
        ("slug: qamo", "slug: QAMO", "system.slug: expected text like"),
        ("revision: 0123abc", "revision: [a]", "dataset.revision: expected a text, found a list"),
        ("arxiv_id:", "notes:", "system.paper.notes is no field"),
        (META, "system", "not YAML"),
    ],
)
def test_a_field_that_the_benchmark_would_refuse_is_named_before_anything_is_written(results, capsys, old, new, said):
    meta, out = results.parents[1] / "meta.yaml", results.parents[1] / "set.yaml"
    text = meta.read_text()
    assert old in text
    meta.write_text(text.replace(old, new))
    assert run(results, "--arena", meta, out) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()
    assert not (results.parents[1] / "r.html").exists()


def test_a_submission_is_of_one_system(results, capsys):
    other = results.parents[1] / "b.txt"
    assert run(results, other, "--arena", results.parents[1] / "meta.yaml", results.parents[1] / "set.yaml") == 2
    assert "--arena needs the score file of one system" in capsys.readouterr().err


def curve(scores: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Share of scores below each threshold."""
    return np.array([(scores < threshold).mean() for threshold in at])


@pytest.mark.parametrize("seed", range(6))
def test_the_benchmarks_eer_is_where_the_interpolated_rates_meet(seed):
    """docs/architecture/package.md: FAR = P(spoof >= t), FRR = P(bona fide < t), t over the scores, interpolated."""
    rng = np.random.default_rng(seed)
    bonafide, spoof = rng.normal(1, 1, 37), rng.normal(0, 1, 90)
    if seed % 2:  # ties
        bonafide, spoof = bonafide.round(1), spoof.round(1)
    at = np.unique(np.concatenate([bonafide, spoof]))
    miss, false_alarm = curve(bonafide, at), 1 - curve(spoof, at)
    steps = np.arange(len(at))
    place = brentq(lambda x: np.interp(x, steps, false_alarm) - np.interp(x, steps, miss), 0, steps[-1], xtol=1e-12)
    assert eer_percent(bonafide, spoof) == pytest.approx(100 * np.interp(place, steps, miss), abs=1e-8)
    assert eer_percent(bonafide, spoof) == pytest.approx(100 * equal_error_rate(bonafide, spoof).eer, abs=100 / 37)


def test_the_benchmarks_eer_at_its_ends():
    high, low = np.array([2.0, 3.0]), np.array([0.0, 1.0])
    assert eer_percent(high, low) == 0
    assert eer_percent(low, high) == 100
    assert eer_percent(np.ones(3), np.ones(5)) == 50  # no crossing: the mean of the rates at the only threshold
