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
    "uint64": np.array([[1 << 63]], np.uint64),
    "empty": np.zeros((0, 3)),
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


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(order: str, kind: int, axes: tuple[int, ...], data: bytes, name: bytes = b"a") -> bytes:
    """A matrix of a class: data are the elements behind its name."""
    head = struct.pack(f"{order}II", kind, 0), struct.pack(f"{order}{len(axes)}i", *axes), name
    return element(14, b"".join(map(element, (6, 5, 1), head, order * 3)) + data, order)


def write(
    path: Path, order: str, kind: int, axes: tuple[int, ...], data: tuple[int, bytes], name: bytes = b"a"
) -> None:
    """A file with one matrix: its class, and the type and bytes of its data."""
    mark = {"<": b"\x00\x01IM", ">": b"\x01\x00MI"}[order]
    path.write_bytes(b" " * 124 + mark + matrix(order, kind, axes, element(*data, order), name))


def test_high_byte_first(tmp_path: Path) -> None:
    write(tmp_path / "a.mat", ">", 10, (1, 2), (4, struct.pack(">HH", 258, 772)))
    assert masks.mat_array(tmp_path / "a.mat", "a").tolist() == [[258, 772]]


def structs(path: Path, entries: int, width: int, names: bytes, fields: bytes) -> Path:
    """A file with a struct array: the width of a field's name, all names, and the fields one after the other."""
    inside = element(5, struct.pack("<i", width)) + element(1, names) + fields
    path.write_bytes(b" " * 124 + b"\x00\x01IM" + matrix("<", 2, (1, entries), inside))
    return path


@pytest.mark.parametrize(
    ("entries", "width", "names", "valid"),
    [
        (50_000, 4, b"a\0\0\0b\0\0\0", True), (50_001, 4, b"a\0\0\0b\0\0\0", False), (2, 4096, b"a" * 4096, True),
        (2, 4097, b"a" * 4097, False), (2, 0, b"", False), (2, -1, b"a", False),
    ],
)  # fmt: skip
def test_how_many_fields_a_struct_array_may_have(
    tmp_path: Path, entries: int, width: int, names: bytes, valid: bool
) -> None:
    path = structs(
        tmp_path / "a.mat", entries, width, names, element(14, b"") * entries * (len(names) // max(1, width))
    )
    if valid:
        assert masks.mat_length(path, "a") == entries
    else:
        with pytest.raises(
            UnreadableFile, match=f"struct a has {entries:,} entries and fields in {len(names):,} bytes"
        ):
            masks.mat_length(path, "a")


def test_nothing_is_read_beyond_what_holds_it(tmp_path: Path) -> None:
    write(path := tmp_path / "variable.mat", "<", 9, (1, 16), (2, bytes(16)))
    field = matrix("<", 9, (1, 16), element(2, bytes(16)), b"")
    structs(tmp_path / "field.mat", 1, 4, b"f\0\0\0", field)
    for file, name, of in ((path, "a", path.read_bytes()[128:]), (tmp_path / "field.mat", "a[0].f", field)):
        data = file.read_bytes()
        at = data.index(of)
        file.write_bytes(data[: at + 4] + struct.pack("<I", len(of) - 24) + data[at + 8 :])
        with pytest.raises(UnreadableFile, match="an element is longer than what holds it"):
            masks.mat_array(file, name)
    savemat(path := tmp_path / "short.mat", {"x": np.zeros((4, 4))})
    path.write_bytes(path.read_bytes().replace(struct.pack("<HH", 1, 1) + b"x", struct.pack("<HH", 1, 5) + b"x"))
    with pytest.raises(UnreadableFile, match="an element is longer than what holds it"):
        masks.mat_array(path, "x")
    path.write_bytes(b" " * 124 + b"\x00\x01IM")
    with pytest.raises(UnreadableFile, match=r"has nothing called x; it has no variable\."):
        masks.mat_array(tmp_path / "short.mat", "x")


TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_of_numbers(tmp_path: Path, order: str) -> None:
    for kind, name in TYPES.items():
        values = np.array([[1, 2, 100]], order + name)
        write(path := tmp_path / f"{kind}.mat", order, 6, (1, 3), (kind, values.tobytes()))
        found = masks.mat_array(path, "a")
        assert found.dtype == name
        assert np.array_equal(found, values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "encoding"),
    [(1, "latin-1"), (2, "latin-1"), (4, "utf-16"), (16, "utf-8"), (17, "utf-16"), (18, "utf-32")],
)
def test_every_encoding_of_text(tmp_path: Path, order: str, kind: int, encoding: str) -> None:
    ending = {"<": "-le", ">": "-be"}[order] if encoding in ("utf-16", "utf-32") else ""
    write(tmp_path / "a.mat", order, 4, (1, 4), (kind, "rené".encode(encoding + ending)))
    assert masks.mat_text(tmp_path / "a.mat", "a") == "rené"


@pytest.mark.parametrize(("kind", "data"), [(6, (1, b"ab")), (4, (9, b"12345678")), (4, (16, b"\xff\xff"))])
def test_what_is_not_text(tmp_path: Path, kind: int, data: tuple[int, bytes]) -> None:
    write(tmp_path / "a.mat", "<", kind, (1, 2), data)
    with pytest.raises(UnreadableFile, match="a is not text"):
        masks.mat_text(tmp_path / "a.mat", "a")


@pytest.mark.parametrize(
    ("axes", "name", "message"),
    [
        ((4,), b"a", "a matrix has no shape"),
        ((1,) * 33, b"a", "a matrix has no shape"),
        ((1, -4), b"a", r"a matrix has the shape \(1, -4\)"),
        ((1, 4), b"a" * 4097, "a matrix has too long a name"),
    ],
)
def test_heads_that_are_damaged(tmp_path: Path, axes: tuple[int, ...], name: bytes, message: str) -> None:
    write(tmp_path / "a.mat", "<", 9, axes, (2, b"1234"), name)
    with pytest.raises(UnreadableFile, match=message):
        masks.mat_array(tmp_path / "a.mat", "a")


def test_up_to_32_axes_and_a_long_name(tmp_path: Path) -> None:
    write(tmp_path / "a.mat", "<", 9, (4,) + (1,) * 31, (2, b"1234"), b"a" * 4096)
    assert masks.mat_array(tmp_path / "a.mat", "a" * 4096).ravel().tolist() == [49, 50, 51, 52]


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
    with pytest.raises(UnreadableFile, match=r"a\.mat is a MATLAB 7\.3 file, which is HDF5"):
        masks.mat_array(tmp_path / "a.mat", "x")
    (tmp_path / "b.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UnreadableFile, match=r"b\.mat is not a MATLAB file of version 5 to 7"):
        masks.mat_array(tmp_path / "b.mat", "x")
