"""What the audit finds is held against the truth: twins that were planted, and those known in real files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from us43d import registry
from us43d.audit.audit import Audit, audit
from us43d.audit.look import Annotation, grey, marks, outside
from us43d.audit.record import record, write
from us43d.errors import BuildError
from us43d.harmonize.build import build
from us43d.harmonize.merge import merge
from us43d.masks.components import whole
from us43d.paths import Home
from us43d.specimen import blob, speckle, write_image
from us43d.splits import audited

Picture = NDArray[np.uint8]
STU = registry.recipe("stu_hospital")
PAIRS, ALIKE = 60, 40


def jpeg(picture: Picture, rng: np.random.Generator) -> Picture:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 90))])[1]
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def half(picture: Picture, rng: np.random.Generator) -> Picture:
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def crop(picture: Picture, rng: np.random.Generator) -> Picture:
    """A tenth of width and height left out, anywhere."""
    high, wide = (length // 10 for length in picture.shape)
    y, x = rng.integers(0, high + 1), rng.integers(0, wide + 1)
    return picture[y : y + picture.shape[0] - high, x : x + picture.shape[1] - wide]


def flip(picture: Picture, rng: np.random.Generator) -> Picture:
    return picture[:, ::-1]


def gamma(picture: Picture, rng: np.random.Generator) -> Picture:
    return (255 * (picture / 255) ** rng.choice([0.6, 1.6])).astype(np.uint8)


def everything(picture: Picture, rng: np.random.Generator) -> Picture:
    return jpeg(half(gamma(flip(crop(picture, rng), rng), rng), rng), rng)


CHANGES: tuple[Callable[[Picture, np.random.Generator], Picture], ...] = (jpeg, half, crop, flip, gamma, everything)


def frame(rng: np.random.Generator, mask: NDArray[np.bool_]) -> Picture:
    """A sector of speckle around a shape, black outside, as a probe draws it."""
    picture = speckle(mask.shape, [mask], rng)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    picture[abs(x - mask.shape[1] / 2) > 0.3 * mask.shape[1] + 0.25 * y] = 0
    return picture


def planted(raw: Path, rng: np.random.Generator) -> set[frozenset[str]]:
    """A tree of STU-Hospital with twins, and with as many different frames of one anatomy; returns the true pairs."""
    true = set()
    number = 0

    def put(picture: Picture) -> str:
        nonlocal number
        number += 1
        write_image(raw / f"Hospital/Test_Image_{number}.png", picture)
        write_image(raw / f"Hospital/mask_{number}.png", np.full(picture.shape, 255, np.uint8))
        return f"Hospital/Test_Image_{number}.png"

    for n in range(PAIRS + ALIKE):
        shape = int(rng.integers(180, 260)), int(rng.integers(220, 320))
        mask = blob(shape, rng, 0.25)
        original = frame(rng, mask)
        first = put(original)
        if n < PAIRS:
            true.add(frozenset((first, put(np.ascontiguousarray(CHANGES[n % len(CHANGES)](original, rng))))))
        else:  # the next frame of the same anatomy
            moved = np.roll(mask, int(rng.integers(0, 3)), axis=1)
            put(frame(rng, moved))
    return true


def found_pairs(found: Audit) -> set[frozenset[str]]:
    return {frozenset((each.a.key, each.b.key)) for each in found.near}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path, set[frozenset[str]], Audit]:
    folder = tmp_path_factory.mktemp("planted")
    true = planted(folder / "raw", np.random.default_rng(5))
    home = Home(folder / "home")
    result = build(STU, folder / "raw", home, partial=True)
    return home, folder / "raw", true, audit([result.path], home.root)


def test_recall_and_precision_on_planted_twins(plant: Any) -> None:
    *_, true, found = plant
    pairs = found_pairs(found)
    assert len(true) == PAIRS
    assert len(found.images) == 2 * (PAIRS + ALIKE)
    assert len(pairs & true) >= 0.99 * len(true), sorted(map(sorted, true - pairs))
    assert len(pairs & true) >= 0.99 * len(pairs), sorted(map(sorted, pairs - true))
    mirrored = {frozenset((e.a.key, e.b.key)) for e in found.near if e.candidate.turn == 1}
    assert len(mirrored) == 2 * PAIRS // len(CHANGES)


def test_builds_take_in_what_was_found(plant: Any) -> None:
    home, raw, true, found = plant
    before = json.loads((found.builds[0].path / "dataset.json").read_text())
    assert found.leaks, "with as many twins, some cross the splits by chance"
    assert before["twins"]["audited"] == 0
    _, links = write(found, home.root)
    assert links == len(true)
    again = build(STU, raw, home, partial=True)
    assert not again.reused
    assert again.dataset["twins"]["audited"] == links
    assert again.digest != before["digest"]
    after = audit([again.path], home.root, jobs=2)
    assert (after.leaks, after.left, found_pairs(after)) == ([], 0, found_pairs(found))
    assert build(STU, raw, home, partial=True).reused
    elsewhere = Home(home.root.parent / "elsewhere")
    audited.write(elsewhere.root, audited.read(home.root), ["stu_hospital"])
    assert build(STU, raw, elsewhere, partial=True, jobs=2).digest == again.digest


def test_the_page_and_the_record_name_every_pair(plant: Any) -> None:
    *_, found = plant
    said = record(found)
    assert {frozenset((each["a"]["key"], each["b"]["key"])) for each in said["near"]} == found_pairs(found)
    assert said["left"] == found.left > 0
    assert said["sources"][0]["near"] == len(found.near)
    text = (write(found, found.builds[0].path.parents[2])[0] / "index.html").read_text()
    assert text.count("of the blocks equal") == min(40, len(found.near))
    assert "data:image/jpeg" in text


def test_a_link_holds_for_the_pictures_it_was_found_on(tmp_path: Path) -> None:
    a, b = audited.Frame("busi", "a", "1"), audited.Frame("busi", "b", "2")
    audited.write(tmp_path, [audited.Link(a, b)], ["busi"])
    links = audited.read(tmp_path)
    assert audited.within(links, "busi", {"a": "1", "b": "2"}) == links
    assert audited.within(links, "busi", {"a": "1", "b": "other pixels now"}) == []
    assert audited.within(links, "busi", {"a": "1"}) == []
    other = audited.Link(audited.Frame("camus", "c", "3"), b)
    audited.write(tmp_path, [other], ["camus"])
    assert audited.read(tmp_path) == sorted([*links, other]), "an audit of one source leaves the others' links"
    audited.write(tmp_path, [], ["busi", "camus"])
    assert audited.read(tmp_path) == []
    audited.path(tmp_path).write_text("{")
    with pytest.raises(BuildError, match="cannot be read"):
        audited.read(tmp_path)


def test_twins_across_sources_stay_out_of_the_corpus(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    home = Home(tmp_path / "home")
    raw = {slug: tmp_path / slug for slug in ("stu_hospital", "busi")}
    for slug, folder in raw.items():
        folder.mkdir()
        registry.specimen(slug)(folder, np.random.default_rng(1))
    taken = sorted(path for path in raw["busi"].rglob("*.png") if "mask" not in path.name)
    for n, file in enumerate(taken, 30):
        copy = half(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), rng)
        folder = next(raw["stu_hospital"].rglob("Hospital"))
        write_image(folder / f"Test_Image_{n}.png", copy)
        write_image(folder / f"mask_{n}.png", np.full(copy.shape, 255, np.uint8))
    builds = [build(registry.recipe(slug), folder, home, partial=True).path for slug, folder in raw.items()]
    merge(builds, home.root, "before")
    found = audit(builds, home.root)
    assert len(found.across) == len(taken) > 4
    assert found.across_leaks
    assert found.left == len(found.across_leaks)
    write(found, home.root)
    shutil.rmtree(home.corpus("before"))
    corpus = merge(builds, home.root, "after")
    assert corpus.facts["images"]["excluded"] > 0
    assert audit(builds, home.root).left == 0


def test_a_published_split_that_leaks(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    registry.specimen("mmotu_2d")(raw, np.random.default_rng(0))
    images = raw / "OTU_2d" / "images"
    tested = cv2.imread(str(images / "3.JPG"))
    trained = cv2.imread(str(images / "4.JPG")).shape
    assert cv2.imwrite(str(images / "4.JPG"), cv2.resize(tested, trained[1::-1], interpolation=cv2.INTER_AREA))
    home = Home(tmp_path / "home")
    result = build(registry.recipe("mmotu_2d"), raw, home, partial=True)
    found = audit([result.path], home.root)
    assert [{Path(i.key).stem for i in family} for family in found.official_leaks] == [{"3", "4"}]
    assert {i.official for i in found.official_leaks[0]} == {"train", "test"}
    write(found, home.root)
    again = build(registry.recipe("mmotu_2d"), raw, home, partial=True)
    clean = audit([again.path], home.root)
    assert {Path(i.key).stem: i.split for i in clean.official_leaks[0]} == {"3": "test", "4": "excluded"}
    assert clean.left == 0


def test_contradicting_labels_of_one_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    raw = tmp_path / "Dataset_BUSI_with_GT"
    pictures = [frame(rng, blob((200, 260), rng, 0.25)) for _ in range(3)]
    left, right = np.zeros((200, 260), np.uint8), np.zeros((200, 260), np.uint8)
    left[60:120, 60:120], right[60:120, 140:200] = 255, 255
    mirrored = np.ascontiguousarray(left[:, ::-1])
    rows = [
        ("benign", 1, pictures[0], left),
        ("benign", 2, jpeg(pictures[0], rng), right),
        ("benign", 3, pictures[1], left),
        ("malignant", 1, flip(pictures[1], rng), mirrored),
        ("benign", 4, pictures[2], left),
        ("benign", 5, gamma(pictures[2], rng), left),
    ]
    for label, n, picture, mask in rows:
        write_image(raw / label / f"{label} ({n}).png", np.stack([np.ascontiguousarray(picture)] * 3, axis=2))
        write_image(raw / label / f"{label} ({n})_mask.png", mask)
    result = build(registry.recipe("busi"), tmp_path, Home(tmp_path / "home"), partial=True)
    found = audit([result.path], tmp_path / "home")
    assert len(found.near) == 3
    said = {(Path(c.a.key).stem, Path(c.b.key).stem, c.what) for c in found.conflicts}
    assert said == {("benign (1)", "benign (2)", "mask"), ("benign (3)", "malignant (1)", "class")}


def test_masks_outside_the_field_of_view(rng: np.random.Generator) -> None:
    picture = frame(rng, np.zeros((200, 260), bool))
    inside, outside_, half_out = (np.zeros(picture.shape, bool) for _ in range(3))
    inside[80:140, 100:150] = True
    outside_[0:40, 0:40] = True
    half_out[0:60, 20:110] = True
    masks = {"inside": inside, "outside": outside_, "half": half_out}
    found = dict(outside(picture, [annotation(name, mask) for name, mask in masks.items()]))
    assert set(found) == {"outside", "half"}
    assert found["outside"] > 0.95
    assert found["half"] == pytest.approx((half_out & (picture == 0)).sum() / half_out.sum(), abs=0.15)
    assert outside(np.full((50, 50), 90, np.uint8), [annotation("all", np.ones((50, 50), bool))]) == []


def annotation(label: str, mask: NDArray[np.bool_]) -> Annotation:
    piece = whole(mask)
    assert piece is not None
    return Annotation(label, 1, None, piece.area, piece.box, piece.counts, False)


def test_marks_are_seen_where_they_are_cheap_to_see(rng: np.random.Generator) -> None:
    picture = frame(rng, blob((200, 260), rng))
    assert marks(picture, picture) == {}
    coloured = np.stack([picture] * 3, axis=2)
    cv2.putText(coloured, "LT OVARY", (20, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (250, 220, 40))
    assert "colour" in marks(coloured, grey(coloured))
    lettered = picture.copy()
    cv2.putText(lettered, "MAMA", (5, 190), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
    assert set(marks(lettered, lettered)) == {"lines"}
    sepia = (picture[:, :, None] * np.array([1.0, 0.75, 0.4])).astype(np.uint8)
    assert set(marks(np.maximum(sepia, np.array([60, 40, 10], np.uint8)), picture)) == {"tint"}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


# -------------------------------------------------------------------------------------------------------- real pictures


@pytest.mark.shared
def test_real_twins_and_nothing_else(shared: Path, tmp_path: Path) -> None:
    home = Home(tmp_path)
    slugs = ("stu_hospital", "busbra", "bus_uclm", "hc18", "mmotu_2d")
    builds = [build(registry.recipe(s), shared / "real" / s, home, partial=True).path for s in slugs]
    found = audit(builds, home.root, jobs=2)
    families = {frozenset(Path(i.key).stem for i in family) for family in found.families}
    assert families == {
        frozenset(family.split())
        for family in ("38 39 40", "82 84", "85 88", "144 146", "225 226", "890 892", "1290 1291",
                       "392_HC 392_2HC 392_3HC", "243_HC 243_3HC", "507_HC 507_2HC")
    }  # fmt: skip
    assert found.across == []
    assert found.left == 0
