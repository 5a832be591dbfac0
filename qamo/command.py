"""The one beginning and end of every command: its parser, its exit status, one sentence for a mistake, what comes next.

    0    done
    1    the reader of the output went away (`| head -1`), of which nothing is said, or there was none (`>&-`)
    2    something to correct: one sentence on standard error
    130  stopped by Ctrl-C, as shells have it

Commands import this module first, so that Ctrl-C is understood while the others are still being loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TextIO, TypeVar

from qamo import InputError, __version__
from qamo.files import from_here, shown, write_text

if sys.platform == "win32":
    from subprocess import list2cmdline as as_typed
else:  # subprocess is a fiftieth of the time of a short command
    from shlex import join as as_typed

STDOUT = Path("-")
N = TypeVar("N", int, float)
DONE, CLOSED_PIPE, INPUT_ERROR, STOPPED = 0, 1, 2, 130

COMMANDS = {  # of `qamo`: the file at the top level of a checkout, and what it is for
    "judge": ("inference", "is a recording bona fide or spoofed?"),
    "serve": ("serve", "a page and an API that judge recordings"),
    "report": ("report", "score files as one HTML page"),
    "eer": ("score_ood_dataset", "equal error rate of a score file"),
    "asvspoof5": ("score_asvspoof5", "figures of ASVspoof 5, tracks 1 and 2"),
    "calibrate": ("inference", "scores of a dev set to log-likelihood ratios"),
    "predict-mos": ("predict_mos", "predict the speech quality of recordings"),
}
ROOT = Path(__file__).resolve().parents[1]  # of the checkout

WORDS = {  # of the operating system's errors that a person can do something about
    errno.ENOENT: "no such file or folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "is a folder, expected a file",
    errno.ENOTDIR: "is not a folder",
    errno.EEXIST: "is there already",
    errno.ENOSPC: "the disk is full; make room and start again",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "the name is too long for the file system",
    errno.EADDRINUSE: "the address is in use; choose another port",
}


def name_of(script: str) -> str:
    """What a command is called here: serve.py, or `qamo serve` where the package is installed."""
    names = [f"qamo {name}" for name, (module, _) in COMMANDS.items() if script == f"{module}.py"]
    return names[0] if names and is_installed() else script


def note(script: str, text: str) -> None:
    """A line on standard error, after the command's name."""
    print(f"{name_of(script)}: {text}", file=sys.stderr, flush=True)


class Parser(argparse.ArgumentParser):
    """A parser whose help begins with a module's docstring, and whose refusals name the nearest flag.

    A flag is taken with hyphens and with underscores, however it was added: `--batch-size` and `--batch_size`.
    """

    def __init__(self, prog: str, description: str | None) -> None:
        prog = name_of(prog)
        if is_installed() and description:  # it was not typed as a file, but as `qamo judge`
            for name, (module, _) in COMMANDS.items():
                description = description.replace(f"python {module}.py", f"qamo {name}")
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("--version", action="version", version=f"{prog} of qamo {__version__}")

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        self._take_both_spellings()
        return super().parse_known_args(*args, **options)

    def parse_known_intermixed_args(self, *args: Any, **options: Any) -> Any:
        self._take_both_spellings()
        return super().parse_known_intermixed_args(*args, **options)

    def _take_both_spellings(self) -> None:
        """Of an underscored name the hyphened form is shown first; of a hyphened one the other is taken silently."""
        for action in self._actions:
            for name in [name for name in action.option_strings if name.startswith("--")]:
                for twin in (hyphened := "--" + name[2:].replace("_", "-"), "--" + name[2:].replace("-", "_")):
                    self._option_string_actions.setdefault(twin, action)
                if hyphened not in action.option_strings:
                    action.option_strings = [hyphened, *action.option_strings]

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0].split("=")[0]
        if unknown.startswith("-") and (near := difflib.get_close_matches(unknown, self._option_string_actions, 1)):
            message += f"; did you mean {near[0]}?"
        super().error(message)


def number(kind: type[N], low: float, high: float) -> Callable[[str], N]:
    """The type of a flag: a whole number or a float from `low` to `high`, both included."""

    def read(text: str) -> N:
        with contextlib.suppress(ValueError):
            if low <= (value := kind(text)) <= high:  # NaN is not
                return value
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"expected {what} from {low:,} to {high:,}, found {text:.40}")

    return read


def output(text: str) -> Path:
    """The type of a flag that names a file or folder to write, which no other argument may name."""
    return Path(text)


def add_form(parser: Parser, form: str, content: str) -> None:
    """A flag for another form of a command's figures, on standard output as `--json` of inference.py, or in a file."""
    parser.add_argument(
        f"--{form}", nargs="?", type=output, const=STDOUT, metavar="FILE",
        help=f"{content}, in place of the tables; with FILE: beside them, into that file",
    )  # fmt: skip


def deliver(text: str, path: Path) -> None:
    """Write what `add_form` asked for."""
    if path == STDOUT:
        print(text, end="")
    else:
        write_text(path, text)


def _keep_inputs(parser: Parser, args: argparse.Namespace) -> None:
    """Raise InputError where a file that would be written is one that another argument names."""
    named: list[tuple[str, bool, str]] = []  # by which argument, whether to be written, what
    for action in parser._actions:
        for value in _flat(getattr(args, action.dest, None)):
            called = "/".join(action.option_strings[:1]) or action.dest
            named.append((called, action.type is output, str(value)))
    for place, (called, written, path) in enumerate(named):
        for other, other_written, text in named[:place] + named[place + 1 :] if written and path != str(STDOUT) else ():
            if _same_file(path, text, both_new=other_written):
                raise InputError(
                    f"{called} {shown(path)}: {other} names this file too, which would be lost; choose another"
                )


