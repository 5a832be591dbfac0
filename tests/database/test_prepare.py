"""database/prepare.py on trees of empty files: names, labels, counts, and what it says where something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

import main
import prepare
from qamo.config.load import load_config
from qamo.config.schema import DataConfig, EvalConfig
from qamo.trials.keys import read_keys
from qamo.trials.protocol import read_protocol, read_trial_list

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT.parent / "shared" / "reference_data"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the authors' protocols and keys are not here")

DATA, CATALOGUE = DataConfig(), EvalConfig().catalogue


def touch(folder: Path, names: list[str]) -> None:
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def labels(path: Path) -> dict[str, bool]:
    keys = read_keys(path)
    return dict(zip(keys.names, keys.bonafide.tolist()))


# ---- whole corpora, by the names of the real ones


@pytest.fixture(scope="module")
def la2019(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What LA.zip of ASVspoof 2019 unpacks to, with empty recordings."""
    root = tmp_path_factory.mktemp("downloads") / "LA"
    (root / "ASVspoof2019_LA_cm_protocols").mkdir(parents=True)
    for part, ending in (("train", "train.trn"), ("dev", "dev.trl")):
        rows = (REFERENCE / "protocols_with_mos" / f"ASVspoof2019.LA.cm.{ending}.score.txt").read_text().splitlines()
        touch(root / f"ASVspoof2019_LA_{part}" / "flac", [f"{row.split()[1]}.flac" for row in rows])
        text = "".join(row.rpartition(" ")[0] + "\n" for row in rows)
        (root / "ASVspoof2019_LA_cm_protocols" / f"ASVspoof2019.LA.cm.{ending}.txt").write_text(text)
    return root


@needs_reference
def test_asvspoof_2019_with_the_authors_mos_becomes_the_authors_protocols(la2019, tmp_path):
    theirs = [REFERENCE / "protocols_with_mos" / f"ASVspoof2019.LA.cm.{e}.score.txt" for e in ("train.trn", "dev.trl")]
    words = ["la2019", "--from", str(la2019.parent), "--to", str(tmp_path), "--mos", *map(str, theirs)]
    assert prepare.main(words) == 0
    for ours, reference in zip((DATA.train_protocol, DATA.dev_protocol), theirs):
        assert (tmp_path / ours).read_text().split() == reference.read_text().split()
    assert (tmp_path / DATA.train_audio / "LA_T_1138215.flac").exists()


