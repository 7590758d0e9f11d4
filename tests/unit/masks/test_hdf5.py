"""HDF5 files that take their values from elsewhere, or are no arrays of numbers."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from us43d import masks
from us43d.errors import UnreadableFile

ROWS = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)


def external_storage(file: h5py.File, secret: Path) -> None:
    file.create_dataset("image", (4, 2, 3), np.uint8, external=[(str(secret), 0, 24)])


def external_link(file: h5py.File, secret: Path) -> None:
    file["image"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "image")


def external_link_to_a_group(file: h5py.File, secret: Path) -> None:
    file["image"] = h5py.SoftLink("/away/image")
    file["away"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/")


def an_external_group(file: h5py.File, secret: Path) -> None:
    file["away"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/")


def virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((4, 2, 3), np.uint8)
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "image", (4, 2, 3))
    file.create_virtual_dataset("image", layout)


@pytest.mark.parametrize(
    "make", [external_storage, external_link, external_link_to_a_group, an_external_group, virtual]
)
def test_values_of_other_files_are_refused(tmp_path: Path, make: Callable[[h5py.File, Path], None]) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(range(100, 124)))
    with h5py.File(secret.with_suffix(".h5"), "w") as file:
        file["image"] = ROWS
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        make(file, secret)
    for read in (masks.hdf5_shape, lambda p, n: masks.hdf5_row(p, n, 0), masks.hdf5_text):
        with pytest.raises(UnreadableFile, match=r"links are not followed|takes its values from other files"):
            read(path, "away/image" if make is an_external_group else "image")


def test_an_array_in_a_group_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["group/image"] = ROWS
        file["text"] = np.array(["a", "b"], dtype=object)
        file["huge"] = h5py.Empty("u1")
        file.create_dataset("rows", (2, 40_000, 40_000), np.uint8)
        file.create_dataset("chunks", (10, 5000, 5000), np.float64, chunks=(10, 5000, 5000))
    assert np.array_equal(masks.hdf5_row(path, "group/image", 2), ROWS[2])
    for name, reason in (
        ("group/none", "no array"), ("group/image/more", "no array"), ("text", "not numbers|too"), ("huge", "no array"),
        ("rows", "more than"), ("chunks", "more than"),
    ):  # fmt: skip
        with pytest.raises(UnreadableFile, match=reason):
            masks.hdf5_row(path, name, 0)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.h5"
    with h5py.File(path, "w") as file:
        file["image"], file["words"] = ROWS, np.array([b"left", b"right"])
        file["accent"], file["number"] = np.array(["é".encode()]), 3
    return path


def test_texts_are_read_and_nothing_else_passes_as_text(mixed: Path) -> None:
    assert masks.hdf5_text(mixed, "words") == ["left", "right"]
    with pytest.raises(UnreadableFile, match=r"image has the type uint8 and the shape \(4, 2, 3\)"):
        masks.hdf5_text(mixed, "image")
    with pytest.raises(UnreadableFile, match="accent cannot be read"):
        masks.hdf5_text(mixed, "accent")


@pytest.mark.parametrize(
    ("name", "index", "message"),
    [
        ("image", 4, "image has 4 rows"),
        ("image", -1, "image has 4 rows"),
        ("words", 0, r"words has the type \|S5, not numbers"),
        ("number", 0, "has no array 'number'"),
    ],
)
def test_rows_that_are_not_there_or_no_numbers(mixed: Path, name: str, index: int, message: str) -> None:
    with pytest.raises(UnreadableFile, match=message):
        masks.hdf5_row(mixed, name, index)


def test_a_file_of_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_text("no HDF5")
    with pytest.raises(UnreadableFile, match=r"text\.h5 is not a readable HDF5 file"):
        masks.hdf5_shape(path, "image")
