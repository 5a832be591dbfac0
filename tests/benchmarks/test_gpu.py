from __future__ import annotations

import pytest
import torch

from benchmarks import gpu


def test_the_script_runs_through_in_miniature_and_says_where_it_ran(capsys):
    before = gpu.README.read_text()
    assert gpu.main(["--smoke"]) == 0
    said = capsys.readouterr().out
    for row in ("| 32 | ", "| yardstick | 2 | ", "| training step, Adam included |"):
        assert row in said
    assert "XLS-R 300M in miniature" in said
    assert gpu.README.read_text() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_it_is_a_sentence(capsys):
    assert gpu.main([]) == 2
    assert "gpu.py: PyTorch sees no CUDA GPU here; --smoke" in capsys.readouterr().err


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_scores_of_a_gpu_are_those_of_the_cpu():
    rows = gpu.Bench(smoke=True).equality()[2:]
    bounds = {"32": 1e-5, "tf32": 5e-3, "bf16-mixed": 3e-2, "16-mixed": 1e-2}
    for row in rows:
        name, difference = (cell.strip() for cell in row.strip("|").split("|"))
        assert float(difference) < bounds[name]
