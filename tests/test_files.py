from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qamo import InputError, files

ROOT = Path(__file__).parents[1]


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with contextlib.suppress(KeyboardInterrupt), files.replacing(path) as temporary:
        temporary.write_text("half of the ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_that_is_too_large_for_the_system_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match=r"a.txt: cannot be written \(File too large\).*kept"):
            files.write_text(path, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_only_the_temporaries_of_killed_processes_are_removed(tmp_path):
    names = [".last.pt.123.tmp", ".a.txt.9.tmp", ".mine.tmp", "a.123.tmp", ".lock", "last.pt"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in files.remove_temporaries(tmp_path)] == [".a.txt.9.tmp", ".last.pt.123.tmp"]
    assert sorted(os.listdir(tmp_path)) == sorted(names[2:])


def test_the_name_of_a_temporary_is_one_that_is_removed(tmp_path):
    with files.replacing(tmp_path / "a.txt") as temporary:
        temporary.touch()
        assert files.remove_temporaries(tmp_path) == [temporary]
        temporary.touch()


def test_a_folder_that_cannot_be_made_is_told_before_it_is_needed(tmp_path):
    files.check_writable(tmp_path / "not" / "yet" / "there")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file; move it away"):
        files.check_writable(tmp_path / "file" / "scores")


def test_too_little_room_is_told_in_numbers(tmp_path):
    files.check_space(tmp_path / "runs", 1000, what="checkpoints")
    with pytest.raises(InputError, match=r"runs: 5 epochs take 1000000000.00 GB, but .* are free"):
        files.check_space(tmp_path / "runs", 10**18, what="5 epochs")


def test_sha256_of_a_file_in_blocks(tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "a").write_bytes(data)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


HOLDER = """
import multiprocessing, sys, time
from pathlib import Path
from qamo.files import holding
with holding(Path(sys.argv[1]), doing="training"):
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_held_folder_is_refused_and_free_again_once_its_holder_is_killed(tmp_path):
    order = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(order, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        said = rf"in use by another process \(pid {holder.pid}, training\)"
        with pytest.raises(InputError, match=said), files.holding(tmp_path, doing="scoring"):
            pass
        holder.kill()
        holder.wait()
        # Its worker lives on for a while and has inherited the open lock file; the lock must not live on with it.
        with files.holding(tmp_path, doing="scoring"):
            assert (tmp_path / ".holder").read_text() == f"pid {os.getpid()}, scoring"
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def test_the_modules_under_the_scoring_commands_stay_light():
    started = time.monotonic()
    code = "import sys, qamo.files; assert not {'torch', 'scipy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert time.monotonic() - started < 5
