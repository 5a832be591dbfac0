"""What is held against the published code, and the largest difference: the table of the README.

    python benchmarks/parity.py [--full] [-o docs/parity.md]

The golden figures were made by running the published code, unmodified, on its own stack (see VERSIONS). Each check
below recomputes one group of them with this program and returns the largest difference; tests/benchmarks/test_parity.py
asserts every tolerance. --full adds the 317-million-weight network (minutes, 4 GB of memory).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import model  # noqa: E402
from benchmarks.parity_checks.initial import INITIAL  # noqa: E402
from benchmarks.parity_file import FIRST_STEP  # noqa: E402
from loss import QAMO, OCSoftmax  # noqa: E402
from qamo import InputError  # noqa: E402
from qamo.audio import load as audio  # noqa: E402
from qamo.audio import rawboost  # noqa: E402
from qamo.config.parts import ModelConfig  # noqa: E402
from qamo.config.schema import RawBoostConfig  # noqa: E402
from qamo.files import write_text  # noqa: E402
from qamo.networks.published import published_names, to_published  # noqa: E402
from qamo.training import checkpoint  # noqa: E402
from qamo.training.loop import build_optimizer  # noqa: E402

GOLDENS = ROOT.parent / "shared" / "goldens" / "reference"
VERSIONS = "ductuantruong/QAMO @47d77cc on Python 3.7.16, torch 1.8.1, numpy 1.21.6, scipy 1.7.3, fairseq @a540213"
BACKENDS = ("conformer_tcm", "nes2net")
TITLES = ("Conformer-TCM", "Nes2Net-X")
BATCHES = ("mixed", "allbona", "allspoof")
HEAD = {
    "radius_bonafide": 0.9,
    "radius_spoof": 0.2,
    "alpha": 20.0,
    "scale": 32.0,
    "margin": 0.4,
    "quality_weight": 0.1,
    "score": "mean",
}

Check = Callable[[], float]
CHECKS: dict[str, tuple[float, Check]] = {}
FULL_CHECKS: dict[str, tuple[float, Check]] = {}


def check(what: str, tolerance: float, *, full: bool = False) -> Callable[[Check], Check]:
    def register(function: Check) -> Check:
        (FULL_CHECKS if full else CHECKS)[what] = (tolerance, function)
        return function

    return register


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / name) as arrays:
        return dict(arrays)


def waves(name: str) -> Tensor:
    return torch.from_numpy(golden("inputs.npz")[f"wave_{name}_i16"].astype(np.float32) / 32768)


def detector(backend: str) -> model.Detector:
    """The tiny detector of the goldens, with the weights of the published code's own checkpoint."""
    cfg = ModelConfig.model_validate({"backend": backend, "xlsr": {"n_heads": 4}})
    return model.load_detector(GOLDENS / f"tiny_{backend}.pth", cfg)


def difference(found: Any, expected: Any) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    found = found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
    expected = np.asarray(expected)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found.astype(np.float64) - expected).max()) if expected.size else 0.0


def relative(found: Any, expected: Any) -> float:
    """Largest difference as a share of the largest expected value; absolute where that is practically 0.

    Some gradients are 0 by structure (of a bias before a batch norm, say), and what is there is rounding.
    """
    scale = float(np.abs(np.asarray(expected)).max(initial=0))
    return difference(found, expected) / (scale if scale > 1e-6 else 1.0)


# ---- front end


