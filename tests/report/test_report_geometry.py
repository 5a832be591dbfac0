"""Centroids and embeddings in a report: the planes are true, whatever the number of centroids, and can be looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import report
from qamo import InputError
from qamo.report.centroids import centroid_figure, spoofed_directions
from qamo.report.embeddings import Points, cosine_chart, embedding_chart
from qamo.report.embeddings import unit as of_length_one
from qamo.report.page import Section, page
from qamo.report.run_record import read_run
from tests.support.reports import embedded, needs_browser, opened, table, values_of

RADII = (0.9, 0.2)


def some_units(*shape: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=shape)
    return made / np.linalg.norm(made, axis=-1, keepdims=True)


# ---- the planes


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [2, 3, 64])
def test_a_direction_is_red_where_no_centroid_is_nearer_than_the_radius_of_spoof(n, size):
    """Held against the vectors themselves, where the figure knows only their cosines."""
    centroids = some_units(n, size, seed=10 * n + size)
    cosines = centroids @ centroids.T
    pair = (0, n - 1)
    angle = np.arccos(np.clip(cosines[pair], -1, 1)) if n > 1 else 0.0
    up = centroids[0] + centroids[n - 1]
    up /= np.linalg.norm(up)
    aside = centroids[n - 1] - (centroids[n - 1] @ up) * up if n > 1 else np.roll(centroids[0], 1)
    aside -= (aside @ up) * up
    aside /= np.linalg.norm(aside)
    directions = [np.pi / 2 + angle / 2, np.pi / 2 - angle / 2][: 1 + (n > 1)]
    arcs = spoofed_directions(cosines, pair, directions, RADII[1])
    for direction in np.linspace(0, 2 * np.pi, 723):
        greatest = (centroids @ (np.cos(direction) * aside + np.sin(direction) * up)).max()
        inside = any(a <= direction + turn <= b for a, b in arcs for turn in (0, 2 * np.pi))
        if abs(greatest - RADII[1]) > 0.01:  # an edge of an arc lies within a step of where it should
            assert inside == (greatest < RADII[1])


def test_between_two_opposite_centroids_spoof_has_room_on_both_sides():
    arcs = spoofed_directions(np.array([[1.0, -1.0], [-1.0, 1.0]]), (0, 1), [np.pi, 0.0], RADII[1])
    width = np.pi - 2 * np.arccos(RADII[1])
    assert len(arcs) == 2
    for (first, last), middle in zip(sorted(arcs), (np.pi / 2, 3 * np.pi / 2)):
        assert (first + last) / 2 == pytest.approx(middle, abs=0.01)
        assert last - first == pytest.approx(width, abs=0.01)


def test_equal_centroids_look_like_one():
    one = spoofed_directions(np.ones((1, 1)), (0, 0), [np.pi / 2], RADII[1])
    two = spoofed_directions(np.ones((2, 2)), (0, 1), [np.pi / 2, np.pi / 2], RADII[1])
    assert len(one) == len(two) == 1
    assert two[0] == pytest.approx(one[0])


@pytest.mark.parametrize(("n", "n_planes"), [(1, 1), (2, 1), (3, 3), (4, 6), (8, 6)])
def test_each_pair_has_its_plane_and_the_words_give_the_angles(n, n_planes):
    centroids = some_units(n, 5, seed=n)
    cosines = centroids @ centroids.T
    made = centroid_figure(cosines, RADII, "Centroids")
    assert made.count("<svg") == made.count('role="img"') == n_planes
    assert made.count('class="near"') == n_planes * min(n, 2)
    assert "25.8 degrees" in made
    assert "78.5 degrees" in made
    if n == 2:
        assert f"{np.degrees(np.arccos(cosines[0, 1])):.1f} degrees apart" in made
    if n > 2:
        angles = np.sort(np.degrees(np.arccos(cosines[np.triu_indices(n, 1)])))
        shown = [float(text) for text in re.findall(r"<p>c\d and c\d: ([\d.]+)°</p>", made)]
        assert shown == pytest.approx(angles[:n_planes], abs=0.051)
        assert f"{angles[-1]:.1f} degrees" in made
    for ends in re.findall(r'class="near" d="M0,0 L(\S+) A\S+ 0 0 1 (\S+) Z"', made):
        first, last = (np.array(end.split(","), dtype=float) / 100 for end in ends)
        assert np.degrees(np.arccos(first @ last)) == pytest.approx(2 * np.degrees(np.arccos(0.9)), abs=0.1)


def test_centroids_without_radii_have_no_cones():
    made = centroid_figure(np.eye(2), None, "Centroids")
    assert "near" not in made
    assert "far" not in made
    assert "90.0 degrees apart" in made


# ---- the centroids of a run


def write_run(
    folder: Path, head: str, centroids: np.ndarray | None, *, cosine: float | None = None, **more: Any
) -> Path:
    """A run's folder with the files that a report reads; `more` is the head's section."""
    folder.mkdir()
    row = {"epoch": 1, "loss_total": 1.0, "dev_loss": 1.0, "dev_eer": 5.0}
    (folder / "metrics.jsonl").write_text(json.dumps(row | ({"centroid_cosine": cosine} if cosine else {})) + "\n")
    config: dict[str, Any] = {"model": {"frontend": "lfcc", "head": head, head: more}}
    if "n_centroids" in more:
        thresholds = [2 + 0.5 * k for k in range(more["n_centroids"] - 1)]
        config["data"] = {"quality": {"thresholds": thresholds}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if centroids is not None:
        torch.save({"model": {"head.centroids": torch.from_numpy(centroids)}}, folder / "model.pt")
    return folder


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_centroids_shown_are_those_of_the_model(n, tmp_path):
    centroids = 3 * some_units(n, 6)
    folder = write_run(tmp_path / "run", "qamo", centroids, cosine=0.99, n_centroids=n)
    found = read_run(folder).centroids
    assert found is not None
    assert found.radii == RADII
    np.testing.assert_allclose(found.cosines, centroids @ centroids.T / 9, atol=1e-12)
    words = ["--run", str(folder), "-o", str(tmp_path / "r.html"), "--csv", str(tmp_path / "csv")]
    assert report.main(words) == 0
    assert float(table(tmp_path / "csv", "centroid-cosines")[0]["c1"]) == pytest.approx(found.cosines[0, 1])
    assert "Centroids of the model" in (tmp_path / "r.html").read_text()


def test_one_centroid_needs_no_model_and_other_heads_have_none(tmp_path):
    one = read_run(write_run(tmp_path / "one", "oc_softmax", None, radius_bonafide=0.8)).centroids
    assert one is not None
    assert (one.cosines.tolist(), one.radii) == ([[1.0]], (0.8, 0.2))
    assert read_run(write_run(tmp_path / "wce", "wce", None)).centroids is None
    young = read_run(write_run(tmp_path / "young", "qamo", None, cosine=0.5)).centroids
    assert young is not None
    assert (young.cosines[0, 1], young.when) == (0.5, "Centroids after the last epoch")
    assert read_run(write_run(tmp_path / "three", "qamo", None, cosine=0.5, n_centroids=3)).centroids is None


def test_the_quality_term_of_wce_has_centroids_and_no_radii(tmp_path):
    found = read_run(write_run(tmp_path / "run", "wce", some_units(2, 6), quality_weight=0.1)).centroids
    assert found is not None
    assert found.radii is None


def test_a_model_that_is_no_checkpoint_is_named(tmp_path):
    folder = write_run(tmp_path / "run", "qamo", None)
    torch.save([1.0], folder / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: expected a checkpoint"):
        read_run(folder)


# ---- embeddings


def some_points(n: int = 40, *more_centroids: np.ndarray) -> Points:
    """Recordings, and a centroid that lies upon the first of them."""
    rng = np.random.default_rng(0)
    embeddings = some_units(n, 8)
    names, centroids = [f"{i}.wav" for i in range(n)], np.stack([embeddings[0], *more_centroids])
    return Points(names, embeddings, np.arange(n) % 2 == 0, rng.uniform(1, 5, n), centroids)


def test_the_plane_of_the_embeddings_keeps_what_two_components_can():
    recordings = some_points()
    chart = embedding_chart(recordings)
    points = points_of(chart.to_json())
    assert points["centroid c0"] == pytest.approx(points["0.wav"], abs=1e-4)
    values = np.linalg.eigvalsh(np.cov(recordings.embeddings.T))
    place = np.array([points[name] for name in recordings.names])
    assert place.var(axis=0, ddof=1) == pytest.approx(values[::-1][:2], rel=1e-3)
    assert f"{100 * values[-2:].sum() / values.sum():.0f} % of the variance" in chart.caption
    labels = {line.label: (line.color, line.hollow) for line in chart.lines}
    assert labels["bona fide, MOS below 2.5"] == ("bonafide", True)
    assert labels["spoof, MOS 2.5 or more"] == ("spoof", False)
    wide, high = chart.x.range, chart.y.range
    assert wide[1] - wide[0] == pytest.approx(high[1] - high[0], rel=1e-3)


def points_of(spec: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {
        series["text"][i]: (x, series["values"][i])
        for series in spec["series"]
        for i, x in enumerate(spec["x"]["values"])
        if series["values"][i] is not None
    }


def test_the_cosines_to_two_centroids_are_what_the_head_has_and_are_counted():
    recordings = some_points(40, some_units(8, seed=3))
    chart = cosine_chart(recordings, RADII)
    points = points_of(chart.to_json())
    embeddings, centroids = (torch.from_numpy(v) for v in (recordings.embeddings, recordings.centroids))
    cosines = torch.cosine_similarity(embeddings[:, None], centroids, dim=2).numpy()
    assert np.array([points[name] for name in recordings.names]) == pytest.approx(cosines, abs=1e-4)
    near = sum(bool((c > 0.9).any()) for c, b in zip(cosines, recordings.is_bonafide) if b)
    far = sum(bool((c < 0.2).all()) for c, b in zip(cosines, recordings.is_bonafide) if not b)
    assert near >= 1
    assert f"Here {near} of 20 bona fide recordings are above on one, and {far} of 20 spoofed" in chart.caption


def test_vectors_are_brought_to_length_one_and_none_stay_none():
    vectors = np.random.default_rng(0).normal(size=(5, 7))
    np.testing.assert_allclose(of_length_one(vectors), vectors / np.sqrt((vectors**2).sum(axis=1))[:, None])
    assert of_length_one(np.zeros((0, 7))).shape == (0, 7)


def test_more_embeddings_than_a_chart_can_show_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        report.main(["--run", str(tmp_path), "--embeddings", "2001", "-o", str(tmp_path / "r.html")])
    assert "from 0 to 2,000" in capsys.readouterr().err


# ---- in a browser


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of both charts and the figures of one to eight centroids, opposite ones among them."""
    folder = tmp_path_factory.mktemp("geometry")
    points = some_points(40, some_units(40, 8)[1])
    parts: list[Any] = [embedding_chart(points), cosine_chart(points, RADII)]
    several = [some_units(n, 6, seed=n) for n in (1, 2, 3, 4, 8)]
    cosines = [centroids @ centroids.T for centroids in several]
    cosines += [np.array([[1, cosine], [cosine, 1]]) for cosine in (-1.0, 0.999)]
    parts += [centroid_figure(c, RADII, f"figure {k}", id=f"planes-{k}") for k, c in enumerate(cosines)]
    (folder / "r.html").write_text(page("Geometry", "", [Section("s", "Centroids", "", parts)], {}))
    return folder


