"""MATLAB files against those that SciPy writes, and against ones made to mislead."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from us43d import masks
from us43d.errors import UnreadableFile

RNG = np.random.default_rng(3)
CASES: dict[str, Any] = {
    "predicted": RNG.integers(0, 2, (5, 30, 40)).astype(np.float64),
    "int16": RNG.integers(-999, 999, (7, 3)).astype(np.int16),
    "logical": RNG.integers(0, 2, (4, 4)).astype(bool),
    "single": np.float32([[1.5, -2.25]]),
    "tiny": np.uint8([[3]]),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_those_written(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, CASES, do_compression=compressed)
    theirs = loadmat(path)
    for name in (*CASES, *reversed(CASES)):  # going back in a compressed file, too
        ours = masks.mat_array(path, name)
        assert np.array_equal(ours, theirs[name]), name
        assert not ours.flags.writeable


@pytest.mark.parametrize("compressed", [False, True])
def test_entries_of_a_struct_array(tmp_path: Path, compressed: bool) -> None:
    entries = np.zeros((1, 3), [("id", object), ("rf1", object), ("inner", object)])
    for n in range(3):
        entries[0, n] = (f"lesion {n}", np.full((6, 4 + n), n, np.int16), {"deeper": [1, 2]})
    savemat(path := tmp_path / "a.mat", {"data": entries, "note": "héllo"}, do_compression=compressed)
    assert masks.mat_length(path, "data") == 3
    assert [masks.mat_text(path, f"data[{n}].id") for n in (2, 0, 1)] == ["lesion 2", "lesion 0", "lesion 1"]
    assert masks.mat_text(path, "note") == "héllo"
    for n in (1, 2, 0):
        assert np.array_equal(masks.mat_array(path, f"data[{n}].rf1"), entries[0, n]["rf1"])
    with pytest.raises(UnreadableFile, match="not an array of real numbers"):
        masks.mat_array(path, "data[0].inner")
    with pytest.raises(UnreadableFile, match=r"nothing called data\[3\]\.rf1; it has data, note"):
        masks.mat_array(path, "data[3].rf1")
    with pytest.raises(UnreadableFile, match="no struct array note; it has data"):
        masks.mat_length(path, "note")


def test_complex_numbers_and_text_are_not_arrays(tmp_path: Path) -> None:
    savemat(path := tmp_path / "a.mat", {"z": np.array([1 + 2j]), "text": "abc"})
    for name in ("z", "text"):
        with pytest.raises(UnreadableFile, match=f"{name} is not an array of real numbers"):
            masks.mat_array(path, name)


def test_high_byte_first(tmp_path: Path) -> None:
    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(">II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    matrix = element(6, struct.pack(">II", 10, 0)) + element(5, struct.pack(">ii", 1, 2)) + element(1, b"a")
    matrix += element(4, struct.pack(">HH", 258, 772))
    (tmp_path / "a.mat").write_bytes(b" " * 124 + b"\x01\x00MI" + element(14, matrix))
    assert masks.mat_array(tmp_path / "a.mat", "a").tolist() == [[258, 772]]


@pytest.mark.parametrize("compressed", [False, True])
def test_every_cut_is_an_error(tmp_path: Path, compressed: bool) -> None:
    savemat(tmp_path / "a.mat", {"predicted": CASES["predicted"]}, do_compression=compressed)
    whole = (tmp_path / "a.mat").read_bytes()
    for length in (0, 60, 128, 130, 136, 150, 190, len(whole) // 2, len(whole) - 1):
        (path := tmp_path / f"{length}.mat").write_bytes(whole[:length])
        with pytest.raises(UnreadableFile, match=rf"{length}\.mat"):
            masks.mat_array(path, "predicted")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_bits_are_errors_or_change_values_alone(tmp_path: Path, compressed: bool) -> None:
    """Nothing but UnreadableFile, whatever bit is wrong; of compressed values none is ever another."""
    savemat(tmp_path / "a.mat", {"predicted": CASES["predicted"]}, do_compression=compressed)
    whole = (tmp_path / "a.mat").read_bytes()
    errors = 0
    for number, bit in enumerate(RNG.integers(124 * 8, min(len(whole), 260) * 8, 200)):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << (bit % 8)
        (path := tmp_path / f"{number}.mat").write_bytes(spoilt)
        try:
            array = masks.mat_array(path, "predicted")
        except UnreadableFile:
            errors += 1
        else:
            assert array.shape == CASES["predicted"].shape or not compressed
            assert np.array_equal(array, CASES["predicted"]) or not compressed
    assert errors > 20


def test_claims_are_checked_before_anything_is_allocated(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"x": np.zeros((4, 4))})
    whole = bytearray((tmp_path / "a.mat").read_bytes())
    at = whole.index(struct.pack("<ii", 4, 4))
    whole[at : at + 8] = struct.pack("<ii", 1 << 30, 1 << 30)
    (tmp_path / "shape.mat").write_bytes(whole)
    with pytest.raises(UnreadableFile, match=r"has the shape \(1073741824, 1073741824\) and 128 bytes of float64"):
        masks.mat_array(tmp_path / "shape.mat", "x")
    bomb = struct.pack("<II", 14, 0xFFFFFFF0) + b"\0" * (1 << 20)
    packed = zlib.compress(bomb, 9)
    (tmp_path / "bomb.mat").write_bytes(bytes(whole[:128]) + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(UnreadableFile, match=r"bomb\.mat is cut short: 1,048,584 of 4,294,967,288 bytes"):
        masks.mat_array(tmp_path / "bomb.mat", "x")


def test_other_formats_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 200)
    with pytest.raises(UnreadableFile, match=r"a MATLAB 7\.3 file, which is HDF5"):
        masks.mat_array(tmp_path / "a.mat", "x")
    (tmp_path / "b.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UnreadableFile, match="not a MATLAB file of version 5 to 7"):
        masks.mat_array(tmp_path / "b.mat", "x")
