"""A small size of `make fuzz`: damaged files of each kind, 12 times."""

from __future__ import annotations

import logging

from tests.support.fuzz import fuzz


def test_damaged_files_load_what_was_written_or_are_refused(tmp_path):
    before = logging.root.manager.disable
    try:
        found = fuzz(tmp_path, 12, seed=1)
    finally:
        logging.disable(before)
    assert len(found) > 20
    assert [line for of in found.values() for line in of.findings] == []
    assert sum(of.n_refused for of in found.values()) > 12 * len(found) // 2
