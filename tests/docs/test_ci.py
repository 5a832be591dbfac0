"""The hosted checks: the workflow is sound, pinned, and runs nothing but what the project's own scripts run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
STEPS = [(name, step) for name, job in WORKFLOW["jobs"].items() for step in job["steps"]]
SCRIPTS = [ROOT / ".ci" / name for name in ("run", "light")]


def test_each_command_of_the_workflow_is_a_script_of_the_project():
    scripts = [ROOT / command.removeprefix("bash ") for _, step in STEPS if (command := step.get("run"))]
    assert sorted(scripts) == sorted(SCRIPTS)
    assert all(os.access(script, os.X_OK) for script in scripts)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_command_of_a_script_is_there(script):
    text = script.read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z0-9-]+)", text, re.MULTILINE)) <= targets
    named = re.findall(r"(?:python|bash) ([\w./-]+\.py|\.ci/\w+)|((?:tests|\.ci)/[\w/.]+)", text)
    paths = {first or second for first, second in named}
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_actions_are_pinned_to_commits_and_may_only_read():
    used = [step["uses"] for _, step in STEPS if "uses" in step]
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one)] == []
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_every_python_of_the_package_is_tested_on_linux_and_its_ends_elsewhere():
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text()).group(1)
    tested = {name: job["strategy"]["matrix"]["python"] for name, job in WORKFLOW["jobs"].items()}
    assert tested == {"full": ["3.10", "3.11", "3.12", "3.13", "3.14"], "light": ["3.10", "3.14"]}
    assert tested["full"][0] == oldest
    assert {one.split("-")[0] for one in WORKFLOW["jobs"]["light"]["strategy"]["matrix"]["system"]} == {
        "macos",
        "windows",
    }
