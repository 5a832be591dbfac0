"""The report command: its numbers, its four formats, its inputs and what it says of bad ones."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from markupsafe import Markup

import report
from eval_metrics import det_curve, equal_error_rate, min_dcf
from qamo.evaluation.intervals import difference_interval, eer_interval, units_of
from qamo.report import errors
from qamo.report.page import to_html
from qamo.report.tables import Column, Table, latex_safe, to_csv, to_latex, to_markdown
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores
from tests.support.reports import embedded, table, write_set

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "reference_data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real score files are not there")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_set(tmp_path)


def run(*words: object) -> int:
    return report.main([str(word) for word in words])


# ---- numbers


@needs_real
def test_on_real_scores_every_table_says_what_eval_metrics_says(tmp_path):
    mos_file = REAL / "protocols_with_mos" / "in_the_wild.meta.score.txt"
    files = {"SLS": "in_the_wild_sls.txt", "XLSR-Mamba": "in_the_wild_xlsr_mamba.txt"}
    scores = [f"{label}={REAL / 'scores' / file}" for label, file in files.items()]
    out = tmp_path / "r.html"
    assert run(*scores, "--keys", REAL / "keys" / "ITW", "--mos", mos_file, "-o", out, "--csv", tmp_path / "csv") == 0
    keys = read_keys(REAL / "keys" / "ITW" / "meta.csv")
    values = [keys.align(read_scores(REAL / "scores" / file)) for file in files.values()]
    split = [(v[keys.bonafide], v[~keys.bonafide]) for v in values]
    groups = units_of(keys.columns, keys.bonafide).groups(keys.bonafide, ~keys.bonafide)

    pooled = table(tmp_path / "csv", "pooled")
    assert [f"{100 * float(row['EER']):.2f}" for row in pooled] == ["7.46", "6.71"]  # as published
    for row, parts in zip(pooled, split):
        assert float(row["EER"]) == equal_error_rate(*parts).eer
        interval = eer_interval(*parts, unit="speaker", groups=groups)
        assert (float(row["EER low"]), float(row["EER high"])) == interval[:2]
        assert row["interval"] == "by speaker, 54 speakers"
        assert float(row["threshold"]) == equal_error_rate(*parts).threshold
        assert float(row["min DCF"]) == min_dcf(*parts).eer

    (pair,) = table(tmp_path / "csv", "pairs")
    column = "EER of a − EER of b"
    difference = difference_interval(*split[1], *split[0], unit="speaker", groups=groups)
    assert (float(pair[column]), float(pair["p"]), float(pair["p, Holm"])) == (
        difference.value,
        difference.p,
        difference.p,
    )
    assert float(pair[f"{column} high"]) > 0
    assert run(*scores, "--keys", REAL / "keys" / "ITW", "--unit", "trial", "-o", out, "--csv", tmp_path / "csv") == 0
    (by_trial,) = table(tmp_path / "csv", "pairs")
    assert float(by_trial[f"{column} high"]) < 0

    rated = read_keys(mos_file)
    mos = np.array(rated.columns["mos"], dtype=float)  # of the same trials in the same order
    assert rated.names == keys.names
    bands = table(tmp_path / "csv", "by-mos")
    assert sum(int(row["bona fide"]) for row in bands) == 19_963
    chosen = (mos >= 2.5) & (mos < 3)
    expected = equal_error_rate(values[0][keys.bonafide & chosen], values[0][~keys.bonafide & chosen]).eer
    assert float(next(row for row in bands if row["MOS"] == "2.5 to 3")["SLS EER"]) == expected
    alone = table(tmp_path / "csv", "mos-alone")[0]
    assert float(alone["EER"]) == equal_error_rate(mos[keys.bonafide], mos[~keys.bonafide]).eer

    speaker = next(row for row in table(tmp_path / "csv", "by-speaker") if row["speaker"] == "Barack Obama")
    own = np.array(keys.columns["speaker"]) == "Barack Obama"
    assert int(speaker["spoof"]) == (own & ~keys.bonafide).sum()
    expected = equal_error_rate(values[1][own & keys.bonafide], values[1][own & ~keys.bonafide]).eer
    assert float(speaker["XLSR-Mamba EER"]) == expected

    worst = [row for row in table(tmp_path / "csv", "worst-0") if row["is"] == "bona fide"]
    assert [float(row["score"]) for row in worst] == sorted(split[0][0])[:10]
    check_det(embedded(out, "charts")["det"], split)
    assert out.stat().st_size < 500_000


def check_det(chart: dict, split: list) -> None:
    for series, parts in zip(chart["series"], split):
        det = det_curve(*parts)
        for i in range(0, len(chart["x"]["values"]), 97):
            far = float(chart["x"]["text"][i].split()[0]) / 100
            frr = float(series["text"][i].split()[0]) / 100
            # The text is rounded to three digits: the miss rate must lie between those of a slightly other FAR.
            reachable = [det.miss[det.false_alarm <= far * (1 + delta)].min() for delta in (0.005, -0.005)]
            assert reachable[0] - 0.005 * frr - 1e-9 <= frr <= reachable[1] + 0.005 * frr + 1e-9


def test_every_format_holds_the_same_numbers_and_the_same_input_gives_the_same_bytes(small):
    def made(name: str) -> dict[str, bytes]:
        out = small / name
        words = [small / "a.txt", small / "b.txt", "--keys", small, "--mos", small / "mos.csv", "--resamples", 100]
        outputs = ["-o", out / "r.html", "--csv", out / "csv", "--md", out / "r.md", "--latex", out / "r.tex"]
        assert run(*words, *outputs) == 0
        return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}

    first, second = made("one"), made("two")
    assert first == second
    keys = read_keys(small / "meta.csv")
    v = keys.align(read_scores(small / "a.txt"))
    shown = f"{100 * equal_error_rate(v[keys.bonafide], v[~keys.bonafide]).eer:.2f} ["
    for name in ("r.md", "r.tex"):
        assert shown in first[name].decode()
    assert shown.replace(" [", ' <span class="ci">[') in first["r.html"].decode()
    assert not [name for name in first if name.endswith(".tmp")]


def test_one_system_without_speakers_or_mos_makes_a_page_too(tmp_path):
    lines = [f"{'fake' if i % 2 else 'real'}/{i},{'spoof' if i % 2 else 'bona-fide'}" for i in range(20)]
    (tmp_path / "meta.csv").write_text("file,label\n" + "\n".join(lines) + "\n")
    names = [line.split(",")[0] for line in lines]
    (tmp_path / "s.txt").write_text("".join(f"{n}.wav {i * 0.1 - i % 2}\n" for i, n in enumerate(names)))
    (tmp_path / "mos.txt").write_text("".join(f"{n} {1 + i % 4}.5\n" for i, n in enumerate([*names, "other"])))
    words = [tmp_path / "s.txt", "--keys", tmp_path, "-o", tmp_path / "r.html"]
    assert run(*words) == 0
    page = (tmp_path / "r.html").read_text()
    assert 'id="speakers"' not in page
    assert 'id="quality"' not in page
    assert run(*words, "--mos", tmp_path / "mos.txt") == 0
    assert 'id="quality"' in (tmp_path / "r.html").read_text()


def test_perfect_scores_equal_scores_and_inverted_scores_make_pages_that_say_so(small):
    keys = read_keys(small / "meta.csv")
    told_apart = keys.bonafide + np.arange(60) * 1e-3
    for name, values in (("perfect", told_apart), ("equal", np.zeros(60)), ("inverted", -told_apart)):
        (small / f"{name}.txt").write_text("".join(f"{n} {v}\n" for n, v in zip(keys.names, values)))
    for case, said in (("perfect", "0.00 %"), ("equal", "all scores are equal"), ("inverted", "inverted scores")):
        assert run(small / f"{case}.txt", "--keys", small, "--resamples", 50, "-o", small / "r.html") == 0
        assert said in (small / "r.html").read_text()


def test_a_mos_that_is_the_same_everywhere_says_nothing(small):
    names = read_keys(small / "meta.csv").names
    (small / "same.txt").write_text("".join(f"{name} 3.5\n" for name in names))
    out = ["--mos", small / "same.txt", "-o", small / "r.html", "--resamples", 50]
    assert run(small / "a.txt", "--keys", small, *out) == 0
    assert "All trials have the same MOS" in (small / "r.html").read_text()


def test_of_an_asvspoof_2021_key_the_eval_subset_is_taken_and_attacks_meet_codecs(tmp_path):
    rng = np.random.default_rng(0)
    lines, scores = [], []
    for i in range(400):
        bonafide = i % 4 == 0
        attack, codec = ("bonafide" if bonafide else f"A{7 + i % 3:02d}"), ["none", "alaw"][i // 4 % 2]
        subset = "progress" if i >= 360 else "eval"
        label = "bonafide" if bonafide else "spoof"
        lines.append(f"LA_{i % 7:04d} LA_E_{i} {codec} loc_tx {attack} {label} notrim {subset}")
        scores.append(f"LA_E_{i} {rng.normal() + 2 * bonafide:.5f}")
    key = tmp_path / "CM" / "trial_metadata.txt"
    key.parent.mkdir()
    key.write_text("\n".join(lines) + "\n")
    (tmp_path / "s.txt").write_text("\n".join(scores) + "\n")
    words = ["s=" + str(tmp_path / "s.txt"), "--keys", tmp_path, "-o", tmp_path / "r.html", "--csv", tmp_path / "csv"]
    assert run(*words) == 0
    assert "90 bona fide and 270 spoofed trials of the subset eval" in (tmp_path / "r.html").read_text()
    assert [row["attack"] for row in table(tmp_path / "csv", "by-attack")] == ["A07", "A08", "A09"]
    cells = table(tmp_path / "csv", "attack-by-codec")
    keys = read_keys(key, "eval")
    v = keys.align(read_scores(tmp_path / "s.txt"))
    codecs, attacks = np.array(keys.columns["codec"]), np.array(keys.columns["attack"])
    expected = equal_error_rate(v[keys.bonafide & (codecs == "alaw")], v[(attacks == "A08") & (codecs == "alaw")]).eer
    assert float(cells[1]["alaw"]) == expected
    assert run(*words, "--by", "codec*attack") == 0
    assert "codec-by-attack" in (tmp_path / "r.html").read_text()
    assert not (tmp_path / "csv" / "trans.csv").exists()


def test_a_given_threshold_is_where_misses_and_false_alarms_are_counted(small):
    out = ["-o", small / "r.html", "--csv", small / "csv"]
    assert run(small / "a.txt", "--keys", small, "--threshold", 0.5, *out) == 0
    keys = read_keys(small / "meta.csv")
    v = keys.align(read_scores(small / "a.txt"))
    row = table(small / "csv", "pooled")[0]
    assert float(row["given threshold"]) == 0.5
    assert float(row["miss rate"]) == (v[keys.bonafide] <= 0.5).mean()
    assert float(row["false alarm rate"]) == (v[~keys.bonafide] > 0.5).mean()


def test_scores_in_a_runs_folder_have_its_dev_threshold_and_others_show_none_as_given(small):
    (small / "run" / "scores").mkdir(parents=True)
    (small / "run" / "calibration.json").write_text('{"eer_threshold": 0.75}')
    shutil.copy(small / "a.txt", small / "run" / "scores" / "set.txt")
    out = ["-o", small / "r.html", "--csv", small / "csv", "--resamples", 50]
    assert run(f"own={small / 'run' / 'scores' / 'set.txt'}", small / "b.txt", "--keys", small, *out) == 0
    own, other = table(small / "csv", "pooled")
    keys = read_keys(small / "meta.csv")
    v = keys.align(read_scores(small / "a.txt"))
    assert (float(own["given threshold"]), float(own["miss rate"])) == (0.75, (v[keys.bonafide] <= 0.75).mean())
    assert [other[key] for key in ("given threshold", "miss rate", "false alarm rate")] == ["", "", ""]
    w = keys.align(read_scores(small / "b.txt"))
    eer_threshold = f"{equal_error_rate(w[keys.bonafide], w[~keys.bonafide]).threshold:.4g}"
    page = (small / "r.html").read_text()
    assert f"0.75 for own (given), {eer_threshold} for b (of the EER of all trials)" in page


@pytest.mark.parametrize(
    ("labels", "file", "said"),
    [
        ("a", "mini.eval.trl.score.txt", "a on mini.eval"),
        ("ab", "LA.cm.dev.trl.txt", "a and b on LA.cm.dev"),
        ("abc", "k.txt", "a, b and c on k"),
        ("abcd", "k.txt", "4 systems on k"),
    ],
)
def test_the_title_names_the_systems_and_the_set(small, labels, file, said):
    keys = read_keys(small / "meta.csv")
    rows = zip(keys.names, np.where(keys.bonafide, "bonafide", "spoof"))
    (small / file).write_text("".join(f"S {name} - - {label}\n" for name, label in rows))
    words = [f"{label}={small / 'a.txt'}" for label in labels]
    assert run(*words, "--keys", small / file, "--resamples", 2, "-o", small / "r.html") == 0
    assert f"<h1>{said}</h1>" in (small / "r.html").read_text()


# ---- text that could do harm


def test_names_from_files_are_text_in_every_format(small):
    evil = '<script>alert("x")</script>&|_%'
    rows = (small / "meta.csv").read_text().replace("Speaker 1", evil.replace('"', "'"))
    (small / "meta.csv").write_text(rows)
    out = ["-o", small / "r.html", "--md", small / "r.md", "--latex", small / "r.tex"]
    assert run(f"{evil}={small / 'a.txt'}", "--keys", small, "--resamples", 50, "--title", "</title><b>", *out) == 0
    page = (small / "r.html").read_text()
    assert "<script>alert" not in page
    assert "</title><b>" not in page
    assert page.count("<script") == page.count("</script>") == 4
    assert "<script>" not in (small / "r.md").read_text()
    assert r"\_\%" in (small / "r.tex").read_text()


def test_text_formats_escape_their_own_marks_and_leave_out_what_only_html_shows():
    made = Table(
        "t",
        "a|b_c",
        [Column("x"), Column("y", "interval", "g&h"), Column("play", "raw_html")],
        [["1|2", (0.05, 0.04, 0.06), Markup("<audio>")], ["–", None, ""]],
    )
    assert "| 1\\|2 | 5.00 [4.00, 6.00] |" in to_markdown(made)
    assert r"5.00 [4.00, 6.00] \\" in to_latex(made)
    assert r"g\&h: y" in to_latex(made)
    assert to_csv(made) == "x,g&h y,g&h y low,g&h y high\n1|2,0.05,0.04,0.06\n–,,,\n"
    assert "<audio>" in to_html(made)
    assert latex_safe("a_b#~^\\") == r"a\_b\#\textasciitilde{}\textasciicircum{}\textbackslash{}"


# ---- recordings


def test_the_worst_errors_play_what_was_recorded_once_each(small):
    (small / "wavs").mkdir()
    rng = np.random.default_rng(0)
    for i in range(60):
        soundfile.write(small / "wavs" / f"{i}.wav", (0.1 * rng.normal(size=8000)).astype(np.float32), 16_000)
    (small / "wavs" / "7.wav").write_bytes(b"broken")
    assert (
        run(small / "a.txt", small / "b.txt", "--keys", small, "--audio", small / "wavs", "-o", small / "r.html") == 0
    )
    page = (small / "r.html").read_text()
    clips = embedded(small / "r.html", "clips")
    assert clips
    for clip, uri in clips.items():
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.split(",")[1])))
        original, _ = soundfile.read(small / "wavs" / f"{clip.removeprefix('trial-')}.wav")
        assert rate == 16_000
        np.testing.assert_allclose(wave, original, atol=1 / 32768)
        assert f'data-clip="{clip}"' in page


def test_a_full_page_links_to_recordings_instead(small, monkeypatch):
    (small / "wavs").mkdir()
    for i in range(60):
        soundfile.write(small / "wavs" / f"{i}.wav", np.full(1600, 0.1, np.float32), 16_000)
    monkeypatch.setattr(errors, "CLIPS_BYTES", 1)
    assert run(small / "a.txt", "--keys", small, "--audio", small / "wavs", "-o", small / "r.html") == 0
    page = (small / "r.html").read_text()
    assert page.count("data-clip=") == 1
    assert 'src="wavs/' in page


def test_a_name_cannot_lead_out_of_the_audio_folder(small):
    (small / "in").mkdir()
    soundfile.write(small / "secret.wav", np.zeros(100, np.float32), 16_000)
    assert errors.find_recording(small / "in", "../secret.wav") is None
    assert errors.find_recording(small / "in", str(small / "secret.wav")) is None
    assert errors.find_recording(small, "secret") == small / "secret.wav"


# ---- runs


@pytest.fixture(scope="module")
def trained(built_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus with a finished run in exps/run."""
    import main
    from tests.support import tiny_corpus

    root = tmp_path_factory.mktemp("trained") / "corpus"
    shutil.copytree(built_corpus, root)
    (root / "config.yaml").write_text(tiny_corpus.CONFIG.format(root=root))
    assert main.main(["--config", str(root / "config.yaml"), "--name", "run"]) == 0
    return root


