"""A corpus of three specimens with planted near-duplicates, and one export of it in every format."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from us43d import registry
from us43d.harmonize import shards
from us43d.harmonize.build import build
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.merge import merge
from us43d.paths import Home
from us43d.splits import duplicate_links


class Planted(NamedTuple):
    """exact: key of the BUSI image that equals a test image of STU-Hospital. near: one that only the audit links."""

    home: Home
    corpus: Corpus
    builds: dict[str, Path]
    exact: str
    near: str


def build_specimen(slug: str, folder: Path, home: Home) -> Path:
    raw = folder / slug
    if not raw.is_dir():
        raw.mkdir(parents=True)
        registry.specimen(slug)(raw, np.random.default_rng(0))
    return build(registry.recipe(slug), raw, home, receipt={"kind": "specimen"}).path


def manifest(path: Path) -> dict[str, dict]:
    return {row["key"]: row for row in shards.read_manifest(path / shards.MANIFEST)}


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("exports")
    home = Home(folder / "home")
    builds = {slug: build_specimen(slug, folder, home) for slug in ("stu_hospital", "camus", "kidneyus")}
    tested = [row for row in manifest(builds["stu_hospital"]).values() if row["split"] == "test"]
    busi = folder / "busi"
    busi.mkdir()
    registry.specimen("busi")(busi, np.random.default_rng(0))
    rows = manifest(build_specimen("busi", folder, home))
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
    builds["busi"] = build_specimen("busi", folder, home)
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
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two sources of volumes with known voxel size."""
    folder = tmp_path_factory.mktemp("volumes")
    home = Home(folder / "home")
    return merge([build_specimen(slug, folder, home) for slug in ("cetus", "segthy")], home.root, "volumes")
