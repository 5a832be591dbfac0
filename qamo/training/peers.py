"""The processes of a job: do they want the same, are they there, and how does a person end one that waits.

Processes speak through the key-value store that they met at, not through collectives: a collective waits inside C++,
where no signal is heard, and two processes that disagree would wait for each other there for hours.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from qamo import InputError
from qamo.command import INPUT_ERROR, STOPPED
from qamo.config.load import flat
from qamo.config.schema import Config
from qamo.files import sha256
from qamo.training.provenance import ROOT
from qamo.training.signals import ONE_REQUEST_S

log = logging.getLogger(__name__)

BEAT_S = 5.0  # between two signs of life of a process
SILENT_S = float(os.environ.get("QAMO_SILENT_S", 180))  # without one before a process is taken to be lost
VISIBLE_S = 10.0  # in which a new file must be seen by the others
ANSWER_S = 300.0  # that processes have to say what they were started with
GRACE_S = 1.0  # between the second signal and the end of a process that does not hear it

# What each process may have of its own: where things lie on its machine, speed and memory.
OWN = (
    *("data.database_path", "data.protocols_path", "data.n_workers", "data.quality.cache"),
    *("run.runs", "run.devices", "run.n_nodes", "run.n_threads", "run.feature_cache", "run.feature_cache_gb"),
    *("train.frontend_chunks", "model.xlsr.gradient_checkpointing"),
)


class Peers:
    """The other processes of this one's job, met through the job's store.

    Args:
        store: that all processes of the job see.
        rank: of this process among `world_size`.
        node: number of this machine.
    """

    n_jobs = 0  # of this process, for names of their own in the store
    here: Peers | None = None  # those of the job under way

    def __init__(self, store: Any, rank: int, world_size: int, node: int) -> None:
        self.store, self.rank, self.world_size, self.node = store, rank, world_size, node
        self.prefix = f"qamo/{Peers.n_jobs}"
        self.store.set_timeout(timedelta(seconds=ANSWER_S))
        self.names = [f"process {rank}" for rank in range(self.world_size)]
        self.n_meetings = 0

    def told(self, what: str, value: Any) -> list[Any]:
        """`value` of each process, by rank. Raises InputError naming the first that does not answer."""
        self.store.set(f"{self.prefix}/{what}/{self.rank}", json.dumps(value))
        values = []
        for rank, name in enumerate(self.names):
            try:
                values.append(json.loads(self.store.get(f"{self.prefix}/{what}/{rank}")))
            except RuntimeError:  # the store's timeout
                raise InputError(
                    f"{name} did not answer within {ANSWER_S:.0f} s; look at its messages, and start all anew"
                ) from None
        return values

    def agree(self, cfg: Config, device: str) -> None:
        """See that all processes were started with the same settings, lists and code, and see the same run folders.

        Raises:
            InputError: they were not; the message names the first key that differs, and whose.
        """
        self.names = self.told("names", f"{self.names[self.rank]} on node {self.node} ({socket.gethostname()})")
        self.same("settings", {**facts_of(cfg), "the device": device})
        self._share(cfg.run.runs)

    @classmethod
    def check_same_weights(cls, digest: str) -> None:
        """See that all processes score with the same weights; nothing where there is only one."""
        if cls.here:
            cls.here.same("weights", {"score.weights": digest})

    def same(self, what: str, facts: Mapping[str, Any]) -> None:
        """See that `facts` are those of every process; InputError naming the first that differs, and whose."""
        first, *others = self.told(what, facts)
        for name, theirs in zip(self.names[1:], others):
            for key in (key for key in {**first, **theirs} if first.get(key) != theirs.get(key)):
                raise InputError(
                    f"{key}: {name} has {theirs.get(key)!r}, but {self.names[0]} has {first.get(key)!r}; start every "
                    "process with the same settings, files and code"
                )

    def _share(self, runs: Path) -> None:
        """See that the folder of all runs is one and the same for all processes."""
        token = f".{secrets.token_hex(8)}.{os.getpid()}.tmp"
        if self.rank == 0:
            runs.mkdir(parents=True, exist_ok=True)
            (runs / token).touch()
        (token, place), *_ = self.told("run folder", [token, str(runs.absolute())])
        deadline = time.monotonic() + VISIBLE_S  # a network file system may show a new file late
        while not (seen := (runs / token).exists()) and time.monotonic() < deadline:
            time.sleep(0.1)
        all_see = self.told("seen", [seen, str(runs.absolute())])
        if self.rank == 0:
            (runs / token).unlink(missing_ok=True)
        for name, (sees, there) in zip(self.names, all_see):
            if not sees:
                raise InputError(
                    f"run.runs: {there} of {name} is not the folder {place} of {self.names[0]}; give all processes "
                    "one folder on a disk that they share"
                )

    def meet(self, doing: str) -> None:
        """Wait until every process is here, however long the others are still `doing` something and alive."""
        self.n_meetings += 1
        key = f"{self.prefix}/met/{self.n_meetings}"
        self.store.set(f"{key}/{self.rank}", "")
        missing, said = list(range(self.world_size)), time.monotonic()
        while missing := [rank for rank in missing if not self.store.check([f"{key}/{rank}"])]:
            time.sleep(0.05)
            if time.monotonic() - said > 60:
                said = time.monotonic()
                log.warning("waiting for %s: %s", self.names[missing[0]], doing)

    @classmethod
    def of(cls, fabric: Fabric) -> Peers:
        """Those of a job whose processes have joined."""
        cls.n_jobs += 1
        store: Any = torch.distributed.distributed_c10d._get_default_store()
        return cls(store.clone(), fabric.global_rank, fabric.world_size, fabric.node_rank)

    # ---- signs of life

    @contextmanager
    def watched(self, resume: str) -> Iterator[None]:
        """Give signs of life, and end this process in a sentence when another gives none, or at a second signal."""
        ended = threading.Event()
        threads = [threading.Thread(target=self._watch, args=(ended, resume), daemon=True)]
        listening = None
        if threading.current_thread() is threading.main_thread():
            listening, wakeup = socket.socketpair()
            wakeup.setblocking(False)
            before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
            threads.append(threading.Thread(target=_listen, args=(listening, ended), daemon=True))
        for thread in threads:
            thread.start()
        Peers.here = self
        try:
            yield
        finally:
            Peers.here = None
            ended.set()
            threads[0].join(BEAT_S)
            if listening is not None:
                signal.set_wakeup_fd(before)
                wakeup.close()  # ends the thread that listens

    def _watch(self, ended: threading.Event, resume: str) -> None:
        store = self.store.clone()
        store.set_timeout(timedelta(seconds=BEAT_S))
        now = time.monotonic()
        last: dict[int, tuple[Any, float]] = {r: (None, now) for r in range(self.world_size) if r != self.rank}
        n_beats = 0
        while not ended.wait(BEAT_S):
            n_beats += 1
            for rank, (beat, since) in last.items():
                try:
                    store.set(f"{self.prefix}/beat/{self.rank}", str(n_beats))
                    key = f"{self.prefix}/beat/{rank}"
                    found = store.get(key) if store.check([key]) else None
                except RuntimeError:  # the process that keeps the store is gone, or does not answer
                    found = beat
                now = time.monotonic()
                if found != beat or found == b"end":
                    last[rank] = found, now
                elif now - since > SILENT_S:
                    _end(
                        f"no sign of {self.names[rank]} for {now - since:.0f} s; what was saved last is kept, and when "
                        f"that machine is back, the same command goes on from there: {resume}",
                        INPUT_ERROR,
                    )
        with suppress(RuntimeError):
            store.set(f"{self.prefix}/beat/{self.rank}", "end")


def meet(fabric: Fabric, doing: str) -> None:
    """Wait for the other processes, however long they are still `doing` something; see `Peers.meet`."""
    if Peers.here is None:
        fabric.barrier()
    else:
        Peers.here.meet(doing)


def _listen(listening: socket.socket, ended: threading.Event) -> None:
    """End the process a moment after a second signal: inside a collective Python's own handlers are not called."""
    first = None
    while number := listening.recv(1):
        if number[0] not in (signal.SIGINT, signal.SIGTERM):
            continue
        first = first or time.monotonic()
        if time.monotonic() - first > ONE_REQUEST_S and not ended.wait(GRACE_S):
            _end("stopped at once, while waiting for another process; what was saved last is kept", STOPPED)
    listening.close()


