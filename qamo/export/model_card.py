"""The README.md of an exported folder: what the detector is, what it was trained on, what it reached, its limits.

Its head is the metadata that the Hugging Face hub reads. Everything in it is read from the run's own files; what a
run does not know, the card says it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from qamo import __version__
from qamo.audio.load import SAMPLE_RATE
from qamo.evaluation import calibration
from qamo.evaluation.calibration import Calibration

# Front end -> (what it is, licence of its weights, its name on the hub where it has one)
ORIGINS: dict[str, tuple[str, str, str | None]] = {
    "xlsr": (
        "XLS-R 300M, pre-trained by Babu et al. 2021 (arXiv:2111.09296)",
        "Apache-2.0",
        "facebook/wav2vec2-xls-r-300m",
    ),
    "distillmos": ("the encoder of DistillMOS, by Stahl and Gamper 2025 (PyPI distillmos)", "MIT", None),
    "lfcc": ("linear-frequency cepstra, which have no weights", "none needed", None),
}
# How a program uses an exported folder; README.md shows the same lines.
LINES = """\
from qamo import open_judge

judge = open_judge("{folder}")  # or a run, a checkpoint, an .onnx file
print(judge("{recording}").score)
"""
LIMITS = """\
- It was fitted to the attacks, speakers and channels of its training data. Newer synthesis, other languages, other
  codecs and noise raise the error, often to several times that on data like the training set's.
- A score speaks of a window of {window_s:.3g} s; longer recordings are judged window by window, and a short fake inside
  a long bona fide recording moves the mean little: look at the least score and at the score over time.
- It can be fooled on purpose, and it is not evidence by itself. Do not decide about a person by it alone.
- Probabilities assume a share of bona fide speech ({prior:g} unless set) and speech like the dev set's."""


def write_card(
    folder: Path, *, name: str, about: Mapping[str, Any], known: Calibration | None, run: Path | None
) -> None:
    """Write `folder`/README.md.

    Args:
        about: what stands in qamo.json: model_config, window_samples, weights.
        run: the run's folder, for its results and data; None: an export of weights alone.
    """
    from qamo.files import write_text

    results = _read(run, "results.json").get("sets", {})
    facts = _read(run, "run.json")
    scored = {name: row for name, row in results.items() if "eer" in row}
    head = _metadata(name, about["model_config"], scored)
    text = "\n".join(
        [
            "---",
            yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
            "---",
            "",
            f"# {name}",
            "",
            *_body(about, known, scored, facts),
        ]
    )
    write_text(folder / "README.md", text + "\n")


def _metadata(name: str, config: Mapping[str, Any], scored: Mapping[str, Any]) -> dict[str, Any]:
    base = ORIGINS.get(config["frontend"], (None, None, None))[2]
    head: dict[str, Any] = {
        "license": "other",
        "license_name": "see-the-section-licences",
        "library_name": "qamo",
        "pipeline_tag": "audio-classification",
        "tags": ["speech-deepfake-detection", "anti-spoofing", "audio", "qamo"],
    }
    if base:
        head["base_model"] = base
    if scored:
        head["metrics"] = ["eer"]
        head["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "audio-classification", "name": "speech deepfake detection"},
                        "dataset": {"type": key, "name": key},
                        "metrics": [{"type": "eer", "value": row["eer"], "name": "equal error rate (%)"}],
                    }
                    for key, row in scored.items()
                ],
            }
        ]
    return head


def _body(
    about: Mapping[str, Any], known: Calibration | None, scored: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[str]:
    config = about["model_config"]
    origin, licence, _ = ORIGINS.get(config["frontend"], (config["frontend"], "not known", None))
    window_s = about["window_samples"] / SAMPLE_RATE
    lines = [
        f"A speech deepfake detector: front end {config['frontend']}, back end {config['backend']}, head "
        f"{config['head']}. A score is higher for bona fide speech. The method is QAMO (arXiv:2509.20679).",
        "",
        "## Use",
        "",
        "In a checkout of the program, with its requirements installed (`pip install -r requirements.txt`, then",
        "`pip install --no-deps -r requirements-nodeps.txt`):",
        "",
        "```sh",
        "python inference.py --ckpt_path THIS_FOLDER recording.wav",
        "```",
        "",
        "```python",
        LINES.format(folder="THIS_FOLDER", recording="recording.wav") + "```",
        "",
        "The judgement also has `verdict`, `llr`, `probability_bonafide`, `windows` and `warnings`.",
        "",
        "## Training data",
        "",
    ]
    data = facts.get("data", {})
    if data:
        lines += [
            "| part | protocol | utterances | bona fide | SHA-256 of the protocol, first 16 |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {part} | {Path(row['protocol']).name} | {row['n']:,} | {row['n_bonafide']:,} | `{row['sha256'][:16]}` |"
            for part, row in data.items()
            if isinstance(row, dict) and "protocol" in row
        ]
    else:
        lines.append("Not known: this export was made of weights without their run.")
    lines += ["", "## Results", ""]
    if scored:
        lines += ["| set | bona fide | spoof | EER % | 95 % interval |", "| --- | --- | --- | --- | --- |"]
        for name, row in scored.items():
            interval = f"{row['eer_low']:.2f} to {row['eer_high']:.2f}" if "eer_low" in row else "not computed"
            lines.append(f"| {name} | {row['n_bonafide']:,} | {row['n_spoof']:,} | {row['eer']:.2f} | {interval} |")
        lines += ["", "Intervals are bootstrapped over trials of this one run; other seeds move the figures too."]
    else:
        lines.append("Not known: no evaluation set was scored and labelled in the run.")
    lines += ["", "## Threshold and calibration", ""]
    if known:
        low, high = known.band(calibration.CONFIDENCE)
        lines.append(
            f"Log-likelihood ratio (natural) = {known.slope:.6g} * score {known.offset:+.6g}, fitted on "
            f"{known.n_bonafide:,} bona fide and {known.n_spoof:,} spoofed dev scores, whose EER is "
            f"{100 * known.eer:.2f} % at {known.eer_threshold:.4f}. At a prior of {calibration.PRIOR:g} the threshold "
            f"is {known.threshold():.4f}; between {low:.4f} and {high:.4f} the verdict is `uncertain`."
        )
    else:
        lines.append("None: a score ranks recordings, and is not a probability. Choose a threshold on labelled data.")
    lines += [
        "",
        "## Limits",
        "",
        LIMITS.format(window_s=window_s, prior=calibration.PRIOR),
        "",
        "## Licences",
        "",
        f"The code is MIT. The front end is {origin}; licence of its weights: {licence}. The rest of the weights was "
        "trained on the data above, whose licences may bind what is made of it: see to them before you pass this on.",
        "",
        "## Provenance",
        "",
        f"Weights `{about['weights']}`, qamo {__version__}, commit {facts.get('git_commit') or 'not known'}, "
        f"from `{about.get('source', '')}`.",
    ]
    return lines


def _read(run: Path | None, name: str) -> dict[str, Any]:
    path = run / name if run else None
    if path is None or not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}
