"""What `.ci/light` runs needs no more than the package without extras: PyTorch and its kin are kept from it here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import sys
sys.modules |= dict.fromkeys(("torch", "transformers", "lightning_fabric", "librosa", "scipy", "pandas", "fastapi"))
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_the_light_tests_are_collected_without_pytorch():
    script = (ROOT / ".ci" / "light").read_text().replace("\\\n", " ")
    (words,) = re.findall(r"^python -m pytest -q (.*?)(?:#.*)?$", script, re.MULTILINE)
    done = subprocess.run([sys.executable, "-c", CODE, *shlex.split(words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
