"""The channel: codecs come back aligned, noise and rooms are as drawn, draws depend on (seed, epoch, index)."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
import soxr
from scipy import signal

import data_utils
import main
from data_utils import TrainSet, epoch_batches, training_channel
from qamo.audio import channel as ch
from qamo.audio import codecs
from qamo.audio import load as audio
from qamo.audio.channel import Drawn
from qamo.audio.rawboost import rawboost
from qamo.config.load import load_config
from qamo.config.schema import ChannelConfig, RawBoostConfig
from qamo.quality.cache import AugmentedMOS
from qamo.quality.classes import QualityRule
from qamo.training.folder import RunFolder, training_identity
from qamo.training.loader import read_by_processes
from qamo.trials.protocol import read_protocol
from qamo.trials.recordings import Recordings
from tests.support.sounds import voice

RATE = 16_000
# Four seconds of noise that starts and stops, in the band that all codecs keep.
PARTS = np.random.default_rng(8).random(40).repeat(RATE // 10)
BAND = signal.butter(2, [200, 2500], "band", fs=RATE)
NOISE = 0.3 * PARTS * signal.lfilter(*BAND, np.random.default_rng(9).normal(size=4 * RATE))


def lag(x: np.ndarray, y: np.ndarray) -> int:
    """Samples by which y is late."""
    return int(np.argmax(signal.correlate(y, x, method="fft"))) - (len(x) - 1)


def db(power: float) -> float:
    return float(10 * np.log10(power))


# ---- codecs


@pytest.mark.parametrize(
    ("codec", "kbps"), [(name, c.kbps[k]) for name, c in codecs.CODECS.items() for k in {0, len(c.kbps) - 1}]
)
def test_a_codec_keeps_length_and_place_but_not_the_samples(codec, kbps):
    y = codecs.round_trip(NOISE, codec, kbps)
    assert (y.dtype, y.shape) == (np.float32, NOISE.shape)
    assert abs(lag(NOISE, y)) <= 1
    assert not np.array_equal(y, NOISE)
    if kbps >= 24:
        assert np.corrcoef(NOISE, y)[0, 1] > 0.9
    np.testing.assert_array_equal(codecs.round_trip(NOISE, codec, kbps), y)


@pytest.mark.parametrize("codec", codecs.CODECS)
@pytest.mark.parametrize("n", [1, 333, RATE + 7])
def test_any_length_comes_back(codec, n):
    y = codecs.round_trip(voice(2)[:n].astype(np.float32), codec, codecs.CODECS[codec].kbps[0])
    assert y.shape == (n,)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("codec", codecs.CODECS)
def test_the_end_of_a_recording_is_not_lost(codec):
    x = np.zeros(RATE)
    x[-1600:] = NOISE[: 10 * 1600].reshape(10, 1600).sum(axis=0)
    y = codecs.round_trip(x, codec, codecs.CODECS[codec].kbps[-1])
    assert np.square(y[-1600:]).sum() > 0.3 * np.square(x).sum()


@pytest.mark.parametrize("codec", ["mp3", "aac", "opus", "vorbis", "amr_nb"])
def test_a_higher_bit_rate_is_nearer_to_the_original(codec):
    rates = codecs.CODECS[codec].kbps
    low, high = (np.square(codecs.round_trip(NOISE, codec, rate) - NOISE).sum() for rate in (rates[0], rates[-1]))
    assert high < 0.8 * low


@pytest.mark.parametrize("codec", ["mulaw", "alaw"])
@pytest.mark.parametrize("level", [1.0, 0.3])
def test_g711_has_the_signal_to_noise_ratio_of_logarithmic_steps_whatever_the_level(codec, level):
    """About 38 dB in theory, for what is well above the least step."""
    x = (level * NOISE).astype(np.float32)
    narrow = soxr.resample(soxr.resample(np.pad(x, (0, codecs.TAIL_SAMPLES)), RATE, 8000), 8000, RATE)[: len(x)]
    y = codecs.round_trip(x, codec, 64)
    assert db(np.square(narrow).sum() / np.square(y - narrow).sum()) == pytest.approx(37.5, abs=2.5)


def test_bit_rates_are_kept_within_limits_or_are_the_nearest():
    assert codecs.bit_rates("opus", (8, 20)) == (8, 12, 16)
    assert codecs.bit_rates("mulaw", (8, 20)) == (64,)
    assert codecs.bit_rates("mp3", (1, 2)) == (8,)


def test_the_names_of_the_config_are_those_of_the_codecs():
    names = get_args(get_args(ChannelConfig.model_fields["codecs"].annotation)[0])
    assert list(names) == list(codecs.CODECS)


# ---- noise, rooms, bands, packets


@pytest.mark.parametrize("kind", ch.NOISES)
@pytest.mark.parametrize("snr_db", [-3.0, 12.5])
def test_noise_has_the_drawn_ratio(kind, snr_db):
    y = ch.noisy(NOISE, ch.noise(np.random.default_rng(1), kind, len(NOISE)), snr_db)
    assert db(np.square(NOISE).sum() / np.square(y - NOISE).sum()) == pytest.approx(snr_db, abs=1e-9)


def test_noises_have_the_spectra_of_their_names():
    """Change of power from 500 Hz - 1 kHz to 2 - 4 kHz (two octaves): white +0, pink -6, babble-like -18 dB per Hz."""
    for kind, expected in (("white", 0), ("pink", -6.02), ("babble", -18.06)):
        hz, power = signal.welch(ch.noise(np.random.default_rng(2), kind, 60 * RATE), RATE, nperseg=4096)
        low, high = (power[(hz >= a) & (hz < 2 * a)].mean() for a in (500, 2000))
        assert db(high / low) == pytest.approx(expected, abs=0.5), kind


def test_noise_from_a_folder_is_a_drawn_part_of_one_file_repeated_where_it_is_short(tmp_path):
    recorded = np.random.default_rng(3).normal(0, 0.1, 8000).astype(np.float32)
    soundfile.write(tmp_path / "n.wav", recorded, RATE, subtype="FLOAT")
    short = ch.noise(np.random.default_rng(4), str(tmp_path / "n.wav"), 3000)
    starts = [k for k in range(5001) if np.array_equal(recorded[k : k + 3000], short.astype(np.float32))]
    assert len(starts) == 1
    long = ch.noise(np.random.default_rng(4), str(tmp_path / "n.wav"), 20_000)
    np.testing.assert_array_equal(long, np.tile(recorded, 3)[:20_000])


@pytest.mark.parametrize("rt60_s", [0.2, 0.6])
def test_a_synthetic_room_decays_by_60_db_in_its_time(rt60_s):
    response = ch.synthetic_room(np.random.default_rng(5), rt60_s)
    tail = response[round(ch.GAP_S * RATE) + 1 :]
    left_db = 10 * np.log10(np.cumsum(np.square(tail)[::-1])[::-1] / np.square(tail).sum())  # Schroeder's integral
    first, last = (int(np.argmax(left_db < level)) for level in (-5, -35))
    assert 2 * (last - first) / RATE == pytest.approx(rt60_s, rel=0.1)  # T30
    direct_db = db(1 / np.square(tail).sum())
    assert ch.DIRECT_DB[0] <= direct_db <= ch.DIRECT_DB[1]


def test_reverberation_keeps_energy_and_place_and_smears_what_stops():
    x = voice(2.0)
    x[RATE : RATE + RATE // 2] = 0
    y = ch.reverberant(x, np.concatenate([np.zeros(400), ch.synthetic_room(np.random.default_rng(6), 0.5)]))
    assert y.shape == x.shape
    assert np.square(y).sum() == pytest.approx(np.square(x).sum())
    assert abs(lag(x, y)) <= 1
    assert np.square(y[RATE : RATE + 1600]).sum() > 1e-3 * np.square(y[RATE - 1600 : RATE]).sum()


def test_a_room_from_a_file_is_that_response(tmp_path):
    soundfile.write(tmp_path / "r.wav", np.array([0, 0, 0.5, 0, 0.25]), RATE, subtype="FLOAT")
    x = 0.1 * voice(0.5)
    y = ch.through(x, Drawn(room=str(tmp_path / "r.wav")), np.random.default_rng(0))
    echoed = x + 0.5 * np.concatenate([[0, 0], x[:-2]])
    np.testing.assert_allclose(y, echoed * np.linalg.norm(x) / np.linalg.norm(echoed), atol=1e-6)


def test_a_band_passes_and_stops_without_delay():
    x = np.random.default_rng(7).normal(0, 0.1, 4 * RATE)
    hz, power = signal.welch(ch.band_limited(x, 300, 3400), RATE, nperseg=2048)
    before = signal.welch(x, RATE, nperseg=2048)[1]
    gain_db = 10 * np.log10(power / before)
    assert np.abs(gain_db[(hz > 450) & (hz < 2500)]).max() < 0.5
    assert gain_db[hz > 4800].max() < -20
    assert gain_db[hz < 150].max() < -20
    assert lag(x, ch.band_limited(x, 300, 3400)) == 0


@pytest.mark.parametrize("repeat", [False, True])
def test_packets_are_lost_at_the_drawn_rate_and_replaced(repeat):
    n = 4000
    x = np.arange(1, n + 1).repeat(ch.PACKET_SAMPLES).astype(float)
    y = ch.with_losses(x[:-7], np.random.default_rng(8), 0.2, repeat=repeat)
    assert y.shape == (len(x) - 7,)
    packets = np.pad(y, (0, 7), mode="edge").reshape(n, -1)
    assert (packets == packets[:, :1]).all()
    values = packets[:, 0]
    lost = values != np.arange(1, n + 1)
    assert lost.mean() == pytest.approx(0.2, abs=0.025)  # four standard deviations
    if repeat:
        expected = np.maximum.accumulate(np.where(lost, 0, np.arange(1, n + 1)))
        np.testing.assert_array_equal(values, expected)
    else:
        assert (values[lost] == 0).all()


# ---- draws and training items


def config(**values) -> ChannelConfig:
    return ChannelConfig(**{"probability": 0.7, **values})


def test_draws_follow_probabilities_ranges_and_codecs():
    chain = training_channel(config(snr_db=(3, 9), loss_rate=(0.1, 0.2), bit_rate_kbps=(12, 24), probability=1.0))
    assert chain is not None
    drawn = [chain.draw(np.random.default_rng([1, i])) for i in range(3000)]
    there = [one for one in drawn if one]
    assert len(there) / 3000 == pytest.approx(chain.share, abs=0.03)
    for field, expected in (("room", 0.3), ("noise", 0.3), ("low_hz", 0.2), ("codec", 0.8), ("loss_rate", 0.1)):
        assert sum(getattr(one, field) is not None for one in there) / 3000 == pytest.approx(expected, abs=0.035), field
    snrs = [one.snr_db for one in there if one.snr_db is not None]
    assert 3 <= min(snrs) < 3.2
    assert 8.8 < max(snrs) <= 9
    assert {one.codec for one in there} == {*ChannelConfig().codecs, None}
    assert {one.kbps for one in there if one.codec == "opus"} == {12, 16, 24}
    assert {one.noise for one in there} == {*ch.NOISES, None}


def test_a_channel_can_be_sent_to_a_spawned_worker():
    chain = training_channel(config())
    sent = pickle.loads(pickle.dumps(chain))
    assert chain is not None
    assert [sent.draw(np.random.default_rng(i)) for i in range(50)] == [
        chain.draw(np.random.default_rng(i)) for i in range(50)
    ]


def channel_set(
    corpus: Path, *, seed: int = 5, boost: float = 0.0, rule: str = "lower", edge: float = 2.5, **values
) -> TrainSet:
    trials = read_protocol(corpus / "train.txt")
    return TrainSet(
        trials,
        Recordings(corpus / "LA" / "train" / "flac", trials.names, None),
        window_samples=8000,
        rule=QualityRule(np.array([edge]), rule),
        seed=seed,
        boost=RawBoostConfig(probability=boost),
        channel=training_channel(config(**values)),
        mos_of=AugmentedMOS() if rule == "predict" else None,
    )


def test_an_item_depends_on_seed_epoch_and_index_alone(built_corpus):
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    forward = [channel_set(built_corpus)[0, i] for i in range(12)]
    backward = [channel_set(built_corpus)[0, i] for i in reversed(range(12))][::-1]
    for one, two in zip(forward, backward):
        np.testing.assert_array_equal(one.wave, two.wave)
        assert one[1:] == two[1:]
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    for other in (channel_set(built_corpus, seed=6), channel_set(built_corpus)):
        epoch = int(other.seed == 5)
        assert any(not np.array_equal(other[epoch, i].wave, forward[i].wave) for i in range(12))


def test_two_workers_give_what_none_gives(built_corpus):
    keys = list(epoch_batches(24, 6, seed=0, epoch=1))
    alone, shared = (
        list(read_by_processes(channel_set(built_corpus, boost=0.5), keys, data_utils.collate, n_workers=n))
        for n in (0, 2)
    )
    assert any(batch.augmented.any() for batch in alone)
    for one, two in zip(alone, shared):
        assert all(np.array_equal(a, b) for a, b in zip(one, two))


def test_rawboost_draws_what_it_drew_before_there_was_a_channel(built_corpus):
    """Without a channel the items are those of the old code, written out here; with one, it comes after RawBoost."""
    plain, both = channel_set(built_corpus, boost=0.5, probability=0.0), channel_set(built_corpus, boost=0.5)
    options = RawBoostConfig().model_dump(exclude={"probability"})
    kinds = set()
    for index in range(24):
        wave = audio.load(plain.paths[index])
        rng = np.random.default_rng([5, 3, index])
        boosted = rng.random() < 0.5
        if boosted:
            wave = rawboost(wave, rng, **options)
        item = plain[3, index]
        np.testing.assert_array_equal(item.wave, audio.fit_length(wave, 8000))
        assert item.augmented == boosted
        plan = both.augmentation.plan(3, index)
        assert plan.rawboost == boosted
        kinds.add((boosted, plan.channel is not None))
        if plan.channel is None:
            np.testing.assert_array_equal(both[3, index].wave, item.wave)
        else:
            assert not np.array_equal(both[3, index].wave, item.wave)
    assert len(kinds) == 4


@pytest.mark.parametrize(("rule", "expected"), [("lower", 1), ("lowest", 0), ("none", 2)])
def test_rules_that_do_not_predict_take_both_chains_for_one_augmentation(built_corpus, rule, expected):
    source = channel_set(built_corpus, boost=0.5, rule=rule, probability=1.0)
    source.rule = QualityRule(np.array([-2.0, -1.0]), rule)
    source.classes = source.rule.classes(source.trials.mos)
    items = [source[0, i] for i in range(24)]
    assert {item.quality for item in items if item.augmented} == {expected}
    assert {item.quality for item in items if not item.augmented} <= {2}


def test_a_predicted_class_is_that_of_what_training_hears(built_corpus, tmp_path):
    source = channel_set(built_corpus, boost=0.5, rule="predict", probability=1.0)
    heard = AugmentedMOS(tmp_path / "mos.txt")
    rows = []
    for index in np.flatnonzero(source.trials.bonafide).tolist():
        wave, augmented = source.augmentation(audio.load(source.paths[index]), 0, index)
        if augmented:
            rows.append((index, heard(wave)))
    source.rule = QualityRule(np.array([float(np.median([mos for _, mos in rows]))]), "predict")
    classes = [int(mos >= source.rule.edges[0]) for _, mos in rows]
    assert set(classes) == {0, 1}
    source.mos_of = again = AugmentedMOS(tmp_path / "mos.txt")
    assert [source[0, index].quality for index, _ in rows] == classes
    assert again.n_predicted == 0  # found by the samples that training hears


def test_a_low_bit_rate_lowers_the_mos_of_speech(spoken):
    """And more so the lower it is."""
    mos = AugmentedMOS()
    high, low = (mos(codecs.round_trip(spoken, "aac", kbps)) for kbps in (24, 8))
    assert low < mos(spoken) - 0.5
    assert low < high - 0.3


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """By espeak-ng, which speaks a part of the mini corpus."""
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("pyworld")
    from builder import engines

    texts = ["The river is high today, and the ferry will not cross before noon."]
    return engines.speak("espeak", texts, engines.Speaking("en", "vorbis", RATE), np.random.default_rng(3))


# ---- the commands


def test_the_name_of_a_run_is_what_it_was_and_only_what_is_read_tells_trainings_apart(built_corpus):
    plain = load_config(built_corpus / "config.yaml", {"name": None})
    other = load_config(built_corpus / "config.yaml", {"name": None, "data.channel.snr_db": [1, 2]})
    on = load_config(built_corpus / "config.yaml", {"name": None, "data.channel.probability": 0.5})
    assert training_identity(plain) == training_identity(other)
    assert RunFolder.of(plain).path == RunFolder.of(other).path != RunFolder.of(on).path
    assert "data.channel.codecs" in training_identity(on)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.channel.codecs=[mp3,mp4]"], r"data\.channel\.codecs\.1: .*'mp3'.*found 'mp4'"),
        (["data.channel.codecs=[]"], "data.channel: codecs: expected at least one"),
        (["data.channel.snr_db=[20,10]"], r"data\.channel\.snr_db: expected a range with the lower value first"),
        (["data.channel.snr_db=[.nan,10]"], r"data\.channel\.snr_db\.0: .*finite"),
        (["data.channel.loss_rate=[0.1,1.5]"], r"data\.channel\.loss_rate\.1: .*less than or equal to 1"),
        (["data.channel.band_low_hz=[50,4000]"], "expected band_low_hz to end below band_high_hz"),
        (["data.channel.noise_folder=nowhere"], r"data\.channel\.noise_folder: .*found no such folder at nowhere"),
        (["data.channel.rir_folder=docs"], r"data\.channel\.rir_folder: .*found a folder without recordings at docs"),
    ],
)
@pytest.mark.parametrize("check", [["--check"], []])
def test_bad_input_is_answered_in_a_sentence(corpus, capsys, monkeypatch, words, said, check):
    monkeypatch.chdir(Path(__file__).parents[2])
    words = ["--config", str(corpus / "config.yaml"), "--name", "r", "data.channel.probability=0.5", *check, *words]
    assert main.main(words) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if re.search(said, line)]
    assert len(told) == 1
    assert "Traceback" not in told[0]
    assert not (corpus / "exps" / "r" / "model.pt").exists()


@pytest.mark.parametrize("check", [["--check"], []])
def test_a_codec_that_the_build_lacks_is_named_with_those_that_it_has(corpus, capsys, monkeypatch, check):
    lacking = codecs.ByFFmpeg((8,), "libnone", "mp3float")
    monkeypatch.setitem(codecs.CODECS, "mp3", lacking)
    words = ["--config", str(corpus / "config.yaml"), "--name", "r", "data.channel.probability=0.5", *check]
    assert main.main(words) == 2
    said = capsys.readouterr().err
    assert "data.channel.codecs: the installed FFmpeg cannot encode and decode mp3; leave it out" in said
    assert "there are aac, opus, vorbis" in said


def test_a_setting_of_a_channel_that_is_off_is_refused(corpus, capsys):
    assert main.main(["--config", str(corpus / "config.yaml"), "--check", "data.channel.codecs=[mp3]"]) == 2
    assert "data.channel.codecs has no effect: data.channel.probability is 0" in capsys.readouterr().err


def test_config_has_less_than_twenty_keys():
    assert len(ChannelConfig.model_fields) < 20
