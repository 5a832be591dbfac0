"""Damaged files for every reader: each must load to what was written, or be refused with a sentence.

    python -m tests.support.fuzz --n 500          (make fuzz)

A file whose content carries a checksum must not load with other content. Of the others (texts of people, JSON) a
changed character may be another legal value: there, every end but a value or an InputError is a finding.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import export
import main
from benchmarks import tiny_corpus
from qamo import InputError
from qamo.audio import load as audio
from qamo.config.load import load_config, read_run_config
from qamo.evaluation import calibration, tdcf
from qamo.evaluation.part_files import Parts, Row
from qamo.evaluation.tdcf import TDCFCoefficients
from qamo.export.folder import export_folder
from qamo.export.model_card import write_card
from qamo.inference.scorer_onnx import OnnxScorer
from qamo.networks.feature_cache import FeatureCache
from qamo.quality.cache import MOSCache
from qamo.report import run_record
from qamo.training.checkpoint import read_checkpoint, read_exported
from qamo.training.folder import read_results
from qamo.training.state import read_last
from qamo.trials.keys import read_keys
from qamo.trials.protocol import read_listing, read_protocol, read_trial_list
from qamo.trials.ratings import read_ratings
from qamo.trials.scores import read_scores
from tests.support.alarm import alarmed


class Subject(NamedTuple):
    """A file and what reads it."""

    path: Path
    read: Callable[[Path], Any]
    sealed: bool = False  # it carries checksums: no other content may load


class Found(NamedTuple):
    """What became of the damaged copies of one file."""

    n_same: int
    n_refused: int
    n_other: int  # loaded with other content, where that is no finding
    findings: list[str]


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one misfortune: some bits or bytes changed, a stretch of zeros, moved, cut off."""
    data, kind = bytearray(whole), rng.integers(6)
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, 600))
    if kind == 0:
        data[start] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif kind == 2:
        data[start : start + length] = rng.bytes(len(data[start : start + length]))
    elif kind == 3:
        data = data[:start]
    elif kind == 4:
        del data[start : start + length]
    else:
        other = int(rng.integers(len(data)))
        data[start : start + 64], data[other : other + 64] = data[other : other + 64], data[start : start + 64]
    return bytes(data)


def same(one: Any, other: Any) -> bool:
    """Whether two things that were read are equal, tensors and arrays to the bit and with their types."""
    if isinstance(one, (torch.Tensor, np.ndarray)):
        alike = type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
        return alike and bool((one == other).all())
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(one) == len(other) and all(map(same, one, other))
    return one == other


def tried(subject: Subject, n: int, rng: np.random.Generator) -> Found:
    """Damage a file n times and read it each time; it is whole again at the end."""
    whole, expected = subject.path.read_bytes(), subject.read(subject.path)
    counts: collections.Counter[str] = collections.Counter()
    findings = []
    for number in range(n):
        subject.path.unlink()  # a mapped file must not change under its readers
        subject.path.write_bytes(damaged(whole, rng))
        try:
            with alarmed():
                content = subject.read(subject.path)
            equal = same(content, expected)
            counts["same" if equal else "other"] += 1
            if subject.sealed and not equal:
                findings.append(f"{subject.path.name}, damage {number}: loads with other content")
        except InputError:
            counts["refused"] += 1
        except Exception as error:
            findings.append(f"{subject.path.name}, damage {number}: {type(error).__name__}: {str(error)[:100]}")
    subject.path.unlink()
    subject.path.write_bytes(whole)
    return Found(counts["same"], counts["refused"], counts["other"], findings)


