"""Features of a frozen front end, computed once and kept on disk.

A feature map is kept under a name made of the wave's bytes and the front end's weights, so that neither another
recording, nor another window, nor another front end can be mistaken for it. Each map is one file that appears whole
or not at all: any number of processes may share a folder, and a killed one leaves nothing half-written. Waves are
passed through the front end one at a time, which makes a cached and a computed feature map the same bits.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qamo.config.load import ADDED
from qamo.config.schema import RunConfig
from qamo.files import check_space, read_arrays, replacing, size_text
from qamo.networks.contract import Detector, FrontEnd, Part
from qamo.networks.layers import Layered

log = logging.getLogger(__name__)

STALE_S = 3600.0  # age at which a temporary file is one that a killed process left
SIZE_CHECK_EVERY = 256  # writes between two looks at the folder's size


class FeatureCache:
    """(B, T) waves -> (B, F, D) features of one frozen front end, from disk where they have been seen before.

    Args:
        folder: where the maps are kept; made when missing.
        frontend: the front end whose weights the maps belong to.
        identity: what shapes the features beside the weights, such as the front end's settings.
        max_bytes: the folder is brought below this size by dropping the maps that were read longest ago.
    """

    def __init__(self, folder: Path, frontend: FrontEnd, *, identity: str, max_bytes: float):
        self.folder = Path(folder) / fingerprint(frontend, identity, without="mix.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._writes_until_check = 1

    def __call__(self, frontend: FrontEnd, wave: Tensor) -> Tensor:
        paths = [self._path(row) for row in wave]
        kept = [self._read(path) for path in paths]
        missing = [i for i, features in enumerate(kept) if features is None]
        layered = frontend if isinstance(frontend, Layered) else None
        compute = layered.states if layered else frontend
        for i, computed in zip(missing, _computed(compute, [wave[i] for i in missing])):
            self._write(paths[i], (computed.half() if layered and layered.in_half else computed.float()).cpu().numpy())
            kept[i] = computed
        self.hits += len(kept) - len(missing)
        self.misses += len(missing)
        x = torch.stack([features.to(wave.device, wave.dtype) for features in kept if features is not None])
        return layered.mix(x) if layered else x

    @staticmethod
    def _read(path: Path) -> Tensor | None:
        try:
            features = torch.from_numpy(_read(path))
            os.utime(path)  # read now: the last to be dropped
            return features
        except (OSError, ValueError, EOFError):
            return None  # not there yet, or not a whole file: compute it

    def _path(self, row: Tensor) -> Path:
        name = hashlib.blake2b(row.detach().cpu().numpy().tobytes(), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.npy"

    def _write(self, path: Path, features: np.ndarray) -> None:
        path.parent.mkdir(exist_ok=True)
        with replacing(path, durable=False) as temporary, open(temporary, "wb") as file:
            np.save(file, features)
            file.write(zlib.crc32(features.tobytes()).to_bytes(4, "little"))
        self._writes_until_check -= 1
        if self._writes_until_check <= 0:
            self._writes_until_check = SIZE_CHECK_EVERY
            self.evict()

    def say_need(self, frontend: FrontEnd, n_waves: int, window: int) -> None:
        """Log what the features of `n_waves` waves of `window` samples take, and see that the disk has it.

        Raises:
            InputError: it has not.
        """
        wave = torch.zeros(1, window)
        self(frontend, wave)
        need = n_waves * self._path(wave[0]).stat().st_size
        text = f"features of {n_waves:,} recordings"
        log.info("%s take %s in %s, augmented speech as much again each epoch", text, size_text(need), self.folder)
        if need > self.max_bytes:
            log.warning("run.feature_cache_gb is %g: features are dropped and computed again", self.max_bytes / 1e9)
        check_space(self.folder, int(min(need, self.max_bytes)), what=text)

    def evict(self) -> int:
        """Drop the maps read longest ago until the folder of all front ends is below `max_bytes`; how many went.

        What killed processes left half-written goes too, once it is surely nobody's.
        """
        for path in self.folder.parent.glob("*/??/.*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    path.unlink()
        entries = []
        for path in self.folder.parent.glob("*/??/*.npy"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process dropped it
                continue
            entries.append((status.st_mtime, status.st_size, path))
        total, dropped = sum(size for _, size, _ in entries), 0
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            total, dropped = total - size, dropped + 1
        return dropped


def _computed(features_of: Callable[[Tensor], Tensor], rows: Sequence[Tensor]) -> Iterator[Tensor]:
    """Features of each wave by itself; on a CPU a thread for each of PyTorch's, with one wave at a time.

    Threads that share a wave wait for each other at each layer, and burn CPU time while they do: DistillMOS on two
    threads of a busy machine took 0.41 s of CPU a wave, on one 0.15 s.
    """
    compute = functools.partial(_one, features_of, torch.is_inference_mode_enabled())
    n_threads = torch.get_num_threads()
    if not rows or rows[0].device.type != "cpu":
        yield from map(compute, rows)
        return
    # Autocast belongs to a thread: the threads take over this one's.
    mixed, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def alone(row: Tensor) -> Tensor:
        torch.set_num_threads(1)  # of this thread
        with torch.autocast("cpu", dtype=dtype, enabled=mixed):
            return compute(row)

    with ThreadPoolExecutor(n_threads, thread_name_prefix="features") as pool:
        yield from pool.map(alone, rows)


def _one(features_of: Callable[[Tensor], Tensor], inference: bool, row: Tensor) -> Tensor:
    with torch.inference_mode(inference), torch.no_grad():
        return features_of(row[None])[0]


def _read(path: Path) -> np.ndarray:
    """A feature map whose checksum, the last four bytes, is right; ValueError where it is not, or is not there."""
    with open(path, "rb") as file:
        features: np.ndarray = read_arrays(file)
        if file.read() != zlib.crc32(features.tobytes()).to_bytes(4, "little"):
            raise ValueError(f"{path}: damaged")
        return features


def attach(detector: Detector, run: RunConfig, precision: str, *, n_waves: int = 0, window: int = 0) -> None:
    """Keep the features of a frozen front end in the folder that `run.feature_cache` names, if it names one.

    Args:
        precision: that the features are computed in, where the front end follows it.
        n_waves, window: how many waves of how many samples are to be kept, for what it says of the disk; 0: nothing.

    Raises:
        InputError: they do not fit on the disk.
    """
    frontend = detector.frontend
    if run.feature_cache is None or not frontend.frozen:
        return
    name = detector.config["frontend"]
    came_later = ADDED.items()  # what was kept before keeps its name
    section = {k: v for k, v in detector.config[name].items() if (f"model.{name}.{k}", v) not in came_later}
    identity = json.dumps({"precision": precision if frontend.mixed else "32", **section}, sort_keys=True)
    max_bytes = run.feature_cache_gb * 1e9
    cache = FeatureCache(run.feature_cache, frontend, identity=identity, max_bytes=max_bytes)
    detector.feature_cache = cache
    if n_waves:
        cache.say_need(frontend, n_waves, window)


def fingerprint(module: Part, identity: str = "", *, without: str | None = None) -> str:
    """Hexadecimal digest of a module's class, names, shapes and weights, and of `identity`.

    Args:
        without: weights whose names begin so are left out.
    """
    digest = hashlib.blake2b(f"{type(module).__name__} {identity}".encode(), digest_size=12)
    for name, tensor in sorted(module.state_dict().items()):
        if without and name.startswith(without):
            continue
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