def test_a_run_shows_its_curves_its_centroids_and_where_its_recordings_lie(trained, tmp_path):
    folder = trained / "exps" / "run"
    words = [folder / "scores" / "wild.txt", "--keys", trained / "meta.csv", "--run", folder]
    out = tmp_path / "r.html"
    outputs = ["-o", out, "--csv", tmp_path / "csv", "--resamples", 50]
    assert run(*words, "--audio", trained / "wild", "--embeddings", 8, *outputs) == 0
    drawn = embedded(out, "charts")
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {series["label"]: series["values"] for series in drawn["training-losses"]["series"]}
    assert losses["dev"] == pytest.approx([row["dev_loss"] for row in epochs], rel=1e-4)
    assert losses["one class"] == pytest.approx([row["loss_one_class"] for row in epochs], rel=1e-4)
    assert len(drawn["embeddings"]["marks"]) == 2
    names = [name for series in drawn["embeddings"]["series"] for name in series["text"] if name.endswith(".wav")]
    assert len(names) == 8
    cosines = table(tmp_path / "csv", "centroid-cosines")
    assert float(cosines[0]["c0"]) == pytest.approx(1, abs=1e-6)
    assert "degrees apart" in out.read_text()
    found = json.loads((folder / "results.json").read_text())["sets"]
    shown = table(tmp_path / "csv", "results")
    assert [row["set"] for row in shown] == list(found)
    assert [float(row["EER"]) for row in shown] == pytest.approx([row["eer"] / 100 for row in found.values()])
    for name, key in (("Cllr", "cllr"), ("min Cllr", "min_cllr"), ("act DCF", "act_dcf"), ("min DCF", "min_dcf")):
        assert [float(row[name]) for row in shown] == [row[key] for row in found.values()]
    assert [row["interval"] for row in shown] == [row["interval"] for row in found.values()]
    if (folder / "calibration.json").exists():  # its dev threshold is where decisions are counted
        threshold = json.loads((folder / "calibration.json").read_text())["eer_threshold"]
        assert float(table(tmp_path / "csv", "pooled")[0]["given threshold"]) == pytest.approx(threshold)


