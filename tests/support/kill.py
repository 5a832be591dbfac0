"""Kill the real command again and again, and see that the run ends byte for byte as the uninterrupted one.

    python -m tests.support.kill --kills 24            starts are forks of one interpreter, which saves the imports
    python -m tests.support.kill --kills 24 --apart    every start is a new interpreter
    python -m tests.support.kill --kills 100 --chain train.max_epochs=40 train.patience=40        all in one run
    python -m tests.support.kill --kills 100 --chain --nodes 2 train.max_epochs=40 train.patience=40

Each start of `python main.py ...` gets a phase and a number: it is sent SIGKILL at that many calls, of Python or C
functions, inside the phase (a training step, the dev set, writing a file, averaging, scoring, whatever lies between),
or, in the phase "clock", after that many milliseconds. The same command is started until it ends by itself; then its
folder is compared with that of a run that nobody disturbed, and a new round starts until all kills are spent.

--chain kills early in each start, so that one run takes all kills. --nodes 2 starts two processes as SLURM does; one of
them is killed, by the clock, and then the other, as srun ends a job of which a part is lost.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PHASES = {
    ("loop.py", "train_epoch"): "step",
    ("loop.py", "dev_loss"): "dev",
    ("checkpoint.py", "write_checkpoint"): "write",
    ("files.py", "write_text"): "write",
    ("checkpoint.py", "average"): "average",
    ("score_set.py", "score_trials"): "score",
    ("main.py", "run"): "between",
}
CLOCK = "clock"
ASKED = [*dict.fromkeys(PHASES.values()), CLOCK]
EARLY, MOST_CALLS = ["step", "dev", "write"], 400  # of --chain: phases that every start has, and calls into one
LATEST_MS = 2500  # of --nodes: a kill comes before
# What differs between equal runs: times, process numbers, events of TensorBoard.
OF_ONE_START = {"run.json", "resumed.jsonl", "run.log", "tensorboard", ".lock", ".holder"}


class Calls:
    """Counts calls by phase, and kills this process at a chosen one."""

    def __init__(self, phase: str | None, at: int):
        self.phase = phase
        self.at = at
        self.seen: collections.Counter[str] = collections.Counter()
        self.inside: list[str] = []
        self.process = os.getpid()  # workers inherit the count, and must not die in its place

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        phase = PHASES.get((os.path.basename(code.co_filename), code.co_name)) if event in ("call", "return") else None
        if phase and event == "return" and self.inside:
            self.inside.pop()
        elif phase and event == "call":
            self.inside.append(phase)
        if not self.inside or event not in ("call", "c_call"):
            return
        now = self.inside[-1]
        if now == self.phase and self.seen[now] == self.at and os.getpid() == self.process:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen[now] += 1


def start(argv: list[str], phase: str | None, at: int, counts: Path) -> int:
    """Run the command in this process; die, or leave the number of calls of each phase in `counts`."""
    import main

    calls = Calls(phase, at)
    if phase == CLOCK:
        threading.Timer(at / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
    before = time.monotonic()
    sys.setprofile(calls)
    status = main.main(argv)
    sys.setprofile(None)
    counts.write_text(json.dumps({**calls.seen, CLOCK: round(1000 * (time.monotonic() - before))}))
    return status


def start_apart(argv: list[str], phase: str | None, at: int, counts: Path, *, forked: bool) -> int:
    """`start` in a process of its own; its exit status, negative where a signal ended it."""
    if not forked:
        order = [sys.executable, "-m", "tests.support.kill", "--start", phase or "", str(at), str(counts), *argv]
        return subprocess.run(order, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).returncode
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            os._exit(start(argv, phase, at, counts))
        finally:  # an error must not go on as a second copy of the caller
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def start_nodes(argv: list[str], at_ms: float | None, rng: random.Random) -> int:
    """Two processes of one job, forked; one is killed at `at_ms`, then the other. A status that is not 0, or 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "qamo", "SLURM_NTASKS": "2", "SLURM_NNODES": "2"}
    shared |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_LOCALID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    for node in range(2):
        child = os.fork()
        if child == 0:
            os.environ.update(shared, SLURM_PROCID=str(node), SLURM_NODEID=str(node))
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            try:
                import main

                os._exit(main.main(argv))
            finally:
                os._exit(1)
        processes.append(child)
    if at_ms is not None:
        time.sleep(at_ms / 1000)
        rng.shuffle(processes)
        for child in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            time.sleep(0.05)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in processes]
    return next((status for status in statuses if status), 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in OF_ONE_START
    }


