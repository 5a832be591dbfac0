"""Several processes against one: gradients, dev loss, batch norms, and the real command killed and resumed."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import main
from qamo.training.gather import share_of

ROOT = Path(__file__).parents[2]


def torchrun(n: int, *words: str) -> tuple[int, str, float]:
    started = time.monotonic()
    order = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n), *words]
    done = subprocess.run(
        order, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - started


def found_by(folder: Path, n: int) -> list[dict]:
    return [json.loads((folder / f"found_{n}_{rank}.json").read_text()) for rank in range(n)]


@pytest.mark.parametrize("n", [2, 3])
def test_processes_compute_what_one_computes(n, runs):
    folder, _, _ = runs
    for found in found_by(folder, n):
        for differences in found["gradients"]:
            assert differences["gradient"] < 1e-9  # asked for: 1e-6
            assert differences["batch norm"] < 1e-12
        for together, alone in found["dev"]:
            assert together == alone
        assert found["dev"][0] == found_by(folder, n)[0]["dev"][0]
        assert found["gathered"]
        assert found["agreed"] == [[True, False], [False, True]]
        refused = "train.batch_size: 2 is the batch of all processes together and cannot be shared by 3"
        assert (refused in found["odd"]) == (n == 3)


def test_shares_are_the_batch_in_order():
    for n in (2, 5, 8, 20):
        for world_size in range(1, n + 1):
            shares = [list(range(n))[share_of(n, rank, world_size)] for rank in range(world_size)]
            assert list(itertools.chain(*shares)) == list(range(n))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
            assert min(map(len, shares)) > 0


@pytest.fixture(scope="module")
def runs(built_corpus, tmp_path_factory):
    """Two processes of which one is killed in the third epoch, then three that go on; what they said."""
    folder = tmp_path_factory.mktemp("shared")
    from tests.support import tiny_corpus

    config = folder / "config.yaml"
    config.write_text(tiny_corpus.CONFIG.format(root=built_corpus).replace(f"{built_corpus}/exps", f"{folder}/exps"))
    killed = torchrun(2, "-m", "tests.support.distributed_steps", str(folder), str(config), "3")
    resumed = torchrun(3, "-m", "tests.support.distributed_steps", str(folder), str(config), "0")
    return folder, killed, resumed


def test_a_killed_process_ends_the_job_and_another_number_of_processes_takes_it_up(runs, capsys):
    folder, (status, said, seconds), resumed = runs
    assert status != 0
    assert "Signal 9 (SIGKILL)" in said
    assert "lost touch with another process of this job" in said, said
    assert "the same command goes on from there: torchrun --nproc_per_node 2" in said
    assert seconds < 120
    assert resumed[0] == 0, resumed[1]
    assert "resuming" in resumed[1]
    assert "after epoch 2, step 0" in resumed[1]
    shared = folder / "exps" / "shared"
    rows = [json.loads(line) for line in (shared / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]

    words = ["--config", str(folder / "config.yaml")]
    assert main.main([*words, "name=single", "train.max_epochs=4"]) == 0
    single = [json.loads(line) for line in (folder / "exps" / "single" / "metrics.jsonl").read_text().splitlines()]
    assert rows[:2] == single[:2]  # of two processes the mean of two equal gradients is exact
    for ours, theirs in zip(rows[2:], single[2:]):
        assert ours == pytest.approx(theirs, rel=1e-4)

    again = ["--train", "false", "--ckpt_path", str(shared / "model.pt"), "name=again"]
    assert main.main([*words, *again]) == 0
    for name in ("seen.txt", "wild.txt"):
        merged = (shared / "scores" / name).read_bytes()
        assert merged == (folder / "exps" / "again" / "scores" / name).read_bytes()
        assert len(merged.splitlines()) == 10
