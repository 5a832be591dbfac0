"""ASVspoof 2019 LA, ASVspoof 2021 LA and DF, and track 1 of ASVspoof 5."""

from __future__ import annotations

from pathlib import Path

import yaml

from corpora.plan import Plan, check_same_labels, labels_of, text_of
from qamo import InputError
from qamo.command import typed
from qamo.config.schema import DataConfig, EvalConfig, EvalSet
from qamo.files import from_here
from qamo.trials.keys import read_keys
from qamo.trials.protocol import as_protocol, read_trial_list, rows_of

DATA, CATALOGUE = DataConfig(), EvalConfig().catalogue


def prepare_la2019(plan: Plan) -> None:
    """Protocols and recordings of training and development."""
    for part, ending, to, audio in (
        ("train", "train.trn", DATA.train_protocol, DATA.train_audio),
        ("dev", "dev.trl", DATA.dev_protocol, DATA.dev_audio),
    ):
        ours = plan.official(f"ASVspoof2019.LA.cm.{ending}.txt")
        theirs = plan.of_authors(f"ASVspoof2019.LA.cm.{ending}.score.txt")
        chosen = theirs or ours
        if chosen is None:
            continue
        keys = read_keys(chosen)
        plan.check_count(part, len(keys), chosen)
        folders = plan.search.folder(audio.removeprefix("LA/"))
        held = plan.recordings(part, keys.names, folders, audio, extension=".flac", key=f"data.{part}_audio")
        if theirs is None:
            plan.protocol(part, rows_of(keys), to, held, given=text_of(chosen))
            continue
        if ours is not None:
            check_same_labels(theirs, labels_of(read_keys(ours)), ours, labels_of(keys))
        plan.link(to, theirs)


def prepare_2021(plan: Plan, track: str) -> None:
    """List, keys and recordings of a track, LA or DF."""
    entry = CATALOGUE[track]
    name = Path(entry.trials).name
    ours, theirs = plan.official(name), plan.of_authors(name)
    chosen = theirs or ours
    names: list[str] = []
    if chosen is not None:
        names = read_trial_list(chosen)
        plan.check_count("eval", len(names), chosen)
        if theirs is not None:
            plan.link(entry.trials, theirs)
        else:
            plan.write(entry.trials, text_of(chosen))
        folders = plan.search.folder(entry.audio.removeprefix(f"{track}/"))
        key = f"eval.catalogue.{track}.audio"
        plan.recordings("eval", names, folders, entry.audio, extension=".flac", key=key)

    if not plan.has_recordings:
        return
    in_place = plan.to / (entry.keys or "")
    keys_file = in_place if in_place.is_file() else plan.search.text(f"{track}/CM/trial_metadata.txt")
    if keys_file is None:
        plan.lacks(f"{track}/CM/trial_metadata.txt, the keys", f"{plan.corpus} keys")
        return
    keys = read_keys(keys_file, columns=())
    plan.check_count("eval", len(keys), keys_file)
    if chosen is not None:
        check_same_labels(keys_file, dict.fromkeys(names, True), chosen, dict.fromkeys(keys.names, True))
    # The folder of the track, for 2021/eval-package wants the files of ASV too.
    plan.link(Path(entry.keys or "").parents[1], keys_file.parents[1])


def prepare_asvspoof5(plan: Plan) -> None:
    """Protocols, recordings and a config; this set is not in the catalogue."""
    if plan.authors is not None:
        raise InputError("--authors: the authors have no files for asvspoof5; use --from alone")
    data: dict[str, object] = {"database_path": str(plan.to), "protocols_path": str(plan.to)}
    evaluation: dict[str, object] = {"sets": []}
    for part, file, names_of_folder in (
        ("train", "ASVspoof5.train.tsv", ["flac_T"]),
        ("dev", "ASVspoof5.dev.track_1.tsv", ["flac_D"]),
        ("eval", "ASVspoof5.eval.track_1.tsv", ["flac_E_eval", "flac_E"]),
    ):
        found = plan.official(file)
        if found is None:
            continue
        keys = read_keys(found, columns=("speaker", "attack"))
        rows = rows_of(keys)
        plan.check_count(part, len(rows), found)
        key = "eval.catalogue.ASVspoof5.audio" if part == "eval" else f"data.{part}_audio"
        target = f"ASVspoof5/{names_of_folder[0]}"
        folders = plan.search.folder(*names_of_folder)
        audio = plan.recordings(part, keys.names, folders, target, extension=".flac", key=key)
        protocol = f"ASVspoof5/protocols/{Path(file).stem}.score.txt"
        if part == "eval":
            listed = protocol.replace(".score.txt", ".txt")
            plan.write(listed, as_protocol(rows))
            kept = f"ASVspoof5/protocols/{file}"  # with the codecs, for the figures by attack and codec
            plan.write(kept, text_of(found))
            entry = EvalSet(audio=audio, trials=listed, extension=".flac", keys=kept)
            evaluation = {"sets": ["ASVspoof5"], "catalogue": {"ASVspoof5": entry.model_dump()}}
        else:
            plan.protocol(part, rows, protocol, audio)
            data |= {f"{part}_audio": audio, f"{part}_protocol": protocol}
    if plan.writes:
        tree = yaml.safe_dump({"data": data, "eval": evaluation}, sort_keys=False)
        plan.write("ASVspoof5/config.yaml", f"# ASVspoof 5, track 1: only what differs from config.yaml.\n{tree}")
        plan.then.append(typed("main", "--config", from_here(plan.to / "ASVspoof5" / "config.yaml")))
