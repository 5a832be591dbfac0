"""Every figure of the published code's goldens; the checks and tolerances are those of benchmarks/parity.py."""

from __future__ import annotations

import pytest
import torch

from benchmarks import parity
from benchmarks.parity_checks import goldens, initial, scores
from benchmarks.parity_checks.goldens import CHECKS

pytestmark = pytest.mark.skipif(not goldens.GOLDENS.is_dir(), reason="the golden figures are not beside this checkout")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as when the goldens were made
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("what", [what for what, check in CHECKS.items() if not check.full])
def test_equal_to_the_published_code(what):
    assert CHECKS[what].largest() <= CHECKS[what].tolerance


@pytest.mark.slow
@pytest.mark.parametrize("what", [what for what, check in CHECKS.items() if check.full])
def test_equal_to_the_published_code_at_full_size(what):
    assert CHECKS[what].largest() <= CHECKS[what].tolerance


def test_a_wrong_shape_or_a_nan_is_an_infinite_difference():
    assert goldens.difference(torch.zeros(2), torch.zeros(3)) == float("inf")
    assert goldens.difference(torch.tensor([float("nan")]), torch.zeros(1)) == float("inf")
    assert goldens.Check(0.0, lambda: iter([0.0, float("nan"), 1.0]), False, "").largest() == float("inf")


@pytest.mark.parametrize("backend", goldens.BACKENDS)
def test_a_small_change_of_the_network_breaks_parity(backend, monkeypatch):
    detect = goldens.detector(backend)
    with torch.no_grad():
        detect.head.centroids[0, 0] += 1e-2
    monkeypatch.setattr(scores, "detector", lambda _: detect)
    check = CHECKS[f"{goldens.BACKENDS[backend]}: embeddings, cosines, scores, evaluation loss"]
    assert check.largest() > check.tolerance


def test_the_table_has_a_row_for_each_check_in_the_order_of_subjects(monkeypatch):
    quick = {what: check._replace(differences=lambda: iter([0.0])) for what, check in CHECKS.items()}
    monkeypatch.setattr(parity, "CHECKS", quick)
    rows = [line for line in parity.lines(full=True) if line.startswith("|")][2:]
    assert len(rows) == len(CHECKS)
    assert rows[0].startswith("| XLS-R hidden states")
    assert rows[-1].startswith("| full size")


@pytest.mark.parametrize("backend", initial.BACKENDS)
def test_another_start_breaks_the_parity_of_the_initial_state(backend, monkeypatch):
    fresh = initial.back_end_and_head

    def changed(backend, seed):
        module = fresh(backend, seed)
        with torch.no_grad():
            module["head"].centroids.mul_(1.5)
            if backend == "conformer_tcm":
                module["backend"].blocks[1].norm.bias += 1e-3
                module["backend"].blocks[2].feed_forward_1.expand.weight[0, 0] = 0.02
        return module

    assert max(initial.distributions(backend)) <= initial.STANDARD_ERRORS
    assert max(initial.ties(backend)) == 0
    monkeypatch.setattr(initial, "back_end_and_head", changed)
    assert max(initial.distributions(backend)) > initial.STANDARD_ERRORS
    assert (max(initial.ties(backend)) > 0) == (backend == "conformer_tcm")
