"""Every number of the config has a range, every text is the text that was written, and odd YAML is a sentence."""

from __future__ import annotations

import re

import pytest

from main import CONFIG, build_parser
from qamo import InputError
from qamo.config import flags
from qamo.config.keys import Section, keys_of, training
from qamo.config.load import flat, load_config
from qamo.config.schema import Config

NUMBERS = [key for key, about in keys_of(Config).items() if re.search(r"\d", str(about.default)) and ".SET." not in key]
ODD = [
    "nan",
    ".nan",
    "inf",
    "-.inf",
    "1e400",
    "0",
    "-1",
    str(2**64),
    "-" + "9" * 400,
    "0x10",
    "1_0",
    "[]",
    "{}",
    "null",
    "''",
]


def resolved(*words: str) -> Config:
    return flags.config_from(build_parser().parse_intermixed_args(words), CONFIG)


def numbers_in(value):
    return [n for item in value for n in numbers_in(item)] if isinstance(value, (list, tuple)) else [value]


def test_a_number_without_a_range_is_no_key():
    for annotation in (int, float, list[float], tuple[int, int], int | None):
        with pytest.raises(TypeError, match="give its numbers a lowest and a highest value"):
            type("Bare", (Section,), {"__annotations__": {"n": annotation}, "n": training(None, "a number")})


def test_each_number_takes_an_odd_value_or_says_why_not():
    n_refused = 0
    for key in NUMBERS:
        default = keys_of(Config)[key].default
        for odd in ODD:
            several = isinstance(default, (list, tuple)) and odd[:1] not in "[{n'"
            text = f"[{', '.join([odd] * len(default))}]" if several else odd
            said = ""
            try:
                value = load_config(None, {key: text})
            except InputError as error:
                said = str(error)
            if said:
                assert any(part in said for part in key.split(".")[-2:]), (key, odd, said)
                assert "\n" not in said
                n_refused += 1
                continue
            for part in key.split("."):
                value = getattr(value, part)
            for number in numbers_in(value):
                assert not isinstance(number, (int, float)) or -1000 <= number <= 1e9 or key == "seed", (key, odd)
    assert n_refused > 10 * len(NUMBERS)


@pytest.mark.parametrize("seed", ["-1", str(2**64), str(2**63), "nan", "1.5", "x"])
def test_seeds_are_checked_as_a_seed_is(seed, capsys):
    with pytest.raises(SystemExit):
        resolved("--seeds", "1", seed)
    assert "expected a whole number from 0 to" in capsys.readouterr().err
    with pytest.raises(InputError, match="seed"):
        resolved(f"seed={seed}")


@pytest.mark.parametrize(
    "text", ["2024", "on", "no", "2019-01-01", "1e5", "0x1f", "null", "~", "a: b", "#1", "[x", "*x", "!!int x"]
)
def test_a_text_is_the_text_that_was_written(text, tmp_path):
    config = resolved("--name", text, "--comment", text, "--database_path", text, "--ckpt_path", text)
    assert (config.name, config.comment, str(config.data.database_path)) == (text, text, text)
    assert str(config.score.weights) == text
    if text not in ("a: b", "#1", "[x", "*x", "!!int x", "null", "~"):  # which YAML must have in quotes
        (tmp_path / "c.yaml").write_text(
            f"name: {text}\ndata: {{database_path: {text}, train_protocol: {text}}}\n"
            f"eval: {{sets: [{text}], catalogue: {{{text}: {{audio: {text}, trials: {text}}}}}}}\n"
        )
        config = load_config(tmp_path / "c.yaml", {"comment": text})
        assert (config.name, config.comment, config.data.train_protocol) == (text, text, text)
        assert config.eval.catalogue[text].audio == config.eval.sets[0] == text
    assert resolved("--name", "x", "name=null").name is None


@pytest.mark.parametrize(
    "assignment",
    [
        "eval={sets: [../../up], catalogue: {../../up: {audio: a, trials: t}}}",
        "eval={sets: [..], catalogue: {..: {audio: a, trials: t}}}",
        "name=../x", "name=/x", "name=a//b", "name=''", "comment=a/b", "comment=''", "comment_eval=../../up",
        'name="a\\nb"',
    ],
)  # fmt: skip
def test_a_name_does_not_lead_out_of_the_run(assignment):
    with pytest.raises(InputError, match="expected 1 to 100 characters without / that are not only dots"):
        resolved(assignment)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh")
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nname: x\nseed: 2\n", r"c\.yaml:3: the key 'seed' stands twice"),
        ("train: {lr: 1, lr: 2}\n", "the key 'lr' stands twice"),
        (BOMB, "aliases .* more values than settings have"),
        ("train: &t {lr: *t}\n", r"aliases|not YAML"),
        ("[" * 10_000, r"more than 20 levels|nesting depth"),
        ("{a: " * 10_000, r"more than 20 levels|nesting depth"),
        ("- " * 10_000, r"more than 20 levels|nesting depth"),
        ("seed: !!int x\n", r"c\.yaml:1: the tag .*int' is not read"),
        ("seed: !!python/object/apply:os.system [ls]\n", "the tag .* is not read"),
        ("name: !x y\n", "the tag '!x' is not read"),
        ("? [a, b]\n: c\n", "expected a plain text as a key"),
        ("train:\n  <<: {lr: 1}\n", "expected a plain text as a key"),
        ("seed: 2024-01-01\n", "seed: .*found '2024-01-01'"),
        ("seed: 12:30:45\n", "c.yaml: seed"),
        ("seed: " + "9" * 10_000 + "\n", "not YAML|seed"),
        ("a: b: c\n", "not YAML"),
        ("\x00", "not YAML"),
        ("x" * 2_000_000, "more than settings have"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("2024\n", "expected `section:`"),
        ("data: {rawboost: 3}\n", "data.rawboost"),
        ("5: 3\n", "5: no such key"),
    ],
)
def test_odd_yaml_is_a_sentence_with_the_files_name(text, said, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        load_config(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("key", ["data.database_path", "data.train_protocol", "run.runs", "eval.catalogue.LA.audio"])
def test_a_path_with_nul_is_refused_and_one_from_home_is_followed(key, monkeypatch):
    with pytest.raises(InputError, match=f"{key}: expected a text without NUL"):
        load_config(None, {key: r'"a\0b"'})
    monkeypatch.setenv("HOME", "/home/some")
    assert str(flat(load_config(None, {key: "~/x"}).model_dump())[key]) == "/home/some/x"
