"""The rooms of the source tree and who may import whom, read from the import lines."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import architecture
from docs.architecture import FLOOR, FLOORS, imports_of, modules, room_of

ROOT = Path(__file__).parents[1]

FORBIDDEN = {("qamo.export", "qamo.report")}
WITHOUT_TORCH = [
    "eval_metrics",
    "score_ood_dataset",
    "score_asvspoof5",
    "qamo.trials.scores",
    "qamo.trials.protocol",
    "qamo.config.flags",
]


@pytest.mark.parametrize("module", sorted(name for name in modules() if room_of(name) in FLOOR))
def test_imports_go_down(module):
    room = room_of(module)
    wrong = [
        name
        for name in imports_of(module)
        if (room, room_of(name)) in FORBIDDEN
        or (room_of(name) != room and FLOOR.get(room_of(name), len(FLOORS)) >= FLOOR[room])
    ]
    assert wrong == []


def test_no_command_imports_a_command():
    for module in modules():
        if room_of(module) == "commands":
            of_its_own = {n for n in imports_of(module) if n.split(".")[0] == module.split(".")[0]}
            assert [n for n in imports_of(module) - of_its_own if room_of(n) == "commands"] == [], module


def test_the_picture_and_the_page_of_the_rooms_are_current():
    assert architecture.main(["--check"]) == 0, "run python docs/architecture.py"


def test_only_tests_import_tests():
    wrong = [(m, n) for m in modules() if room_of(m) != "tests" for n in imports_of(m) if room_of(n) == "tests"]
    assert wrong == []


def test_no_test_imports_another():
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if "support" not in path.parts]
    pattern = re.compile(r"^\s*(?:from|import) tests\.(?!support\b)", re.MULTILINE)
    assert [path.name for path in tests if pattern.search(path.read_text())] == []


def test_no_two_modules_import_each_other():
    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        return any(n == goal or (n not in seen and reaches(n, goal, seen | {n})) for n in imports_of(start))

    assert [m for m in modules() if reaches(m, m, set())] == []


@pytest.mark.parametrize("room", sorted(room for room in FLOOR if room.startswith("qamo.")))
def test_the_head_of_a_room_is_a_docstring_that_names_its_files(room):
    """One screen, and no import, so that a room may be entered without PyTorch."""
    tree = ast.parse(modules()[room].read_text())
    text = ast.get_docstring(tree) or ""
    assert 5 < len(text.splitlines()) < 50
    files = {p.stem for p in modules()[room].parent.glob("*.py")} - {"__init__"}
    assert [name for name in sorted(files) if f"{name}.py" not in text] == []
    assert not [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_evaluation_runs_where_torch_is_not_installed(module):
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in ("torch", "scipy", "pandas", "transformers"))
    code = f"import sys; {blocked}; import {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
