"""Every figure of the published code's goldens; the checks and tolerances are those of benchmarks/parity.py."""

from __future__ import annotations

import pytest
import torch

from benchmarks import parity
from benchmarks.parity_checks import initial

pytestmark = pytest.mark.skipif(not parity.GOLDENS.is_dir(), reason="the golden figures are not beside this checkout")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as when the goldens were made
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("what", parity.CHECKS)
def test_equal_to_the_published_code(what):
    tolerance, difference = parity.CHECKS[what]
    assert difference() <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize("what", parity.FULL_CHECKS)
def test_equal_to_the_published_code_at_full_size(what):
    tolerance, difference = parity.FULL_CHECKS[what]
    assert difference() <= tolerance


def test_a_wrong_shape_or_a_nan_is_an_infinite_difference():
    assert parity.difference(torch.zeros(2), torch.zeros(3)) == float("inf")
    assert parity.difference(torch.tensor([float("nan")]), torch.zeros(1)) == float("inf")


@pytest.mark.parametrize("backend", parity.BACKENDS)
def test_a_small_change_of_the_network_breaks_parity(backend, monkeypatch):
    detect = parity.detector(backend)
    with torch.no_grad():
        detect.head.centroids[0, 0] += 1e-2
    monkeypatch.setattr(parity, "detector", lambda _: detect)
    tolerance, _ = next(v for k, v in parity.CHECKS.items() if "evaluation loss" in k)
    assert parity._evaluation(backend) > tolerance


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