def _end(why: str, status: int) -> None:
    """Leave from a thread: the main one is inside C++ and hears nothing. Files appear whole or not at all."""
    print(f"{os.path.basename(sys.argv[0])}: {why}", file=sys.stderr, flush=True)
    os._exit(status)


def facts_of(cfg: Config) -> dict[str, Any]:
    """What all processes of a job must have in common, by name."""
    facts = {key: value for key, value in flat(cfg.model_dump(mode="json")).items() if key not in OWN}
    lists = {f"data.{part}_protocol": getattr(cfg.data, f"{part}_protocol") for part in ("train", "dev")}
    for name in cfg.eval.sets:
        chosen = cfg.eval.catalogue[name]
        lists |= {f"eval.catalogue.{name}.trials": chosen.trials, f"eval.catalogue.{name}.keys": chosen.keys}
    for key, file in lists.items():
        path = cfg.data.protocols_path / (file or "")
        facts[f"the file {key}"] = sha256(path)[:16] if path.is_file() else "no such file"
    return {**facts, "the code": code_digest(), "the version of PyTorch": torch.__version__, **_numbers()}


def _numbers() -> Mapping[str, str]:
    return {"the format of numbers": f"{torch.get_default_dtype()}, {torch.get_float32_matmul_precision()}"}


def code_digest(root: Path = ROOT) -> str:
    """Hexadecimal digest of the program's source files and their names."""
    digest = hashlib.sha256()
    for path in sorted([*root.glob("*.py"), *root.glob("qamo/**/*.py")]):
        digest.update(f"{path.relative_to(root)} {sha256(path)}".encode())
    return digest.hexdigest()[:16]
