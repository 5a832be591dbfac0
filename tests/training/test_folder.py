"""Run folders: their names, and which training one holds."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from qamo import InputError
from qamo.config.load import load_config, read_run_config, to_yaml
from qamo.config.schema import Config
from qamo.training.folder import RunFolder, scoring_digest

ROOT = Path(__file__).parents[2]


def config(**keys) -> Config:
    return load_config(None, {key.replace("__", "."): value for key, value in keys.items()})


def folder_of(cfg: Config) -> Path:
    return RunFolder.of(cfg).path


def test_runs_keep_the_names_that_they_had_before_keys_were_renamed():
    before = {"model.backend": "conformer_tcm", "model.conformer_tcm.init": "independent"}  # as all runs were
    quick = load_config(ROOT / "database" / "mini-quick.yaml", before)
    assert folder_of(quick).name == "distillmos_conformer_tcm_qamo_seed1234_c0e88b69"
    assert folder_of(load_config(None, before)).name == "xlsr_conformer_tcm_qamo_seed1234_4f45ee7b"
    assert scoring_digest(config().model.model_dump()) == "84591a8468192b42"


def test_a_run_of_before_a_key_was_renamed_is_the_same_run(tmp_path):
    folder = RunFolder(tmp_path)
    older = to_yaml(config()).replace("    probability: 0.4", "    share: 0.4")
    folder.config.write_text(older)
    assert folder.holds_training(config())
    with pytest.raises(InputError, match=r"data\.rawboost\.probability is 0\.1 but was 0\.4"):
        folder.holds_training(config(data__rawboost__share=0.1))


def test_a_run_of_before_a_key_existed_keeps_what_it_did(tmp_path):
    folder = RunFolder(tmp_path)
    lines = to_yaml(config(model__conformer_tcm__init="independent")).splitlines()
    folder.config.write_text("\n".join(line for line in lines if not line.lstrip().startswith("init: ")))
    assert read_run_config(folder.config).model.conformer_tcm.init == "independent"
    assert folder.holds_training(config(model__conformer_tcm__init="independent"))
    with pytest.raises(InputError, match=r"model\.conformer_tcm\.init is 'copies' but was 'independent'"):
        folder.holds_training(config())


def test_the_name_of_a_run_changes_with_what_decides_its_weights_and_with_nothing_else():
    plain = folder_of(config())
    decisive: list[dict[str, Any]] = [
        {"seed": 2},
        {"train__lr": 1e-5},
        {"train__precision": "bf16-mixed"},
        {"model__qamo__margin": 0.3},
        {"model__backend": "nes2net"},
        {"model__conformer_tcm__init": "independent"},
        {"data__rawboost__algorithm": 5},
        {"data__quality__thresholds": [3.0]},
    ]
    names = {folder_of(config(**keys)) for keys in decisive}
    assert len(names | {plain}) == len(decisive) + 1
    indifferent: list[dict[str, Any]] = [
        {"data__n_workers": 0},
        {"data__database_path": "/elsewhere"},
        {"train__save_every_s": 5},
        {"train__frontend_chunks": 4},
        {"model__xlsr__gradient_checkpointing": True},
        {"model__wce__weight_spoof": 0.5},  # of a head that is not chosen
        {"eval__sets": ["LA"]},
        {"run__devices": 2},
        {"score__batch_size": 5},
    ]
    for keys in indifferent:
        assert folder_of(config(**keys)) == plain, keys
    assert plain.name.startswith("xlsr_conformer_tcm_qamo_seed1234_")


def test_a_name_is_taken_as_it_is_and_scores_of_other_weights_have_a_folder_of_their_own():
    assert folder_of(config(name="mine")).name == "mine"
    scoring = config(train__enabled=False, score__weights="exps/old/epoch_003.pt")
    assert folder_of(scoring).name == "score_old_epoch_003"


def test_another_training_in_the_same_folder_is_refused_with_the_keys_that_differ(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.holds_training(config())
    (tmp_path / "config.yaml").write_text(to_yaml(config()))
    assert folder.holds_training(config(data__n_workers=1, train__frontend_chunks=2))
    with pytest.raises(InputError) as caught:
        folder.holds_training(config(model__head="wce", train__batch_size=10, data__n_workers=1))
    said = str(caught.value)
    assert "model.head is 'wce' but was 'qamo'; train.batch_size is 10 but was 20; give this one another --name" in said


def test_scores_depend_on_settings_that_take_no_weights():
    def digest(**keys) -> str:
        return scoring_digest(config(**keys).model.model_dump())

    plain = digest()
    assert digest(model__qamo__score="max") != plain
    assert digest(model__xlsr__normalize_input="utterance") != plain
    assert digest(model__xlsr__weights=None, model__xlsr__freeze=True, model__wce__margin=0.1) == plain


def test_what_is_scored_is_not_to_come(tmp_path):
    folder = RunFolder(tmp_path)
    sets = {name: types.SimpleNamespace(names=["a"] * n) for name, n in (("seen", 3), ("unseen", 5))}
    assert folder.n_unscored(sets, None) == 8
    folder.scores.mkdir()
    folder.score_file("seen").write_text("a 1\n")
    assert folder.n_unscored(sets, None) == 5
    assert folder.n_unscored(sets, "again") == 8
