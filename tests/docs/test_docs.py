"""The documents say what is there: files, targets and links. Their commands are run by tests/docs/test_readme.py."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from docs import method, screenshots
from qamo.audio import codecs

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_IN_TABLE = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "pyproject.toml"}


def test_the_file_table_of_the_readme_holds_every_file_of_the_top_level():
    table = re.findall(r"^\| `([^`]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    entries = {path.name for path in ROOT.iterdir() if path.name[0] != "." and not ignored(path.name)}
    entries -= NOT_IN_TABLE | {"requirements-torch.txt"}
    assert {row.split("/")[0] for row in table} == entries


def test_what_a_newcomer_reads_first_is_short():
    text = (ROOT / "README.md").read_text()
    first = text[: text.index("## Results")]  # three screens: what it is, quick start, judging, data of one's own
    assert len(first.split()) < 900
    assert len(first.splitlines()) < 120


def ignored(name: str) -> bool:
    return any(fnmatch(f"{name}/", line.lstrip("/")) for line in (ROOT / ".gitignore").read_text().split())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_link_leads_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    assert [t for t in targets if not t.startswith("http") and not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_make_target_exists(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text(), re.MULTILINE)) <= targets


def test_figures_of_speed_in_the_documents_are_those_that_were_measured():
    found = json.loads((ROOT / "benchmarks" / "results" / "speed.json").read_text())
    scored, trained, data = found["scoring"], found["training"], found["data"]
    readme, reproduce = ((ROOT / name).read_text() for name in ("README.md", "docs/reproduce.md"))
    n_trials, n_train, n_dev = 829_808, 25_380, 24_844
    for version in ("32", "bf16-mixed"):
        row, step = scored["versions"][version], trained["versions"][version]
        plain_score, plain_step = (part["versions"]["yardstick"]["wall_s"] for part in (scored, trained))
        cost, step_cost = row["cpu_s"] / scored["n_clips"], step["cpu_s"] / trained["batch_size"]
        expected = [
            f"{plain_score / row['wall_s']:.1f}x faster, {row['wall_s'] / scored['n_clips']:.2f} s per clip",
            f"{plain_step / step['wall_s']:.1f}x faster, {step['wall_s']:.1f} s",
            f"{scored['peak_mb'][f'{version} (batch 10)'] / 1000:.1f} GB",
        ]
        kind = version.removesuffix("-mixed").replace("32", "fp32")
        peak = max(v for name, v in scored["gflops_peak"].items() if name.startswith(f"peak {kind}"))
        expected.append(f"{row['gflops'] / peak:.0%}".replace("%", " %"))
        for figure in expected:
            assert figure in readme, figure
        epoch_hours = (n_train * step_cost + n_dev * cost) / 3600
        for figure in (
            f"{cost:.2f}",
            f"{step_cost:.1f}",
            f"{n_trials * cost / 86_400:.1f} core-days",
            f"{epoch_hours:.0f} core-hours",
        ):
            assert figure in reproduce, figure
    boosted, plain = data["versions"]["ours"]["cpu_s"], data["versions"]["yardstick"]["cpu_s"]
    assert f"{plain / boosted:.1f}x faster than librosa" in readme
    assert f"{data['n_clips'] / boosted:.0f} four-second clips per second" in readme
    assert f"the second epoch is {found['cache']['first_s'] / found['cache']['second_s']:.0f}x faster" in readme


def test_the_costs_of_codecs_in_the_guide_are_those_that_were_measured():
    found = json.loads((ROOT / "benchmarks/results/speed.json").read_text())
    ms = found["channel"]["ms"]
    said = " ".join((ROOT / "docs/augmentation.md").read_text().split())
    a_second = {name: f"{1000 / taken:.0f}" for name, taken in ms.items()}
    (mixture,) = (name for name in ms if name.startswith("codecs, "))
    assert f"RawBoost {a_second['yardstick']}; " in said
    for name in codecs.CODECS:
        assert f"{name} {a_second[name]}" in said, name
    assert f"the default mixture of codecs {a_second[mixture]}, the whole chain {a_second[list(ms)[-1]]}" in said
    assert [name for name in codecs.CODECS if ms[name] < 1000 / 150] == ["mulaw", "alaw"]  # as it says: G.711 alone


def test_the_picture_of_the_method_is_current():
    assert method.main(["--check"]) == 0, "run python docs/method.py"


@pytest.mark.parametrize("name", ["judge_page.png", "report.png"])
def test_the_pictures_of_the_readme_are_small_and_shown(name):
    assert f"(docs/{name})" in (ROOT / "README.md").read_text()
    assert (ROOT / "docs" / name).stat().st_size < screenshots.MAX_BYTES


def test_the_citation_has_what_the_format_requires():
    """Version 1.2.0 of the Citation File Format; hosts show none of a file that lacks one."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for entry, required in (
        (cited, {"cff-version", "message", "title", "authors"}),
        (cited["preferred-citation"], {"type", "title", "authors"}),
    ):
        assert required <= entry.keys()
        assert all({"name", "family-names"} & author.keys() for author in entry["authors"])
