"""score_ood_dataset.py --mos: results by quality, on the authors' MOS and real score files, and on made-up ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_curve

import score_ood_dataset

REAL = Path(__file__).parents[2].parent / "shared" / "reference_data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the authors' keys are not here")


def eer_of(labels: np.ndarray, values: np.ndarray) -> float:
    """By scikit-learn's curve: where misses and false alarms are nearest to one another."""
    far, hit, _ = roc_curve(labels, values, drop_intermediate=False)
    nearest = np.argmin(np.abs(1 - hit - far))
    return 100 * float(1 - hit[nearest] + far[nearest]) / 2


@needs_real
@pytest.mark.parametrize("system", ["sls", "xlsr_mamba"])
def test_real_scores_by_the_authors_mos_equal_an_independent_count(capsys, system):
    scores, mos = REAL / "scores" / f"in_the_wild_{system}.txt", REAL / "protocols_with_mos/in_the_wild.meta.score.txt"
    words = [str(scores), str(REAL / "keys" / "ITW"), "--mos", str(mos), "--resamples", "0"]
    assert score_ood_dataset.main(words) == 0
    lines = capsys.readouterr().out.splitlines()

    rows = [line.rsplit(",", 2) for line in mos.read_text().splitlines()]
    given = dict(line.split() for line in scores.read_text().splitlines())
    value = np.array([float(given[name.split(",")[0]]) for name, _, _ in rows])
    bonafide = np.array([label != "spoof" for _, label, _ in rows])
    quality = np.array([float(text) for *_, text in rows])
    bands = lines[lines.index(next(line for line in lines if line.startswith("MOS"))) + 1 :]
    for low, high, line in zip((-9, 2, 2.5, 3, 3.5, 4), (2, 2.5, 3, 3.5, 4, 9), bands):
        here = (quality >= low) & (quality < high)
        eer, _, n_bonafide, n_spoof, *_ = line[11:].split()
        assert (int(n_bonafide), int(n_spoof)) == ((here & bonafide).sum(), (here & ~bonafide).sum())
        if 0 < (here & bonafide).sum() < here.sum():
            assert float(eer) == pytest.approx(eer_of(bonafide[here], value[here]), abs=0.02)
    rho = [stats.spearmanr(quality[k], value[k]).statistic for k in (bonafide, ~bonafide)]
    assert lines[-2] == f"correlation of MOS and score (Spearman): bona fide {rho[0]:+.3f}, spoof {rho[1]:+.3f}"
    assert float(lines[-1].rsplit(" ", 1)[1]) == pytest.approx(eer_of(bonafide, quality), abs=0.02)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    names = [f"{i}.wav" for i in range(40)]
    rows = [f"{name},{'spoof' if i % 2 else 'bona-fide'}" for i, name in enumerate(names)]
    (tmp_path / "meta.csv").write_text("\n".join(["file,label", *rows]))
    (tmp_path / "s.txt").write_text("".join(f"{name} {(i * 7) % 11}\n" for i, name in enumerate(names)))
    (tmp_path / "m.txt").write_text("".join(f"{name} {1 + i / 10}\n" for i, name in enumerate(names)))
    return tmp_path


def test_name_and_mos_lines_will_do(small, capsys):
    assert score_ood_dataset.main([str(small / "s.txt"), str(small), "--mos", str(small / "m.txt")]) == 0
    said = capsys.readouterr().out
    assert "4 and above" in said
    assert "eer of MOS alone" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.wav 3\n", "no MOS for 39 of the 40 trials"),
        ("file,label\n0.wav,spoof\n", "expected a MOS column, found none"),
        ("file,label,mos\n0.wav,spoof,good\n", "m.txt:2: expected the MOS to be a number"),
    ],
)
def test_a_mos_file_that_does_not_fit_is_a_sentence(small, capsys, text, message):
    (small / "m.txt").write_text(text)
    assert score_ood_dataset.main([str(small / "s.txt"), str(small), "--mos", str(small / "m.txt")]) == 2
    assert message in capsys.readouterr().err