@needs_reference
def test_asvspoof_2019_without_mos_is_written_and_says_how_to_add_them(la2019, tmp_path, capsys):
    assert prepare.main(["la2019", "--from", str(la2019), "--to", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    plain = tmp_path / DATA.train_protocol.replace(".score.txt", ".txt")
    assert not (tmp_path / DATA.train_protocol).exists()
    assert f"python predict_mos.py {plain} {tmp_path / DATA.train_audio} -o {tmp_path / DATA.train_protocol}" in said
    reference = REFERENCE / "protocols_with_mos" / "ASVspoof2019.LA.cm.train.trn.score.txt"
    assert labels(plain) == labels(reference)
    assert prepare.main(["la2019", "--from", str(la2019), "--to", str(tmp_path)]) == 0  # again: nothing is in the way
    assert capsys.readouterr().out.count("there already") == 4


@needs_reference
def test_the_authors_lists_are_linked_where_main_looks(la2019, tmp_path):
    words = ["--authors", str(REFERENCE), "--to", str(tmp_path)]
    assert prepare.main(["la2019", "--from", str(la2019), *words]) == 0
    assert (tmp_path / DATA.train_protocol).is_symlink()
    assert len(read_protocol(tmp_path / DATA.train_protocol)) == 25_380
    for corpus in ("itw", "for"):
        assert prepare.main([corpus, *words]) == 0
    assert len(read_trial_list(tmp_path / CATALOGUE["ITW"].trials)) == 31_779
    assert len(read_keys(tmp_path / str(CATALOGUE["FoR"].keys))) == 4_634


@needs_reference
def test_in_the_wild_is_read_from_its_own_meta_csv(tmp_path, capsys):
    root = tmp_path / "downloads" / "release_in_the_wild"
    reference = REFERENCE / "keys" / "ITW" / "meta.csv"
    touch(root, [f"{i}.wav" for i in range(31_779)])
    (root / "meta.csv").write_text(reference.read_text())
    mos = REFERENCE / "protocols_with_mos" / "in_the_wild.meta.score.txt"
    to = tmp_path / "database"
    assert prepare.main(["itw", "--from", str(root), "--to", str(to), "--mos", str(mos)]) == 0
    listed = read_trial_list(to / CATALOGUE["ITW"].trials)
    assert listed == read_trial_list(REFERENCE / "protocols" / "in_the_wild.eval.txt")
    assert labels(to / str(CATALOGUE["ITW"].keys)) == labels(reference)
    with_mos = read_keys((to / str(CATALOGUE["ITW"].keys)).with_name("meta.score.txt"))
    assert list(with_mos.columns["mos"]) == list(read_keys(mos).columns["mos"])
    assert (to / CATALOGUE["ITW"].audio / "31778.wav").exists()

    (root / "31778.wav").unlink()
    (root / "5.wav").unlink()
    assert prepare.main(["itw", "--from", str(root), "--to", str(to)]) == 2
    said = capsys.readouterr().err
    assert "missing: 2 of the 31,779 recordings" in said
    assert "31778.wav, 5.wav" in said
    assert "https://deepfake-total.com/in_the_wild" in said


@needs_reference
def test_fake_or_real_is_read_from_its_folders(tmp_path):
    names = read_trial_list(REFERENCE / "protocols" / "for_norm_test.txt")
    touch(tmp_path / "downloads" / "for-norm" / "for-norm" / "testing", [*names, "fake/.DS_Store"])
    assert prepare.main(["for", "--from", str(tmp_path / "downloads"), "--to", str(tmp_path / "database")]) == 0
    assert set(read_trial_list(tmp_path / "database" / CATALOGUE["FoR"].trials)) == set(names)
    ours = tmp_path / "database" / str(CATALOGUE["FoR"].keys)
    assert labels(ours) == labels(REFERENCE / "keys" / "FoR" / "meta.csv")


# ---- small ones


def asvspoof2021(root: Path, n: int = 6, track: str = "LA") -> Path:
    names = [f"{track}_E_{i:07d}" for i in range(n)]
    folder = root / f"ASVspoof2021_{track}_eval"
    touch(folder / "flac", [f"{name}.flac" for name in names])
    (folder / f"ASVspoof2021.{track}.cm.eval.trl.txt").write_text("\n".join(names))
    keys = root / "keys" / track / "CM" / "trial_metadata.txt"
    keys.parent.mkdir(parents=True)
    blank = "" if track == "LA" else " traditional_vocoder - - - -"
    kinds = ["A07 spoof", "bonafide bonafide"]
    keys.write_text(
        "".join(f"S {name} alaw ita_tx {kinds[i % 2]} notrim eval{blank}\n" for i, name in enumerate(names))
    )
    return folder


@pytest.mark.parametrize("track", ["LA", "DF"])
def test_asvspoof_2021_links_recordings_and_keys_and_writes_the_list(tmp_path, track):
    asvspoof2021(tmp_path / "got", track=track)
    to = tmp_path / "database"
    words = [f"{track.lower()}2021", "--from", str(tmp_path / "got"), "--to", str(to)]
    assert prepare.main([*words, "--any-count"]) == 0
    names = read_trial_list(to / CATALOGUE[track].trials)
    assert len(names) == 6
    assert read_keys(to / str(CATALOGUE[track].keys), subset="eval").names == names
    assert all((to / CATALOGUE[track].audio / f"{name}.flac").exists() for name in names)


def test_a_wrong_count_is_refused(tmp_path, capsys):
    asvspoof2021(tmp_path / "got")
    assert prepare.main(["la2021", "--from", str(tmp_path / "got"), "--to", str(tmp_path / "to")]) == 2
    assert "expected the 181,566 trials of la2021 eval, found 6" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_missing_keys_are_named_with_where_they_are_published(tmp_path, capsys):
    folder = asvspoof2021(tmp_path / "got")
    words = ["la2021", "--from", str(folder), "--to", str(tmp_path / "to"), "--any-count"]
    assert prepare.main(words) == 2
    said = capsys.readouterr().err
    assert "LA/CM/trial_metadata.txt, the keys" in said
    assert "https://www.asvspoof.org/asvspoof2021/LA-keys-full.tar.gz" in said
    assert not (tmp_path / "to").exists()
    assert prepare.main([*words, "--partial"]) == 0
    assert (tmp_path / "to" / CATALOGUE["LA"].trials).exists()


def test_keys_of_other_trials_are_refused(tmp_path, capsys):
    asvspoof2021(tmp_path / "got")
    keys = tmp_path / "got" / "keys" / "LA" / "CM" / "trial_metadata.txt"
    keys.write_text(keys.read_text().replace("LA_E_0000003", "LA_E_9"))
    assert prepare.main(["la2021", "--from", str(tmp_path / "got"), "--to", str(tmp_path), "--any-count"]) == 2
    assert "names or labels of 2 trials differ" in capsys.readouterr().err


def test_a_dry_run_leaves_nothing_behind(tmp_path, capsys):
    asvspoof2021(tmp_path / "got")
    to = tmp_path / "to"
    assert prepare.main(["la2021", "--from", str(tmp_path / "got"), "--to", str(to), "--any-count", "--dry-run"]) == 0
    assert "not written yet" in capsys.readouterr().out
    assert not to.exists()


def test_without_links_the_keys_to_set_are_told(tmp_path, capsys):
    folder = asvspoof2021(tmp_path / "got")
    words = ["la2021", "--from", str(tmp_path / "got"), "--to", str(tmp_path / "to"), "--any-count", "--no-links"]
    assert prepare.main(words) == 0
    assert f"main.py needs: eval.catalogue.LA.audio={folder / 'flac'}" in capsys.readouterr().out
    assert not (tmp_path / "to" / CATALOGUE["LA"].audio).exists()


def test_other_content_is_replaced_only_by_force(tmp_path, capsys):
    asvspoof2021(tmp_path / "got")
    listed = tmp_path / "to" / CATALOGUE["LA"].trials
    listed.parent.mkdir(parents=True)
    listed.write_text("mine\n")
    words = ["la2021", "--from", str(tmp_path / "got"), "--to", str(tmp_path / "to"), "--any-count"]
    assert prepare.main(words) == 2
    assert f"{listed}: holds something else" in capsys.readouterr().err
    assert listed.read_text() == "mine\n"
    assert not (tmp_path / "to" / CATALOGUE["LA"].audio).exists()
    assert prepare.main([*words, "--force"]) == 0
    assert len(read_trial_list(listed)) == 6


def test_dangling_links_and_links_out_of_the_corpus_are_stepped_over(tmp_path, capsys):
    folder = asvspoof2021(tmp_path / "got")
    (tmp_path / "got" / "broken.txt").symlink_to(tmp_path / "nothing")
    (tmp_path / "got" / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "got" / "loop").symlink_to(tmp_path / "got")
    (folder / "ASVspoof2021.LA.cm.eval.trl.txt").rename(tmp_path / "elsewhere.txt")
    (folder / "ASVspoof2021.LA.cm.eval.trl.txt").symlink_to(tmp_path / "elsewhere.txt")
    words = ["la2021", "--from", str(tmp_path / "got"), "--to", str(tmp_path / "to"), "--any-count"]
    assert prepare.main(words) == 2
    said = capsys.readouterr().err
    assert "missing: ASVspoof2021.LA.cm.eval.trl.txt" in said
    assert f"links that lead out of it were not followed: {folder}/ASVspoof2021.LA.cm.eval.trl.txt" in said
    assert prepare.main(["la2021", "--from", str(tmp_path), *words[3:]]) == 0  # it leads to what is searched

    (folder / "flac" / "LA_E_0000003.flac").unlink()
    (folder / "flac" / "LA_E_0000003.flac").symlink_to(tmp_path / "nothing")
    assert prepare.main(["la2021", "--from", str(tmp_path), *words[3:]]) == 2
    assert "1 of the 6 recordings of la2021 eval" in capsys.readouterr().err


def test_a_mos_that_training_would_refuse_is_refused(tmp_path, capsys):
    asvspoof5(tmp_path / "got")
    words = ["asvspoof5", "--from", str(tmp_path / "got"), "--to", str(tmp_path / "to"), "--any-count", "--mos"]
    (tmp_path / "a.txt").write_text("T_0000000001 99\n")
    assert prepare.main([*words, str(tmp_path / "a.txt")]) == 2
    assert "a.txt:1: expected the MOS to be a number from 0 to 6, got '99'" in capsys.readouterr().err
    (tmp_path / "a.txt").write_text("T_0000000001 3.5\n")
    (tmp_path / "b.txt").write_text("T_0000000001 3.6\n")
    assert prepare.main([*words, str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]) == 2
    assert "has the MOS 3.6 here and 3.5 before" in capsys.readouterr().err


def test_names_that_no_list_can_hold_are_refused_before_anything_is_written(tmp_path, capsys):
    touch(tmp_path / "got" / "for-norm" / "testing", ["fake/take 1.wav", "real/a.wav"])
    words = ["for", "--from", str(tmp_path / "got"), "--to", str(tmp_path / "to"), "--any-count"]
    assert prepare.main(words) == 2
    assert "the name 'fake/take 1.wav' holds a blank" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_recordings_in_several_folders_are_said_to_be_so(tmp_path, capsys):
    folder = asvspoof2021(tmp_path / "got" / "part00")
    other = tmp_path / "got" / "part01" / "ASVspoof2021_LA_eval" / "flac"
    other.mkdir(parents=True)
    (folder / "flac" / "LA_E_0000005.flac").rename(other / "LA_E_0000005.flac")
    assert prepare.main(["la2021", "--from", str(tmp_path / "got"), "--to", str(tmp_path), "--any-count"]) == 2
    said = capsys.readouterr().err
    assert "1 of the 6 recordings" in said
    assert "move them to one" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["la2019"], "expected --from DIR"),
        (["la2019", "--from", "nowhere"], "nowhere: no such folder"),
        (["itw", "--from", "."], "release_in_the_wild/meta.csv (nothing like it is below"),
        (["itw", "--from", ".", "--partial"], "nothing was written; none of it is there"),
        (["authors", "--url", "http://["], "expected an address such as https://"),
        (["asvspoof5", "--authors", "."], "no files for asvspoof5"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert prepare.main([*words, "--to", str(tmp_path / "to")]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def asvspoof5(root: Path) -> None:
    """Three parts of six recordings in the layout of the published archives."""
    for letter, name, folder in (
        ("T", "train", "flac_T"),
        ("D", "dev.track_1", "flac_D"),
        ("E", "eval.track_1", "flac_E_eval"),
    ):
        names = [f"{letter}_{i:010d}" for i in range(6)]
        touch(root / folder, [f"{n}.flac" for n in names])
        lines = [
            f"{letter}_4850 {n} F C01 - - AC1 {'A05 spoof' if i % 2 else 'bonafide bonafide'} -\n"
            for i, n in enumerate(names)
        ]
        (root / f"ASVspoof5.{name}.tsv").write_text("".join(lines))


def test_asvspoof_5_comes_with_a_config_that_main_runs_by(tmp_path, capsys):
    asvspoof5(tmp_path / "got")
    mos = tmp_path / "mos.txt"
    mos.write_text("".join(f"{letter}_{i:010d} {2 + i / 4}\n" for letter in "TD" for i in range(6)))
    to = tmp_path / "database"
    words = ["asvspoof5", "--from", str(tmp_path / "got"), "--to", str(to), "--any-count", "--mos", str(mos)]
    assert prepare.main(words) == 0
    cfg = load_config(to / "ASVspoof5" / "config.yaml")
    assert cfg.eval.sets == ["ASVspoof5"]
    keys = read_keys(cfg.data.protocols_path / cfg.eval.catalogue["ASVspoof5"].keys)
    assert keys.columns["codec"] == ["C01"] * 6
    trials = read_protocol(cfg.data.protocols_path / cfg.data.train_protocol)
    assert trials.bonafide.tolist() == [True, False] * 3
    assert trials.mos.tolist() == [2, 2.25, 2.5, 2.75, 3, 3.25]
    capsys.readouterr()
    # Everything is where main.py looks: all that --check has to say is that the recordings are empty.
    words = ["--config", str(to / "ASVspoof5" / "config.yaml"), "train.batch_size=4", "model.frontend=lfcc", "--check"]
    assert main.main(words) == 2
    faults = [line for line in capsys.readouterr().err.splitlines() if line.startswith("main.py: ")]
    assert len(faults) == 3
    assert all("6 of 6 recordings missing or empty" in line and "0 bytes" in line for line in faults)


def test_mos_for_some_of_the_recordings_only_are_refused(tmp_path, capsys):
    asvspoof5(tmp_path / "got")
    (tmp_path / "mos.txt").write_text("T_0000000001 3.5\n")
    words = ["asvspoof5", "--from", str(tmp_path / "got"), "--to", str(tmp_path / "to"), "--any-count"]
    assert prepare.main([*words, "--mos", str(tmp_path / "mos.txt")]) == 2
    assert "no MOS for 5 of the 6 recordings of asvspoof5 train" in capsys.readouterr().err
    (tmp_path / "mos.txt").write_text("X_0000000001 3.5\n")
    assert prepare.main([*words, "--mos", str(tmp_path / "mos.txt")]) == 2
    assert "none of its 1 names is a recording of asvspoof5" in capsys.readouterr().err
