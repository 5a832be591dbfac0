from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parents[3] / "shared/cases"


@pytest.fixture(scope="module")
def shared_cases(tmp_path_factory):
    """(path, seconds of sound really in it) of the cases in the shared folder."""
    if not CASES.is_dir():
        pytest.skip("the shared cases are not here")
    found = []
    for script in ("mp3_lengths", "flac_lengths", "cut_files", "mixed_streams", "odd_wavs"):
        folder = tmp_path_factory.mktemp(script)
        subprocess.run([sys.executable, CASES / f"{script}.py", folder], check=True, capture_output=True)
        found += [(folder / name, s) for name, s in json.loads((folder / "expected.json").read_text()).items()]
    return found
