"""Thyroid US Cineclip: clips of one person, damaged files, and chunks that span many rows."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree
from us43d.errors import RawDataError
from us43d.masks import hdf5_row

HEAD = (
    "annot_id,age,sex,location,ti-rads_composition,ti-rads_echogenicity,ti-rads_shape,ti-rads_margin,"
    "ti-rads_echogenicfoci,ti-rads_level,histopath_diagnosis\n"
)


def source(root: Path, table: str, ids: list[str], **datasets: Any) -> RawTree:
    (root / "metadata.csv").write_text(HEAD + table)
    rows = len(ids)
    content = {
        "image": np.zeros((rows, 4, 5), np.uint8),
        "mask": np.zeros((rows, 4, 5), np.uint8),
        "annot_id": np.array(ids, "S4"),
        "frame_num": np.array([str(n) for n in range(1, rows + 1)], "S3"),
    }
    with h5py.File(root / "dataset.hdf5", "w") as file:
        for name, data in (content | datasets).items():
            if data is not None:
                file[name] = data
    return RawTree(root)


def test_neighbours_of_one_age_and_sex_are_one_group(tmp_path: Path) -> None:
    people = {"10_": "50,F", "9_": "50,F", "11_": "50,M", "100_": "50,M", "12_": "51,M", "8_": "50.0,F", "7_": "49,F"}
    table = "".join(f"{clip},{person},left,2,2,0,0,0,4,0\n" for clip, person in people.items())
    samples = list(registry.recipe("thyroid_cineclip").read(source(tmp_path, table, list(people))))
    found = {str(sample.tags["clip"]): sample.group for sample in samples}
    assert found == {"7_": "7_", "8_": "8_", "9_": "8_", "10_": "8_", "11_": "11_", "12_": "12_", "100_": "100_"}
    assert [sample.frame for sample in samples] == list(range(7))


@pytest.mark.parametrize(
    ("datasets", "why"),
    [
        ({"mask": None}, "no array 'mask'; it has annot_id, frame_num, image"),
        ({"mask": np.zeros((2, 4, 5), np.uint8)}, "do not belong together"),
        ({"annot_id": np.array(["1_", "2_"], "S4")}, "do not belong together"),
        ({"annot_id": np.arange(1)}, "no texts"),
        ({"frame_num": np.array(["nan"], "S3")}, "frame_num of row 0 is 'nan'"),
        ({"annot_id": np.array(["3_"], "S4")}, "no row with annot_id '3_'"),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, datasets: dict[str, Any], why: str) -> None:
    with pytest.raises(RawDataError, match=why):
        list(
            registry.recipe("thyroid_cineclip").read(
                source(tmp_path, "1_,50,F,left,2,2,0,0,0,4,0\n", ["1_"], **datasets)
            )
        )


def test_rows_of_chunks(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (23, 30, 40), np.uint8)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("image", data=data, chunks=(8, 7, 16), compression="gzip")
    for row in (22, 0, 7, 8):
        assert np.array_equal(hdf5_row(tmp_path / "a.hdf5", "image", row), data[row])
    with pytest.raises(RawDataError, match="has 23 rows, no row 23"):
        hdf5_row(tmp_path / "a.hdf5", "image", 23)
