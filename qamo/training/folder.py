"""The folder of a run: what its files are called, which training it holds, and who may write to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from qamo import InputError, hub
from qamo.config.keys import Role, keys_of
from qamo.config.load import ADDED, RENAMED, flat, read_run_config, to_yaml
from qamo.config.parts import XLSR_300M, ModelConfig
from qamo.config.schema import Config
from qamo.files import check_space, holding, read_json, remove_temporaries, write_json, write_text
from qamo.progress import start_log
from qamo.published import published_epochs
from qamo.training.provenance import pretrained_provenance, provenance

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

MODEL, LAST, METRICS = "model.pt", "last.pt", "metrics.jsonl"
DEV = "dev"  # name of the dev set among the score files


class RunFolder:
    """The files of a run, and nothing else knows their names. `str()` of it is its path."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"  # all settings of the training
        self.record = self.path / "run.json"  # code, packages, machine and data of the training
        self.resumed = self.path / "resumed.jsonl"  # the same for each time that it was resumed
        self.log = self.path / "run.log"
        self.tensorboard = self.path / "tensorboard"
        self.metrics = self.path / METRICS  # a row per epoch
        self.augmented = self.path / "augmented.json"  # MOS of some utterances before and after augmentation
        self.last = self.path / LAST  # what a resume reads
        self.model = self.path / MODEL  # the weights that a finished run is known by
        self.scores = self.path / "scores"
        self.calibration = self.path / "calibration.json"
        self.results = self.path / "results.json"

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def of(cls, cfg: Config) -> RunFolder:
        """The folder named after a config: its name, or its parts with a digest of all that decides its weights."""
        if cfg.name:
            return cls(cfg.run.runs / cfg.name)
        if not cfg.train.enabled and cfg.score.weights:
            weights = cfg.score.weights.resolve()
            average = f"_{cfg.train.average}" if published_epochs(weights) else ""
            return cls(cfg.run.runs / f"score_{weights.parent.name}_{weights.stem}{average}")
        # A run of before a key was renamed, or came, has the name that it was made with.
        first_names = {new: old for old, new in RENAMED.items()}
        identity = {
            first_names.get(key, key): value
            for key, value in training_identity(cfg).items()
            if (key, value) not in ADDED.items()
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        parts = [cfg.model.frontend, cfg.model.backend, cfg.model.head, f"seed{cfg.seed}", cfg.comment, digest]
        return cls(cfg.run.runs / "_".join(part for part in parts if part))

    def score_file(self, name: str, comment: str | None = None) -> Path:
        """The score file of a set, whose name `comment` (`comment_eval` of the config) may extend."""
        return self.scores / (f"{name}_{comment}.txt" if comment else f"{name}.txt")

    def n_unscored(self, sets: Mapping[str, Any], comment: str | None) -> int:
        """Recordings of the evaluation sets that have no score file yet."""
        return sum(len(each.names) for name, each in sets.items() if not self.score_file(name, comment).exists())

    def weights(self, cfg: Config) -> Path:
        """The checkpoint that is scored with.

        Raises:
            InputError: it is not there.
        """
        path = cfg.score.weights if cfg.score.weights and not cfg.train.enabled else self.model
        if not path.exists() and not hub.is_name(path):
            raise InputError(f"{path}: no trained weights there; train first, or name some with --ckpt-path")
        return path

    @contextmanager
    def held(self, fabric: Fabric) -> Iterator[None]:
        """Keep other jobs out while this one works here; the first of its processes holds the lock and the log.

        Raises:
            InputError: another process holds the folder.
        """
        if not fabric.is_global_zero:
            yield
            return
        with holding(self.path, doing="training or scoring"):
            for part in (self.path, self.scores):
                remove_temporaries(part)
            start_log(self.log)
            yield

    def holds_training(self, cfg: Config) -> bool:
        """Whether this very training is here already, finished or not.

        Raises:
            InputError: another one is; the keys that differ are named.
        """
        if not self.config.exists():
            return False
        before, now = training_identity(read_run_config(self.config)), training_identity(cfg)
        # Keys of one side only are settings of a part that the other side does not choose: the choice itself differs.
        common = sorted(before.keys() & now.keys())
        differing = [f"{key} is {now[key]!r} but was {before[key]!r}" for key in common if before[key] != now[key]]
        if differing:
            raise InputError(
                f"{self}: holds a run of another config: {'; '.join(differing)}; give this one another --name"
            )
        return True

    def finished(self, cfg: Config) -> dict[str, Any] | None:
        """The results of a training run that has nothing left to do for this config, or None.

        Raises:
            InputError: another training is here.
        """
        if not cfg.train.enabled or not self.holds_training(cfg) or not self.results.exists():
            return None
        results: dict[str, Any] = read_results(self.results)
        for name in cfg.eval.sets:
            row = results["sets"].get(name)
            scores = self.score_file(name, cfg.comment_eval)
            if row is None or row.get("n_failed", 1) or row.get("scores") != str(scores) or not scores.exists():
                return None
            keys = cfg.eval.catalogue[name].keys
            if "eer" not in row and keys and (cfg.data.protocols_path / keys).exists():  # they came later
                return None
        return results

    def check_disk(self, cfg: Config, detector: nn.Module) -> int:
        """How many bytes the checkpoints of a training take beyond those that are here already.

        Raises:
            InputError: there is no room for them.
        """
        weights = sum(tensor.nbytes for tensor in detector.state_dict().values())
        moments = 2 * sum(p.nbytes for p in detector.parameters() if p.requires_grad)
        # The best epochs, one that is about to push out another, their average, and last.pt twice while it is replaced.
        full = (cfg.train.n_best + 2) * weights + 2 * (weights + moments)
        needed = max(0, full - sum(path.stat().st_size for path in self.path.glob("*.pt")))
        check_space(self.path, needed, what=f"{cfg.train.n_best} epochs and the state of a training")
        return needed

    def begin(self, cfg: Config, fabric: Fabric, facts: Mapping[str, Any], detector: nn.Module) -> None:
        """See that there is room, and write down what is trained, with what and where.

        Args:
            facts: about the data of the training.

        Raises:
            InputError: the disk is too small.
        """
        self.check_disk(cfg, detector)
        if not fabric.is_global_zero:
            return
        about = provenance(device=fabric.device, n_processes=fabric.world_size)
        if self.config.exists():
            with open(self.resumed, "a", encoding="utf-8") as file:
                file.write(json.dumps(about) + "\n")
        else:
            about |= {"data": facts, "frontend_weights": pretrained_provenance(cfg.model)}
            write_json(self.record, about)
        write_text(self.config, to_yaml(cfg))


class ResultRow(TypedDict, total=False):
    """What a run's results say of an evaluation set: rates, or why there are none."""

    scores: str
    n_failed: int
    note: str
    n_bonafide: int
    n_spoof: int
    eer: float
    eer_low: float
    eer_high: float
    interval: str  # what was resampled, or why there are no ends
    min_tdcf: float
    act_dcf: float
    min_dcf: float
    cllr: float
    min_cllr: float


class _Sets(TypedDict):
    sets: dict[str, ResultRow]


class _Results(_Sets, total=False):
    run: str


def read_results(path: Path) -> dict[str, Any]:
    """A run's results.json, its types checked; InputError where they are others."""
    results: Any = read_json(path, _Results)
    for name, row in results["sets"].items():
        needed = {"n_bonafide", "n_spoof"} if "eer" in row else {"note"}
        ends = {"eer_low", "eer_high"}
        missing = (needed | ends if ends & row.keys() else needed) - row.keys()
        if missing:
            raise InputError(f"{path}: {name}: {', '.join(sorted(missing))} missing; delete it and score the run again")
    return dict(results)


def training_identity(cfg: Config) -> dict[str, Any]:
    """What decides the trained weights, as dotted keys; settings of parts that are not used are left out."""
    tree = cfg.model_dump(mode="json", include={"seed", "data", "model", "train"})
    tree["model"] = used_sections(tree["model"])
    if not tree["data"]["channel"]["probability"]:
        tree["data"]["channel"] = {"probability": 0.0}  # nothing reads the rest
    if tree["train"]["precision"] == "auto":
        tree["train"]["precision"] = "32"  # what it is on a CPU, and was before it could be chosen by the device
    return {key: value for key, value in flat(tree).items() if keys_of(Config)[key].role is not Role.FREE}


def scoring_digest(model_config: dict[str, Any]) -> str:
    """Hexadecimal digest of what decides the scores beside the weights: the settings of the three parts."""
    roles = {key: about.role for key, about in keys_of(ModelConfig).items()}
    as_before = ADDED.items()  # digests that were written down do not hold them
    outside = (Role.TRAINING, Role.FREE)  # Role.LOSS is inside: digests that were written down hold it
    keys = {
        key: value
        for key, value in flat(used_sections(model_config)).items()
        if roles.get(key) not in outside and (f"model.{key}", value) not in as_before
    }
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]


def used_sections(model_config: dict[str, Any]) -> dict[str, Any]:
    """A model config without the sections of parts that it does not choose, and with all sizes of XLS-R."""
    used = {model_config[part] for part in ("frontend", "backend", "head")}
    chosen = {key: value for key, value in model_config.items() if not isinstance(value, dict) or key in used}
    if "xlsr" in chosen:  # sizes that are left to the file count as those that were written out before they could be
        left = {key: size for key, size in XLSR_300M.items() if chosen["xlsr"].get(key) is None}
        chosen["xlsr"] = chosen["xlsr"] | left
    return chosen