@pytest.fixture(params=[1280, 390])
def tab(request: Any, browser: Any, drawn: Path) -> Iterator[Any]:
    options = {"viewport": {"width": request.param, "height": 844}, "has_touch": True}
    with opened(browser, drawn, **options) as made:
        yield made


@needs_browser
def test_the_figures_fit_and_none_of_their_names_is_cut_off_or_covers_another(tab):
    assert tab.evaluate("document.documentElement.scrollWidth") == tab.viewport_size["width"]
    found = tab.evaluate(
        """[...document.querySelectorAll('.geometry svg')].map(svg => [svg, ...svg.querySelectorAll('text')].map(e => {
             const box = e.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom];
           }))"""
    )
    assert len(found) == 1 + 1 + 3 + 6 + 6 + 1 + 1
    for (left, top, right, bottom), *names in found:
        assert right - left > 100
        for a, b, c, d in names:
            assert left <= a
            assert top <= b
            assert c <= right
            assert d <= bottom
        if len(names) == 2:
            first, second = sorted(names)
            assert first[2] <= second[0] or first[3] <= second[1] or second[3] <= first[1]


@needs_browser
def test_touching_a_point_says_its_name(tab, drawn):
    spec = embedded(drawn / "r.html", "charts")["cosines"]
    over = tab.locator("#cosines .u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    name, (x, y) = next(item for item in points_of(spec).items() if item[0] == "7.wav")
    (low_x, high_x), (low_y, high_y) = spec["x"]["range"], spec["y"]["range"]
    tab.touchscreen.tap(
        box["x"] + box["width"] * (x - low_x) / (high_x - low_x),
        box["y"] + box["height"] * (high_y - y) / (high_y - low_y),
    )
    assert name in values_of(tab, "cosines")
