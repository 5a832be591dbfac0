"""What `pip install .` gives, and the one command that it brings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from packaging.requirements import Requirement

from qamo import __version__
from qamo.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]


def test_the_command_lists_what_it_can_do_and_names_the_nearest(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert main(["repotr"]) == 2
    assert "did you mean report?" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qamo {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there_and_says_what_it_does(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_the_wheel_holds_every_room():
    listed = set(re.findall(r'^    "(qamo[a-z_.]*)",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    rooms = {".".join(p.parent.relative_to(ROOT).parts) for p in ROOT.glob("qamo/**/__init__.py")}
    assert listed == rooms | {"qamo.commands"}
    assert '"qamo" = ["py.typed", "*.pyi"]' in (ROOT / "pyproject.toml").read_text()


def lock() -> list[tuple[Requirement, int]]:
    """The lines of requirements.txt and how many hashes each has."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    entries = [entry.split("--hash=sha256:") for entry in text.replace("\\\n", " ").splitlines()]
    return [(Requirement(entry[0].strip()), len(entry) - 1) for entry in entries]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_the_lock_pins_what_the_package_and_its_extras_ask_for(python):
    pins = {
        pin.name: next(iter(pin.specifier)).version
        for pin, _ in lock()
        if not pin.marker or pin.marker.evaluate({"python_version": python, "python_full_version": f"{python}.1"})
    }
    torch = Requirement((ROOT / "requirements-torch.txt").read_text().splitlines()[-1])
    pins["torch"] = next(iter(torch.specifier)).version
    text = (ROOT / "pyproject.toml").read_text()
    asked = [Requirement(line) for line in re.findall(r'"([A-Za-z0-9_-]+>=[\d.]+)"', text) if "setuptools" not in line]
    assert len(asked) > 40
    for one in asked:
        assert one.specifier.contains(pins[one.name.lower().replace("_", "-")]), one


def test_each_line_of_the_lock_has_hashes_and_none_is_of_cuda():
    assert all(n_hashes for _, n_hashes in lock())
    assert [pin.name for pin, _ in lock() if pin.name.startswith(("nvidia", "cuda", "triton", "torchaudio"))] == []


@pytest.mark.slow
def test_an_installed_package_judges_and_evaluates_without_a_checkout_and_without_pytorch(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "qamo", "eer", "absent.txt", "absent"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (2, "qamo eer: absent: no such file or folder\n")
    (tmp_path / "s.txt").write_text("".join(f"{i} {i % 7 + 3 * (i % 2)}\n" for i in range(40)))
    (tmp_path / "k.csv").write_text(
        "file,label\n" + "".join(f"{i},{('spoof', 'bona-fide')[i % 2]}\n" for i in range(40))
    )
    environment = {"PATH": f"{tmp_path / 'venv' / 'bin'}:/usr/bin:/bin", "BROWSER": "cat %s"}
    line = "qamo eer s.txt k.csv"
    for said in (
        "next: qamo report s.txt --keys k.csv",
        "next: python -m webbrowser report_s_on_k.html",
        "<h1>s on k</h1>",
    ):
        options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run(["bash", "-c", line], check=True, **options)
        assert said in done.stdout + done.stderr
        line = said.removeprefix("next: ")
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "a.wav", np.linspace(-0.1, 0.1, 16_000), 16_000)
    done = subprocess.run(["qamo", "predict-mos", "clips", "-o", "mos.txt"], **options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("qamo predict-mos: distillmos: needs PyTorch")
    done = subprocess.run(["qamo", "judge", "--help"], check=True, **options)
    assert done.stdout.startswith("usage: qamo judge ")
    assert "    qamo judge exps/NAME clip.wav\n" in done.stdout
    code = "import importlib.util as u, eval_metrics, qamo; assert u.find_spec('torch') is None; print(qamo.__file__)"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
