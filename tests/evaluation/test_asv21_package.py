"""The ASVspoof 2021 package: the official output byte for byte, and what it refuses that the official one lets pass."""

import csv
import hashlib
import http.server
import importlib.util
import io
import json
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from eval_metrics import TDCFCoefficients, asv_errors, equal_error_rate, min_tdcf, tdcf_coefficients
from qamo import InputError
from qamo.evaluation import tdcf
from qamo.evaluation.intervals import eer_interval
from qamo.trials import asv

PACKAGE = Path(__file__).parents[2] / "2021" / "eval-package"
GOLDENS = Path(__file__).parents[2].parent / "shared" / "goldens" / "eval_package"
needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the goldens of the official package are not here")


def command(name):
    spec = importlib.util.spec_from_file_location(f"asv21_{name}", PACKAGE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


package, download = command("main"), command("download")


def run(capsys, *args):
    """Run the package in this process: exit status, standard output, standard error."""
    try:
        status = package.main([str(arg) for arg in args])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err


# Against the official package


def index(name):
    return json.loads((GOLDENS / name / "index.json").read_text()) if GOLDENS.is_dir() else []


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The folder in which the goldens were made."""
    folder = tmp_path_factory.mktemp("official")
    for archive in ("asv21_small/data.tar.gz", "asv21_quirks/inputs.tar.gz"):
        with tarfile.open(GOLDENS / archive) as tar:
            tar.extractall(folder, filter="data")
    return folder


@needs_goldens
def test_every_golden_table_is_printed_byte_for_byte(official, monkeypatch, capsys):
    monkeypatch.chdir(official)
    arrays = np.load(GOLDENS / "asv21_small" / "arrays.npz")
    for case in index("asv21_small"):  # in order: some cases read the weights that others wrote
        args = ["--cm-score-file", case["cm_score_file"], "--track", case["track"], "--subset", case["subset"]]
        args += ["--metadata", "keys", "--json", "tables.json"] + ["--recompute-c012"] * bool(case["recompute_c012"])
        args += ["--asv-score-file", case["asv_score_file"]] if case["asv_score_file"] else []
        args += ["--c012-path", case["c012_path"]] if case["c012_path"] else []
        if case["name"] == "LA_eval_c012_holes":
            weights = tdcf.read_c012("keys/LA/LA-C012-eval.npy")
            del weights["A07"], weights["A08"]["opus"]
            tdcf.write_c012(Path(case["c012_path"]), weights)
        status, out, err = run(capsys, *args)
        if "exception" in case:
            assert status == 2, case["name"]
            assert len(err.strip().splitlines()) == 1
            continue
        assert status == 0, (case["name"], err)
        golden = (GOLDENS / "asv21_small" / "stdout" / f"{case['name']}.txt").read_text()
        assert out == golden + "Please scroll up and check the results.\n", case["name"]
        tables = json.loads(Path("tables.json").read_text())
        for metric in ("eer", "min_tdcf"):
            if tables[metric] is not None:
                got = np.array([[np.nan if cell is None else cell for cell in row] for row in tables[metric]])
                np.testing.assert_array_equal(got, arrays[f"{case['name']}/{metric}"], err_msg=case["name"])


# Where ours differs from the official package on purpose: exit status, pooled figures, what the note or error says.
DIFFERENCES = {
    "trailing_space": (0, ["0.5631", "16.78"], ""),
    "two_in_one_cell": (0, ["0.5475", "15.90"], "1 cells with fewer than 3 distinct scores are left blank (A07/C7)"),
    "three_levels": (0, ["0.5836", "24.60"], "5 cells with fewer than 3 distinct scores are left blank"),
    "asv_reversed": (0, ["0.5631", "16.78"], ""),
    "asv_two_cols": (2, [], ":1: expected 'speaker trial score', got"),
    "asv_nan": (2, [], "16 ASV scores of the subset eval are not finite"),
}


@needs_goldens
@pytest.mark.parametrize("case", index("asv21_quirks"), ids=lambda case: case["name"])
def test_odd_inputs_fail_where_they_fail_officially_and_say_why_in_one_line(case, official, monkeypatch, capsys):
    monkeypatch.chdir(official)
    status, out, err = run(capsys, *case["args"])
    pooled = [line.split()[-1] for line in out.splitlines() if line.startswith("Pooled") and "&" not in line]
    if case["name"] in DIFFERENCES:
        wanted_status, wanted_pooled, said = DIFFERENCES[case["name"]]
        assert (status, pooled) == (wanted_status, wanted_pooled)
        assert said in err
        return
    if case["rc"] == 0:
        assert (status, pooled) == (0, case["pooled_last"])
    else:
        assert status == 2
        assert out == ""
        lines = err.strip().splitlines()
        assert "error: " in lines[-1] if lines[0].startswith("usage") else len(lines) == 1


@needs_goldens
def test_the_readme_names_every_difference():
    text = (PACKAGE / "README.md").read_text()
    assert [name for name in DIFFERENCES if f"`{name}`" not in text] == []


@needs_goldens
@pytest.mark.parametrize("name", ["LA_eval_numpy1_pickle", "LA_eval_numpy2_pickle"])
def test_weights_are_read_as_either_numpy_pickled_them_and_written_as_numpy_does(name, tmp_path):
    golden = json.loads((GOLDENS / "asv21_small" / "c012" / "LA_eval_recompute.json").read_text())
    read = tdcf.read_c012(GOLDENS / "asv21_small" / "c012" / f"{name}.npy")
    assert {row: {column: cell._asdict() for column, cell in of.items()} for row, of in read.items()} == {
        row: {column: {key.lower(): value for key, value in cell.items()} for column, cell in of.items()}
        for row, of in golden.items()
    }
    tdcf.write_c012(tmp_path / "x.npy", read)
    assert np.load(tmp_path / "x.npy", allow_pickle=True).tolist() == golden
    np.save(tmp_path / "saved.npy", np.array(golden, dtype=object))
    assert tdcf.read_c012(tmp_path / "saved.npy") == read


@needs_goldens
def test_the_tables_of_the_organisers_have_our_layout(monkeypatch):
    """The organisers' own tables, made from the real keys: their text must come out of the figures."""
    for name, figures in json.loads((GOLDENS / "notebook" / "tables.json").read_text()).items():
        if "values" not in figures:
            continue  # t-DCF weights, not a table
        track, metric = name.split("_", 1)
        values = np.array([[np.nan if v is None else v for v in row] for row in figures["values"]], float)
        text = package.official_output.render(values, track, "1.4f" if metric == "min_tdcf" else "1.2f")
        lines = (GOLDENS / "notebook" / f"{name}.txt").read_text().splitlines()
        plain = lines[lines.index("\\end{tabular}") + 2 :]
        ours = text.splitlines()
        ours = ours[ours.index("\\end{tabular}") + 2 :]
        assert [line.rstrip() for line in ours if line.strip()] == [line.rstrip() for line in plain if line.strip()]


# On keys made here


ATTACKS, CODECS = ["A07", "A08", "A19"], ["none", "alaw", "opus"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small LA track, with its scores, in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    cm = Path("keys/LA/CM")
    cm.mkdir(parents=True)
    rows, scores = [], []
    for i in range(600):
        attack = "bonafide" if i % 3 == 0 else ATTACKS[i % 4 % 3]
        label = "bonafide" if i % 3 == 0 else "spoof"
        subset = "progress" if i % 10 == 9 else "eval"
        rows.append(f"LA_{i % 7:04d} LA_E_{i} {CODECS[i % 5 % 3]} loc_tx {attack} {label} notrim {subset}")
        scores.append((f"LA_E_{i}", float(np.float32(rng.normal(1 if i % 3 == 0 else -1)))))
    (cm / "trial_metadata.txt").write_text("\n".join(rows) + "\n")
    folder = Path("keys/LA/ASV/ASVTorch_Kaldi")
    folder.mkdir(parents=True)
    key, asv_scores = [], []  # with many equal scores, whose order matters
    for i in range(900):
        kind = ("target", "nontarget", "spoof")[i % 3]
        attack = ATTACKS[i % 4 % 3] if kind == "spoof" else "bonafide"
        subset = "progress" if i % 10 == 9 else "eval"
        key.append(f"LA_{i % 7} LA_E_{i % 450} {CODECS[i % 5 % 3]} loc_tx {attack} {kind} notrim {subset}")
        asv_scores.append(
            f"LA_{i % 7} LA_E_{i % 450} {rng.normal({'target': 1, 'nontarget': -1, 'spoof': 0}[kind]):.0f}"
        )
    (folder.parent / "trial_metadata.txt").write_text("\n".join(key) + "\n")
    (folder / "score.txt").write_text("\n".join(asv_scores) + "\n")
    Path("s.txt").write_text("".join(f"{name} {score!r}\n" for name, score in scores))
    return rows, scores, key, asv_scores


LA_EVAL = ("--cm-score-file", "s.txt", "--track", "LA")


def test_every_cell_is_what_its_trials_give_when_they_are_chosen_one_by_one(small, capsys):
    rows, scores, key, asv_scores = small
    status, _, err = run(
        capsys, *LA_EVAL, "--recompute-c012", "--c012-path", "c.npy", "--json", "t.json", "--csv", "t.csv"
    )
    assert (status, err) == (0, "")
    tables = json.loads(Path("t.json").read_text())
    cm = [(line.split(), score) for line, (_, score) in zip(rows, scores) if line.endswith("eval")]
    verifications = [(k.split(), float(s.split()[2])) for k, s in zip(key, asv_scores) if k.endswith("eval")]
    for i, attack in enumerate(tables["rows"]):
        for j, codec in enumerate(tables["columns"]):

            def chosen(trials, kind, attack=attack, codec=codec):
                return np.array(
                    [
                        score
                        for (_, _, c, _, a, label, _, _), score in trials
                        if label == kind and codec in (c, "Pooled") and (kind != "spoof" or attack in (a, "Pooled"))
                    ]
                )

            bonafide, spoof = chosen(cm, "bonafide"), chosen(cm, "spoof")
            if not len(bonafide) or not len(spoof):
                assert tables["eer"][i][j] is None
                assert tables["min_tdcf"][i][j] is None
                continue
            target, nontarget = chosen(verifications, "target"), chosen(verifications, "nontarget")
            threshold = equal_error_rate(target, nontarget).threshold
            weights = tdcf_coefficients(asv_errors(target, nontarget, chosen(verifications, "spoof"), threshold))
            assert tables["eer"][i][j] == equal_error_rate(bonafide, spoof).eer
            assert tables["min_tdcf"][i][j] == min_tdcf(bonafide, spoof, weights)
    assert tables["eer"][-1][-1] == tables["pooled"]["eer"]
    assert (tables["n_bonafide"], tables["n_spoof"]) == (len(bonafide), len(spoof))
    groups = tuple(
        np.array([s for (s, _, _, _, _, label, _, _), _ in cm if label == kind]) for kind in ("bonafide", "spoof")
    )
    interval = eer_interval(bonafide, spoof, unit="speaker", groups=groups)
    assert tables["pooled"]["eer_interval"] == list(interval[:2])
    assert tables["pooled"]["interval"]["unit"] == "speaker"
    assert tables["pooled"]["interval"]["n_units"] == interval.n_units

    for form, file in (("--json", "t.json"), ("--csv", "t.csv")):  # in place of the tables
        assert run(capsys, *LA_EVAL, "--c012-path", "c.npy", form) == (0, Path(file).read_text(), "")
    lines = list(csv.DictReader(io.StringIO(Path("t.csv").read_text())))
    assert len(lines) == 14 * 8
    assert float(lines[-1]["eer"]) == tables["pooled"]["eer"]
    assert [float(lines[-1][bound]) for bound in ("eer_low", "eer_high")] == tables["pooled"]["eer_interval"]
    assert lines[0]["eer"] == repr(tables["eer"][0][0])


def test_pooled_min_tdcf_is_that_of_the_package_from_weights_or_from_asv_scores(small, capsys):
    rows, scores, _, _ = small
    run(capsys, *LA_EVAL, "--recompute-c012", "--c012-path", "c.npy", "--json", "t.json")
    wanted = json.loads(Path("t.json").read_text())["pooled"]["min_tdcf"]
    cm_key = Path("keys/LA/CM/trial_metadata.txt")
    kept = [(line.split()[5], score) for line, (_, score) in zip(rows, scores) if line.endswith("eval")]
    bonafide = np.array([score for label, score in kept if label == "bonafide"])
    spoof = np.array([score for label, score in kept if label == "spoof"])
    assert tdcf.pooled_min_tdcf(bonafide, spoof, cm_key) == wanted
    shutil.copy("c.npy", "keys/LA/LA-C012-eval.npy")
    shutil.rmtree("keys/LA/ASV")
    assert tdcf.pooled_min_tdcf(bonafide, spoof, cm_key) == wanted
    assert tdcf.pooled_min_tdcf(bonafide, spoof, cm_key, subset="progress") is None
    assert tdcf.pooled_min_tdcf(bonafide, spoof, cm_key, track="DF") is None


def test_asv_scores_are_joined_by_speaker_and_trial_whatever_their_order(small, capsys):
    _, _, _, asv_scores = small
    run(capsys, *LA_EVAL, "--recompute-c012", "--c012-path", "c.npy")
    shuffled = list(asv_scores)
    np.random.default_rng(1).shuffle(shuffled)
    Path("shuffled.txt").write_text("\n".join(shuffled) + "\n")
    run(capsys, *LA_EVAL, "--recompute-c012", "--c012-path", "d.npy", "--asv-score-file", "shuffled.txt")
    assert tdcf.same_c012(tdcf.read_c012("c.npy"), tdcf.read_c012("d.npy"))


def test_the_asv_threshold_is_that_of_the_official_order_of_equal_scores(tmp_path):
    (tmp_path / "ASV" / "ASVTorch_Kaldi").mkdir(parents=True)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        kinds = rng.permutation(["target"] * 4 + ["nontarget"] * 11 + ["spoof"] * 3)  # steps of unequal size
        scores = rng.integers(0, 5, 18)
        key = [f"S T{i} none - A07 {kind} notrim eval" for i, kind in enumerate(kinds)]
        (tmp_path / "ASV" / "trial_metadata.txt").write_text("\n".join(key))
        lines = [f"S T{i} {score}" for i, score in enumerate(scores)]
        (tmp_path / "ASV" / "ASVTorch_Kaldi" / "score.txt").write_text("\n".join(lines))
        trials = asv.read_asv_trials(tmp_path, "LA", "eval")
        wanted = equal_error_rate(scores[kinds == "target"] * 1.0, scores[kinds == "nontarget"] * 1.0).threshold
        assert trials.threshold(np.ones(18, bool)) == wanted


def test_asv_scores_of_a_pair_that_stands_twice_may_not_be_reordered(small, capsys):
    _, _, key, asv_scores = small
    Path("keys/LA/ASV/trial_metadata.txt").write_text("\n".join([*key, key[0]]) + "\n")
    recompute = (*LA_EVAL, "--recompute-c012", "--c012-path", "c.npy", "--asv-score-file", "asv.txt")
    Path("asv.txt").write_text("\n".join([*asv_scores, asv_scores[0]]) + "\n")
    assert run(capsys, *recompute)[0] == 0
    Path("asv.txt").write_text("\n".join([*asv_scores, asv_scores[0]][::-1]) + "\n")
    status, _, err = run(capsys, *recompute)
    assert status == 2
    assert "some speaker and trial stand twice" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "899 scores, 1 trials have none"),
        (
            lambda lines: [*lines[:-1], "LA_9 LA_E_9 0.5"],
            "1 trials have none (LA_E_449), 1 are of unknown trials (LA_E_9)",
        ),
        (lambda lines: [*lines[:-1], lines[-1].replace("LA_E", "LB_E")], "1 are of unknown trials"),
        (lambda lines: [line.rsplit(" ", 1)[0] for line in lines], "expected 'speaker trial score'"),
        (
            lambda lines: [lines[0].rsplit(" ", 1)[0] + " nan", *lines[1:]],
            "1 ASV scores of the subset eval are not finite",
        ),
    ],
)
def test_asv_scores_that_do_not_fit_the_key_are_refused(small, capsys, change, message):
    Path("asv.txt").write_text("\n".join(change(small[3])) + "\n")
    args = ("--recompute-c012", "--c012-path", "c.npy", "--asv-score-file", "asv.txt")
    status, out, err = run(capsys, *LA_EVAL, *args)
    assert (status, out) == (2, "")
    assert message in err
    assert not Path("c.npy").exists()


