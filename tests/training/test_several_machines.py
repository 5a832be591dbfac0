"""Two machines, imitated on the loopback address, and SLURM's variables."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import main
from qamo.config.load import load_config
from qamo.training import device

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(commands: list[tuple[list[str], dict[str, str]]]) -> list[str]:
    started = [
        subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **more},
        )
        for words, more in commands
    ]  # fmt: skip
    said = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(started), "\n".join(said)
    return said


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def two_nodes(words: list[str]) -> list[str]:
    rendezvous = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{free_port()}", "--rdzv_id", "qamo"]
    launch = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", *rendezvous, "main.py"]
    return together([([*launch, *words], {})] * 2)


def slurm(words: list[str]) -> list[str]:
    shared = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "qamo", "SLURM_NTASKS": "2", "SLURM_NNODES": "2"}
    shared |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_LOCALID": "0", "MASTER_ADDR": "127.0.0.1"}
    shared["MASTER_PORT"] = str(free_port())
    return together([(["main.py", *words], {**shared, "SLURM_PROCID": f"{i}", "SLURM_NODEID": f"{i}"}) for i in (0, 1)])


@pytest.mark.parametrize("launcher", [two_nodes, slurm])
def test_two_machines_train_and_score_as_one_does(launcher, corpus):
    config = ["--config", str(corpus / "config.yaml")]
    words = [*config, "data.rawboost.algorithm=0"]
    launcher([*words, "name=two", "train.max_epochs=1", "eval.sets=[]"])
    launcher([*words, "name=more", "train.max_epochs=2"])
    assert main.main([*words, "name=one", "train.max_epochs=2"]) == 0
    two, one = corpus / "exps" / "more", corpus / "exps" / "one"
    for ours, theirs in zip(rows(two), rows(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert rows(corpus / "exps" / "two") == rows(two)[:1]
    again = ["--train", "false", "--ckpt_path", str(two / "model.pt"), "name=again"]
    assert main.main([*config, *again]) == 0
    for name in ("seen.txt", "wild.txt"):
        assert (two / "scores" / name).read_bytes() == (corpus / "exps" / "again" / "scores" / name).read_bytes()


def test_slurms_variables_say_how_many_processes_there_are(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "qamo"}.items():
        monkeypatch.setenv(name, value)
    cfg = load_config(None, {})
    assert device.job_of(cfg, "cuda") == device.Job(4, 2, several=True)
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")  # an interactive shell: its variables are not this program's
    assert device.job_of(cfg, "cpu") == device.Job(1, 1, several=False)
