"""The command line of main.py: the published code's flags, each as a key of the config, and the presets.

A flag means what the sentence of its key says, unless its own note says otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qamo.command import number
from qamo.config.keys import keys_of
from qamo.config.load import load_config, parse_assignments, yaml_text
from qamo.config.parts import ModelConfig
from qamo.config.schema import MAX_SEED, Config
from qamo.config.yaml_text import Text

PRESETS: dict[str, dict[str, Any]] = {
    "code": {},
    "paper": {"model.qamo.scale": 20.0, "model.qamo.score": "softmax"},
    # The parent project (tcm_add): one Adam for all weights, RawBoost on every utterance.
    "tcm": {"model.head": "wce", "train.lr": 1e-6, "train.head_lr": 1e-6, "data.rawboost.probability": 1.0},
}
HEAD_NAMES = {"weighted_cce": "wce", "ocsoftmax": "oc_softmax", "oc-softmax": "oc_softmax"}  # other spellings
LOSS_NOTE = (
    f"{ModelConfig.sentence('head')}. oc_softmax and wce train as qamo does: the paper does not describe those rows "
    "further; --preset tcm has the WCE recipe of the parent project"
)


def switch(text: str) -> bool:
    """The true and false of a flag, also as yes and no, 1 and 0."""
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")


def _mean_or_none(text: str) -> str:
    return "mean" if switch(text) else "none"


KINDS: dict[type, tuple[Callable[[str], Any], str]] = {  # of a key's default: how a flag's text is read, its metavar
    bool: (switch, "true|false"),
    int: (int, "N"),
    float: (float, "X"),
    type(Path()): (str, "PATH"),
}


class Flag(NamedTuple):
    """A flag and the key that it sets."""

    flag: str
    key: str  # .0 and .1 are the two ends of a range
    convert: Callable[[str], Any] | None = None  # from the flag's text, where the key has other values than the flag
    note: str = ""  # where the flag's meaning is not the sentence of the key

    @property
    def dest(self) -> str:
        return f"flag:{self.flag}"

    def add_to(self, group: argparse._ArgumentGroup) -> None:
        key, _, end = self.key.rpartition(".") if self.key[-1] in "01" else (self.key, "", "")
        about = keys_of(Config)[key]
        default = about.default[int(end)] if end else about.default
        shown = yaml_text(str(default) if isinstance(default, Path) else default)
        kind, metavar = KINDS.get(type(default), (str, "NAME"))
        sentence = self.note or about.sentence + {"": "", "0": " (minimum)", "1": " (maximum)"}[end]
        group.add_argument(
            self.flag,
            type=self.convert or kind,
            dest=self.dest,
            metavar=metavar,
            help=f"{sentence} [{self.key}: {shown}]".replace("%", "%%"),
        )


GROUPS: dict[str, list[Flag]] = {
    "what to train": [
        Flag("--model", "model.backend"),
        Flag("--loss", "model.head", lambda name: HEAD_NAMES.get(name.lower(), name.lower()), LOSS_NOTE),
        Flag("--seed", "seed"),
        Flag("--batch_size", "train.batch_size"),
        Flag("--num_epochs", "train.patience", note="PATIENCE: epochs without a better dev loss (a historic name)"),
        Flag("--lr", "train.lr"),
        Flag("--oc_lr", "train.head_lr"),
        Flag("--weight_decay", "train.weight_decay"),
        Flag("--FT_W2V", "model.xlsr.freeze", lambda text: not switch(text), "true: fine-tune XLS-R; false: freeze it"),
    ],
    "data": [
        Flag("--database_path", "data.database_path"),
        Flag("--protocols_path", "data.protocols_path"),
    ],
    "further flags of the published code": [
        Flag("--emb-size", "model.conformer_tcm.embedding_size"),
        Flag("--heads", "model.conformer_tcm.n_heads"),
        Flag("--kernel_size", "model.conformer_tcm.kernel_size"),
        Flag("--num_encoders", "model.conformer_tcm.n_blocks"),
        Flag("--n_mejores_loss", "train.n_best"),
        Flag("--average_model", "train.average", _mean_or_none, "true: mean; false: none"),
        Flag("--n_average_model", "train.n_average"),
        Flag("--algo", "data.rawboost.algorithm"),
        Flag("--nBands", "data.rawboost.n_bands"),
        Flag("--minF", "data.rawboost.center_hz.0"),
        Flag("--maxF", "data.rawboost.center_hz.1"),
        Flag("--minBW", "data.rawboost.width_hz.0"),
        Flag("--maxBW", "data.rawboost.width_hz.1"),
        Flag("--minCoeff", "data.rawboost.n_taps.0"),
        Flag("--maxCoeff", "data.rawboost.n_taps.1"),
        Flag("--minG", "data.rawboost.gain_db.0"),
        Flag("--maxG", "data.rawboost.gain_db.1"),
        Flag("--minBiasLinNonLin", "data.rawboost.bias_db.0"),
        Flag("--maxBiasLinNonLin", "data.rawboost.bias_db.1"),
        Flag("--N_f", "data.rawboost.n_orders"),
        Flag("--P", "data.rawboost.impulse_percent"),
        Flag("--g_sd", "data.rawboost.impulse_gain"),
        Flag("--SNRmin", "data.rawboost.snr_db.0"),
        Flag("--SNRmax", "data.rawboost.snr_db.1"),
    ],
    "scoring": [
        Flag("--train", "train.enabled", switch),
        Flag("--ckpt_path", "score.weights"),
        Flag("--comment_eval", "comment_eval"),
        Flag("--on-bad-audio", "score.on_bad_audio"),
    ],
    "run": [
        Flag("--name", "name"),
        Flag("--comment", "comment"),
        Flag("--device", "run.accelerator"),
        Flag("--threads", "run.n_threads"),
    ],
}  # fmt: skip
FLAGS = [flag for group in GROUPS.values() for flag in group]
CHECKS = ("header", "full")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Give a parser the flags, in groups, and `section.key=value` words."""
    parser.usage = "%(prog)s [flags] [section.key=value ...]"
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    for title, flags in GROUPS.items():
        for flag in flags:
            flag.add_to(groups[title])
    train, run = groups["what to train"], groups["run"]
    train.add_argument(
        "--preset",
        choices=PRESETS,
        help="code (default): QAMO's constants of the published code; paper: as the paper prints them; tcm: the parent "
        "project's WCE recipe, one Adam at 1e-6 for all weights and RawBoost on every utterance",
    )
    train.add_argument(
        "--seeds",
        type=number(int, 0, MAX_SEED),
        nargs="+",
        metavar="N",
        help="a run for each seed, then mean and deviation",
    )
    run.add_argument("--config", type=Path, metavar="FILE", help="YAML file with the keys that differ [config.yaml]")
    run.add_argument(
        "--check",
        nargs="?",
        const=CHECKS[0],
        choices=CHECKS,
        help="dry run: report everything that a run would stumble over; header (default) opens each recording, "
        "full decodes it",
    )
    run.add_argument("--print-config", action="store_true", help="print all settings as this command resolves them")
    run.add_argument("--print-schema", action="store_true", help="print the JSON schema of config.yaml, for editors")
    run.add_argument("--resume", action="store_true", help="no effect: an interrupted run is always resumed")
    parser.add_argument("assignments", nargs="*", metavar="section.key=value", help="any key of config.yaml")


def with_check_level(words: Sequence[str]) -> list[str]:
    """`--check section.key=value` as `--check=header section.key=value`: argparse would take the key for the level."""
    pairs = zip(words, [*words[1:], ""])
    return [f"--check={CHECKS[0]}" if word == "--check" and after not in CHECKS else word for word, after in pairs]


def overrides_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the arguments set, as dotted keys; lowest first: preset, flags, assignments."""
    overrides: dict[str, Any] = dict(PRESETS[args.preset]) if args.preset else {}
    values = {flag.key: getattr(args, flag.dest) for flag in FLAGS}
    # A flag's text is the text itself, whatever YAML would read in it.
    overrides |= {k: Text(v) if isinstance(v, str) else v for k, v in values.items() if v is not None}
    return overrides | parse_assignments(args.assignments)


def config_from(args: argparse.Namespace, default: Path) -> Config:
    """The config that the arguments ask for: defaults < YAML < preset < flags < assignments.

    Args:
        default: the YAML file that is read where none is named, if it is there.
    """
    path = args.config or (default if default.exists() else None)
    return load_config(path, overrides_of(args))