def test_the_organisers_weights_are_never_overwritten(small, capsys):
    own = Path("keys/LA/LA-C012-eval.npy")
    for extra in ((), ("--c012-path", own), ("--c012-path", "keys/LA/../LA/LA-C012-prog.npy")):
        status, _, err = run(capsys, *LA_EVAL, "--recompute-c012", *extra)
        assert status == 2
        assert "would overwrite the organisers'" in err
    assert list(Path("keys/LA").glob("*.npy")) == []


@pytest.mark.parametrize("name", ["s.txt", "keys/LA/CM/trial_metadata.txt", "keys/LA/ASV/trial_metadata.txt"])
def test_recomputed_weights_replace_nothing_else(small, capsys, name):
    before = Path(name).read_bytes()
    status, _, err = run(capsys, *LA_EVAL, "--recompute-c012", "--c012-path", name)
    assert status == 2
    assert f"{name}: holds no t-DCF coefficients, and would be lost" in err
    assert Path(name).read_bytes() == before
    for _ in range(2):  # those that stand there may be made again
        assert run(capsys, *LA_EVAL, "--recompute-c012", "--c012-path", "c.npy")[0] == 0


def test_weights_of_another_subset_or_track_are_refused(small, capsys):
    run(capsys, *LA_EVAL, "--recompute-c012", "--c012-path", "eval.npy")
    run(capsys, *LA_EVAL, "--subset", "progress", "--recompute-c012", "--c012-path", "keys/LA/prog.npy")
    Path("keys/LA/prog.npy").rename("keys/LA/LA-C012-prog.npy")
    shutil.copy("keys/LA/LA-C012-prog.npy", "renamed.npy")
    for path in ("keys/LA/LA-C012-prog.npy", "renamed.npy"):
        status, _, err = run(capsys, *LA_EVAL, "--c012-path", path)
        assert status == 2
        assert "coefficients of the subset progress, not eval" in err
    recomputed = tdcf.read_c012("renamed.npy")
    Path("renamed.npy").write_bytes(
        pickle.dumps({r: {c: w._asdict() for c, w in of.items()} for r, of in recomputed.items()})
    )
    status, _, err = run(capsys, *LA_EVAL, "--c012-path", "renamed.npy")
    assert status == 2  # keys C0 are missing: not a file of weights
    Path("renamed.npy").unlink()
    tdcf.write_c012(Path("renamed.npy"), {**recomputed, "extra": {"x": TDCFCoefficients(0.0, 0.0, 0.0)}})
    assert run(capsys, *LA_EVAL, "--c012-path", "renamed.npy")[0] == 0
    tdcf.write_c012(Path("other.npy"), {"R1": {"r1": TDCFCoefficients(0.1, 0.5, 0.5)}})
    status, _, err = run(capsys, *LA_EVAL, "--c012-path", "other.npy")
    assert status == 2
    assert "holds no coefficients of the track LA" in err


