"""Sources whose archive holds archives, given as published: zipped, and with the outer archive alone unpacked."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from us43d import registry
from us43d.fetch import ledger
from us43d.fetch.fetch import fetch
from us43d.fetch.unpack import unpack
from us43d.harmonize.build import build
from us43d.harmonize.shards import MANIFEST, read_manifest
from us43d.paths import Home

from ..archives import hostile  # noqa: TID252  (tests are in no package with an absolute name)

SPLITS = ("train", "val", "test")


def packed(root: Path, *names: str, into: str, base: str = "") -> None:
    """Move files and folders of `root` into the zip `into`, under their paths from the folder `base`."""
    zipped = root / into
    zipped.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(zipped, "w") as archive:
        for name in names:
            top = root / name
            for path in sorted([top, *top.rglob("*")]):
                if path.is_file():
                    archive.write(path, path.relative_to(root / base))
                    path.unlink()


def fetal_head_biometry(root: Path) -> None:
    """Four archives, the export of the annotation tool zipped in each."""
    for group in sorted(path.name for path in root.iterdir()):
        inner = [path.relative_to(root).as_posix() for path in (root / group).iterdir() if "Segm" in path.name]
        inner += [f"{group}/{name}" for name in ("task", "labelmap.txt") if (root / group / name).exists()]
        packed(root, *inner, into=f"{group}/{group} Segmentation mask 1.1.zip", base=group)
        packed(root, group, into=f"{group}.zip")


def intrapartum_video(root: Path) -> None:
    """One archive, each split zipped in it."""
    for split in SPLITS:
        packed(root, f"DatasetV3/{split}", into=f"DatasetV3/{split}.zip", base="DatasetV3")
    packed(root, "DatasetV3", into="DatasetV3.zip")


def jnu_ifm(root: Path) -> None:
    """One archive, which holds another one alone."""
    packed(root, "us_data", into="us_data.zip")
    packed(root, "us_data.zip", into="JNU-IFM.zip")


def mouse_brain_tumor(root: Path) -> None:
    """One archive of archives, one for each recording; the outer name is unknown."""
    for path in sorted((root / "data").iterdir()):
        packed(root, f"data/{path.name}", into=f"{path.name}.zip", base="data")
    packed(root, *(path.name for path in sorted(root.glob("*.zip"))), into="27237894.zip")


def busi_whu(root: Path) -> None:
    """One archive, the images in a RAR in it (stored, as nobody can make a compressed one freely)."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    stored = [hostile.Rar(path.relative_to(root).as_posix(), path.read_bytes()) for path in files]
    (root / "BUSI_WHU.rar").write_bytes(hostile.rar5_bytes(stored))
    for path in files:
        path.unlink()
    packed(root, "BUSI_WHU.rar", into="k6cpmwybk3-1.zip")


PACK: dict[str, Callable[[Path], None]] = {
    made.__name__: made for made in (fetal_head_biometry, intrapartum_video, jnu_ifm, mouse_brain_tumor, busi_whu)
}


@pytest.mark.parametrize("shape", ["archives", "folder of archives", "inner archives left"])
@pytest.mark.parametrize("slug", PACK)
def test_archives_inside_archives(home: Home, sources: ModuleType, tmp_path: Path, slug: str, shape: str) -> None:
    recipe, mine = registry.recipe(slug), tmp_path / "mine"
    truth = registry.specimen(slug)(mine, np.random.default_rng(0))
    PACK[slug](mine)
    outer = sorted(path for path in mine.iterdir() if path.suffix == ".zip")
    assert outer
    assert not list(mine.rglob("*.png")) + list(mine.rglob("*.bmp"))
    if shape == "inner archives left":
        (tmp_path / "unpacked").mkdir()
        unpack(outer, tmp_path / "unpacked")
        given = [tmp_path / "unpacked"]
        assert [path for path in given[0].rglob("*") if path.suffix in {".zip", ".rar"}]
    else:
        given = outer if shape == "archives" else [mine]
    ledger.accept(home, recipe)
    fetch(recipe, home, sources.patient(), from_=given)
    result = build(recipe, home.raw(recipe.name), home, partial=True, fixes=False)
    assert {row["key"] for row in read_manifest(result.path / MANIFEST)} == set(truth.samples)
    assert result.dataset["counts"]["annotations"] > 0