@check("XLS-R hidden states, frames and layers (tiny network)", 1e-5)
def xlsr_tiny() -> float:
    arrays = golden("frontend_tiny.npz")
    frontend: Any = detector("conformer_tcm").frontend
    network = frontend.network
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [
        network.feature_extractor.register_forward_hook(keep("conv")),
        network.feature_projection.register_forward_hook(keep("projected")),
        network.encoder.layers[0].register_forward_hook(keep("layer0")),
        network.encoder.layers[1].register_forward_hook(keep("layer1")),
    ]
    with torch.inference_mode():
        worst = difference(frontend(waves("eval")), arrays["eval_feats"])
        worst = max(worst, difference(frontend(waves("train")[:2]), arrays["int_x"]))
        frontend.plain = True  # the faster way to the same features has no layers to look into
        worst = max(worst, difference(frontend(waves("eval")), arrays["eval_feats"]))
        worst = max(worst, difference(frontend(waves("train")[:2]), arrays["int_x"]))
        for hook in hooks:
            hook.remove()
        for name, key, axes in (
            ("conv", "int_conv_out_BxCxT", (0, 1, 2)),
            ("projected", "int_post_extract_proj", (0, 1, 2)),
            ("layer0", "int_layer0_out_TxBxC", (1, 0, 2)),
            ("layer1", "int_layer1_out_TxBxC", (1, 0, 2)),
        ):
            worst = max(worst, difference(seen[name].permute(axes), arrays[key]))
        for n_samples, n_frames in zip(arrays["in_len"].tolist(), arrays["n_frames"].tolist()):
            found = 0
            with contextlib.suppress(InputError):  # the published code fails as well, with a RuntimeError
                found = frontend(torch.zeros(1, n_samples)).shape[1]
            worst = max(worst, abs(found - max(n_frames, 0)))
    return worst


# ---- scores


def _evaluation(backend: str) -> float:
    arrays = golden(f"eval_{backend}.npz")
    detect = detector(backend)
    head: Any = detect.head
    with torch.inference_mode():
        output = detect(waves("eval"), torch.from_numpy(arrays["val_labels"]).bool())
        assert output.losses is not None
        second = detect(waves("train"))
        cosines = head.cosines(output.embedding)
        return max(
            difference(output.embedding, arrays["emb"]),
            difference(cosines, arrays["scores"]),
            difference(output.score, arrays["score_mean"]),
            difference(cosines.amax(dim=1), arrays["score_max"]),
            difference(output.losses["total"], arrays["val_loss"]),
            difference(second.embedding, arrays["emb_1s"]),
            difference(head.cosines(second.embedding), arrays["scores_1s"]),
        )


def _score_file(backend: str) -> float:
    detect = detector(backend)
    worst = 0.0
    for line in (GOLDENS / f"score_{backend}.txt").read_text().splitlines():
        name, text = line.split()
        wave = audio.fit_length(audio.load(GOLDENS / "data" / "flac" / name))
        with torch.inference_mode():
            score = detect(torch.from_numpy(wave)[None]).score
        worst = max(worst, abs(score.item() - float(text)))
    return worst


def _dev_loss(backend: str) -> float:
    arrays = golden("devloss.npz")
    detect = detector(backend)
    wave, bonafide = waves("dev"), torch.from_numpy(arrays["labels"]).bool()
    with torch.inference_mode():
        outputs = [detect(wave[part], bonafide[part]) for part in (slice(0, 8), slice(8, 10))]
    losses = [(o.losses or {})["total"].double().item() * len(o.score) for o in outputs]
    embedding: Any = torch.cat([o.embedding for o in outputs])
    head: Any = detect.head
    return max(
        abs(sum(losses) / 10 - float(arrays[f"val_loss_{backend}"])),
        difference(head.cosines(embedding), arrays[f"scores_{backend}"]),
    )


for _backend, _title in zip(BACKENDS, TITLES):
    check(f"{_title}: embeddings, cosines, scores, evaluation loss", 1e-5)(partial(_evaluation, _backend))
    check(f"{_title}: scores of a score file, from FLAC", 1e-6)(partial(_score_file, _backend))
    check(f"{_title}: dev loss over two batches", 1e-5)(partial(_dev_loss, _backend))


# ---- training


def _train_losses(backend: str) -> float:
    worst = 0.0
    for batch in BATCHES:
        arrays = golden(f"train_{backend}_{batch}.npz")
        losses = _forward(detector(backend).train(), arrays)[1]
        found = {"cls_loss": losses["one_class"], "quality_ce": losses["quality"], "total": losses["total"]}
        worst = max(worst, *(relative(value, arrays[key]) for key, value in found.items()))
    return worst


