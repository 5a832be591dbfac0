"""In-the-Wild and Fake-or-Real (for-norm, testing)."""

from __future__ import annotations

from pathlib import Path

from corpora.plan import MOS_KEYS, Plan, check_same_labels, labels_of, text_of
from corpora.search import ends_in, recordings_below
from qamo.config.schema import EvalConfig
from qamo.trials.keys import read_keys
from qamo.trials.protocol import Row, as_list, as_meta, rows_of

CATALOGUE = EvalConfig().catalogue


def prepare_itw(plan: Plan) -> None:
    """List, keys and recordings; the corpus's own meta.csv lies beside the recordings."""
    entry = CATALOGUE["ITW"]
    key = Path(entry.keys or "")
    theirs_list, theirs = plan.of_authors("in_the_wild.eval.txt"), plan.of_authors("ITW/meta.csv")
    held = [path for path in plan.search.texts if path.name == "meta.csv"]
    ours = next((path for path in held if (path.parent / "0.wav").exists() or ends_in(path.parent, entry.audio)), None)
    chosen = theirs or ours
    if chosen is None:
        plan.lacks(f"{entry.audio}/meta.csv")
        return
    keys = read_keys(chosen)
    plan.check_count("eval", len(keys), chosen)
    if theirs is not None and theirs_list is not None and plan.authors is not None:
        if ours is not None:
            check_same_labels(theirs, labels_of(read_keys(ours)), ours, labels_of(keys))
        plan.link(entry.trials, theirs_list)
        plan.link(key, theirs)
        theirs_mos = plan.authors.text("in_the_wild.meta.score.txt")
        if theirs_mos is not None:
            plan.link(key.with_name(MOS_KEYS), theirs_mos)
    else:
        plan.write(entry.trials, as_list(keys.names))
        plan.write(key, text_of(chosen))
    mos = plan.mos_of("eval", keys.names)
    if mos is not None:
        plan.write(key.with_name(MOS_KEYS), as_meta(rows_of(keys), mos, speakers=True))
    folders = [*([ours.parent] if ours else []), *plan.search.folder(entry.audio)]
    plan.recordings("eval", keys.names, folders, entry.audio, extension="", key="eval.catalogue.ITW.audio")


def prepare_for(plan: Plan) -> None:
    """List, keys and recordings; the labels are the names of the folders."""
    entry = CATALOGUE["FoR"]
    key = Path(entry.keys or "")
    theirs_list, theirs = plan.of_authors("for_norm_test.txt"), plan.of_authors("FoR/meta.csv")
    folders = [f for f in plan.search.folder(entry.audio) if (f / "fake").is_dir() and (f / "real").is_dir()]
    labels: dict[str, bool] = {}  # by the path from fake/ or real/
    if folders:
        held = sorted(recordings_below(folders[0], ["fake/", "real/"]))
        labels = {name: name[0] == "r" for name in held if name.endswith(".wav") and "/." not in name}
    elif plan.has_recordings:
        plan.lacks(f"{entry.audio}, with the folders fake and real")
    if theirs is not None and theirs_list is not None:
        listed = {f"{name}.wav": label for name, label in labels_of(read_keys(theirs)).items()}
        plan.check_count("eval", len(listed), theirs)
        if labels:
            check_same_labels(theirs, labels, folders[0], listed)
        labels = listed
        plan.link(entry.trials, theirs_list)
        plan.link(key, theirs)
    elif labels:
        plan.check_count("eval", len(labels), folders[0])
        # As published, the keys leave the ending out; our readers take `x` and `x.wav` for one name.
        rows = [Row("-", name.removesuffix(".wav"), "-", label) for name, label in labels.items()]
        plan.write(entry.trials, as_list(labels))
        plan.write(key, as_meta(rows, speakers=False))
        known = {f"{name.removesuffix('.wav')}.wav": text for name, text in plan.mos.items()}
        mos = plan.mos_of("eval", list(labels), known)
        if mos is not None:
            plan.write(key.with_name(MOS_KEYS), as_meta(rows, mos, speakers=False))
    if folders:
        plan.recordings("eval", list(labels), folders, entry.audio, extension="", key="eval.catalogue.FoR.audio")
