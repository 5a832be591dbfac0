"""Keys, their roles and sentences, and the ways they are set."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import main
from main import CONFIG, build_parser
from qamo import InputError
from qamo.config import flags
from qamo.config.keys import Role, Section, keys_of
from qamo.config.load import RENAMED, asked_of_weights, flat, load_config, parse_assignments, to_yaml
from qamo.config.schema import Config

ROOT = Path(__file__).parents[2]


def resolved(*words: str) -> Config:
    return flags.config_from(build_parser().parse_intermixed_args(words), CONFIG)


def test_every_key_has_a_sentence_and_a_role():
    values = flat(Config().model_dump(exclude={"eval": {"catalogue"}}))
    known = keys_of(Config)
    assert values.keys() < known.keys()
    assert [key for key, about in known.items() if len(about.sentence.split()) < 2] == []
    assert {about.role for about in known.values()} == set(Role)
    with pytest.raises(TypeError, match=r"Bare\.size: declare it as architecture or scoring"):

        class Bare(Section):
            size: int = 3


def test_config_yaml_is_written_from_the_fields():
    """If it is not: python main.py --config /dev/null --print-config > config.yaml"""
    assert (ROOT / "config.yaml").read_text() == to_yaml(Config())
    assert load_config(ROOT / "config.yaml") == Config()
    assert max(map(len, to_yaml(Config()).splitlines())) <= 120


def test_a_key_that_was_renamed_is_taken_by_its_old_name_with_a_note(tmp_path, caplog):
    (tmp_path / "c.yaml").write_text("data: {rawboost: {share: 0.3}}\n")
    caplog.set_level(logging.INFO)
    config = resolved("--config", str(tmp_path / "c.yaml"))
    assert config.data.rawboost.probability == 0.3
    assert f"{tmp_path}/c.yaml: data.rawboost.share is now called data.rawboost.probability" in caplog.text
    config = resolved("--config", str(tmp_path / "c.yaml"), "data.rawboost={share: 0.2}", "data.rawboost.n_bands=2")
    assert (config.data.rawboost.probability, config.data.rawboost.n_bands) == (0.2, 2)
    assert "command line: data.rawboost.share is now called" in caplog.text
    with pytest.raises(InputError, match="both are given; leave one out"):
        resolved("data.rawboost={share: 0.2, probability: 0.3}")
    assert RENAMED.keys().isdisjoint(keys_of(Config))
    assert set(RENAMED.values()) <= keys_of(Config).keys()


def test_help_lists_every_flag_by_group_with_key_default_and_registered_parts():
    shown = " ".join(build_parser().format_help().split())
    for group in (
        *flags.GROUPS,
        "[model.backend: conformer_tcm]",
        "conformer_tcm, nes2net, asp, mean",
        "qamo, oc_softmax, wce",
    ):
        assert group in shown, group
    for flag in flags.FLAGS:
        assert f"{flag.flag} " in shown
        assert f"[{flag.key}: " in shown


def test_a_config_survives_being_written_and_read(tmp_path):
    config = load_config(None, {"train.lr": "1e-5", "data.rawboost.center_hz.0": "40", "model.head": "wce"})
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "c.yaml") == config


def test_scientific_notation_without_a_dot_is_a_number():
    assert load_config(None, {"train.lr": "1e-6"}).train.lr == 1e-6


def test_flags_beat_yaml_and_assignments_beat_flags(tmp_path):
    (tmp_path / "c.yaml").write_text("train: {batch_size: 4, patience: 3, n_best: 9}\n")
    config = resolved("--config", str(tmp_path / "c.yaml"), "--batch_size", "6", "train.patience=2")
    assert (config.train.batch_size, config.train.patience, config.train.n_best) == (6, 2, 9)
    assert config.train.lr == Config().train.lr


def test_a_range_flag_changes_one_end_and_keeps_the_yaml_of_the_other(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {rawboost: {snr_db: [5, 25]}}\n")
    config = resolved("--config", str(tmp_path / "c.yaml"), "--SNRmax", "30")
    assert config.data.rawboost.snr_db == (5, 30)


VALUES = {
    "--database_path": ("x", Path("x")),
    "--protocols_path": ("x", Path("x")),
    "--model": ("nes2net", "nes2net"),
    "--loss": ("weighted_CCE", "wce"),
    "--FT_W2V": ("False", True),
    "--train": ("False", False),
    "--average_model": ("False", "none"),
    "--comment": ("c", "c"),
    "--comment_eval": ("FoR", "FoR"),
    "--name": ("n", "n"),
    "--ckpt_path": ("best.pth", Path("best.pth")),
    "--device": ("cpu", "cpu"),
    "--on-bad-audio": ("fail", "fail"),
    "--n_mejores_loss": ("6", 6),
    "--n_average_model": ("4", 4),
    "--heads": ("12", 12),
    "--algo": ("5", 5),
    "--nBands": ("3", 3),
    "--N_f": ("3", 3),
    "--minCoeff": ("12", 12),
    "--maxCoeff": ("90", 90),
}


@pytest.mark.parametrize("flag", flags.FLAGS, ids=lambda f: f.flag)
def test_every_flag_sets_the_key_that_the_table_names(flag):
    text, expected = VALUES.get(flag.flag, ("24", 24))
    value = resolved(flag.flag, text)
    for part in flag.key.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    assert value == expected
    plain = Config()
    for part in flag.key.split("."):
        plain = plain[int(part)] if part.isdigit() else getattr(plain, part)
    assert plain != expected


def test_what_is_asked_of_trained_weights_is_known_however_it_was_written(tmp_path):
    (tmp_path / "c.yaml").write_text("model: {head: wce}\n")
    words = ["--config", str(tmp_path / "c.yaml"), "model={backend: nes2net}", "model.conformer_tcm.n_heads=2"]
    words += ["model.qamo={score: max, margin: 0.3}", "seed=3", "data.rawboost.snr_db.1=30", "model.xlsr.freeze=true"]
    args = build_parser().parse_intermixed_args([*words, "--train", "false", "model.xlsr.weights=null"])
    overrides = flags.overrides_of(args)
    config = flags.config_from(args, CONFIG)
    expected = {"backend": "nes2net", "conformer_tcm.n_heads": 2, "qamo.score": "max"}
    assert asked_of_weights(config, overrides) == expected
    training = config.model_copy(update={"train": config.train.model_copy(update={"enabled": True})})
    assert asked_of_weights(training, overrides) == {}


def test_settings_of_the_loss_are_nothing_that_weights_could_contradict():
    args = build_parser().parse_intermixed_args(
        ["--train", "false", "--preset", "paper", "model.wce.weight_spoof=0.3", "--heads", "2"]
    )
    asked = asked_of_weights(flags.config_from(args, CONFIG), flags.overrides_of(args))
    assert asked == {"qamo.score": "softmax", "conformer_tcm.n_heads": 2}


def test_the_paper_preset_sets_its_scale_and_score():
    qamo = resolved("--preset", "paper").model.qamo
    assert (qamo.scale, qamo.score) == (20.0, "softmax")


def test_the_parent_projects_preset_is_one_adam_for_all_and_noise_on_every_utterance():
    config = resolved("--preset", "tcm")
    assert (config.model.head, config.train.lr, config.train.head_lr) == ("wce", 1e-6, 1e-6)
    assert config.data.rawboost.probability == 1
    assert resolved("--preset", "tcm", "--loss", "qamo").model.head == "qamo"


@pytest.mark.parametrize("name", ["WCE", "wce", "weighted_CCE", "OCSoftmax", "oc_softmax", "QAMO"])
def test_losses_are_known_in_every_spelling_of_the_field(name):
    expected = "qamo" if name == "QAMO" else "oc_softmax" if name.startswith(("OC", "oc")) else "wce"
    assert resolved("--loss", name).model.head == expected


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("train.batchsize=3", "train.batchsize: no such key; did you mean train.batch_size?"),
        ("batch_size=3", "did you mean train.batch_size?"),
        ("train.batch_size=three", "command line: train.batch_size: expected a whole number, found 'three'"),
        ("data.n_workers=some", "command line: data.n_workers: expected a whole number or 'auto', found 'some'"),
        ("score.batch_size=0", "score.batch_size: expected a value greater than or equal to 1 or 'auto', found 0"),
        ("data.quality.thresholds=[a]", "command line: data.quality.thresholds.0: expected a number, found 'a'"),
        ("eval.catalogue.ITW.audio=[1]", "command line: eval.catalogue.ITW.audio: expected a text, found ['1']"),
        ("run.compile=yes", "run.compile: expected 'auto' or 'off', found 'yes'"),
        ("train.batch_size=true", "train.batch_size: expected a number, found True"),
        ("train=3", "train: expected a section of `key: value` lines, found 3"),
        ("model.head=softmax", "model.head: "),
        ("model.qamo.n_centroids=3", "n_centroids is 3 but data.quality makes 2 classes"),
        ("model.qamo.radius_spoof=0.95", "radius_spoof"),
        ("data.quality.thresholds=[3, 2]", "expected increasing values"),
        ("eval.sets=[LA, XX]", "'XX' is not in eval.catalogue"),
        ("train.n_average=6", "n_average 6 exceeds n_best 5"),
        ("model.conformer_tcm.n_heads=5", "not divisible"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_its_key(assignment, said):
    with pytest.raises(InputError) as error:
        resolved(assignment)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_words_that_are_no_assignments_are_refused():
    with pytest.raises(InputError, match=r"expected section\.key=value"):
        parse_assignments(["train.batch_size"])


def test_yaml_faults_name_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    for text, said in [("a: [", "not YAML"), ("- 1", "expected `section:`"), ("trian: {}", "did you mean train")]:
        path.write_text(text)
        with pytest.raises(InputError, match=said) as error:
            load_config(path)
        assert str(path) in str(error.value)
    with pytest.raises(InputError, match="no such config file"):
        load_config(tmp_path / "missing.yaml")


def test_help_and_print_config_start_fast_without_torch_and_write_nothing(tmp_path):
    code = (
        "import sys; sys.argv=['main.py','--print-config']; import main; main.main(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_schema_for_editors_has_every_key(capsys):
    assert main.main(["--print-schema"]) == 0
    schema = json.loads(capsys.readouterr().out)

    def keys(node, start=""):
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        for name, below in node.get("properties", {}).items():
            yield f"{start}{name}"
            yield from keys(below, f"{start}{name}.")

    missing = {key for key in keys_of(Config) if not key.startswith("eval.catalogue.")} - set(keys(schema))
    assert missing == set()
    assert "title" in schema
