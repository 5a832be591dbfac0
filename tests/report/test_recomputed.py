"""A whole report against other code, number by number: tests/support/recompute.py."""

from __future__ import annotations

from pathlib import Path

import pytest

import report
from tests.support import recompute


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    recompute.write_raw_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert report.main(recompute.WORDS) == 0
    return folder


def test_every_number_of_a_report_is_that_of_other_code(made):
    assert recompute.differing(made) == []


def test_one_wrong_digit_is_found(made):
    path = made / "csv" / "by-codec.csv"
    before = path.read_text()
    value = before.splitlines()[1].split(",")[3]
    try:
        path.write_text(before.replace(value, value[:-8] + "00000000"))
        (fault,) = recompute.differing(made)
    finally:
        path.write_text(before)
    assert fault.startswith("by-codec, row 0: a EER: ")
