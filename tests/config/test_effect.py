"""Settings that nothing would read are refused, whatever way they were written."""

from __future__ import annotations

import pytest

from main import CONFIG, build_parser
from qamo import InputError
from qamo.config import flags
from qamo.config.effect import check_effect


def check(*words: str) -> None:
    args = build_parser().parse_intermixed_args(words)
    cfg = flags.config_from(args, CONFIG)
    check_effect(cfg, flags.overrides_of(args), flags.PRESETS.get(args.preset, {}))


SCORING = ("--train", "false", "--ckpt_path", "model.pt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*SCORING, "train.average=reference"), "train.average has no effect: model.pt is no folder of best_0.pth"),
        ((*SCORING, "--average_model", "true"), "train.average has no effect"),
        ((*SCORING, "train={n_average: 3}"), "train.n_average has no effect"),
        ((*SCORING, "--lr", "1e-5"), "train.lr has no effect: nothing is trained"),
        ((*SCORING, "train.save_every_s=3"), "train.save_every_s has no effect"),
        ((*SCORING, "--seed", "3"), "seed has no effect"),
        ((*SCORING, "--SNRmax", "30"), r"data\.rawboost\.snr_db\.1 has no effect"),
        ((*SCORING, "data.rawboost.share=0.1"), r"data\.rawboost\.probability has no effect"),
        ((*SCORING, "model.qamo.margin=0.1"), r"model\.qamo\.margin has no effect"),
        ((*SCORING, "model.conformer_tcm.init=independent"), r"model\.conformer_tcm\.init has no effect"),
        (("--ckpt_path", "model.pt"), r"score\.weights has no effect: the run is trained.*--train false"),
        (("--model", "nes2net", "--heads", "8"), r"model\.conformer_tcm\.n_heads has no effect: model.backend is nes2"),
        (("--loss", "wce", "--preset", "paper"), "--preset has no effect: model.head is wce"),
        (("model.frontend=lfcc", "--FT_W2V", "false"), r"model\.xlsr\.freeze has no effect: model.frontend is lfcc"),
    ],
)
def test_what_nothing_reads_is_refused(words, said):
    with pytest.raises(InputError, match=said):
        check(*words)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--lr", "1e-5", "train.average=reference", "--preset", "paper"),
        (*SCORING, "--preset", "paper"),  # of which the score rule is read
        (*SCORING, "model.qamo.score=max", "--comment_eval", "x", "score.batch_size=4", "data.n_workers=0"),
        (*SCORING, "--model", "nes2net", "data.window_samples=64600", "run.n_threads=2"),
        ("--train", "false", "train.lr=1e-5"),  # which run is meant
    ],
)
def test_what_is_read_is_taken(words):
    check(*words)


def test_settings_of_a_file_are_of_every_command_that_reads_it(tmp_path):
    (tmp_path / "c.yaml").write_text("train: {lr: 1.0e-5}\nmodel: {nes2net: {dilation: 3}}\n")
    check("--config", str(tmp_path / "c.yaml"), *SCORING)


def test_a_folder_of_published_epochs_reads_how_they_are_averaged(tmp_path):
    (tmp_path / "best_0.pth").touch()
    check("--train", "false", "--ckpt_path", str(tmp_path), "train.average=reference", "train.n_average=4")
