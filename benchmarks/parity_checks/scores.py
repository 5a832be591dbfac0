"""Scores: embeddings, cosines, score files, losses of evaluation; of the tiny detectors and at full size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

import model
from benchmarks.parity_checks.frontend import fill, full_features
from benchmarks.parity_checks.goldens import (
    GOLDENS,
    QAMO_OPTIONS,
    check,
    check_backends,
    detector,
    difference,
    golden,
    relative,
    waves,
)
from loss import QAMO
from qamo.audio import load as audio
from qamo.config.parts import ModelConfig
from qamo.networks.published import published_names


@check_backends(": embeddings, cosines, scores, evaluation loss", 1e-5)
@torch.inference_mode()
def evaluation(backend: str) -> Iterator[float]:
    arrays = golden(f"eval_{backend}.npz")
    detect = detector(backend)
    head: Any = detect.head
    output = detect(waves("eval"), torch.from_numpy(arrays["val_labels"]).bool())
    cosines = head.cosines(output.embedding)
    yield difference(output.embedding, arrays["emb"])
    yield difference(cosines, arrays["scores"])
    yield difference(output.score, arrays["score_mean"])
    yield difference(cosines.amax(dim=1), arrays["score_max"])
    yield difference((output.losses or {})["total"], arrays["val_loss"])
    second = detect(waves("train"))
    yield difference(second.embedding, arrays["emb_1s"])
    yield difference(head.cosines(second.embedding), arrays["scores_1s"])


@check_backends(": scores of a score file, from FLAC", 1e-6)
@torch.inference_mode()
def score_file(backend: str) -> Iterator[float]:
    detect = detector(backend)
    for line in (GOLDENS / f"score_{backend}.txt").read_text().splitlines():
        name, text = line.split()
        wave = audio.fit_length(audio.load(GOLDENS / "data" / "flac" / name))
        yield abs(detect(torch.from_numpy(wave)[None]).score.item() - float(text))


@check_backends(": dev loss over two batches", 1e-5)
@torch.inference_mode()
def dev_loss(backend: str) -> Iterator[float]:
    arrays = golden("devloss.npz")
    detect = detector(backend)
    head: Any = detect.head
    wave, bonafide = waves("dev"), torch.from_numpy(arrays["labels"]).bool()
    outputs = [detect(wave[part], bonafide[part]) for part in (slice(0, 8), slice(8, 10))]
    losses = [(output.losses or {})["total"].double().item() * len(output.score) for output in outputs]
    yield abs(sum(losses) / 10 - float(arrays[f"val_loss_{backend}"]))
    yield difference(head.cosines(torch.cat([output.embedding for output in outputs])), arrays[f"scores_{backend}"])


@check("full size: Conformer-TCM embeddings and scores", 1e-5, "conformer_tcm", "tcm", full=True)
@check("full size: Nes2Net-X embeddings and scores", 1e-5, "nes2net", "nes", full=True)
@torch.inference_mode()
def full_size(backend: str, prefix: str) -> Iterator[float]:
    arrays = golden("full_recipe.npz")
    torch.manual_seed(0)
    back = model.BACKENDS[backend](1024, **getattr(ModelConfig(), backend).model_dump())
    head = QAMO(back.dim, **QAMO_OPTIONS)
    none: Any = torch.nn.Identity()  # features come in
    detect = model.Detector(none, back, head).eval()
    fill(detect, published_names(detect.state_dict(), backend))
    output = detect(full_features())
    yield difference(head.cosines(output.embedding), arrays[f"{prefix}_scores"])
    yield relative(output.embedding, arrays[f"{prefix}_emb"])
