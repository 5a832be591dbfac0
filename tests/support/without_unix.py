"""Imports every module of the product, and runs commands, as if Python had been built for Windows.

    python -m tests.support.without_unix SCORES KEYS FOLDER

Only the product's own modules are kept from what Unix alone has; libraries have ways of their own there.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import os
import pkgutil
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODULES = {
    "fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline", "syslog", "posix", "curses", "crypt",
}  # fmt: skip
OF_OS = {
    "O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "WNOHANG", "chown", "chroot",
    "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpriority",
    "getuid", "killpg", "lchown", "lockf", "major", "makedev", "minor", "mkfifo", "mknod", "nice", "openpty",
    "pathconf", "pipe2", "pread", "pwrite", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sendfile",
    "set_blocking", "setpgid", "setsid", "statvfs", "sync", "sysconf", "tcgetpgrp", "ttyname", "uname", "wait", "wait3",
    "wait4",
}  # fmt: skip
OF_SIGNAL = {
    "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "alarm", "pthread_kill", "setitimer",
}  # fmt: skip


def without(module: types.ModuleType, names: set[str]) -> types.ModuleType:
    """The same module, but for some names."""
    copy = types.ModuleType(module.__name__)
    vars(copy).update({name: value for name, value in vars(module).items() if name not in names})
    return copy


def hide_unix() -> None:
    """Let imports of the product's modules find what Windows has."""
    import signal

    real = builtins.__import__
    poorer = {"os": without(os, OF_OS), "signal": without(signal, OF_SIGNAL)}

    def found(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        file = Path((globals or {}).get("__file__") or "/")
        ours = file.is_relative_to(ROOT) and not {".venv", "tests"} & set(file.parts)
        if ours and level == 0 and name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = real(name, globals, locals, fromlist, level)
        return poorer.get(name, module) if ours else module

    builtins.__import__ = found


def import_all() -> int:
    """Import every module; how many there are."""
    import qamo

    names = [path.stem for path in ROOT.glob("*.py")]
    names += [module.name for module in pkgutil.walk_packages(qamo.__path__, "qamo.")]
    for name in names:
        importlib.import_module(name)
    programs = [*sorted(ROOT.glob("database/*.py")), *sorted(ROOT.glob("2021/eval-package/*.py"))]
    for path in programs:
        spec = importlib.util.spec_from_file_location(f"program_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return len(names) + len(programs)


def main(scores: str, keys: str, folder: str) -> int:
    sys.path.insert(0, str(ROOT))
    hide_unix()
    print("modules:", import_all())
    import main as main_py
    import report
    import score_ood_dataset
    from qamo import files
    from qamo.training import epoch_log, provenance

    statuses = [
        main_py.main(["--print-config"]),
        score_ood_dataset.main([scores, keys]),
        report.main([scores, "--keys", keys, "-o", str(Path(folder) / "page.html")]),
    ]
    with files.holding(Path(folder), doing="a test"):
        files.write_json(Path(folder) / "a.json", {"a": 1})
    assert files.read_json(Path(folder) / "a.json", dict) == {"a": 1}
    print("statuses:", statuses)
    print("memory:", epoch_log.peak_memory_mb(), provenance._memory_gb())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