def _train_embeddings(backend: str) -> float:
    worst = 0.0
    for batch in BATCHES:
        arrays = golden(f"train_{backend}_{batch}.npz")
        worst = max(worst, relative(_forward(detector(backend).train(), arrays)[0].embedding, arrays["emb"]))
    return worst


def _gradients32() -> float:
    worst = 0.0
    for batch in BATCHES:
        arrays = golden(f"train_conformer_tcm_{batch}.npz")
        detect = detector("conformer_tcm").train()
        _forward(detect, arrays)[1]["total"].backward()
        gradients = _by_published_name(detect, "conformer_tcm", lambda p: p.grad)
        if set(gradients) != set(arrays["grad_names"].tolist()):
            return float("inf")
        norms = np.array([gradients[name].double().norm().item() for name in arrays["grad_names"].tolist()])
        worst = max(worst, relative(norms, arrays["grad_norms"]))
        for key, expected in arrays.items():
            if key.startswith("grad/"):
                worst = max(worst, relative(gradients[key.removeprefix("grad/")], expected))
    return worst


def _step32() -> float:
    worst = 0.0
    for batch in BATCHES:
        arrays = golden(f"train_conformer_tcm_{batch}.npz")
        detect = detector("conformer_tcm")
        before = _by_published_name(detect, "conformer_tcm", lambda p: p.detach().clone())
        _train(detect, arrays, 1, lr=1e-6)
        after = _by_published_name(detect, "conformer_tcm", lambda p: p.detach())
        for key, expected in arrays.items():
            if key.startswith("delta/"):
                name = key.removeprefix("delta/")
                worst = max(worst, difference(after[name] - before[name], expected))
        worst = max(worst, difference(after["ocsoftmax.center"], arrays["after/ocsoftmax.center"]))
    return worst


def _trajectory64(backend: str) -> float:
    arrays64 = golden(f"train64_{backend}.npz")
    worst = 0.0
    detect = detector(backend).double()
    head: Any = detect.head
    with torch.inference_mode():
        output = detect(waves("train").double())
        worst = max(worst, relative(output.embedding, arrays64["eval/emb"]))
        worst = max(worst, difference(head.cosines(output.embedding), arrays64["eval/scores"]))
    for batch in BATCHES:
        arrays = {k.removeprefix(f"{batch}/"): v for k, v in arrays64.items() if k.startswith(f"{batch}/")}
        worst = max(worst, *_trajectory_of_batch(backend, arrays).values())
    return worst


