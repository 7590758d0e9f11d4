"""NumPy files whose header is damaged, or made to mislead."""

import struct
from pathlib import Path

import numpy as np
import pytest

from us43d import masks
from us43d.errors import UnreadableFile


def npy(header: bytes, data: bytes = b"") -> bytes:
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


HEADERS = {
    "nested": b"(" * 5000,
    "deep": b"{'descr': " + b"[" * 200 + b"]" * 200 + b"}",
    "token": b"{'descr': '''",
    "shape": b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999999, 2)}",
    "negative": b"{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 2)}",
    "large": b"{'descr': '|u1', 'fortran_order': False, 'shape': (900, 90000, 90000)}",
    "object": b"{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
    "record": b"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (3,)}",
    "complex": b"{'descr': '<c8', 'fortran_order': False, 'shape': (3,)}",
    "none": b"{'descr': '<i4', 'fortran_order': False, 'shape': ()}",
    "keys": b"{'descr': '<i4'}",
    "descr": b"{'descr': '<i9', 'fortran_order': False, 'shape': (3,)}",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_is_one_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy(HEADERS[name], bytes(64)))
    for read in (masks.npy_shape, lambda p: masks.npy_frame(p, 0)):
        with pytest.raises(UnreadableFile, match=r"a\.npy"):
            read(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(100), b"\x80\x04K\x01.", b"\x93NUMPY\x09\x00\x00"])
def test_a_file_that_is_no_array_is_one_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(UnreadableFile, match=r"a\.npy is not a readable NumPy array"):
        masks.npy_shape(tmp_path / "a.npy")


def test_a_frame_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    sparse = np.lib.format.open_memmap(path, "w+", np.uint8, (2, 20_000, 20_000))
    del sparse
    assert masks.npy_shape(path) == (2, 20_000, 20_000)
    with pytest.raises(UnreadableFile, match="more than"):
        masks.npy_frame(path, 0)


def test_elements_of_the_first_axis(tmp_path: Path) -> None:
    for shape in ((3,), (3, 2), (3, 2, 2, 2)):
        array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
        np.save(path := tmp_path / f"{len(shape)}.npy", array)
        assert masks.npy_shape(path) == shape
        for index in range(3):
            found = masks.npy_frame(path, index)
            assert found.dtype == array.dtype
            assert np.array_equal(found, array[index])
        for index in (-1, 3):
            with pytest.raises(UnreadableFile, match=f"has 3 frames, no frame {index}"):
                masks.npy_frame(path, index)