def test_a_run_alone_needs_no_scores(trained, tmp_path):
    assert run("--run", trained / "exps" / "run", "-o", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text()
    assert "Training of run" in page
    assert 'id="rates"' not in page


# ---- light, and clear about faults


def test_without_embeddings_neither_torch_nor_scipy_is_imported(small):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['scipy'] = sys.modules['pandas'] = None\n"
        f"import report\nsys.exit(report.main([{str(small / 'a.txt')!r}, '--keys', {str(small)!r}, '--mos', "
        f"{str(small / 'mos.csv')!r}, '-o', {str(small / 'r.html')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


BAD = {
    "nothing to report on": ([], "expected score files, or --run"),
    "no keys": (["a.txt"], "--keys"),
    "no such score file": (["none.txt", "--keys", "meta.csv"], "none.txt"),
    "a folder without a key": (["a.txt", "--keys", "empty"], "holds none of meta.csv"),
    "scores of another set": (["other.txt", "--keys", "meta.csv"], "other.txt"),
    "two systems of one name": (["x=a.txt", "x=b.txt", "--keys", "meta.csv"], "LABEL=FILE"),
    "a file without MOS": (["a.txt", "--keys", "meta.csv", "--mos", "meta.csv"], "expected a MOS column"),
    "MOS of another set": (["a.txt", "--keys", "meta.csv", "--mos", "short.csv"], "no MOS for 59 of the 60 trials"),
    "MOS with other labels": (["a.txt", "--keys", "meta.csv", "--mos", "turned.csv"], "labels differ"),
    "MOS that is no number": (
        ["a.txt", "--keys", "meta.csv", "--mos", "words.csv"],
        "words.csv:1: expected the MOS to be a number",
    ),
    "edges that fall": (["a.txt", "--keys", "meta.csv", "--mos", "mos.csv", "--mos-edges", "3", "2"], "increasing"),
    "an unknown column": (["a.txt", "--keys", "meta.csv", "--by", "codec"], "--by codec"),
    "too few thresholds": (["a.txt", "b.txt", "--keys", "meta.csv", "--threshold", "1"], "one for each of 2 systems"),
    "no audio folder": (["a.txt", "--keys", "meta.csv", "--audio", "none"], "not a folder"),
    "no run": (["--run", "empty"], "metrics.jsonl is not there"),
    "a damaged run": (["--run", "damaged"], "metrics.jsonl:2: expected a JSON object"),
    "a run without epochs": (["--run", "young"], "no epoch has finished"),
    "embeddings of nothing": (["a.txt", "--keys", "meta.csv", "--embeddings", "5"], "--embeddings needs --run"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_fault_is_one_sentence_on_standard_error_and_leaves_the_old_page(case, small, monkeypatch, capsys):
    monkeypatch.chdir(small)
    for name in ("empty", "damaged", "young"):
        Path(name).mkdir()
    Path("damaged/metrics.jsonl").write_text('{"epoch": 1, "dev_loss": 1.0, "dev_eer": 2.0}\n{"epoch"\n')
    Path("young/metrics.jsonl").write_text("")
    Path("other.txt").write_text("x 1\ny 2\n")
    rated = Path("mos.csv").read_text()
    Path("short.csv").write_text("\n".join(rated.splitlines()[:1]) + "\n")
    turned = rated.replace("bona-fide", "*").replace("spoof", "bona-fide").replace("*", "spoof")
    Path("turned.csv").write_text(turned)
    Path("words.csv").write_text(re.sub(r",[\d.]+\n", ",good\n", rated))
    Path("r.html").write_text("old")
    words, said = BAD[case]
    assert run(*words, "-o", "r.html") == 2
    error = capsys.readouterr().err
    assert error.startswith("report.py: ")
    assert said in error
    assert len(error.splitlines()) == 1
    assert Path("r.html").read_text() == "old"


@pytest.mark.slow
def test_six_hundred_thousand_trials_make_a_page_below_5_mb_in_20_s(tmp_path):
    n = 611_829
    rng = np.random.default_rng(0)
    bonafide = rng.random(n) < 0.04
    speaker, attack, codec = rng.integers(0, 93, n), rng.integers(1, 14, n), rng.integers(0, 9, n)
    value = rng.normal(size=n) + 2.5 * bonafide
    with open(tmp_path / "trial_metadata.txt", "w") as key, open(tmp_path / "a.txt", "w") as a:
        for i in range(n):
            what, label = ("bonafide", "bonafide") if bonafide[i] else (f"A{attack[i]:02d}", "spoof")
            key.write(f"S{speaker[i]} DF_E_{i} c{codec[i]} x {what} {label} notrim eval {what} - - - -\n")
            a.write(f"DF_E_{i} {value[i]:.6f}\n")
    (tmp_path / "b.txt").write_text((tmp_path / "a.txt").read_text())
    command = [sys.executable, "report.py", tmp_path / "a.txt", tmp_path / "b.txt", "--keys", tmp_path, "-o"]
    before = os.times()
    subprocess.run([*map(str, command), str(tmp_path / "r.html")], cwd=ROOT, check=True)
    after = os.times()  # processor time: other work on the machine does not count
    assert after.children_user + after.children_system - before.children_user - before.children_system < 20
    assert (tmp_path / "r.html").stat().st_size < 5e6


def test_absolute_paths_stay_on_this_computer_unless_they_are_asked_for(trained_run, built_corpus, tmp_path):
    words = [
        str(trained_run / "scores" / "seen.txt"),
        "--keys",
        str(built_corpus / "seen.txt"),
        "-o",
        str(tmp_path / "x.html"),
    ]
    assert report.main(words) == 0
    page = (tmp_path / "x.html").read_text()
    assert ".../scores/seen.txt" in page
    assert str(trained_run) not in page
    assert report.main([*words, "--show-paths"]) == 0
    assert str(trained_run / "scores" / "seen.txt") in (tmp_path / "x.html").read_text()
