"""Files that appear whole or not at all, their fingerprints, and locks on folders.

Nothing here knows what the files mean.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from qamo import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OPEN_FILES = ("/dev/fd/", "/dev/std", "/proc/")  # what a shell or a process has open already
NULL_DEVICE = os.makedev(1, 3) if hasattr(os, "makedev") else None  # /dev/null, where it is a device
AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # Windows has neither
JSON_WORDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number"}
JSON_WORDS |= {bool: "true or false", type(None): "null"}
T = TypeVar("T")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)|-")  # "-" stands for none
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # as `replacing` names them


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it to `path`, on error leave `path` as it was.

    Of a symbolic link the file that it names is replaced. A device or a pipe is written into, not replaced.
    `durable` waits for the disk before the rename; only what can be made again may do without.

    Raises:
        InputError: the disk is full, a limit on file sizes or a quota is reached, or nobody reads the pipe.
    """
    if _is_stream(path):
        with _into(path) as temporary:
            yield temporary
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))  # links that lead in a circle
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
        os.replace(temporary, target)
    except OSError as error:
        error.filename = str(path) if str(error.filename) == str(temporary) else error.filename
        if error.errno not in NO_ROOM:
            raise
        raise InputError(
            f"{path}: cannot be written ({os.strerror(error.errno)}); what stood there before is kept; "
            "make room and start the same command again"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _is_stream(path: Path) -> bool:
    """Whether bytes go into what stands at `path`, rather than a file being put in its place."""
    if str(path).startswith(OPEN_FILES):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextlib.contextmanager
def _into(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success write what it holds into the device or pipe at `path`."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / (path.name or "output")
        yield temporary
        try:
            descriptor = os.open(path, os.O_WRONLY | AT_ONCE)  # a pipe without a reader: ENXIO
            if hasattr(os, "set_blocking"):
                os.set_blocking(descriptor, True)
            with open(temporary, "rb") as source, open(descriptor, "wb") as stream:
                shutil.copyfileobj(source, stream)
        except OSError as error:
            if error.errno != errno.ENXIO and error.errno not in NO_ROOM:
                raise
            reason = "nobody reads from it" if error.errno == errno.ENXIO else os.strerror(error.errno)
            raise InputError(f"{path}: cannot be written ({reason})") from None


def kind_of(path: Path) -> str:
    """What stands at `path`, in words: a file, a folder, a pipe, ... or nothing."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a link to nothing" if os.path.islink(path) else "no such file"
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "a file")


def open_regular(path: Path | str) -> BinaryIO:
    """Open a file to read its bytes. Anything that could be waited for, or read once only, is refused.

    Raises:
        InputError: a pipe, a socket or a device stands there (/dev/null counts as an empty file).
    """
    descriptor = os.open(path, os.O_RDONLY | AT_ONCE)  # a pipe opens at once, written to or not
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode) and not (stat.S_ISCHR(status.st_mode) and status.st_rdev == NULL_DEVICE):
        os.close(descriptor)
        raise InputError(f"{path}: is {kind_of(Path(path))}, expected a file; write its content to one first")
    return open(descriptor, "rb")


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Give an error of the system that has no file's name this one: reading from a broken disk raises such."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.strerror is not None:
            error.filename = str(path)
        raise


def read_bytes(path: Path | str, at_most: int) -> bytes:
    """The bytes of a file, one more than `at_most` where it is longer; InputError as `open_regular`."""
    with naming(path), open_regular(path) as file:
        return file.read(at_most + 1)


def read_text(path: Path | str) -> str:
    """The text of a file, its lines ending in newlines alone.

    Raises:
        InputError: it is not UTF-8, or as `open_regular`.
    """
    with naming(path), open_regular(path) as file:
        content = file.read()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 (byte {error.start} is {content[error.start]:#04x})") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path | str, shape: type[T]) -> T:
    """The JSON in a file, whose values must have the types that `shape` says: dict, or a TypedDict of what is read.

    Raises:
        InputError: they have not, or as `read_text`.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON, or cut off ({error}); copy it again, or make it anew") from None
    checked: T = typed(value, shape, path)
    return checked


def typed(value: Any, shape: Any, where: object, part: str = "") -> Any:
    """`value` as it is, if its parts have the types of `shape`; else an InputError that names `where` and the part.

    Args:
        shape: a plain type, dict[str, X], a union, Any, or a TypedDict of what is read.
    """
    if shape is Any:
        return value
    if get_origin(shape) in (Union, UnionType):
        kinds = get_args(shape)
    elif is_typeddict(shape):
        kinds, hints = (dict,), get_type_hints(shape)
    else:
        kinds = (get_origin(shape) or shape,)
    allowed = tuple(kinds) + ((int,) if float in kinds else ())
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(JSON_WORDS.get(kind, kind.__name__) for kind in kinds)
        raise InputError(f"{where}: {part or 'its content'}: expected {names}, found {value!r:.60}; make the file anew")
    if is_typeddict(shape):
        if missing := shape.__required_keys__ - value.keys():
            raise InputError(
                f"{where}: {part or 'its content'}: {', '.join(sorted(missing))} missing; make the file anew"
            )
        for key in hints.keys() & value.keys():
            typed(value[key], hints[key], where, f"{part}.{key}" if part else key)
    elif get_origin(shape) is dict:
        for key, item in value.items():
            typed(item, get_args(shape)[1], where, f"{part}.{key}" if part else key)
    return value


def read_arrays(source: Any) -> Any:
    """What an .npy (an array) or .npz (arrays by name) holds, read whole and without pickles.

    Raises:
        ValueError: it is damaged: whatever NumPy makes of it, a tokenizer's error or a want of memory among them.
        OSError: it cannot be opened.
    """
    import numpy as np

    try:
        found = np.load(source, allow_pickle=False)
        return found if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except OSError:
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from None


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_cell(value: Any) -> Any:
    """A cell of a CSV file that no spreadsheet takes for a formula: names come from other people's lists."""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return value
    return value if _NUMBER.fullmatch(value) else f"'{value}"


def json_text(value: Any) -> str:
    """`value` as indented JSON."""
    return json.dumps(value, indent=2, sort_keys=False, allow_nan=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON in one step."""
    write_text(path, json_text(value))


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text; the file is read in blocks."""
    import hashlib  # OpenSSL with it

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remove_temporaries(folder: Path) -> list[Path]:
    """Delete what killed processes left of `replacing` in `folder`; for a folder that this process alone writes to."""
    left = sorted(path for path in folder.glob(".*.tmp") if _TEMPORARY.fullmatch(path.name))
    for path in left:
        path.unlink(missing_ok=True)
    return left


def check_writable(folder: Path) -> None:
    """See that files can be made in `folder`, or below where it will be made; nothing is left behind.

    Raises:
        InputError: they cannot.
    """
    import tempfile

    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder}: expected a folder to write to, but {existing} is a file; move it away")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None


def check_space(folder: Path, n_bytes: int, *, what: str) -> None:
    """See that `n_bytes` more fit on the disk of `folder`.

    Raises:
        InputError: they do not; the message says how much is needed for `what`, and how much there is.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if n_bytes > free:
        raise InputError(
            f"{folder}: {what} take {size_text(n_bytes)}, but {size_text(free)} are free on that disk; "
            "make room, or choose a folder on another disk"
        )


def size_text(n_bytes: int) -> str:
    """A number of bytes for a person, in MB or GB."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.2f} MB"


@contextlib.contextmanager
def holding(folder: Path, *, doing: str) -> Iterator[None]:
    """Hold `folder` for this process; the lock ends with the process, however it ends.

    Raises:
        InputError: another process holds the folder.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / ".holder"
    try:
        # Forked loading processes drop the lock they inherit as they begin: after a kill, a moment later.
        lock = FileLock(folder / ".lock", timeout=1)
        lock.acquire()
    except Timeout:
        said = holder.read_text(encoding="utf-8").strip() if holder.is_file() else ""
        raise InputError(
            f"{folder}: in use by another process ({said or 'unknown'}); "
            f"wait until it ends, or choose another --name before {doing}"
        ) from None
    try:
        holder.write_text(f"pid {os.getpid()}, {doing}", encoding="utf-8")
        yield
    finally:
        lock.release()


def from_here(path: Path) -> Path:
    """A path as it is typed from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path


def shown(name: object) -> str:
    """A name for messages: what would steer a terminal, or is no text, as an escape."""
    text = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