def test_recomputed_weights_of_another_subset_give_a_warning(small, capsys):
    """They cannot be told from the organisers' by name or bytes; the official package says nothing at all."""
    for path in ("keys/LA/p.npy", "mine.npy"):
        run(capsys, *LA_EVAL, "--subset", "progress", "--recompute-c012", "--c012-path", path)
    data = pickle.loads(Path("keys/LA/p.npy").read_bytes())
    Path("keys/LA/LA-C012-prog.npy").write_bytes(pickle.dumps(data, protocol=4))
    status, _, err = run(capsys, *LA_EVAL, "--c012-path", "mine.npy")
    assert status == 0
    assert "holds the t-DCF coefficients of the subset progress, not eval: min t-DCF will be wrong" in err


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(small, tmp_path, capsys):
    class Attack:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    for payload in (
        pickle.dumps(Attack()),
        pickle.dumps(np.array({"A07": Attack()}, dtype=object)),
        b"\x80\x02garbage",
        b"",
    ):
        Path("evil.npy").write_bytes(payload)
        status, _, err = run(capsys, *LA_EVAL, "--c012-path", "evil.npy")
        assert status == 2
        assert "expected a file of t-DCF coefficients" in err
    assert not (tmp_path / "owned").exists()


def test_missing_keys_say_which_archive_to_get_and_where_to_unpack_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for track, md5 in (
        ("LA", "f052cc2ed276745afa3b5198665d3b26"),
        ("PA", "a639ea472cf4fb564a62fbc7383c24cf"),
        ("DF", "dabbc5628de4fcef53036c99ac7ab93a"),
    ):
        status, _, err = run(capsys, "--cm-score-file", "s.txt", "--track", track)
        assert status == 2
        assert f"https://www.asvspoof.org/asvspoof2021/{track}-keys-full.tar.gz (md5 {md5})" in err
        assert f"so that keys/{track} is a folder" in err


