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
from us43d.audit.align import Alignment, Candidate, align, in_pixels
from us43d.audit.findings import Findings
from us43d.audit.hash_index import HashIndex, distance
from us43d.audit.image_checks import Annotation, masks_outside
from us43d.audit.inspect import inspect_builds
from us43d.audit.record import record, write
from us43d.errors import BuildError
from us43d.harmonize.build import build
from us43d.harmonize.merge import merge
from us43d.masks.components import whole
from us43d.paths import Home
from us43d.specimen import blob, speckle, write_image
from us43d.splits import duplicate_links

Picture = NDArray[np.uint8]
STU = registry.recipe("stu_hospital")
PAIRS, ALIKE = 120, 60


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


def shape(picture: Picture, rng: np.random.Generator) -> Picture:
    """One side stretched by up to a fifth."""
    factor = rng.uniform(0.82, 1.22)
    return cv2.resize(picture, None, fx=factor, fy=1, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def callipers(picture: Picture, rng: np.random.Generator) -> Picture:
    """Two crosses, a dotted line between them, a measurement in a corner."""
    marked = picture.copy()
    height, width = picture.shape
    (x0, y0), (x1, y1) = rng.integers((width // 5, height // 5), (4 * width // 5, 4 * height // 5), (2, 2))
    for x, y in ((x0, y0), (x1, y1)):
        cv2.drawMarker(marked, (int(x), int(y)), 255, cv2.MARKER_CROSS, 9)
    for t in np.linspace(0, 1, 20):
        marked[int(y0 + t * (y1 - y0)), int(x0 + t * (x1 - x0))] = 255
    cv2.putText(marked, "D 2.31 cm", (5, height - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255)
    return marked


def deep_crop(picture: Picture, rng: np.random.Generator) -> Picture:
    """Up to 15 % left out on every side: the rest may be half of the image."""
    (top, bottom), (left, right) = ((rng.uniform(0, 0.15, 2) * n).astype(int) for n in picture.shape)
    return picture[top : picture.shape[0] - bottom, left : picture.shape[1] - right]


def reexport(picture: Picture, rng: np.random.Generator) -> Picture:
    """Another size, another curve of grey, JPEG."""
    factor = rng.uniform(0.6, 1.6)
    return jpeg(gamma(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), rng), rng)


def crop_callipers_reexport(picture: Picture, rng: np.random.Generator) -> Picture:
    return reexport(callipers(crop(picture, rng), rng), rng)


def shape_crop_callipers_reexport(picture: Picture, rng: np.random.Generator) -> Picture:
    return reexport(callipers(shape(crop(picture, rng), rng), rng), rng)


CHANGES: tuple[Callable[[Picture, np.random.Generator], Picture], ...] = (
    jpeg, half, crop, flip, gamma, everything, shape, callipers, deep_crop, reexport, crop_callipers_reexport,
    shape_crop_callipers_reexport,
)  # fmt: skip


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
        mask = blob((int(rng.integers(180, 260)), int(rng.integers(220, 320))), rng, 0.25)
        original = frame(rng, mask)
        first = put(original)
        if n < PAIRS:
            true.add(frozenset((first, put(np.ascontiguousarray(CHANGES[n % len(CHANGES)](original, rng))))))
        else:  # the next frame of the same anatomy
            moved = np.roll(mask, int(rng.integers(0, 3)), axis=1)
            put(frame(rng, moved))
    return true


def found_pairs(found: Findings) -> set[frozenset[str]]:
    return {frozenset((each.a.key, each.b.key)) for each in found.near}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path, set[frozenset[str]], Findings]:
    folder = tmp_path_factory.mktemp("planted")
    true = planted(folder / "raw", np.random.default_rng(5))
    home = Home(folder / "home")
    result = build(STU, folder / "raw", home, partial=True)
    return home, folder / "raw", true, inspect_builds([result.path], home.root)


def test_recall_and_precision_on_planted_pairs(plant: Any) -> None:
    *_, true, found = plant
    pairs = found_pairs(found)
    assert len(true) == PAIRS
    assert len(found.images) == 2 * (PAIRS + ALIKE)
    assert len(pairs & true) >= 0.995 * len(true), sorted(map(sorted, true - pairs))
    assert len(pairs & true) >= 0.995 * len(pairs), sorted(map(sorted, pairs - true))
    mirrored = {frozenset((e.a.key, e.b.key)) for e in found.near if e.mirroring == 1}
    assert len(mirrored) == 2 * PAIRS // len(CHANGES)


def test_alignments_that_do_not_converge_are_counted(plant: Any) -> None:
    *_, found = plant
    # Every pair is refined once on thumbnails at most, and once on the images.
    assert found.alignments["refined"] >= len(found.near) >= PAIRS - 1
    assert found.alignments["not_converged"] <= 0.3 * found.alignments["refined"]
    assert all(pair.alignment.refined for pair in found.near), "also where the two images differ in shape"
    assert any(pair.a.size != pair.b.size for pair in found.near)
    assert record(found)["alignments"] == found.alignments


def test_images_of_unequal_shape_are_refined(rng: np.random.Generator) -> None:
    scene = speckle((300, 400), [], rng)
    a, b = scene[10:210, 10:266], scene[14:208, 17:273]  # 200 and 194 rows; 7 and 4 pixels apart, start at 0
    result = align(a, b, Candidate(0, 1, 0, np.eye(2, 3)))
    assert result.refined
    assert result.same
    centre = np.array([128, 97, 1])
    assert in_pixels(result.place, 256) @ centre - centre[:2] == pytest.approx([-7, -4], abs=0.3)


def test_what_ecc_cannot_refine_is_reported_and_other_errors_are_raised(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (speckle((200, 256), [], rng) for _ in range(2))
    far = Candidate(0, 1, 0, np.array([[1.0, 0, 5], [0, 1, 5]]))  # no overlap
    result = align(a, b, far)
    assert result.refined is False
    assert not result.same
    assert (result.place == far.place).all()
    monkeypatch.setattr(cv2, "findTransformECC", lambda *_: cv2.resize(np.zeros((0, 0)), (1, 1)))
    with pytest.raises(cv2.error):
        align(a, b, far)


def test_images_that_differ_too_much_are_not_refined(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two frames of one anatomy, in the same place."""
    scene = cv2.resize(rng.uniform(20, 180, (7, 9)), (256, 200), interpolation=cv2.INTER_CUBIC)
    a, b = (np.clip(scene * speckle((200, 256), [], rng) / 100, 0, 255).astype(np.uint8) for _ in range(2))
    monkeypatch.setattr(cv2, "findTransformECC", lambda *_: pytest.fail("refined"))
    result = align(a, b, Candidate(0, 1, 0, np.eye(2, 3)), refined=True)
    assert result.refined is None
    assert not result.same


@pytest.mark.parametrize(
    ("overlap", "score", "same"),
    [(1.0, 0.6, True), (0.9, 0.6, True), (0.9, 0.59, False), (0.79, 0.62, False), (0.79, 0.72, True),
     (0.5, 0.79, False), (0.3, 0.8, True), (0.19, 1.0, False)],
)  # fmt: skip
def test_the_less_an_image_shows_the_better_it_must_agree(overlap: float, score: float, same: bool) -> None:
    assert Alignment(np.eye(2, 3), score, 0.9, overlap, True).same == same


@pytest.mark.parametrize(("bits", "least"), [(6, 0.999), (8, 0.99), (10, 0.97)])
def test_hashes_within_reach_are_met(bits: int, least: float, rng: np.random.Generator) -> None:
    stored = rng.integers(0, 1 << 64, 5000, np.uint64)
    places = rng.permuted(np.tile(np.arange(64), (len(stored), 1)), axis=1)[:, :bits].astype(np.uint64)
    queries = stored ^ np.bitwise_or.reduce(np.uint64(1) << places, axis=1)
    met = list(HashIndex(stored, 96).near(queries, 10))
    assert all((distance(queries[query], stored[place]) <= 10).all() for query, place in met)
    own = np.unique(np.concatenate([query[query == place] for query, place in met]))
    assert len(own) >= least * len(stored)


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
    after = inspect_builds([again.path], home.root, jobs=2)
    assert (after.leaks, after.remaining_leaks, found_pairs(after)) == ([], 0, found_pairs(found))
    assert build(STU, raw, home, partial=True).reused
    elsewhere = Home(home.root.parent / "elsewhere")
    duplicate_links.write(elsewhere.root, duplicate_links.read(home.root), {"stu_hospital": ""})
    assert build(STU, raw, elsewhere, partial=True, jobs=2).digest == again.digest


def test_the_page_and_the_record_name_every_pair(plant: Any) -> None:
    *_, found = plant
    said = record(found)
    assert {frozenset((each["a"]["key"], each["b"]["key"])) for each in said["near"]} == found_pairs(found)
    assert said["remaining_leaks"] == found.remaining_leaks > 0
    assert said["sources"][0]["near"] == len(found.near)
    text = (write(found, found.builds[0].path.parents[2])[0] / "index.html").read_text()
    assert text.count("of the blocks equal") == 2 * min(40, len(found.near))  # in the caption and for screen readers
    assert "data:image/jpeg" in text


def test_a_link_holds_for_the_pictures_it_was_found_on(tmp_path: Path) -> None:
    a, b = duplicate_links.Frame("busi", "a", "1"), duplicate_links.Frame("busi", "b", "2")
    duplicate_links.write(tmp_path, [duplicate_links.Link(a, b)], {"busi": "1"})
    links = duplicate_links.read(tmp_path)
    assert duplicate_links.within(links, "busi", {"a": "1", "b": "2"}) == links
    assert duplicate_links.within(links, "busi", {"a": "1", "b": "other pixels now"}) == []
    assert duplicate_links.within(links, "busi", {"a": "1"}) == []
    other = duplicate_links.Link(duplicate_links.Frame("camus", "c", "3"), b)
    duplicate_links.write(tmp_path, [other], {"camus": "2"})
    assert duplicate_links.read(tmp_path) == sorted([*links, other]), "an audit of one source leaves the others' links"
    duplicate_links.write(tmp_path, [], {"busi": "3", "camus": "4"})
    assert duplicate_links.read(tmp_path) == []
    duplicate_links.path(tmp_path).write_text("{")
    with pytest.raises(BuildError, match="cannot be read"):
        duplicate_links.read(tmp_path)


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
    found = inspect_builds(builds, home.root)
    assert len(found.across) == len(taken) > 4
    assert found.across_leaks
    assert found.remaining_leaks == len(found.across_leaks)
    write(found, home.root)
    shutil.rmtree(home.corpus("before"))
    corpus = merge(builds, home.root, "after")
    assert corpus.facts["images"]["excluded"] > 0
    assert inspect_builds(builds, home.root).remaining_leaks == 0


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
    found = inspect_builds([result.path], home.root)
    assert [{Path(i.key).stem for i in family} for family in found.official_leaks] == [{"3", "4"}]
    assert {i.official for i in found.official_leaks[0]} == {"train", "test"}
    write(found, home.root)
    again = build(registry.recipe("mmotu_2d"), raw, home, partial=True)
    clean = inspect_builds([again.path], home.root)
    assert {Path(i.key).stem: i.split for i in clean.official_leaks[0]} == {"3": "test", "4": "excluded"}
    assert clean.remaining_leaks == 0


def test_contradicting_labels_of_one_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    raw = tmp_path / "raw" / "Dataset_BUSI_with_GT"
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
    result = build(registry.recipe("busi"), tmp_path / "raw", Home(tmp_path / "home"), partial=True)
    found = inspect_builds([result.path], tmp_path / "home")
    assert len(found.near) == 3
    said = {(Path(c.a.key).stem, Path(c.b.key).stem, c.kind) for c in found.conflicts}
    assert said == {("benign (1)", "benign (2)", "mask"), ("benign (3)", "malignant (1)", "class")}


def test_masks_outside_the_field_of_view(rng: np.random.Generator) -> None:
    picture = frame(rng, np.zeros((200, 260), bool))
    inside, outside_, half_out = (np.zeros(picture.shape, bool) for _ in range(3))
    inside[80:140, 100:150] = True
    outside_[0:40, 0:40] = True
    half_out[0:60, 20:110] = True
    masks = {"inside": inside, "outside": outside_, "half": half_out}
    found = dict(masks_outside(picture, [annotation(name, mask) for name, mask in masks.items()]))
    assert set(found) == {"outside", "half"}
    assert found["outside"] > 0.95
    assert found["half"] == pytest.approx((half_out & (picture == 0)).sum() / half_out.sum(), abs=0.15)
    assert masks_outside(np.full((50, 50), 90, np.uint8), [annotation("all", np.ones((50, 50), bool))]) == []


def annotation(label: str, mask: NDArray[np.bool_]) -> Annotation:
    piece = whole(mask)
    assert piece is not None
    return Annotation(label, 1, None, piece.area, piece.box, piece.counts, False)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


# -------------------------------------------------------------------------------------------------------- real pictures


@pytest.mark.shared
def test_real_twins_and_nothing_else(shared: Path, tmp_path: Path) -> None:
    home = Home(tmp_path)
    slugs = ("stu_hospital", "busbra", "bus_uclm", "hc18", "mmotu_2d")
    builds = [build(registry.recipe(s), shared / "real" / s, home, partial=True).path for s in slugs]
    found = inspect_builds(builds, home.root, jobs=2)
    families = {frozenset(Path(i.key).stem for i in family) for family in found.families}
    assert families == {
        frozenset(family.split())
        for family in ("38 39 40", "82 84", "85 88", "144 146", "225 226", "890 892", "1290 1291",
                       "392_HC 392_2HC 392_3HC", "243_HC 243_3HC", "507_HC 507_2HC")
    }  # fmt: skip
    assert found.across == []
    assert found.remaining_leaks == 0
