"""Record what the published code computes with the real weights, to be held against this program on any machine.

    python parity_original.py clip1.wav clip2.flac --xlsr xlsr2_300m.pt -o original.npz
    python parity_original.py clip1.wav --detector best_0.pth --checkout ~/QAMO --class nets.conformer_tcm:Model \\
        --init '[{"@namespace": {"emb_size": 144, "heads": 4}}, "@device"]' -o original.npz

One file that imports nothing of this project. It runs where the published code does (Python 3.7, torch 1.8.1, fairseq),
on a CPU. The .npz holds the waves themselves, the SHA-256 of the weights, and

    hidden           the front end's last hidden states, without masking
    step/...         one training step of the front end: loss, norm and projection of each gradient and of each change
    detector/...     every tensor that the published detector returns for the waves

`make parity-original FILE=original.npz` computes the same with this program. --init is how the class is built: the list
of its arguments as JSON, where {"@namespace": {...}} stands for an argparse.Namespace and "@device" for the device.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import platform
import sys

import numpy as np
import torch

WINDOW_SAMPLES = 66800
SAMPLE_RATE = 16000
LEARNING_RATE, WEIGHT_DECAY = 1e-6, 1e-4


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("waves", nargs="+", help="recordings at 16 kHz, one channel")
    parser.add_argument("--xlsr", help="fairseq file of the front end: hidden states and one training step")
    parser.add_argument("--detector", help="checkpoint of the published code: what it returns")
    parser.add_argument("--checkout", help="with --detector: folder of the published code")
    parser.add_argument("--class", dest="cls", metavar="MODULE:CLASS", help="with --detector: the network's class")
    parser.add_argument("--init", default='["@device"]', help="with --detector: arguments of the class, as JSON")
    parser.add_argument("--no-step", action="store_true", help="no training step, which needs 8 GB of memory")
    parser.add_argument("-o", "--output", required=True, help="the .npz that is written")
    args = parser.parse_args(argv)
    if not (args.xlsr or args.detector):
        parser.error("give --xlsr, --detector, or both")
    if args.detector and not (args.checkout and args.cls and ":" in args.cls):
        parser.error("--detector needs --checkout and --class MODULE:CLASS")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    waves = np.stack([read_wave(path) for path in args.waves])
    arrays = {"waves": waves, "about": np.array(json.dumps(about(args)))}
    if args.xlsr:
        arrays.update(front_end(args.xlsr, torch.from_numpy(waves), with_step=not args.no_step))
    if args.detector:
        arrays.update(detector(args, torch.from_numpy(waves)))
    temporary = args.output + ".tmp.npz"
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, args.output)
    print("{}: {}".format(args.output, ", ".join(sorted(arrays))))
    return 0


def about(args):
    """Versions, and what the weights were."""
    told = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    for name, path in (("xlsr", args.xlsr), ("detector", args.detector)):
        if path:
            told[name + "_sha256"] = sha256(path)
    return told


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_wave(path):
    """The first 66,800 samples; a shorter recording is repeated: (T,) float32."""
    import soundfile

    wave, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLE_RATE or wave.ndim != 1 or not len(wave):
        raise SystemExit(f"{path}: expected one channel at 16 kHz, found {rate} Hz, shape {wave.shape}")
    repeats = -(-WINDOW_SAMPLES // len(wave))
    return np.tile(wave, repeats)[:WINDOW_SAMPLES]


def front_end(path, waves, with_step):
    """Hidden states, and one step of Adam on a fixed sum of them, in training mode."""
    from fairseq import checkpoint_utils

    network = checkpoint_utils.load_model_ensemble_and_task([path])[0][0]
    network.eval()
    with torch.no_grad():
        arrays = {"hidden": network(waves, mask=False, features_only=True)["x"].numpy()}
    if not with_step:
        return arrays
    network.train()
    hidden = network(waves, mask=False, features_only=True)["x"]
    loss = (hidden * probe(hidden)).mean()
    loss.backward()
    trained = [(name, p) for name, p in network.named_parameters() if p.grad is not None]
    before = {name: p.detach().clone() for name, p in trained}
    gradients = {name: p.grad.clone() for name, p in trained}
    torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY).step()
    names = sorted(before)
    changes = {name: p.detach() - before[name] for name, p in trained}
    arrays["step/loss"] = loss.detach().numpy()
    arrays["step/names"] = np.array(names)
    arrays["step/gradient_norms"] = np.array([gradients[name].double().norm().item() for name in names])
    arrays["step/gradient_dots"] = np.array([dot(gradients[name]) for name in names])
    arrays["step/change_dots"] = np.array([dot(changes[name]) for name in names])
    return arrays


def probe(values):
    """A fixed direction of any shape: cosines of growing angles."""
    return torch.cos(0.1 * torch.arange(values.numel(), dtype=torch.float64)).to(values.dtype).reshape(values.shape)


def dot(values):
    return float((values.double() * probe(values.double())).sum())


def detector(args, waves):
    """Every tensor that the published detector returns, by its place."""
    sys.path.insert(0, os.path.abspath(os.path.expanduser(args.checkout)))
    module, name = args.cls.split(":")
    network = getattr(importlib.import_module(module), name)(*[argument(a) for a in json.loads(args.init)])
    state = torch.load(args.detector, map_location="cpu")
    network.load_state_dict({key[7:] if key.startswith("module.") else key: value for key, value in state.items()})
    network.eval()
    with torch.no_grad():
        returned = network(waves)
    found = {}
    collect(returned, "detector", found)
    return found


def argument(value):
    if value == "@device":
        return torch.device("cpu")
    if isinstance(value, dict) and set(value) == {"@namespace"}:
        return argparse.Namespace(**value["@namespace"])
    return value


def collect(value, name, found):
    """Tensors of nested tuples and dicts, by their path."""
    if isinstance(value, torch.Tensor):
        found[name] = value.numpy()
    elif isinstance(value, dict):
        for key in value:
            collect(value[key], f"{name}/{key}", found)
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            collect(item, f"{name}/{i}", found)


if __name__ == "__main__":
    sys.exit(main())
