"""The folder of best epochs of the published code."""

from __future__ import annotations

from pathlib import Path

import pytest

from qamo import InputError
from qamo.published import published_epochs


def test_epochs_of_the_published_code_are_found_best_first(tmp_path):
    best = tmp_path / "best"
    best.mkdir()
    for number in (10, 0, 2, 1, *range(3, 10)):
        (best / f"best_{number}.pth").touch()
    (best / "best_x.pth").touch()
    names = [f"best_{number}.pth" for number in range(11)]
    assert [path.name for path in published_epochs(best)] == names
    assert published_epochs(tmp_path) == published_epochs(best)
    (best / "best_1.pth").unlink()
    with pytest.raises(InputError, match=r"expected best_1\.pth beside best_10\.pth"):
        published_epochs(best)
    (tmp_path / "model.pt").touch()
    assert published_epochs(tmp_path) == []
    assert published_epochs(None) == published_epochs(Path("none")) == []
