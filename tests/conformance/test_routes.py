"""The tree that every download source of every recipe yields, as the facts describe it, goes through the reader."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from us43d import registry
from us43d.errors import ManualFileError
from us43d.fetch import ledger
from us43d.fetch.fetch import fetch
from us43d.fetch.hosts import by_hand
from us43d.fetch.http import Web
from us43d.harmonize.build import build
from us43d.harmonize.shards import MANIFEST, read_manifest
from us43d.paths import Home

Shape = Callable[[Path], None]


def moved(root: Path, **places: str) -> None:
    """Move each folder of the tree to another place."""
    for source, target in places.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / source, root / target)


def below(top: str) -> Shape:
    """Everything below one more folder, as a repository's archive has it."""

    def shape(root: Path) -> None:
        inside = root.with_name("inside")
        root.rename(inside)
        root.mkdir()
        inside.rename(root / top)

    return shape


def mmotu_github(root: Path) -> None:
    """images/ and annotations/ at the top, the images again by class, no lists."""
    top = root / "OTU-2D-Dataset-1ece1950792ed58b4ae77f40891ff58aa55da075"
    shutil.move(root / "OTU_2d", top)
    for name in ("train.txt", "val.txt", "train_cls.txt", "val_cls.txt"):
        (top / name).unlink()
    (top / "8_layers" / "teratoma").mkdir(parents=True)
    shutil.copy(top / "images" / "2.JPG", top / "8_layers" / "teratoma" / "2.JPG")
    (top / "README.md").write_text("x")
    (top / "otu_2d_annotation.json").write_text("{}")


def mmotu_figshare(root: Path) -> None:
    """The split in the folders' names, and the other subset beside."""
    old, new = root / "OTU_2d", root / "dataset" / "OTU_2D"
    test = set((old / "val.txt").read_text().split())
    for image in sorted((old / "images").iterdir()):
        if image.stem in test:
            places = new / "test/image", new / "test/label/black_write"
        else:
            places = new / "train/train_image", new / "train/train_label/label"
        for path, place in zip((image, old / f"annotations/{image.stem}.PNG"), places, strict=True):
            place.mkdir(parents=True, exist_ok=True)
            shutil.move(path, place / path.name)
    shutil.rmtree(old)
    for name in ("image/1.JPG", "label/1.PNG"):
        (root / "dataset/OTU_CEUS" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "dataset/OTU_CEUS" / name).write_bytes(b"x")


def ceus_figshare(root: Path) -> None:
    """MMOTU-3D under the name OTU_CEUS, and the other subset beside."""
    moved(root, **{"OTU_3d/images": "dataset/OTU_CEUS/image"})
    (root / "dataset/OTU_CEUS/label").mkdir()
    for path in (root / "OTU_3d/annotations").glob("*.PNG"):
        if "binary" not in path.name:
            shutil.move(path, root / "dataset/OTU_CEUS/label" / path.name)
    shutil.rmtree(root / "OTU_3d")
    for name in ("train/train_image/1.JPG", "train/train_label/label/1.PNG"):
        (root / "dataset/OTU_2D" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "dataset/OTU_2D" / name).write_bytes(b"x")


def ubpd_owners(root: Path) -> None:
    """JPEGImages/ and json_train/ in one folder, no code."""
    (top,) = root.iterdir()
    moved(top, **{"data/dataset/images": "UBPD/JPEGImages", "data/dataset/labels/json_train": "UBPD/json_train"})
    moved(root, **{f"{top.name}/UBPD": "UBPD"})
    shutil.rmtree(top)