def subjects(root: Path) -> dict[str, Subject]:
    """A tiny run with all that commands write and read, below `root`."""
    logging.disable(logging.WARNING)
    config = tiny_corpus.build(root / "corpus")
    assert main.main(["--config", str(config), "--name", "r", "train.max_epochs=2", f"run.runs={root}"]) == 0
    run, corpus = root / "r", root / "corpus"
    export_folder(run / "model.pt", root / "exported")
    assert export.main([str(run), "-o", str(root / "detector.onnx"), "--format", "onnx"]) == 0
    coefficients = TDCFCoefficients(0.1, 0.9, 1.0)
    tdcf.write_c012(root / "c012.npy", {"A07": {"none": coefficients, tdcf.POOLED: coefficients}})
    return {
        "model.pt": Subject(run / "model.pt", read_checkpoint, True),
        "last.pt": Subject(run / "last.pt", lambda path: read_last(path.parent), True),
        "model.safetensors": Subject(root / "exported" / "model.safetensors", _exported, True),
        "qamo.json": Subject(root / "exported" / "qamo.json", _exported, True),
        "detector.onnx": Subject(
            root / "detector.onnx", lambda path: _score(OnnxScorer(path, device="cpu", n_threads=1)), True
        ),
        "feature map": _feature_map(root / "features"),
        "part file": _part_file(root / "parts"),
        "c012.npy": Subject(root / "c012.npy", tdcf.read_c012),
        "config.yaml": Subject(run / "config.yaml", lambda path: read_run_config(path).model_dump()),
        "--config": Subject(config, lambda path: load_config(path).model_dump()),
        "results.json": Subject(run / "results.json", read_results),
        "its card": Subject(run / "results.json", lambda path: _card(path.parent, root / "exported")),
        "metrics.jsonl": Subject(run / "metrics.jsonl", run_record.read_metrics),
        "run.json": Subject(run / "run.json", lambda path: _card(path.parent, root / "exported")),
        "calibration.json": Subject(run / "calibration.json", calibration.read),
        "scores.txt.json": Subject(
            run / "scores" / "seen.txt.json", lambda path: calibration.identity_of(path.with_suffix(""))
        ),
        "scores.txt": Subject(run / "scores" / "seen.txt", lambda path: read_scores(path).names),
        "protocol": Subject(corpus / "train.txt", lambda path: read_protocol(path).names),
        "list": Subject(corpus / "wild.txt", read_trial_list),
        "meta.csv": Subject(corpus / "meta.csv", lambda path: [read_keys(path).names, read_listing(path).names]),
        "MOS": Subject(corpus / "dev.txt", lambda path: read_ratings(path).names),
        "scores.npz": _npz(root / "scores.npz"),
        "MOS cache": _mos_cache(root / "mos"),
        "recording": Subject(corpus / "wild" / "0.wav", audio.load),
        "flac": Subject(next((corpus / "LA" / "dev" / "flac").iterdir()), audio.load, True),
    }


def _exported(path: Path) -> Any:
    return read_exported(path.parent)


def _card(run: Path, exported: Path) -> str:
    about = json.loads((exported / "qamo.json").read_text())
    write_card(exported, name="x", about=about, calibration=None, run=run)
    return (exported / "README.md").read_text()


def _score(scorer: OnnxScorer) -> list[float]:
    return np.asarray(scorer(np.full((1, scorer.window_samples), 0.1, np.float32))).tolist()


def _feature_map(folder: Path) -> Subject:
    """A map that is damaged is computed anew, and is then whole again."""
    kept = torch.arange(12.0).reshape(1, 4, 3)
    cache = FeatureCache(folder, torch.nn.Linear(2, 2), identity="", max_bytes=1e9)  # type: ignore[arg-type]

    def features(wave: torch.Tensor) -> torch.Tensor:
        return kept.expand(len(wave), 4, 3)

    wave = torch.zeros(1, 8)
    cache(features, wave)  # type: ignore[arg-type]
    (path,) = folder.rglob("*.npy")
    return Subject(path, lambda _: cache(features, wave), True)  # type: ignore[arg-type]


def _part_file(folder: Path) -> Subject:
    """Batches whose line is damaged are missing, and the others are as they were."""
    folder.mkdir()
    names = [f"a{i}" for i in range(40)]
    parts = Parts(folder / "scores.txt", names, 4)
    with parts.writer(0) as write:
        for number in range(parts.n_batches):
            write(number, [Row(names[i], f"{i / 7:.6f}", None) for i in parts.indices(number)])

    def read(_: Path) -> bool:
        again = Parts(folder / "scores.txt", names, 4)
        missing = again.missing()
        if missing:
            return all(0 <= number < again.n_batches for number in missing)
        return all(row.score == f"{int(row.name[1:]) / 7:.6f}" for rows in again.read() for row in rows)

    return Subject(parts.path(0), read, True)


def _npz(path: Path) -> Subject:
    np.savez(path, names=np.array([f"a{i}" for i in range(30)]), scores=np.arange(30.0))
    return Subject(path, lambda p: read_scores(p).names)


def _mos_cache(path: Path) -> Subject:
    cache = MOSCache(path, "p")
    cache.add([(f"{i:032x}", 1 + i / 10) for i in range(30)])
    return Subject(path, lambda p: MOSCache(p, "p").known)


def fuzz(root: Path, n: int, seed: int) -> dict[str, Found]:
    """Every file of `subjects`, damaged n times."""
    rng = np.random.default_rng(seed)
    return {name: tried(subject, n, rng) for name, subject in subjects(root).items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    place = Path(tempfile.mkdtemp())
    every = fuzz(place, asked.n, asked.seed)
    shutil.rmtree(place)
    print(f"{'file':18} {'same':>6} {'refused':>8} {'other':>6} {'findings':>9}")
    for called, found in every.items():
        print(f"{called:18} {found.n_same:6} {found.n_refused:8} {found.n_other:6} {len(found.findings):9}")
    for found in every.values():
        print("\n".join(found.findings[:5]), end="\n" * bool(found.findings))
    raise SystemExit(any(found.findings for found in every.values()))
