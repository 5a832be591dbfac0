"""Mean opinion scores of recordings: predictors behind one contract, and a cached walk over many files.

A predictor is a callable: waves at 16 kHz, [(T,), ...] -> (n,) float64, about 1 (bad) to 5 (excellent). It has a
`name`, and an `identity` that changes whenever its scores might (version, hash of the weights). Specs name them:

    distillmos          PyPI distillmos, MIT, weights inside the wheel; works offline (the default)
    distillmos:bf16     the same in 16 bits, about twice as fast on a CPU that has them; scores move by some 0.02
    scoreq:PATH         an ONNX export of SCOREQ (no-reference mode, natural or synthetic domain), taken at 16 kHz
    onnx:PATH@RATE      any ONNX model with one wave input (B, T) and one score output, at a sampling rate in Hz
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Protocol

import numpy as np

from qamo import InputError, files
from qamo.audio import SAMPLE_RATE
from qamo.audio import load as audio
from qamo.networks.cpu import malloc as memory
from qamo.progress import progress

TASK_FILES = 8  # files that a process takes at a time


class Predictor(Protocol):
    """See the module's contract."""

    name: str
    identity: str

    def __call__(self, waves: Sequence[np.ndarray]) -> np.ndarray: ...


def build_predictor(spec: str) -> Predictor:
    """The predictor that `spec` names.

    Raises:
        InputError: an unknown spec, a missing model file, or a package that is not installed.
    """
    kind, _, place = spec.partition(":")
    if kind == "distillmos" and place in ("", "bf16"):
        return DistillMOSPredictor(bf16=bool(place))
    if kind == "scoreq" and place:
        return ONNXPredictor(Path(place), SAMPLE_RATE, name="scoreq")
    if kind == "onnx" and place:
        path, _, rate = place.rpartition("@")
        if not path or not rate.isdigit() or int(rate) < 1:
            raise InputError(f"{spec!r}: expected onnx:PATH@RATE, for example onnx:model.onnx@16000")
        return ONNXPredictor(Path(path), int(rate), name="onnx")
    raise InputError(
        f"{spec!r}: no such MOS predictor; expected distillmos, distillmos:bf16, scoreq:PATH or onnx:PATH@RATE"
    )


class DistillMOSPredictor:
    """DistillMOS without paying for its padding; one wave at a time, so a score does not depend on its neighbours."""

    name = "distillmos"

    def __init__(self, *, bf16: bool = False) -> None:
        import torch

        from qamo.networks import distillmos

        self._bf16 = bf16
        self._network = distillmos.load_network().to("cuda" if torch.cuda.is_available() else "cpu")
        digest = files.sha256(Path(distillmos.weights_path()))
        self.identity = f"distillmos {metadata.version('distillmos')} weights {digest[:16]}{' bf16' * bf16}"

    def __call__(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        from qamo.networks import distillmos

        device = next(self._network.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self._bf16):
            return distillmos.predict(self._network, waves)


class ONNXPredictor:
    """A model file: float32 wave (1, T) in; its first output, averaged, is the score.

    Args:
        path: the ONNX file.
        rate: sampling rate that the model expects, in Hz.
    """

    def __init__(self, path: Path, rate: int, *, name: str) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such ONNX file; give the path of the downloaded model")
        try:
            import onnxruntime
        except ImportError:
            raise InputError("reading an ONNX predictor needs onnxruntime; pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common exception of its own
            raise InputError(f"{path}: not a model that onnxruntime reads ({str(error).splitlines()[0]})") from None
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 2:
            found = ", ".join(f"{i.name} {i.shape}" for i in inputs)
            raise InputError(f"{path}: expected one input (batch, samples), found {found}")
        self._path, self._input, self._rate, self.name = path, inputs[0].name, rate, name
        self.identity = f"{name} {path.name} sha256 {files.sha256(path)[:16]} at {rate} Hz"

    def __call__(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        scores = np.empty(len(waves))
        for index, wave in enumerate(waves):
            if self._rate != SAMPLE_RATE:
                import soxr

                wave = soxr.resample(wave, SAMPLE_RATE, self._rate)
            output = self._session.run(None, {self._input: np.asarray(wave, dtype=np.float32)[None]})[0]
            scores[index] = float(np.mean(output))
        return scores


# ---- many files


def predict_files(
    paths: Sequence[Path],
    spec: str,
    *,
    jobs: int = 1,
    cache: Path | None = None,
) -> np.ndarray:
    """Scores of recordings, in order -> (n,) float64.

    Args:
        jobs: processes; each holds a predictor and uses one thread. 1: this process.
        cache: file of earlier scores, keyed by the recordings' content and the predictor. Each score is added as
            soon as it is known, so a walk that was cut off goes on where it was.

    Raises:
        InputError: a file that cannot be decoded, or a predictor that cannot be had.
    """
    identity = build_predictor(spec).identity if cache is not None else ""
    known = _read_cache(cache, identity) if cache is not None else {}
    digests: list[str] = []
    for path in paths:
        digests.append(_digest(path) if cache is not None else str(len(digests)))
    # content that occurs twice is scored once
    todo = {digest: path for digest, path in zip(digests, paths) if digest not in known}
    listed = list(todo.items())
    tasks = [listed[i : i + TASK_FILES] for i in range(0, len(listed), TASK_FILES)]
    with _results(tasks, spec, jobs) as results, _appending(cache) as append:
        for scored in progress(results, "MOS", total=len(listed), unit="recording", count=len):
            known.update(scored)
            append("".join(f"{digest} {score!r} {identity}\n" for digest, score in scored))
    return np.array([known[digest] for digest in digests])


@contextlib.contextmanager
def _results(tasks: list[list[tuple[str, Path]]], spec: str, jobs: int) -> Iterator[Iterator[list[tuple[str, float]]]]:
    """Scored tasks as they are done: by this process, or by `jobs` others."""
    work = functools.partial(_score, spec)
    if jobs == 1 or len(tasks) < 2:
        yield map(work, tasks)
        return
    # spawned: a forked copy of a process that has used torch may hang
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(tasks)), initializer=_one_thread) as pool:
        yield pool.imap_unordered(work, tasks)


@contextlib.contextmanager
def _appending(path: Path | None) -> Iterator[Callable[[str], None]]:
    if path is None:
        yield lambda text: None
        return
    with open(path, "a", encoding="utf-8") as file:

        def append(text: str) -> None:
            file.write(text)
            file.flush()

        yield append


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    memory.keep_freed()


@functools.lru_cache(1)
def _predictor(spec: str) -> Predictor:
    return build_predictor(spec)


def _score(spec: str, task: list[tuple[str, Path]]) -> list[tuple[str, float]]:
    scores = _predictor(spec)([audio.load(path) for _, path in task])
    for (_, path), score in zip(task, scores):
        if not np.isfinite(score):
            raise InputError(f"{path}: the predictor {spec} gives {score}; replace the recording or the predictor")
    return [(digest, float(score)) for (digest, _), score in zip(task, scores)]


def _digest(path: Path) -> str:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; check the audio folder and the protocol")
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32]


def _read_cache(path: Path, identity: str) -> dict[str, float]:
    """Earlier scores of this predictor; a line that a kill cut short is left out."""
    known: dict[str, float] = {}
    if not path.exists():
        return known
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        files.write_text(path, text)
    for line in text.splitlines():
        parts = line.split(" ", 2)
        if len(parts) == 3 and parts[2] == identity:
            known[parts[0]] = float(parts[1])
    return known