def ddti_bundle(root: Path) -> None:
    """The archive inside TRFE-Net's bundle, unpacked where it lay, with TN3K and TG3K beside."""
    moved(root, DDTI="Thyroid Dataset/DDTI dataset/inside")
    for path in list((root / "Thyroid Dataset/DDTI dataset/inside").iterdir()):
        shutil.move(path, root / "Thyroid Dataset/DDTI dataset")
    (root / "Thyroid Dataset/DDTI dataset/inside").rmdir()
    for name in ("tn3k/test-image/0000.jpg", "tg3k/thyroid-image/0000.jpg", "tg3k/tg3k-trainval.json"):
        (root / "Thyroid Dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "Thyroid Dataset" / name).write_bytes(b"x")


def ddti_original(root: Path) -> None:
    """JPEG images and a case's contours in XML."""
    import cv2

    shutil.rmtree(root / "DDTI")
    for case in range(1, 7):
        marks = ""
        for number in (1, 2):
            points = "".join(f'{{"x": {x}, "y": {y}}},' for x, y in ((40, 40), (120, 44), (100, 120), (50, 110)))[:-1]
            marks += f'<mark><image>{number}</image><svg>[{{"points": [{points}]}}]</svg></mark>'
            image = np.random.default_rng(case).integers(0, 99, (180, 200, 3), np.uint8)
            cv2.imwrite(str(root / f"{case}_{number}.jpg"), image)
        (root / f"{case}.xml").write_text(
            f"<case><number>{case}</number><age>40</age><sex>F</sex><tirads>4a</tirads>{marks}</case>"
        )


def s1_all_files(root: Path) -> None:
    """All supporting files of the article: this one is unpacked where it lay."""
    below("PMC8205136")(root)


def s1_sonobase(root: Path) -> None:
    """The other spelling of the test folders that is in use."""
    test = next(root.rglob("TestingDataSet"))
    moved(test, **{"Test-Expanded-BreastTumourImages": "BreastTumourImages"})
    moved(test, **{"Test-Expanded-3-channel-Labels": "Expanded-3-channel-Labels"})


def busi_whu_flat(root: Path) -> None:
    """One folder of images and one of masks."""
    for kind in ("img", "gt"):
        (root / "BUSI-WHU" / kind).mkdir(parents=True)
        for path in sorted(root.rglob(f"{kind}/ori/*.bmp")):
            shutil.move(path, root / "BUSI-WHU" / kind / path.name)
    shutil.rmtree(next(root.glob("BUSI_WHU*")))


def busi_whu_png(root: Path) -> None:
    """PNG files, masks called as their images."""
    import cv2

    for path in sorted(root.rglob("*.bmp")):
        kind = "masks" if path.stem.endswith("_anno") else "images"
        to = path.parents[2] / kind / f"{path.stem.removesuffix('_anno')}.png"
        to.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(to), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        path.unlink()


def fass_whole(root: Path) -> None:
    """The inner archive in a folder of the same name."""
    below("Fetal Abdominal Structures Segmentation Dataset Using Ultrasonic Images")(root)


def camus_parts(root: Path) -> None:
    """The NIfTI folder and the lists by themselves."""
    for path in list((root / "CAMUS_public").iterdir()):
        shutil.move(path, root / path.name)
    (root / "CAMUS_public").rmdir()


def training_alone(root: Path) -> None:
    """The training files of the nerve competition in a repository."""
    shutil.rmtree(root / "test")
    below("Ultrasound-Nerve-Segmentation-train_data-master")(root)


def in_data_arrays(root: Path) -> None:
    for path in sorted(root.rglob("*.npy")):
        (root / "DataArrays").mkdir(exist_ok=True)
        shutil.move(path, root / "DataArrays" / path.name)


#: (slug, number of the source) → how its tree differs from the synthetic sample's, by the facts. Others are alike.
SHAPES: dict[tuple[str, int], Shape] = {
    ("mmotu_2d", 1): mmotu_figshare,
    ("mmotu_2d", 2): mmotu_github,
    ("mmotu_3d", 1): ceus_figshare,
    ("ubpd", 0): ubpd_owners,
    ("ddti", 1): ddti_bundle,
    ("ddti", 2): below("DDTI dataset"),
    ("ddti", 3): ddti_original,
    ("s1", 2): s1_all_files,
    ("fass", 1): fass_whole,
    ("camus", 1): camus_parts,
    ("asus", 1): in_data_arrays,
    ("us_nerve", 1): training_alone,
    ("us_nerve", 3): below("UNS"),
    ("acouslic", 1): below("acouslic-ai-train-set"),
}
#: Spellings that are in use beside those of the sources.
OTHERS = {
    ("s1", "SonoBase"): s1_sonobase,
    ("busi_whu", "flat"): busi_whu_flat,
    ("busi_whu", "PNG"): busi_whu_png,
}
#: Their images have other names or are others.
OTHER_KEYS = {("mmotu_2d", 1), ("mmotu_3d", 1), ("ddti", 3)}

BY_HAND = [recipe.slug for recipe in registry.recipes() if recipe.routes[0].kind in by_hand.KINDS]
ROUTES = [(recipe.slug, number) for recipe in registry.recipes() for number in range(len(recipe.routes))]


def test_every_shape_is_that_of_a_source() -> None:
    assert set(SHAPES) <= set(ROUTES)
    assert len(ROUTES) > 70


def walked(slug: str, shape: Shape | None, tmp_path: Path) -> tuple[set[str], set[str]]:
    """(keys drawn, keys built) of a tree of that shape."""
    raw = tmp_path / "raw"
    raw.mkdir()
    truth = registry.specimen(slug)(raw, np.random.default_rng(4))
    if shape is not None:
        shape(raw)
    result = build(registry.recipe(slug), raw, Home(tmp_path / "home"), receipt={"kind": "specimen"}, fixes=False)
    assert result.dataset["counts"]["annotations"] > 0
    return set(truth.samples), {row["key"] for row in read_manifest(result.path / MANIFEST)}


@pytest.mark.parametrize(("slug", "packed"), [(slug, n % 2 == 0) for n, slug in enumerate(BY_HAND)])
def test_the_steps_for_a_person_lead_to_a_build(slug: str, packed: bool, tmp_path: Path) -> None:
    """The steps name a page and the folder; what is put there, as an archive of any name or unpacked, is built."""
    recipe, home, raw = registry.recipe(slug), Home(tmp_path / "home"), tmp_path / "raw"
    one = recipe.model_copy(update={"routes": recipe.routes[:1]})
    ledger.accept(home, recipe)
    with pytest.raises(ManualFileError) as caught:
        fetch(one, home, Web(bases={}))
    _, *steps = re.split(r"\n  \d+\. ", caught.value.what)
    assert steps[0].startswith("Open http")
    assert len(steps) >= 3
    assert steps[-1].startswith("Put ")
    assert steps[-1].endswith(f", packed or unpacked, into {home.downloads(recipe.name)}/.")
    raw.mkdir()
    truth = registry.specimen(slug)(raw, np.random.default_rng(4))
    if packed:
        shutil.make_archive(str(home.downloads(recipe.name) / "from the owners"), "zip", raw)
    else:
        shutil.copytree(raw, home.downloads(recipe.name) / "from the owners")
    assert fetch(one, home, Web(bases={})).state == "done"
    result = build(recipe, home.raw(recipe.name), home, partial=True, fixes=False)
    assert {row["key"] for row in read_manifest(result.path / MANIFEST)} == set(truth.samples)


@pytest.mark.parametrize(
    ("slug", "number"), [each for each in ROUTES if each in SHAPES or (each[1] == 0 and each[0] not in BY_HAND)]
)
def test_the_tree_of_a_source_is_built(slug: str, number: int, tmp_path: Path) -> None:
    drawn, built = walked(slug, SHAPES.get((slug, number)), tmp_path)
    if (slug, number) in OTHER_KEYS:
        assert len(built) >= 6
    else:
        assert built == drawn


@pytest.mark.parametrize(("slug", "name"), OTHERS)
def test_another_spelling_is_built(slug: str, name: str, tmp_path: Path) -> None:
    drawn, built = walked(slug, OTHERS[slug, name], tmp_path)
    assert len(built) == len(drawn)


@pytest.mark.parametrize("slug", [recipe.slug for recipe in registry.recipes() if recipe.media == "image2d"])
def test_upper_case_endings_change_nothing(slug: str, tmp_path: Path) -> None:
    """Of images, masks, tables: pairs, keys, groups, splits and masks are those of the published names."""
    recipe, home = registry.recipe(slug), Home(tmp_path / "home")
    registry.specimen(slug)(tmp_path / "raw", np.random.default_rng(4))

    def built() -> dict[str, tuple[object, ...]]:
        result = build(recipe, tmp_path / "raw", home, receipt={"kind": "specimen"}, fixes=False)
        columns = ("id", "group", "split", "annotations", "pixel_hash", "tags")
        return {row["key"]: tuple(row[c] for c in columns) for row in read_manifest(result.path / MANIFEST)}

    before = built()
    for path in sorted(tmp_path.joinpath("raw").rglob("*")):
        if path.is_file():
            path.rename(path.with_suffix(path.suffix.swapcase()))
    assert built() == before