def test_only_the_keys_of_the_asked_track_are_needed(small, capsys):
    status, _, err = run(capsys, *LA_EVAL)
    assert status == 2
    assert "keys/LA/LA-C012-eval.npy: not there" in err
    assert run(capsys, *LA_EVAL, "--recompute-c012", "--c012-path", "c.npy")[0] == 0


def test_the_key_of_another_track_is_refused(small, capsys):
    Path("keys/DF/CM").mkdir(parents=True)
    shutil.copy("keys/LA/CM/trial_metadata.txt", "keys/DF/CM/trial_metadata.txt")
    status, _, err = run(capsys, "--cm-score-file", "s.txt", "--track", "DF")
    assert status == 2
    assert "this is the key of LA, not of DF" in err


def test_inverted_scores_are_noted_and_their_output_left_alone(small, capsys):
    _, scores, _, _ = small
    Path("s.txt").write_text("".join(f"{name} {-score!r}\n" for name, score in scores))
    status, out, err = run(capsys, *LA_EVAL, "--recompute-c012", "--c012-path", "c.npy")
    assert status == 0
    assert "inverted" in err
    assert "inverted" not in out


def test_the_package_runs_from_inside_its_own_folder(small, tmp_path):
    args = ["--cm-score-file", tmp_path / "s.txt", "--track", "LA", "--metadata", tmp_path / "keys"]
    args += ["--recompute-c012", "--c012-path", tmp_path / "c.npy"]
    done = subprocess.run([sys.executable, "main.py", *args], cwd=PACKAGE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Please scroll up and check the results.\n")


def test_neither_pandas_nor_matplotlib_nor_torch_is_imported():
    heavy = ("pandas", "matplotlib", "torch", "scipy")
    code = f"import sys, runpy; runpy.run_path('main.py'); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The fetcher


class Server(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}
    ranges: list[str | None] = []
    cut_after: int | None = None

    def do_GET(self):
        data = self.files.get(self.path.lstrip("/"))
        wanted = self.headers.get("Range")
        self.ranges.append(wanted)
        if data is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if wanted and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : len(data) if self.cut_after is None else start + self.cut_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch):
    """A site with an archive of DF keys, whose md5 the fetcher knows."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        data = b"LA_0023 DF_E_1 nocodec asvspoof A14 spoof notrim eval unknown - - - -\n"
        info = tarfile.TarInfo("keys/DF/CM/trial_metadata.txt")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    archive = buffer.getvalue()
    monkeypatch.setitem(download.ARCHIVES, "DF", ("DF-keys-full.tar.gz", hashlib.md5(archive).hexdigest()))
    monkeypatch.setattr(Server, "files", {"DF-keys-full.tar.gz": archive})
    monkeypatch.setattr(Server, "ranges", [])
    monkeypatch.setattr(Server, "cut_after", None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_keys_are_fetched_verified_and_unpacked_and_not_fetched_again(site, tmp_path, capsys):
    assert download.main(["DF", "--to", str(tmp_path), "--url", site]) == 0
    assert (tmp_path / "keys" / "DF" / "CM" / "trial_metadata.txt").read_text().startswith("LA_0023")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DF-keys-full.tar.gz", "keys"]
    assert download.main(["DF", "--to", str(tmp_path), "--url", site]) == 0
    assert "there already" in capsys.readouterr().out
    assert Server.ranges == [None]


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(site, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Server, "cut_after", 40)
    assert download.main(["DF", "--to", str(tmp_path), "--url", site]) == 2
    assert "start again" in capsys.readouterr().err
    assert (tmp_path / "DF-keys-full.tar.gz.part").stat().st_size == 40
    monkeypatch.setattr(Server, "cut_after", None)
    assert download.main(["DF", "--to", str(tmp_path), "--url", site]) == 0
    assert Server.ranges == [None, "bytes=40-"]
    assert (tmp_path / "keys" / "DF").is_dir()


def test_an_archive_with_another_md5_is_not_unpacked(site, tmp_path, capsys):
    Server.files["DF-keys-full.tar.gz"] += b"x"
    assert download.main(["DF", "--to", str(tmp_path), "--url", site]) == 2
    assert "expected md5" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_absent_archive_and_an_unknown_track_are_told(site, tmp_path, capsys):
    assert download.main(["LA", "--to", str(tmp_path), "--url", site]) == 2
    assert "the server answers 404" in capsys.readouterr().err
    for address in ("nowhere/", "http://["):
        assert download.main(["DF", "--to", str(tmp_path), "--url", address]) == 2
        assert "expected an address such as https://" in capsys.readouterr().err
    assert download.main(["XX"]) == 2
    assert "XX: no such track; choose from LA, PA, DF" in capsys.readouterr().err
    assert download.main(["DF", "--to", str(tmp_path), "--url", "http://127.0.0.1:9/"]) == 2
    assert "start again" in capsys.readouterr().err


def test_damaged_weights_of_the_organisers_are_told_from_main_py_too(small):
    Path("keys/LA/LA-C012-eval.npy").write_bytes(b"not a pickle")
    with pytest.raises(InputError, match="expected a file of t-DCF coefficients"):
        tdcf.pooled_min_tdcf(np.arange(3.0), -np.arange(3.0), "keys/LA/CM/trial_metadata.txt")