def _flat(value: Any) -> list[str | Path]:
    """Texts and paths in an argument, and in lists of them."""
    if isinstance(value, (list, tuple)):
        return [one for item in value for one in _flat(item)]
    return [value] if isinstance(value, (str, Path)) else []


def _same_file(path: str, text: str, *, both_new: bool) -> bool:
    """Whether `path` is what `text` or, where it is LABEL=FILE, its end names; two that are not there yet by name."""
    for candidate in {text, text.partition("=")[2]} - {""}:
        with contextlib.suppress(OSError, ValueError):
            if os.path.isfile(path) and os.path.samefile(path, candidate):
                return True
    return both_new and not os.path.exists(path) and os.path.realpath(path) == os.path.realpath(text)


def run_command(parser: Parser, command: Callable[[argparse.Namespace], int], argv: Sequence[str] | None = None) -> int:
    """Parse `argv` (the process's own where None), run `command`, and return the exit status."""
    words = _paths_after_dashes(sys.argv[1:] if argv is None else argv)
    try:
        _check_here()
        args = parser.parse_intermixed_args(words)
        _keep_inputs(parser, args)
        status = command(args)
        sys.stdout.flush()
        if isinstance(sys.stdout, _Closed) and sys.stdout.n_lost:
            return _said(parser, "standard output is closed, so nobody saw what was found", CLOSED_PIPE)
        return status
    except BrokenPipeError:
        return CLOSED_PIPE
    except (InputError, OSError) as error:
        return _said(parser, sentence(error), INPUT_ERROR)
    except KeyboardInterrupt:
        return _said(parser, "stopped", STOPPED)
    finally:
        _settle()


def _check_here() -> None:
    """Raise InputError where the current folder is gone, without which libraries fail in words of their own."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError("the current folder was removed; go to another one, and start again") from None


def _said(parser: Parser, text: str, status: int) -> int:
    with contextlib.suppress(OSError):  # where standard error takes nothing, the status has to do
        note(parser.prog, text)
    return status


def _settle() -> None:
    """Leave nothing in standard output that Python would fail to write at its end, with a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ---- what comes next


def say_saved(*paths: Path | str, then: str = "", stream: TextIO | None = None) -> None:
    """The last lines of a command that wrote something: where it is, and the command that goes on from there.

    Args:
        then: as of `typed`; "" where nothing goes on.
        stream: None: standard output.
    """
    lines = [f"results saved to {', '.join(map(str, paths))}"] * bool(paths) + [f"next: {then}"] * bool(then)
    if lines:
        print("\n".join(lines), file=stream or sys.stdout, flush=True)


def typed(script: str, *words: object) -> str:
    """A command line that works in the current folder: `python report.py WORDS`; where installed, `qamo report WORDS`.

    "" where the script is not installed, such as main.py, which needs a checkout, or serve.py without FastAPI.
    """
    if script == "serve" and not all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "h11")):
        return ""
    if not is_installed():
        return _line(_python(), from_here(ROOT / f"{script}.py"), *words)
    name = next((name for name, (module, _) in COMMANDS.items() if module == script), "")
    return _line(*(["qamo"] if _starts("qamo") else [_python(), "-m", "qamo"]), name, *words) if name else ""


def opening(page: Path) -> str:
    """A command line that shows a page in a browser."""
    return _line("open", page) if sys.platform == "darwin" else _line(_python(), "-m", "webbrowser", page)


def is_installed() -> bool:
    """Whether the commands are those of an installed package, qamo.commands, and not the files of a checkout."""
    return importlib.util.find_spec("qamo.commands") is not None


def _python() -> str:
    return "python" if _starts("python") else str(from_here(Path(sys.executable)))


def _starts(program: str) -> bool:
    """Whether the word alone starts a program of this very environment."""
    found = shutil.which(program)
    return found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()


def _line(*words: object) -> str:
    texts = [f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words]
    return as_typed(texts)


class _Closed(io.TextIOBase):
    """In place of a standard output that was closed before the command began (`>&-`)."""

    n_lost = 0

    def write(self, text: str) -> int:
        self.n_lost += len(text)
        return len(text)


def _open_streams() -> None:
    """See that the three standard streams are there and print any name, whatever the terminal's alphabet."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # or the next file would take the number, and be written to by libraries
    sys.stdout = sys.stdout or _Closed()
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (stream.errors == "strict" or stream.encoding.lower() != "utf-8"):
            stream.reconfigure(errors="backslashreplace")


def _paths_after_dashes(argv: Sequence[str]) -> list[str]:
    """`-- -name` as `./-name`: what follows two dashes is a path, which argparse, intermixed, takes for a flag."""
    before, after = list(argv), []
    if "--" in before:
        place = before.index("--")
        before, after = before[:place], before[place + 1 :]
    return before + [f"./{path}" if path.startswith("-") else path for path in after]


def sentence(error: BaseException) -> str:
    """What went wrong, in words: an OSError without its number, with its file."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    words = WORDS.get(error.errno or 0, error.strerror[:1].lower() + error.strerror[1:])
    return f"{shown(error.filename)}: {words}" if isinstance(error.filename, (str, bytes)) else words


def first_line(error: BaseException, most: int = 200) -> str:
    """The first line of what a library says went wrong, or else its kind, cut to so many characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(f"{os.path.basename(sys.argv[0])}: stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _without_traceback
_open_streams()
