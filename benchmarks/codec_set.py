"""The evaluation recordings of a config again, each through a codec of a low bit rate: a set to compare by codec.

    python benchmarks/codec_set.py                      # of the mini corpus: database/mini/codecs/
    python benchmarks/study.py --config database/mini/codecs/config.yaml --seeds 1 2 3 4 5

Each recording passes one codec, drawn so that every codec has as many bona fide and spoofed ones of each set as any
other. Beside the recordings stand their labels with codec and predicted MOS (codecs.csv), and config.yaml: the given
config with this set as one more.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import ROOT
from qamo import cores, files
from qamo.audio import SAMPLE_RATE
from qamo.audio import load as audio
from qamo.audio.codecs import round_trip
from qamo.command import Parser, run_command
from qamo.config.load import load_config
from qamo.evaluation.sets import evaluation_sets
from qamo.progress import progress, start_log
from qamo.quality.cache import predict_files
from qamo.trials.keys import read_keys
from qamo.trials.protocol import as_csv
from qamo.trials.ratings import format_mos

NAME = "codecs"
KBPS = {"none": 0.0, "mp3": 16.0, "aac": 16.0, "opus": 8.0, "vorbis": 32.0, "mulaw": 64.0, "gsm": 13.0}


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser("codec_set.py", __doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "database" / "mini.yaml", help="(database/mini.yaml)")
    parser.add_argument(
        "--sets", nargs="+", default=["mini_seen", "mini_unseen"], metavar="NAME", help="of eval.catalogue"
    )
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    start_log()
    cfg = load_config(args.config, {"eval.sets": args.sets})
    home = cfg.data.database_path / NAME
    rows, made = [], []
    for number, chosen in enumerate(evaluation_sets(cfg.data, cfg.eval).values()):
        assert chosen.keys is not None
        keys = read_keys(chosen.keys, chosen.subset)
        path_of = dict(zip(chosen.names, chosen.paths))
        codecs = balanced(keys.bonafide, np.random.default_rng(number))
        speakers, attacks = (keys.columns.get(c, ["-"] * len(keys)) for c in ("speaker", "attack"))
        recordings = list(zip(keys.names, codecs, keys.bonafide.tolist(), speakers, attacks))
        for name, codec, bonafide, speaker, attack in progress(
            recordings, args.sets[number], total=len(keys), unit="clip"
        ):
            made.append(home / f"{name}.flac")
            encode(path_of[name], codec, made[-1])
            rows.append([f"{name}.flac", "bonafide" if bonafide else "spoof", speaker, attack, codec])
    mos = predict_files(made, "distillmos", jobs=cores.usable(), cache=home / "mos.cache")
    lines = [[*row, format_mos(row[0], value)] for row, value in zip(rows, mos.tolist())]
    files.write_text(home / f"{NAME}.csv", as_csv([["path", "label", "speaker", "attack", "codec", "mos"], *lines]))
    tree = yaml.safe_load(args.config.read_text())
    listed = os.path.relpath(home / f"{NAME}.csv", cfg.data.protocols_path)
    tree["eval"]["sets"] = [*tree["eval"]["sets"], NAME]
    tree["eval"]["catalogue"][NAME] = {"audio": NAME, "trials": listed, "keys": listed}
    files.write_text(home / "config.yaml", yaml.safe_dump(tree, sort_keys=False))
    print(f"{home / 'config.yaml'}: {len(rows)} recordings through {len(KBPS) - 1} codecs and none")
    return 0


def balanced(bonafide: np.ndarray, rng: np.random.Generator) -> list[str]:
    """A codec for each trial, each as often as any other in either class, by one at most: (N,) bool -> N names."""
    chosen = np.empty(len(bonafide), dtype=object)
    for label in (True, False):
        places = rng.permutation(np.flatnonzero(bonafide == label))
        chosen[places] = [list(KBPS)[i % len(KBPS)] for i in range(len(places))]
    return chosen.tolist()


def encode(source: Path, codec: str, out: Path) -> None:
    """Write a recording as it comes out of a codec."""
    wave = audio.load(source)
    coded = wave if codec == "none" else round_trip(wave, codec, KBPS[codec])
    out.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(out, np.clip(coded, -1, 1), SAMPLE_RATE)


if __name__ == "__main__":
    sys.exit(main())
