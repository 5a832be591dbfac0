"""What a run folder says of its training: epochs, settings, results, the dev threshold, the model's centroids.

The only file of the report that knows what the files of a run are called.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from qamo import InputError
from qamo.audio import WINDOW_SAMPLES
from qamo.config.load import flat, read_run_config
from qamo.files import read_json, read_text, typed
from qamo.training import folder as training_folder
from qamo.training.folder import RunFolder

# Settings that say where and not what, or too much.
SILENT = ("data.database_path", "data.protocols_path", "data.rawboost.", "data.n_workers")


class AugmentedRow(TypedDict):
    """What is read of an utterance in a run's sample of augmented speech."""

    codec: str | None
    mos_before: float
    mos_after: float


@dataclass(frozen=True, eq=False)
class Centroids:
    """What is known of the centroids of a run's head."""

    cosines: np.ndarray  # (K, K) between them
    radii: tuple[float, float] | None  # of bona fide and of spoofed speech; None where the loss has none
    when: str  # a heading: of which weights they are


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a run folder says of its training."""

    folder: Path
    epochs: list[dict[str, float]]  # a row of the metrics each
    settings: list[list[str]]  # dotted key, value
    window_samples: int
    results: dict[str, dict[str, Any]]  # what was found on each evaluation set
    centroids: Centroids | None = None
    augmented: list[AugmentedRow] | None = None  # MOS of some training utterances before and after augmentation

    @property
    def metrics(self) -> Path:
        return RunFolder(self.folder).metrics


def read_run(folder: Path) -> RunRecord:
    """The record of a run.

    Raises:
        InputError: no epoch has finished, or a file of the run is damaged.
    """
    run = RunFolder(folder)
    epochs = read_metrics(run.metrics)
    results = read_results(run.results)
    if not run.config.is_file():
        return RunRecord(folder, epochs, [], WINDOW_SAMPLES, results)
    cfg = read_run_config(run.config)
    used = {cfg.model.frontend, cfg.model.backend, cfg.model.head}
    settings = []
    for key, value in flat(cfg.model_dump(mode="json", include={"seed", "data", "model", "train"})).items():
        parts = key.split(".")
        unused = parts[0] == "model" and len(parts) > 2 and parts[1] not in used
        unused = unused or (key.startswith("data.channel.") and not cfg.data.channel.probability)
        if not unused and not key.startswith(SILENT):
            settings.append([key, value if isinstance(value, str) else json.dumps(value)])
    centroids = read_centroids(folder, getattr(cfg.model, cfg.model.head), epochs[-1])
    augmented = read_augmented(run.augmented) if run.augmented.exists() else None
    return RunRecord(folder, epochs, settings, cfg.data.window_samples, results, centroids, augmented)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The epochs of a run.

    Raises:
        InputError: no epoch is there, or a line is not one.
    """
    if not path.exists():
        raise InputError(f"--run: {path} is not there; give the folder of a run that was trained (exps/NAME)")
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            numbers = {key: value for key, value in row.items() if type(value) in (int, float)}
        except (ValueError, AttributeError, RecursionError):
            raise InputError(f"{path}:{number}: expected a JSON object, got {line[:60]!r}") from None
        if missing := {"epoch", "dev_loss", "dev_eer"} - numbers.keys():
            raise InputError(
                f"{path}:{number}: expected the numbers of an epoch, {', '.join(sorted(missing))} missing or no number"
            )
        rows.append(numbers)
    if not rows:
        raise InputError(f"{path}: no epoch has finished yet")
    return rows


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a run's results by evaluation set; none while the run has not been scored."""
    return training_folder.read_results(path)["sets"] if path.exists() else {}


def read_augmented(path: Path) -> list[AugmentedRow]:
    """MOS of some training utterances before and after augmentation, and the codec that was drawn for each.

    Raises:
        InputError: the file is damaged.
    """
    listed = read_json(path, _Sample)["utterances"]
    rows: list[AugmentedRow] = [typed(row, AugmentedRow, path, f"utterances.{k}") for k, row in enumerate(listed)]
    if not rows or not np.isfinite([[row["mos_before"], row["mos_after"]] for row in rows]).all():
        raise InputError(f"{path}: expected utterances with their MOS, found none or no numbers; delete the file")
    return rows


class _Sample(TypedDict):
    utterances: list[Any]


def run_of(scores: Path) -> Path | None:
    """The run in whose folder a score file lies; None where it lies in none."""
    folder = Path(os.path.realpath(scores)).parent  # not resolve, to which a link in a circle is an error
    run = RunFolder(folder.parent)
    is_run = any(file.exists() for file in (run.config, run.calibration, run.results))
    return run.path if is_run and folder == run.scores else None


def dev_threshold(folder: Path) -> float | None:
    """The threshold that a run's calibration found on its dev scores; None where it has none."""
    path = RunFolder(folder).calibration
    return read_json(path, _Threshold)["eer_threshold"] if path.exists() else None


class _Threshold(TypedDict):
    eer_threshold: float


def read_centroids(folder: Path, head: Any, last: dict[str, float]) -> Centroids | None:
    """The centroids of a run's model, or while there is no model what its last epoch says; None without any.

    Args:
        head: the config section of the head.
        last: the last row of the metrics.
    """
    radii = (head.radius_bonafide, head.radius_spoof) if hasattr(head, "radius_bonafide") else None
    path = RunFolder(folder).model
    if path.is_file() and importlib.util.find_spec("torch"):
        from qamo.networks.weights import read_torch

        content = read_torch(path)  # mapped, not read: a large front end stands beside them
        state = content.get("model") if isinstance(content, dict) else None
        if not isinstance(state, dict):
            raise InputError(f"{path}: expected a checkpoint with 'model', found none; train the run again")
        if "head.centroids" not in state:
            return None
        centroids = state["head.centroids"].detach().double().numpy()
        unit = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
        return Centroids(unit @ unit.T, radii, f"Centroid{'s' if len(unit) > 1 else ''} of the model")
    if getattr(head, "n_centroids", 1) == 2 and "centroid_cosine" in last:
        cosine = last["centroid_cosine"]
        return Centroids(np.array([[1, cosine], [cosine, 1]]), radii, "Centroids after the last epoch")
    return Centroids(np.ones((1, 1)), radii, "The centroid") if radii and getattr(head, "n_centroids", 1) == 1 else None