class Outcome(NamedTuple):
    """What a series of kills came to."""

    kills: collections.Counter[str]  # by phase
    n_rounds: int  # runs that came to their end
    differences: list[str]  # files that differ from those of the undisturbed run


def kill_and_compare(
    argv: list[str], folder: Path, *, kills: int, forked: bool, seed: int, chain: bool = False, nodes: int = 1
) -> Outcome:
    """Kill the run `kills` times, and compare each that ends with the undisturbed one.

    Args:
        folder: the run's folder that `argv` names; it must not exist yet.
        chain: kill early in each start.
        nodes: processes of the job; two are killed by the clock.
    """
    rng = random.Random(seed)
    counts = folder.with_name("counts.json")
    reference = folder.with_name("reference")
    began = time.monotonic()
    if status := start_nodes(argv, None, rng) if nodes > 1 else start_apart(argv, None, 0, counts, forked=forked):
        raise RuntimeError(f"the undisturbed run ended with status {status}")
    whole_ms = min(1000 * (time.monotonic() - began), LATEST_MS)
    total = {} if nodes > 1 else json.loads(counts.read_text())
    folder.rename(reference)
    expected = contents(reference)
    done: collections.Counter[str] = collections.Counter()
    n_rounds = 0
    differences: list[str] = []
    # At the end comes one start that nobody disturbs.
    while done.total() < kills or folder.exists():
        going_on = done.total() < kills
        if nodes > 1:
            phase = CLOCK
            status = start_nodes(argv, rng.uniform(0, whole_ms) if going_on else None, rng)
        else:
            phase = next_phase(done, rng, chain=chain) if going_on else ""
            last = min(total[phase], MOST_CALLS) if chain and phase else total.get(phase, 1)
            status = start_apart(argv, phase, rng.randrange(last) if phase else 0, counts, forked=forked)
        if status == -signal.SIGKILL:
            done[phase] += 1
            continue
        if status:
            raise RuntimeError(f"a run taken up after {done.total()} kills ended with status {status}")
        found = contents(folder)
        differences += [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        shutil.rmtree(folder)
        n_rounds += 1
    return Outcome(done, n_rounds, differences)


def next_phase(done: collections.Counter[str], rng: random.Random, *, chain: bool) -> str:
    """A phase that has been hit least, so that none is left out; of a chain, one that every start has."""
    least = min(done[phase] for phase in ASKED)
    return rng.choice(EARLY if chain else [phase for phase in ASKED if done[phase] == least])


def main_(argv: list[str]) -> int:
    if argv[:1] == ["--start"]:
        phase, at, counts, *command = argv[1:]
        return start(command, phase or None, int(at), Path(counts))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--chain", action="store_true", help="all kills in one run")
    parser.add_argument("--nodes", type=int, choices=(1, 2), default=1)
    parser.add_argument("assignments", nargs="*", help="passed on to main.py")
    args = parser.parse_intermixed_args(argv)
    from tests.support import tiny_corpus

    if not args.apart:
        import data_utils, model, scipy.signal, torch.utils.tensorboard  # noqa: E401, F401, I001
        import qamo.training.loop, qamo.evaluation.score_set, qamo.audio.rawboost  # noqa: E401, F401
    with tempfile.TemporaryDirectory() as name:
        config = tiny_corpus.build(Path(name))
        command = ["--config", str(config), "name=killed", "train.save_every_s=0.02", "score.batch_size=3"]
        outcome = kill_and_compare(
            [*command, *args.assignments],
            Path(name) / "exps" / "killed",
            kills=args.kills,
            forked=not args.apart,
            seed=args.seed,
            chain=args.chain,
            nodes=args.nodes,
        )
    phases = ", ".join(f"{outcome.kills[phase]} in {phase}" for phase in ASKED)
    print(f"kills: {outcome.kills.total()} ({phases}) in {outcome.n_rounds} run{'s' * (outcome.n_rounds > 1)}")
    print(f"differences: {len(outcome.differences)} {' '.join(outcome.differences)}")
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main_(sys.argv[1:]))
