"""A corpus of three specimens with planted near-duplicates, and one export of it in every format."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from us43d.harmonize import shards
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.merge import merge
from us43d.paths import Home
from us43d.splits import duplicate_links

SPECIMEN = {"kind": "specimen"}


class Planted(NamedTuple):
    """exact: key of the BUSI image that equals a test image of STU-Hospital. near: one that only the audit links."""

    home: Home
    corpus: Corpus
    builds: dict[str, Path]
    exact: str
    near: str


def manifest(path: Path) -> dict[str, dict]:
    return {row["key"]: row for row in shards.read_manifest(path / shards.MANIFEST)}


@pytest.fixture(scope="session")
def planted(built: Callable, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("exports")
    slugs = ("stu_hospital", "camus", "kidneyus")
    home, paths = built(folder, *slugs, receipt=SPECIMEN)
    builds = dict(zip(slugs, paths, strict=True))
    tested = [row for row in manifest(builds["stu_hospital"]).values() if row["split"] == "test"]
    busi = folder / "busi"
    rows = manifest(built(folder, "busi", receipt=SPECIMEN)[1][0])
    exact, near = [key for key, row in rows.items() if row["split"] == "train" and "benign" in key][:2]
    shown = cv2.imread(str(builds["stu_hospital"] / tested[0]["file"]))
    softened = cv2.GaussianBlur(shown, (3, 3), 0)
    for key, pixels in ((exact, shown), (near, softened)):
        cv2.imwrite(str(busi / key), pixels)
        for further in (busi / key).parent.glob(f"{Path(key).stem}_mask_*.png"):
            further.unlink()
        mask = np.zeros(shown.shape[:2], np.uint8)
        mask[10:40, 10:40] = 255  # formats without images that lack annotations would not show a twin without a mask
        cv2.imwrite(str(busi / key.replace(".png", "_mask.png")), mask)
    _, (builds["busi"],) = built(folder, "busi", receipt=SPECIMEN)
    rows = manifest(builds["busi"])
    assert rows[near]["pixel_hash"] != tested[0]["pixel_hash"]
    ends = (
        duplicate_links.Frame("busi", near, rows[near]["pixel_hash"]),
        duplicate_links.Frame("stu_hospital", tested[0]["key"], tested[0]["pixel_hash"]),
    )
    duplicate_links.write(home.root, [duplicate_links.Link(*ends)], {"busi": "", "stu_hospital": ""})
    corpus = merge(list(builds.values()), home.root, "local")
    return Planted(home, corpus, builds, exact, near)


@pytest.fixture(scope="session")
def volumes(built: Callable, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two sources of volumes with known voxel size."""
    folder = tmp_path_factory.mktemp("volumes")
    home, builds = built(folder, "cetus", "segthy", receipt=SPECIMEN)
    return merge(builds, home.root, "volumes")
