"""The one beginning and end of every command."""

from __future__ import annotations

import errno
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from qamo import InputError, command
from qamo.command import Parser, run_command, sentence

ROOT = Path(__file__).parents[1]


def run(raised: BaseException | None, *words: str) -> int:
    parser = Parser("some.py", "What it does.")
    parser.add_argument("--threshold", type=float)

    def command(args: object) -> int:
        if raised:
            raise raised
        return 0

    return run_command(parser, command, words)


def test_a_mistake_is_one_sentence_and_status_2(capsys):
    assert run(None) == 0
    assert run(InputError("a.txt:3: expected a number, found 'x'")) == 2
    assert capsys.readouterr().err == "some.py: a.txt:3: expected a number, found 'x'\n"


def test_an_error_of_the_system_is_said_in_words_with_its_file(capsys):
    assert run(FileNotFoundError(errno.ENOENT, "No such file or directory", "keys/meta.csv")) == 2
    assert capsys.readouterr().err == "some.py: keys/meta.csv: no such file or folder\n"
    assert sentence(FileNotFoundError(errno.ENOENT, "No such file", "a\n\x1b[31mb")) == (
        "a\\n\\x1b[31mb: no such file or folder"
    )
    assert "Errno" not in sentence(OSError(errno.EIO, "Input/output error", "x.wav"))


def test_ctrl_c_is_130_and_other_faults_keep_their_traceback(capsys):
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "some.py: stopped\n"
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())


def test_a_mistyped_flag_is_told_the_nearest_one(capsys):
    with pytest.raises(SystemExit) as stopped:
        run(None, "--treshold", "3")
    assert stopped.value.code == 2
    assert "did you mean --threshold?" in capsys.readouterr().err


COMMANDS = ["main", "inference", "predict_mos", "report", "export", "serve", "score_ood_dataset", "score_asvspoof5"]


def parser_of(name: str) -> Parser:
    parser: Parser = importlib.import_module(name).build_parser()
    with pytest.raises(SystemExit):
        parser.parse_args(["--version"])
    return parser


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_taken_with_hyphens_and_with_underscores_and_shown_with_hyphens_first(name, capsys):
    parser = parser_of(name)
    flags = {flag: action for flag, action in parser._option_string_actions.items() if flag.startswith("--")}
    assert flags
    for flag, action in flags.items():
        assert flags["--" + flag[2:].replace("_", "-")] is action
        assert flags["--" + flag[2:].replace("-", "_")] is action
        assert "_" not in next(shown for shown in action.option_strings if shown.startswith("--"))


@pytest.mark.parametrize("spelling", ["--batch-size", "--batch_size"])
@pytest.mark.parametrize("name", ["main", "inference", "serve"])
def test_commands_share_their_flags_and_what_they_are_called(name, spelling):
    words = [spelling, "7", "--device=cpu", "--threads", "2"]
    parser = importlib.import_module(name).build_parser()
    for parse in (parser.parse_args, parser.parse_intermixed_args):
        found = vars(parse([*words, *["RUN"] * (name != "main")]))
        found = {key.removeprefix("flag:--"): value for key, value in found.items()}
        assert (found["batch_size"], found["device"], found["threads"]) == (7, "cpu", 2)


def test_ctrl_c_while_modules_are_loaded_shows_no_traceback():
    code = "import qamo.command\nraise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "stopped" in done.stderr


def test_a_reader_that_goes_away_ends_a_command_in_silence():
    code = (
        "from qamo.command import *\n"
        "def say(args):\n    for i in range(100000): print(i)\n    return 0\n"
        "sys.exit(run_command(Parser('x', ''), say, []))"
    )
    line = f'"{sys.executable}" -c "$CODE" | head -1; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env={"CODE": code, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["0", "1"]
    assert done.stderr == ""


def test_without_a_current_folder_a_command_says_so(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(None) == 2
    assert "the current folder was removed; go to another one" in capsys.readouterr().err


def test_an_installed_command_calls_itself_what_was_typed(monkeypatch, capsys):
    monkeypatch.setattr(command, "is_installed", lambda: True)
    command.note("inference.py", "1 of 2 recordings could not be read")
    command.note("main.py", "a command of the checkout alone")
    monkeypatch.setattr(command, "is_installed", lambda: False)
    command.note("inference.py", "in a checkout")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "qamo judge: 1 of 2 recordings could not be read",
        "main.py: a command of the checkout alone",
        "inference.py: in a checkout",
    ]
