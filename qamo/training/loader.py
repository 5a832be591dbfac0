"""Batches of recordings, read ahead of the network: by processes for training, by threads for scoring."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qamo import InputError, cores

SHARED = "/dev/shm"
BATCHES_AHEAD = 2  # of each process, in torch's DataLoader
READERS, MOST_READERS = 4, 16


class Batch(NamedTuple):
    """Waves with what is known of them."""

    wave: Tensor  # (B, T)
    bonafide: Tensor  # (B,) bool
    quality: Tensor  # (B,) int64
    indices: Tensor  # (B,) int64: in the protocol
    augmented: Tensor  # (B,) bool


class Batches(NamedTuple):
    """What one process of a training reads."""

    train: Callable[[int, int], Iterable[Batch]]  # (epoch, first step) -> this process's batches from there on
    dev: Callable[[], Iterable[Batch]]  # of the dev set's batches every world_size-th, from this process's rank on
    steps_per_epoch: int
    n_dev_batches: int  # of all processes together
    names: Sequence[str]  # of the training protocol, for messages
    seed: int
    provenance: Mapping[str, Any]  # what a checkpoint should tell of its data
    n_classes: int = 2  # of quality


def read_by_processes(
    dataset: Any, batches: Iterable[Any], collate: Callable[..., Any], *, n_workers: int
) -> Iterator[Any]:
    """Read given batches of keys of a dataset, in order, with `n_workers` processes ahead of the reader.

    Faults of a recording come out as the InputError they went in as.
    """
    keys = list(batches)
    n_workers = min(n_workers, len(keys))
    read: DataLoader[Any] = DataLoader(
        _WholeBatches(dataset, collate),
        batch_size=None,
        sampler=keys,
        num_workers=n_workers,
        worker_init_fn=functools.partial(_quiet_worker, os.getpid()),
        pin_memory=torch.cuda.is_available(),
    )
    try:
        for batch in read:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"a process that reads recordings was lost ({str(error).splitlines()[0]}), most often for want of memory; "
            "lower data.n_workers, or enlarge /dev/shm"
        ) from None


class _WholeBatches(Dataset[Any]):
    """Hands an InputError over as a value: raised in a worker it would arrive wrapped in a traceback's text."""

    def __init__(self, dataset: Any, collate: Callable[..., Any]):
        self.dataset = dataset
        self.collate = collate

    def __getitem__(self, keys: Iterable[Any]) -> Any:
        try:
            return self.collate([self.dataset[key] for key in keys])
        except InputError as error:
            return error


def _quiet_worker(parent: int, worker: int) -> None:
    """Leave Ctrl-C to the main process, which saves first, and die with SIGTERM as processes do.

    torch's workers end with their parent, unless it is killed before they have looked who it is.
    """
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def n_readers(asked: int | str, fabric: Fabric, n_bytes: int) -> int:
    """How many processes read recordings, where `auto` may be asked for.

    Args:
        n_bytes: of a batch. More than the usual number share it through /dev/shm only where that is large enough.
    """
    if not isinstance(asked, str):
        return asked
    if fabric.device.type == "cpu":
        return READERS
    n_gpus = torch.cuda.device_count()
    return max(READERS, min(MOST_READERS, cores.usable() // n_gpus, _readers_that_fit(n_bytes, n_gpus)))


def read_to_score(
    recordings: Any, batches: list[range], *, n_workers: int | str, fabric: Fabric
) -> Iterator[tuple[Tensor | list[Tensor], list[str]]]:
    """What `read_by_threads` gives: on a GPU by processes, since threads of one Python do not keep up with it.

    Where /dev/shm is too small for what processes read ahead, as in containers that nobody gave more, threads it is.

    Args:
        recordings: a `data_utils.ScoreSet`.
        n_workers: or auto.
    """
    n_bytes = 4 * recordings.window_samples * max(map(len, batches), default=1)
    n_workers = n_readers(n_workers, fabric, n_bytes)
    by_processes = fabric.device.type == "cuda" and recordings.windows == "first"
    if by_processes and n_workers <= _readers_that_fit(n_bytes, fabric.world_size):
        return read_by_processes(recordings, batches, with_faults, n_workers=n_workers)
    return read_by_threads(recordings.__getitem__, batches, n_workers=n_workers)


def _readers_that_fit(n_bytes: int, n_processes: int) -> int:
    """How many processes /dev/shm holds the batches of `n_bytes` of, for each of `n_processes` that compute."""
    return int(_free_shared() / (1.2 * BATCHES_AHEAD * n_bytes * n_processes))


def _free_shared() -> int:
    """Bytes left in the memory that processes share as files."""
    return shutil.disk_usage(SHARED).free if os.path.isdir(SHARED) else 0


def with_faults(items: Iterable[tuple[np.ndarray, str]]) -> tuple[Tensor | list[Tensor], list[str]]:
    """A batch of (wave, fault), whose waves are joined where each is one window."""
    waves, faults = zip(*items)
    if waves[0].ndim == 2:
        return list(map(torch.from_numpy, waves)), list(faults)
    return torch.from_numpy(np.stack(waves)), list(faults)  # NumPy's: in a thread torch would start a team of its own


def read_by_threads(
    read: Callable[[int], tuple[np.ndarray, str]], batches: Iterable[range], *, n_workers: int
) -> Iterator[tuple[Tensor | list[Tensor], list[str]]]:
    """The waves at given indices, batch by batch, with what is wrong with each; `n_workers` threads read ahead.

    Threads, since decoding is C code outside Python's lock. A forked process would share its memory with this one,
    which then copies every page that the network writes to: seconds of XLS-R's first batches.

    Args:
        read: index -> (wave (T,), fault), of one length; or several windows of it (n, T), which stay apart from those
            of others. Called by several threads at once.
    """

    def read_batch(batch: range) -> tuple[Tensor | list[Tensor], list[str]]:
        wave, faults = with_faults(map(read, batch))
        return wave.pin_memory() if isinstance(wave, Tensor) and torch.cuda.is_available() else wave, faults

    if not n_workers:
        yield from map(read_batch, batches)
        return
    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="decode")
    try:
        waiting = iter(batches)
        ahead = deque(pool.submit(read_batch, batch) for batch in islice(waiting, 2 * n_workers))
        while ahead:
            first = ahead.popleft().result()
            ahead.extend(pool.submit(read_batch, batch) for batch in islice(waiting, 1))
            yield first
    finally:
        pool.shutdown(cancel_futures=True)