def _trajectory_of_batch(backend: str, arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest difference of everything float64 in one golden training batch, by what it is of."""
    names = arrays["grad_names"].tolist()
    detect = detector(backend).double().train()
    output, losses = _forward(detect, arrays)
    losses["total"].backward()
    gradients = _by_published_name(detect, backend, lambda p: p.grad)
    if set(gradients) != set(names):
        return {"names": float("inf")}
    published = to_published(detect.state_dict(), backend)
    found = {
        "loss": max(
            relative(losses[ours], arrays[key])
            for ours, key in (("one_class", "cls_loss"), ("quality", "quality_ce"), ("total", "total"))
        ),
        "embedding": relative(output.embedding, arrays["emb"]),
        "norms": relative([gradients[n].norm().item() for n in names], arrays["grad_norms"]),
        "dots": _dots(gradients, names, arrays["grad_dots"], arrays["grad_norms"]),
        "gradients": max(relative(gradients[k[5:]], v) for k, v in arrays.items() if k.startswith("grad/"))
        if any(k.startswith("grad/") for k in arrays)
        else 0.0,
        "buffers": max(relative(published[k[4:]], v) for k, v in arrays.items() if k.startswith("buf/")),
    }
    for key, n_steps, lr in (("step1_dots", 1, 1e-6), ("step3_lr1e-3_dots", 3, 1e-3)):
        detect = detector(backend).double()
        before = _by_published_name(detect, backend, lambda p: p.detach().clone())
        _train(detect, arrays, n_steps, lr=lr)
        after = _by_published_name(detect, backend, lambda p: p.detach())
        change = {name: after[name] - before[name] for name in names}
        # As a share of the way that Adam can go in so many steps.
        longest = np.array([n_steps * lr * change[name].numel() ** 0.5 for name in names])
        found[key] = _dots(change, names, arrays[key], longest)
        if n_steps == 1:
            found["centre"] = difference(after["ocsoftmax.center"], arrays["center_after1"])
    head: Any = detect.head
    with torch.inference_mode():
        found["scores"] = difference(
            head.cosines(detect.eval()(_as(detect, "train")).embedding), arrays["scores_after3"]
        )
    return found


def _dots(values: dict[str, Tensor], names: list[str], expected: np.ndarray, scales: np.ndarray) -> float:
    """Differences of <value, cos(0.1 i)>, each relative to its scale; absolute where that is 0 by structure."""
    found = np.array([_dot(values[name]) for name in names])
    return float((np.abs(found - expected) / np.where(scales > 1e-9, scales, 1.0)).max())


def _dot(value: Tensor) -> float:
    flat = value.double().reshape(-1)
    return float(flat @ torch.cos(0.1 * torch.arange(len(flat), dtype=torch.float64)))


def _forward(detect: model.Detector, arrays: dict[str, np.ndarray]) -> tuple[model.Output, dict[str, Tensor]]:
    bonafide = torch.from_numpy(arrays["labels"]).bool()
    output = detect(_as(detect, "train"), bonafide, torch.from_numpy(arrays["q_score"]))
    assert output.losses is not None
    return output, output.losses


def _as(detect: model.Detector, name: str) -> Tensor:
    return waves(name).to(next(detect.parameters()).dtype)


def _train(detect: model.Detector, arrays: dict[str, np.ndarray], n_steps: int, *, lr: float) -> None:
    optimizer = build_optimizer(detect, lr=lr, head_lr=1e-3, weight_decay=1e-4)
    detect.train()
    for _ in range(n_steps):
        loss = _forward(detect, arrays)[1]["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _by_published_name(detect: model.Detector, backend: str, value: Callable[[Any], Any]) -> dict[str, Tensor]:
    parameters = dict(detect.named_parameters())
    return {theirs: value(parameters[ours]) for theirs, ours in published_names(parameters, backend).items()}


for _backend, _title in zip(BACKENDS, TITLES):
    check(f"{_title}: training losses (relative); mixed, all bona fide, all spoof", 1e-5)(
        partial(_train_losses, _backend)
    )
# Batch norm over few values amplifies rounding: the original's own float32 embeddings are 9e-6 from its float64 ones.
check("Conformer-TCM: training embeddings (relative)", 1e-5)(lambda: _train_embeddings("conformer_tcm"))
check("Nes2Net-X: training embeddings (relative)", 2e-5)(lambda: _train_embeddings("nes2net"))
check("Conformer-TCM: gradient of every parameter (relative)", 1e-4)(_gradients32)
check("Conformer-TCM: every parameter's change in one step of the two Adams", 1e-6)(_step32)
for _backend, _title in zip(BACKENDS, TITLES):
    _what = f"{_title}, float64: losses, gradients, buffers, one step and three steps, scores after"
    check(_what, 1e-9)(partial(_trajectory64, _backend))


# ---- heads


@check("QAMO head: losses, logits, scores, gradients (relative)", 1e-5)
def head_qamo() -> float:
    arrays = golden("head_qamo.npz")
    worst = 0.0
    for batch in BATCHES:
        head = QAMO(16, n_centroids=2, **HEAD)  # type: ignore[arg-type]
        head.centroids.data = torch.from_numpy(arrays["center"]).clone()
        embedding = torch.from_numpy(arrays["emb"]).requires_grad_()
        bonafide = torch.from_numpy(arrays[f"{batch}/labels"]).bool()
        losses = head.loss(embedding, bonafide, torch.from_numpy(arrays[f"{batch}/q"]))
        losses["total"].backward()
        worst = max(
            worst,
            relative(losses["one_class"], arrays[f"{batch}/cls"]),
            relative(losses["quality"], arrays[f"{batch}/ce"]),
            relative(losses["total"], arrays[f"{batch}/total"]),
            relative(embedding.grad, arrays[f"{batch}/grad_emb"]),
            relative(head.centroids.grad, arrays[f"{batch}/grad_center"]),
            relative(head.loss(embedding, bonafide)["total"], arrays[f"{batch}/val_loss"]),
            difference(head.cosines(embedding), arrays["scores"]),
        )
    return worst


@check("OC-Softmax head: losses, scores, gradients, initial centre (relative)", 1e-5)
def head_oc_softmax() -> float:
    arrays = golden("head_ocsoftmax.npz")
    worst = 0.0
    for batch in ("mixed", "all0_bona", "all1_spoof", "default_r_fake0.5"):
        radius_spoof = 0.5 if batch.startswith("default") else 0.2
        head = OCSoftmax(16, radius_bonafide=0.9, radius_spoof=radius_spoof, alpha=20.0)
        head.centroids.data = torch.from_numpy(arrays["center"]).clone()
        embedding = torch.from_numpy(arrays["emb"]).requires_grad_()
        loss = head.loss(embedding, torch.from_numpy(arrays[f"{batch}/labels_air"]) == 0)["total"]
        loss.backward()
        worst = max(worst, relative(loss, arrays[f"{batch}/loss"]))
        if f"{batch}/grad_emb" in arrays:
            worst = max(worst, relative(embedding.grad, arrays[f"{batch}/grad_emb"]))
            worst = max(worst, relative(head.centroids.grad, arrays[f"{batch}/grad_center"]))
    torch.manual_seed(5)
    fresh = OCSoftmax(16, radius_bonafide=0.9, radius_spoof=0.2, alpha=20.0)
    return max(worst, difference(fresh.centroids, arrays["init_center_seed5"]))


# ---- n-best average, RawBoost, windows


def _average(how: str, prefix: str) -> float:
    import tempfile

    arrays = golden("average.npz")
    names = [k.removeprefix("in0/") for k in arrays if k.startswith("in0/")]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(5):
            state = {name: torch.from_numpy(np.asarray(arrays[f"in{i}/{name}"])) for name in names}
            paths.append(Path(folder) / f"{i}.pt")
            checkpoint.write_checkpoint(paths[-1], model_state=state, model_config={})
        found = checkpoint.average(paths, how)
    # Sums of the whole tensors; the arrays kept under reference/ hold b1, see docs/differences.md.
    sums = dict(zip(arrays["names"].tolist(), arrays[f"{prefix}_sums"]))
    worst = max(abs(float(found[name].double().sum()) - sums[name]) for name in names if name in sums)
    if how == "mean":
        floats = [name for name in names if name in sums]
        worst = max(worst, *(difference(found[name], arrays[f"{prefix}/{name}"]) for name in floats))
    return worst


check("average of the five best epochs, as meant", 1e-6)(lambda: _average("mean", "true_mean"))
check("average of the five best epochs, as the published code really does it", 1e-6)(
    lambda: _average("reference", "reference")
)


@check("RawBoost: all nine algorithms, three waves, draw for draw", 1e-6)
def rawboost_all() -> float:
    arrays = golden("rawboost.npz")
    clips = {
        "1s": arrays["wave1_i16"].astype(np.float32) / 32768,
        "4s": arrays["wave4_i16"].astype(np.float32) / 32768,
        "loud": arrays["loud1"],
    }
    settings = RawBoostConfig().model_dump(exclude={"probability", "algorithm"})
    worst = 0.0
    for algorithm in range(9):
        for clip, wave in clips.items():
            source = np.random.RandomState(1000 + algorithm)
            y = rawboost.rawboost(wave, source, algorithm=algorithm, **settings)
            key = f"a{algorithm}_{clip}"
            if source.random_sample() != arrays[f"{key}_next"]:
                return float("inf")
            if key in arrays:
                worst = max(worst, difference(y if arrays[key].size == y.size else y[::8], arrays[key]))
    return worst


@check("window: cut or repeat to length", 0.0)
def windows() -> float:
    arrays = golden("pad.npz")
    keys = [key for key in arrays if key.removeprefix("pad_").isdigit()]
    return max(difference(audio.fit_length(arrays["in"], int(key[4:])), arrays[key]) for key in keys)


# ---- where a training starts


def _largest(differences: Callable[[], Iterator[float]]) -> float:
    return max(differences())


for _what, (_allowed, _differences) in INITIAL.items():
    check(_what, _allowed)(partial(_largest, _differences))


# ---- the network at its full size


def recipe() -> Any:
    spec = importlib.util.spec_from_file_location("recipe", GOLDENS / "recipe.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fill(module: torch.nn.Module, published: dict[str, str]) -> None:
    """Give every weight the value that the recipe draws from its published name."""
    fill_value = recipe().fill_value
    state = module.state_dict()
    for theirs, ours in published.items():
        key = theirs.removeprefix("ssl_model.model.")
        value = torch.from_numpy(np.ascontiguousarray(fill_value(key, tuple(state[ours].shape))))
        state[ours].copy_(value.reshape(state[ours].shape))


@check("full size (317 M weights): XLS-R hidden states (relative)", 1e-5, full=True)
def full_xlsr() -> float:
    arrays, x = golden("full_recipe.npz"), _full_features()
    return max(
        relative(x[:, ::13, ::8], arrays["x_sub"]),
        abs(float(x.double().sum()) - float(arrays["x_sum"])) / float(arrays["x_sumsq"]),
        abs(float(x.double().square().sum()) / float(arrays["x_sumsq"]) - 1),
    )


@cache
def _full_features() -> Tensor:
    cfg = ModelConfig()
    frontend = model.XLSR(**cfg.xlsr.model_dump() | {"weights": None, "uninitialized": True}).eval()
    names = [f"frontend.{name}" for name in frontend.state_dict()]
    published = {k: v.removeprefix("frontend.") for k, v in published_names(names, "conformer_tcm").items()}
    _fill(frontend, published)
    with torch.inference_mode():
        return frontend(waves("eval")[:2])


def _full_backend(backend: str, prefix: str) -> float:
    arrays, cfg = golden("full_recipe.npz"), ModelConfig()
    torch.manual_seed(0)
    back = model.BACKENDS[backend](1024, **getattr(cfg, backend).model_dump())
    head = QAMO(back.dim, n_centroids=2, **HEAD)  # type: ignore[arg-type]
    identity: Any = torch.nn.Identity()
    detect = model.Detector(identity, back, head).eval()
    _fill(detect, published_names(detect.state_dict(), backend))
    with torch.inference_mode():
        output = detect(_full_features())
        return max(
            difference(head.cosines(output.embedding), arrays[f"{prefix}_scores"]),
            relative(output.embedding, arrays[f"{prefix}_emb"]),
        )


check("full size: Conformer-TCM embeddings and scores", 1e-5, full=True)(lambda: _full_backend("conformer_tcm", "tcm"))
check("full size: Nes2Net-X embeddings and scores", 1e-5, full=True)(lambda: _full_backend("nes2net", "nes"))


# ---- the table


def table(checks: dict[str, tuple[float, Check]]) -> Iterator[str]:
    """Lines of a Markdown table, one a check."""
    import scipy
    import transformers

    yield "<!-- Written by benchmarks/parity.py; `make parity` writes it anew. -->"
    yield FIRST_STEP
    yield f"Original: {VERSIONS}, CPU.  "
    yield (
        f"This program: Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}, transformers {transformers.__version__}, CPU, {torch.get_num_threads()} thread(s)."
    )
    yield ""
    yield "| what was held against the original | largest difference | allowed |"
    yield "| --- | --- | --- |"
    for what, (tolerance, function) in checks.items():
        yield f"| {what} | {function():.1e} | {tolerance:.0e} |"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="also the network at its full size")
    parser.add_argument("-o", "--output", type=Path, help="write the table there as well")
    args = parser.parse_args(argv)
    if not GOLDENS.is_dir():
        print(f"{parser.prog}: {GOLDENS}: the golden figures are not there", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    lines = []
    for line in table({**CHECKS, **(FULL_CHECKS if args.full else {})}):
        print(line, flush=True)
        lines.append(line)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.output, "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
