"""Two processes that were started differently end in a sentence; one that waits can be ended; a silent one is named."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed

from qamo import InputError
from qamo.config.load import load_config
from qamo.config.schema import Config
from qamo.training import device, launch
from qamo.training.peers import Peers
from tests.support import tiny_corpus

ROOT = Path(__file__).parents[2]


def config(folder: Path, corpus: Path, more: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(tiny_corpus.CONFIG.format(root=corpus).replace(f"{corpus}/exps", f"{folder}/exps") + more)
    return path


class Job:
    """Two processes as of two nodes, each with its own command line: what torchrun sets, without its seconds."""

    def __init__(self, *commands: list[str], **more: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.processes = []
        for rank, words in enumerate(commands):
            place: dict[str, object] = {
                "RANK": rank,
                "GROUP_RANK": rank,
                "WORLD_SIZE": 2,
                "GROUP_WORLD_SIZE": 2,
                "LOCAL_WORLD_SIZE": 1,
            }
            place |= {"LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}
            env = {**os.environ, "OMP_NUM_THREADS": "1", **{key: str(value) for key, value in place.items()}, **more}
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, str(ROOT / "main.py"), *words],
                    cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )
            )  # fmt: skip

    def ends(self, timeout: float = 400) -> list[tuple[int, str]]:
        try:
            said = [process.communicate(timeout=timeout)[1] for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return [(process.returncode, text) for process, text in zip(self.processes, said)]


def test_each_way_to_disagree_is_named_with_its_node(built_corpus, tmp_path):
    """Two threads as two processes that share a store."""
    other = tmp_path / "other"
    other.mkdir()
    for path in built_corpus.glob("*.*"):
        shutil.copy(path, other)
    protocol = other / "train.txt"
    protocol.write_text("".join(protocol.read_text().splitlines(keepends=True)[:-1]))
    path = config(tmp_path, built_corpus)
    cases: dict[str, dict[str, object]] = {
        "train.lr": {"train.lr": 0.1},
        "seed": {"seed": 7},
        "train.batch_size": {"train.batch_size": 8},
        "train.max_epochs": {"train.max_epochs": 9},
        "train.precision": {"train.precision": "bf16-mixed"},
        "train.enabled": {"train.enabled": False},
        "data.quality.thresholds": {"data.quality.thresholds": [3.0]},
        "data.rawboost.probability": {"data.rawboost.probability": 0.5},
        "eval.sets": {"eval.sets": ["wild"]},
        "name": {"name": "k"},
        "the file data.train_protocol": {"data.protocols_path": str(other)},
        "run.runs": {"run.runs": str(other / "exps")},
        "": {"data.n_workers": 3, "run.n_threads": 2, "train.frontend_chunks": 2},  # each may have its own
    }
    for key, differing in cases.items():
        store = torch.distributed.HashStore()
        peers = [Peers(store, rank, 2, rank) for rank in range(2)]
        configs = [load_config(path, {"name": "j", **more}) for more in ({}, differing)]
        with ThreadPoolExecutor(2) as pool:
            started = [pool.submit(peer.agree, cfg, "cpu") for peer, cfg in zip(peers, configs)]
            for found in started:
                if key:
                    with pytest.raises(InputError, match=rf"^{re.escape(key)}: .*process 1 on node 1 \("):
                        found.result()
                else:
                    found.result()
    assert not list(tmp_path.rglob(".*.tmp"))


def test_the_real_command_says_that_processes_disagree(built_corpus, tmp_path):
    words = ["--config", str(config(tmp_path, built_corpus)), "name=j"]
    for status, said in Job(words, [*words, "train.lr=0.1"]).ends():
        assert status == 2, said
        assert re.search(r"main\.py: train\.lr: process 1 on node 1 \(.*\) has 0\.1, but process 0 on node 0", said), (
            said
        )
        assert "Traceback" not in said
    assert not (tmp_path / "exps" / "j").exists()


def test_a_second_signal_ends_a_process_that_waits_and_a_silent_one_is_named(built_corpus, tmp_path):
    path = config(tmp_path, built_corpus)
    words = ["--config", str(path), "name=w", "train.max_epochs=500", "train.patience=500"]
    metrics = tmp_path / "exps" / "w" / "metrics.jsonl"
    for by_hand in (True, False):
        job = Job(words, words, QAMO_SILENT_S="300" if by_hand else "10")
        first, second = job.processes
        written = metrics.stat().st_mtime_ns if metrics.exists() else 0
        deadline = time.monotonic() + 300
        while (not metrics.exists() or metrics.stat().st_mtime_ns == written) and time.monotonic() < deadline:
            time.sleep(0.1)
        second.send_signal(signal.SIGSTOP)
        try:
            time.sleep(1)
            if by_hand:
                for _ in range(2):
                    first.send_signal(signal.SIGTERM)
                    time.sleep(1)
            said = first.communicate(timeout=200)[1]
        finally:
            second.kill()
            first.kill()
            second.communicate()
        if by_hand:
            assert first.returncode == 130, said
            assert "stopped at once" in said
        else:
            assert first.returncode == 2, said
            assert "no sign of process 1 on node 1 (" in said
            command = re.search(r"goes on from there: (torchrun --nproc_per_node 1 .*)", said)
            assert command is not None, said
            assert "--nnodes 2 --node_rank 0 --master_addr 127.0.0.1 --master_port" in command[1]


@pytest.mark.parametrize(
    ("env", "words", "expected"),
    [
        ({"SLURM_NTASKS": "2"}, {}, (2, 1)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2"}, {}, (4, 2)),
        ({"SLURM_NTASKS": "2"}, {"devices": 2}, (2, 1)),
        ({"SLURM_NTASKS": "1"}, {"devices": 2}, "run.devices is 2, but SLURM started 1; start with `srun --ntasks-per"),
        ({"SLURM_NTASKS": "2"}, {"n_nodes": 2}, "run.n_nodes is 2, but SLURM started 1; start with `srun --nodes=2`"),
        ({"SLURM_NTASKS": "3", "SLURM_NNODES": "2"}, {}, "3 tasks on 2 nodes"),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}, {}, None),
        ({}, {"devices": 2}, None),
    ],
)
def test_tasks_of_slurm_are_understood_or_said(env, words, expected, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM", "TORCHELASTIC"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "")  # restored afterwards
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    cfg = Config.model_validate({"run": words})
    if isinstance(expected, str):
        with pytest.raises(InputError, match=re.escape(expected)):
            device.job_of(cfg, "cpu")
    else:
        assert device.job_of(cfg, "cpu")[:2] == (expected or (words.get("devices", 1), 1))
        if expected:
            assert launch.this_command().startswith(
                f"srun --ntasks={env['SLURM_NTASKS']} --ntasks-per-node={expected[0]}"
            )
