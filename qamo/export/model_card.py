"""The README.md of an exported folder: what the detector is, what it was trained on, what it reached, its limits.

Its head is the metadata that the Hugging Face hub reads. Everything in it is read from the run's own files; what a
run does not know, the card says it does not know. `card.md.j2` is the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from jinja2 import Environment, FileSystemLoader

from qamo import __version__, hub
from qamo.audio import SAMPLE_RATE
from qamo.evaluation.calibration import CONFIDENCE, PRIOR, Calibration
from qamo.files import read_json, write_text
from qamo.networks.published import DETECTOR_NAMES
from qamo.training.folder import RunFolder, read_results

# How a program uses an exported folder; README.md shows the same lines.
LINES = """\
from qamo import open_judge

judge = open_judge("{folder}")  # or a run, a checkpoint, an .onnx file
print(judge("{recording}").score)
"""


# Front end -> (what it is, licence of its weights).
UNKNOWN_LICENCE = "that of its weights; see the page they came from"
ORIGINS = {
    "xlsr": ("a wav2vec 2.0 network", UNKNOWN_LICENCE),
    "distillmos": ("the encoder of DistillMOS, by Stahl and Gamper 2025 (PyPI distillmos)", "MIT"),
    "hf": ("an encoder of Hugging Face's transformers", UNKNOWN_LICENCE),
    "lfcc": ("linear-frequency cepstra, which have no weights", "none needed"),
}
XLSR = ("XLS-R 300M, pre-trained by Babu et al. 2021 (arXiv:2111.09296)", "Apache-2.0")
XLSR_NAMES = ("xlsr2_300m", "wav2vec2-xls-r-300m")  # fairseq's file and its folder or repository on the hub


class ListFacts(TypedDict):
    """A list that the run was trained on."""

    protocol: str
    sha256: str
    n: int
    n_bonafide: int


class DataFacts(TypedDict, total=False):
    """Both lists."""

    train: ListFacts
    dev: ListFacts


class Facts(TypedDict, total=False):
    """What is read of a run.json."""

    git_commit: str | None
    data: DataFacts
    frontend_weights: dict | None  # a path and its sum, or a name on the hub without


def write_card(
    folder: Path, *, name: str, about: Mapping[str, Any], calibration: Calibration | None, run: Path | None
) -> None:
    """Write `folder`/README.md.

    Args:
        about: what stands in qamo.json: model_config, window_samples, weights, source.
        run: the run's folder, for its results and data; None: an export of weights alone.
    """
    config, (facts, results) = about["model_config"], _read(run)
    origin, licence, base = origin_of(config, facts)
    scored = {key: row for key, row in results.get("sets", {}).items() if "eer" in row}
    data = {part: row for part, row in facts.get("data", {}).items() if part in DataFacts.__annotations__}
    texts = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, keep_trailing_newline=True)
    card = texts.get_template("card.md.j2").render(
        name=name, metadata=_metadata(name, base, scored), about=about, config=config, origin=origin,
        licence=licence, scored=scored,
        data=data, lines=LINES.format(folder="THIS_FOLDER", recording="recording.wav"), calibration=calibration,
        prior=PRIOR, confidence=CONFIDENCE, window_s=about["window_samples"] / SAMPLE_RATE,
        commit=facts.get("git_commit") or "not known", version=__version__,
    )  # fmt: skip
    write_text(folder / "README.md", card)


def origin_of(config: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """What a front end is, the licence of its weights, and its name on the hub where it is known to be there.

    Args:
        facts: of the run; empty for weights without one. Those in the published code's parts are of XLS-R 300M.
    """
    frontend, read_from = config["frontend"], facts.get("frontend_weights") or {}
    named = str(read_from.get("weights", ""))
    published = not facts and config["backend"] in DETECTOR_NAMES and config["xlsr"]["hidden_size"] == 1024
    if frontend == "xlsr" and (any(name in named for name in XLSR_NAMES) or published):
        return *XLSR, f"facebook/{XLSR_NAMES[1]}"
    what, licence = ORIGINS.get(frontend, (frontend, "not known"))
    is_on_hub = hub.NAME.fullmatch(named) and read_from.get("sha256") is None  # of a file here it is known
    return f"{what} ({Path(named).name})" if named else what, licence, named if is_on_hub else None


def _metadata(name: str, base: str | None, scored: Mapping[str, Any]) -> str:
    """What the hub reads, as YAML, for the results of each set."""
    from huggingface_hub import EvalResult, ModelCardData

    task: dict[str, Any] = {"task_type": "audio-classification", "task_name": "speech deepfake detection"}
    results = [
        EvalResult(
            **task, dataset_type=key, dataset_name=key, metric_type="eer", metric_value=row["eer"],
            metric_name="equal error rate (%)",
        )
        for key, row in scored.items()
    ]  # fmt: skip
    head = ModelCardData(
        license="other", license_name="see-the-section-licences", license_link="README.md#licences",
        library_name="qamo", pipeline_tag="audio-classification", base_model=base,
        tags=["speech-deepfake-detection", "anti-spoofing", "audio", "qamo"], metrics=["eer"] if scored else None,
        model_name=name if scored else None, eval_results=results or None,
    )  # fmt: skip
    return head.to_yaml()


def _read(run: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run was made of, and what it found; empty where there is none."""
    if run is None:
        return {}, {}
    folder = RunFolder(run)
    facts = dict(read_json(folder.record, Facts)) if folder.record.exists() else {}
    return facts, read_results(folder.results) if folder.results.exists() else {}
