"""Files of t-DCF coefficients are read without running, building or calling anything that they ask for."""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from eval_metrics import TDCFCoefficients
from qamo import InputError
from qamo.evaluation.tdcf import read_c012, write_c012

CELLS = {
    "A07": {"none": TDCFCoefficients(0.1, 0.7, 0.3), "Pooled": TDCFCoefficients(math.nan, math.nan, math.nan)},
    "Pooled": {"none": TDCFCoefficients(0.0, 1.5, -2.0), "Pooled": TDCFCoefficients(1 / 3, 1e-300, 5e-324)},
}


def nested() -> np.ndarray:
    names = ("C0", "C1", "C2")
    return np.array(
        {
            row: {column: dict(zip(names, map(np.float64, cell))) for column, cell in of.items()}
            for row, of in CELLS.items()
        }
    )


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickle_and_np_save_gives_the_same_bits(protocol, tmp_path):
    path = tmp_path / "c.npy"
    path.write_bytes(pickle.dumps(nested(), protocol=protocol))
    expected = np.array([list(cell) for of in CELLS.values() for cell in of.values()]).tobytes()
    for write in (lambda: None, lambda: np.save(path, nested()), lambda: write_c012(path, CELLS)):
        write()
        read = read_c012(path)
        assert {row: list(of) for row, of in read.items()} == {row: list(of) for row, of in CELLS.items()}
        assert np.array([list(cell) for of in read.values() for cell in of.values()]).tobytes() == expected


def _calls(what: bytes) -> list[bytes]:
    """Pickles that call, build or import `what` where the layout has something else."""
    head = b"\x80\x02"
    return [
        head + b"c" + what + b"\n(tR.",
        head + b"c" + what + b"\n)\x81.",
        head + b"c" + what + b"\n}b.",
        b"(i" + what + b"\n.",
        b"(c" + what + b"\no.",
    ]


class _Reduced:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def test_nothing_that_corrupted_memory_or_runs_code_is_read(tmp_path):
    """The calls of NumPy that an unpickler with an allow-list would make: foreign memory, object types, offsets."""
    object_type, double = np.dtype(object), np.dtype("f8")
    hostile = [
        _Reduced(np.ndarray, ((4,), double, b"12345678", -8)),  # before the buffer
        _Reduced(np.ndarray, ((1,), object_type, b"A" * 8)),  # bytes taken as a pointer
        _Reduced(np.ndarray, ((1 << 40,), double)),
        _Reduced(np.dtype, ({"names": ["a"], "formats": ["O"], "offsets": [3]},)),
        _Reduced(np.float64, (1.0,)),
        _Reduced(eval, ("1",)),
        np.array([1.0, 2.0]),
        np.array({"A07": [1.0]}, dtype=object),
        np.float32(1),
        [nested()],
        {"A07": {"none": {"C0": 10**40, "C1": 1.0, "C2": 1.0}}},
        {"A07": {"none": {"C0": "1", "C1": 1.0, "C2": 1.0}}},
        {"A07": {"none": {"C0": 1.0, "C1": 1.0}}},
        {"x" * 100: {"none": {"C0": 1.0, "C1": 1.0, "C2": 1.0}}},
    ]
    payloads = [pickle.dumps(value, protocol=p) for value in hostile for p in (0, 2, 4)]
    payloads += [p for what in (b"os\nsystem", b"numpy\nndarray", b"numpy\ndtype") for p in _calls(what)]
    payloads += [b"", b".", b"garbage", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"\x80\x02" + b"(" * 100_000 + b"."]
    row = b"U\x01a"  # a row that is meant many times
    payloads.append(b"\x80\x02}q\x00(" + b"".join(b"X\x04\x00\x00\x00%04dh\x00" % i for i in range(9999)) + b"u." + row)
    path = tmp_path / "c.npy"
    for payload in payloads:
        path.write_bytes(payload)
        with pytest.raises(InputError, match="expected a file of t-DCF coefficients"):
            read_c012(path)


@pytest.mark.parametrize("write", [write_c012, lambda path, _: np.save(path, nested())])
def test_500_damaged_files_are_sentences_or_differ_in_numbers_and_names_only(write, tmp_path):
    path = tmp_path / "c.npy"
    write(path, CELLS)
    whole = path.read_bytes()
    rng = np.random.default_rng(18)
    n_read = 0
    for _ in range(500):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] = rng.integers(0, 256)
        path.write_bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
        try:
            read = read_c012(path)
        except InputError:
            continue
        n_read += 1
        assert all(type(x) is float for of in read.values() for cell in of.values() for x in cell)
    assert n_read < 250


def test_a_file_larger_than_any_of_the_organisers_is_not_read(tmp_path):
    stream = io.BytesIO()
    pickle.dump({str(i): {"none": {"C0": 1.0, "C1": 1.0, "C2": 1.0}} for i in range(50_000)}, stream)
    Path(tmp_path / "c.npy").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="bytes, the published files fewer"):
        read_c012(tmp_path / "c.npy")
