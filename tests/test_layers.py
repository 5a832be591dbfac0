"""The dependency order of the source tree, read from its import lines."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Lowest first. A module may import modules of the lines above its own, of its own line only as SAME_LINE allows.
LAYERS = [
    ["qamo"],
    ["qamo.files", "qamo.audio", "qamo.config", "qamo.tables", "eval_metrics"],
    ["qamo.scores"],
    ["qamo.keys"],
    [],  # parts
    ["data_utils", "model", "loss"],
    [],  # commands
]
PARTS, PAPER, COMMANDS = 4, 5, 6
PAPER_ORDER = {("model", "loss")}
LIGHT = ["eval_metrics", "score_ood_dataset", "qamo.scores", "qamo.keys", "qamo.config"]


def modules() -> dict[str, Path]:
    files = [*ROOT.glob("*.py"), *ROOT.glob("qamo/*.py")]
    named = {}
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        named[".".join(parts).removesuffix(".__init__")] = file
    return named


def rank(module: str) -> int:
    for place, layer in enumerate(LAYERS):
        if module in layer:
            return place
    return PARTS if module.startswith("qamo.") else COMMANDS


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names & modules().keys()


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_down(module):
    upwards = [
        name
        for name in imports_of(modules()[module]) - {module}
        if rank(name) > rank(module) or (rank(name) == rank(module) and not same_line(module, name))
    ]
    assert upwards == []


def same_line(module: str, name: str) -> bool:
    """Ground modules of one line and parts may use one another, model uses loss; commands never use a command."""
    return rank(module) in (1, PARTS) or (module, name) in PAPER_ORDER


def test_no_two_modules_import_each_other():
    graph = {module: imports_of(path) - {module} for module, path in modules().items()}

    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        return any(n == goal or (n not in seen and reaches(n, goal, seen | {n})) for n in graph[start])

    assert [m for m in graph if reaches(m, m, set())] == []


def test_the_official_package_is_a_command_too():
    path = ROOT / "2021" / "eval-package" / "main.py"
    assert all(rank(name) <= PARTS for name in imports_of(path))


@pytest.mark.parametrize("module", LIGHT)
def test_evaluation_runs_where_torch_is_not_installed(module):
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in ("torch", "scipy", "pandas", "transformers"))
    code = f"import sys; {blocked}; import {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
