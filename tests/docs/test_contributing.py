"""The worked example of CONTRIBUTING.md, followed step by step in a copy of the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_adding_a_back_end_takes_the_three_steps_it_says(tmp_path, corpus):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    part, line, section, field = blocks
    copy = tmp_path / "project"
    copy.mkdir()
    for item in ("main.py", "model.py", "loss.py", "data_utils.py", "eval_metrics.py", "config.yaml", "qamo"):
        (shutil.copytree if (ROOT / item).is_dir() else shutil.copy)(ROOT / item, copy / item)
    (copy / "qamo" / "networks" / "mean_pool.py").write_text(part)
    model = copy / "model.py"
    model.write_text(model.read_text().replace("\nclass Output(", f"\n{line}\n\nclass Output(", 1))
    config = copy / "qamo" / "config" / "parts.py"
    text = config.read_text().replace("\nclass QAMOConfig(", f"\n{section}\n\nclass QAMOConfig(", 1)
    config.write_text(text.replace("    qamo: QAMOConfig", f"{field}    qamo: QAMOConfig", 1))
    words = ["--config", str(corpus / "config.yaml"), "--model", "mean_pool", "train.max_epochs=1", "--name", "example"]
    done = subprocess.run([sys.executable, "main.py", *words], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "wild" in done.stdout
    assert "embedding_size: 32" in (corpus / "exps" / "example" / "config.yaml").read_text()
