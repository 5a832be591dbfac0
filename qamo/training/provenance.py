"""The provenance of a run: when it started, with which code, packages, machine and pretrained weights."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from qamo.config.parts import ModelConfig
from qamo.files import sha256

ROOT = Path(__file__).parents[2]  # the checkout
PACKAGES = ("torch", "transformers", "numpy", "scipy", "lightning-fabric", "soundfile", "soxr", "distillmos")


def provenance(root: Path = ROOT, *, device: Any = "cpu", n_processes: int = 1) -> dict[str, Any]:
    """When and where a run was made: code version, packages, machine. Empty where something cannot be told."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if "torch" in sys.modules:
        versions["torch"] = sys.modules["torch"].__version__  # names the build too: 2.13.0+cpu
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": " ".join(sys.argv),
        "git_commit": _git(root, "rev-parse", "HEAD"),
        "git_dirty": None if changed is None else changed != "",
        "python": platform.python_version(),
        "packages": versions,
        "device": _device(device),
        "n_processes": n_processes,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gb": _memory_gb(),
        },
    }


def pretrained_provenance(cfg: ModelConfig) -> dict[str, Any] | None:
    """Path and SHA-256 of the front end's pretrained weights; None for a front end without a file."""
    named = getattr(getattr(cfg, cfg.frontend), "weights", None)
    if named is None:
        return None
    path = Path(named).expanduser()
    files = [path, path / "model.safetensors", path / "pytorch_model.bin"]
    file = next((file for file in files if file.is_file()), None)
    return {"weights": named, "sha256": file and sha256(file)}


def _device(device: Any) -> str:
    import torch

    named = torch.device(device)
    return f"{named} {torch.cuda.get_device_name(named)}" if named.type == "cuda" else str(named)


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf"):  # Windows
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
