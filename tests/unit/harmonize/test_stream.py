"""The reader's samples on their way to blocks; names of raw files; corrections of one image."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import pytest

from us43d import atomic, registry
from us43d.coco.segmentation import encode
from us43d.contract import Fix, RawTree, Recipe, Sample, lazy
from us43d.errors import BuildError, Busy, MissingRawFile, RawDataError, UnreadableFile
from us43d.harmonize import blocks, corrections, records, taxonomy
from us43d.harmonize import build as building
from us43d.harmonize.build import BuildResult, build
from us43d.harmonize.corrections import Applied, Corrections
from us43d.harmonize.ids import Ids
from us43d.harmonize.inventory import Inventory, Skip, _Rule, _rule, literal, spellings, way_on
from us43d.harmonize.pixels import canonical, perceptual_hash
from us43d.harmonize.plan import Plan
from us43d.harmonize.records import Annotation, Record, Written
from us43d.paths import Home
from us43d.splits import review
from us43d.splits.review import Mask, Picture, Verdict

STU = registry.recipe("stu_hospital")
IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
MASK = np.ones((6, 8), bool)
LABEL = next(iter(STU.labels))


def altered(recipe: Recipe = STU, **facts: Any) -> Recipe:
    return Recipe(**({name: getattr(recipe, name) for name in Recipe.model_fields} | facts))


def sample(key: str, **facts: Any) -> Sample:
    return Sample(key=key, image=IMAGE, **facts)


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """A function (*samples, files, **how) that returns the plan of a reader of these samples."""

    def plan(*samples: Any, files: tuple[str, ...] = (), **how: Any) -> Plan:
        raw = tmp_path / "raw"
        raw.mkdir(exist_ok=True)
        for file in files:
            (raw / file).parent.mkdir(exist_ok=True)
            (raw / file).write_text(file)

        def read(tree: RawTree) -> Iterator[Sample]:
            for each in samples:
                yield each(tree) if callable(each) else each

        facts = {"read": read, "read_paper": None, "fixes": (), **how.pop("facts", {})}
        recipe = altered(**facts)
        given = {"home": tmp_path, "profile": "us43d", "partial": True, "fixes": True, "skip": Skip(), "receipt": {}}
        return Plan(recipe, **{"tree": RawTree(raw, collect=True), **given, **how})

    return plan


# ------------------------------------------------------------------------------------------------------------- samples


def test_samples_get_ids_fixes_spellings_and_groups(planned: Callable) -> None:
    fixes = (Fix(key="b", reason="a copy", drop=True), Fix(key="c", reason="aged", tags={"age": 3}))
    given = [
        sample("a", group="Ann"),
        sample("b", group="ann", remarks=("seen",)),
        sample("c"),
        sample("hospital/TEST_IMAGE_1.png"),
    ]
    plan = planned(*given, facts={"fixes": fixes})
    found = list(building._samples(plan))
    ids = Ids("stu_hospital")
    keys = ["a", "b", "c", "Hospital/Test_Image_1.png"]
    assert [(number, each.key) for number, each in found] == [(ids.image(key), key) for key in keys]
    assert [each.group for _, each in found] == ["Ann", "Ann", None, None]
    assert found[1][1].remarks == ("seen", "group spelled in two ways: ann is taken for Ann", "fixed: a copy")
    assert [each.drop for _, each in found] == [None, "a copy", None, None]
    assert found[2][1].tags == {"age": 3}
    plain = [each for _, each in building._samples(planned(*given, facts={"fixes": fixes}, fixes=False))]
    assert [each.drop for each in plain] == [None] * 4


WRONG = [sample("a"), sample("A"), sample("b", group=""), sample("c", masks={"x": MASK, "y": MASK}),
         sample("d", instances={"z": [MASK], LABEL: [MASK]}),
         sample("e", masks={LABEL: MASK}, remarks=("seen",))]  # fmt: skip


def test_samples_that_cannot_be_used(planned: Callable) -> None:
    plan = planned(*WRONG, receipt={"kind": "download"})
    with pytest.raises(RawDataError) as caught:
        list(building._samples(plan))
    kind = STU.group_kind
    assert caught.value.what.split("\n") == [
        "STU-Hospital: 4 samples cannot be used:",
        "  A has a key that appears twice",
        f"  b has no {kind}: its table or name leaves it empty",
        f"  c has the label 'x', 'y'; known labels: {LABEL}",
        f"  d has the label 'z'; known labels: {LABEL}",
    ]
    assert caught.value.disk == "No build was written."
    assert caught.value.next == (
        "us43d fetch STU-Hospital --force   (or, to skip and record them: us43d build STU-Hospital --skip-bad)"
    )


def test_samples_that_cannot_be_used_are_skipped_on_request(planned: Callable) -> None:
    plan = planned(*WRONG, skip=Skip(True), receipt={"kind": "specimen"})
    found: list[Sample] = []
    with pytest.raises(RawDataError) as caught:
        found += (each for _, each in building._samples(plan))
    assert caught.value.what == "STU-Hospital: 1 sample cannot be used:\n  A has a key that appears twice"
    assert caught.value.next == "us43d fetch STU-Hospital --specimen --force"
    plan = planned(*WRONG[:1], *WRONG[2:], skip=Skip(True))
    found = [each for _, each in building._samples(plan)]
    assert [each.drop for each in found] == [None, blocks.SKIPPED, blocks.SKIPPED, blocks.SKIPPED, None]
    assert found[1].remarks == (f"skipped: b has no {STU.group_kind}: its table or name leaves it empty",)
    assert [(each.masks, each.instances) for each in found[2:4]] == [({}, {}), ({}, {})]
    assert found[4].remarks == ("seen",)


def test_files_of_a_sample_are_noted(planned: Callable) -> None:
    plan = planned(lambda tree: Sample(key="a.png", image=tree.path("a.png")), files=("a.png", "b.png"))
    list(building._samples(plan))
    assert list(plan.tree.unread({})) == ["b.png"]


@pytest.mark.parametrize("own", ["", "do this"])
def test_where_the_reader_stops(planned: Callable, own: str) -> None:
    """Outside of a sample, what the error proposes counts, else the next command fetches again."""

    def read(tree: RawTree) -> Sample:
        raise UnreadableFile("t.csv is damaged", next=own)

    with pytest.raises(UnreadableFile) as caught:
        list(building._samples(planned(read, receipt={"kind": "specimen"})))
    again = "us43d fetch STU-Hospital --specimen --force   (or, to see what changed: us43d verify STU-Hospital)"
    assert caught.value.next == (own or again)


def test_a_reader_that_stumbles_over_a_file_that_is_missing(planned: Callable, tmp_path: Path) -> None:
    def read(tree: RawTree) -> Sample:
        tree.path("a.nii")
        tree.path("gone.nii")
        raise UnreadableFile("It has no shape.", disk="kept")

    with pytest.raises(MissingRawFile) as caught:
        list(building._samples(planned(read, files=("a.nii",))))
    assert caught.value.what == f"gone.nii is missing in {tmp_path / 'raw'}."
    assert (caught.value.disk, caught.value.__cause__.what) == ("kept", "It has no shape.")
    assert caught.value.next.startswith("us43d fetch STU-Hospital --force ")


def ran(planned: Plan, inventory: Inventory, folder: Path) -> tuple[int, list[blocks.Block], list[tuple[int, None]]]:
    """Hand over blocks; returns their number, those that were handed over, and what progress was told."""
    given: list[blocks.Block] = []
    told: list[tuple[int, None]] = []

    def work(todo: Iterator[blocks.Block], note: Any) -> None:
        for block in todo:
            given.append(block)
            note(len(block.samples), [f"wrong {key}" for _, each in block.samples if (key := each.key).startswith("!")])

    count = building._run_blocks(planned, inventory, folder, work, lambda *done: told.append(done))
    return count, given, told


def test_blocks_of_samples(planned: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert building.BLOCK == 256
    monkeypatch.setattr(building, "BLOCK", 2)
    plan = planned(*(sample(key) for key in "abcde"))
    inventory = Inventory(plan.recipe, plan.tree)
    count, given, told = ran(plan, inventory, tmp_path)
    assert (count, told) == (3, [(2, None), (4, None), (5, None)])
    assert [(block.number, block.folder, [each.key for _, each in block.samples]) for block in given] == [
        (0, tmp_path, ["a", "b"]), (1, tmp_path, ["c", "d"]), (2, tmp_path, ["e"]),
    ]  # fmt: skip
    assert given[0].options == blocks.Options({}, False, None)
    (tmp_path / "blocks").mkdir()
    for number in (0, 2):
        records.path_of(tmp_path, number).touch()
    count, given, told = ran(plan, inventory, tmp_path)
    assert (count, [block.number for block in given], told) == (3, [1], [(4, None)])
    plan = planned(*(sample(key) for key in "abcd"), skip=Skip(True))
    assert ran(plan, inventory, tmp_path / "x")[0] == 2
    paper = STU.paper.model_copy(update={"labels": {LABEL: "m"}, "skip_empty": True})
    plan = planned(sample("a"), facts={"paper": paper}, profile="paper", skip=Skip(True))
    assert ran(plan, inventory, tmp_path / "x")[1][0].options == blocks.Options({LABEL: "m"}, True, tmp_path / "raw")
    plan = planned(sample("a"), facts={"paper": paper})
    assert ran(plan, inventory, tmp_path / "x")[1][0].options == blocks.Options({}, False)
    assert (
        building._run_blocks(plan, inventory, tmp_path / "x", lambda todo, note: [note(1, []) for _ in todo], None) == 1
    )


def test_samples_that_cannot_be_read(planned: Callable, tmp_path: Path) -> None:
    def lacking(tree: RawTree) -> Sample:
        return Sample(key="l", image=tree.path("gone.png"), remarks=("seen",))

    plan = planned(
        sample("!a"), lacking, sample("b"), lambda tree: Sample(key="m", image=tree.path("gone.png"), drop="x")
    )
    inventory = Inventory(plan.recipe, plan.tree)
    with pytest.raises(RawDataError) as caught:
        ran(plan, inventory, tmp_path)
    assert caught.value.what == ("STU-Hospital: 2 samples cannot be read:\n  l: gone.png is missing\n  wrong !a")
    assert caught.value.disk == "The finished blocks are kept; no build was written."
    assert caught.value.next == way_on(plan.recipe, {})
    plan = planned(lacking, sample("b"), skip=Skip(True))
    (block,) = ran(plan, Inventory(plan.recipe, plan.tree), tmp_path)[1]
    one, other = (each for _, each in block.samples)
    assert (one.drop, one.remarks) == (blocks.SKIPPED, ("seen", "skipped: gone.png is missing"))
    assert (other.drop, other.remarks) == (None, ())
    plan = planned()
    with pytest.raises(RawDataError) as caught:
        ran(plan, inventory, tmp_path)
    assert caught.value.what == f"STU-Hospital: the reader found no sample in {plan.tree.root}."
    assert caught.value.next == "us43d fetch STU-Hospital --force"


def test_a_build_of_arrays(planned: Callable, tmp_path: Path) -> None:
    """What is left of builds before is removed; an equal build is found again."""
    plan = planned(sample("a"), sample("b"))
    home, raw = Home(tmp_path / "home"), tmp_path / "raw"
    folder = home.build("STU-Hospital", "r1s1-us43d-partial").parent
    old, kept = folder / ".r1s1-us43d-partial.0123", folder / ".r1s1-paper.0123"
    for left in (old, kept):
        left.mkdir(parents=True)
    result = build(plan.recipe, raw, home, partial=True)
    assert (result.path.name, result.reused, result.digest) == ("r1s1-us43d-partial", False, result.dataset["digest"])
    assert sorted(path.name for path in folder.iterdir()) == [".lock", kept.name, result.path.name]
    staging = (
        folder
        / f".{result.path.name}.{Plan(plan.recipe, plan.tree, home.root, 'us43d', True, True, Skip(), {}).inputs[:16]}"
    )
    staging.mkdir()
    again = build(plan.recipe, raw, home, partial=True)
    assert again == BuildResult(result.path, result.dataset, True)
    assert not staging.exists()
    receipt = {"kind": "given", "files": 3}
    assert (
        build(plan.recipe, raw, home, partial=True, profile="paper", receipt=receipt).path.name == "r1s1-paper-partial"
    )


def test_a_source_is_built_once_at_a_time(planned: Callable, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    folder = home.build("STU-Hospital", "x").parent
    folder.mkdir(parents=True)
    with atomic.alone(folder / ".lock", Busy("here")), pytest.raises(Busy) as caught:
        build(planned(sample("a")).recipe, tmp_path / "raw", home, partial=True)
    assert caught.value.what == "STU-Hospital is being built by another process."
    assert caught.value.next == "us43d build STU-Hospital  (when it has ended)"


def test_a_build_that_fails_keeps_its_blocks(
    planned: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, home, ran = planned(sample("a"), sample("b")), Home(tmp_path / "home"), []
    run = blocks.run
    monkeypatch.setattr(blocks, "run", lambda block: (ran.append(block.number), run(block))[1])
    monkeypatch.setattr(building, "BLOCK", 1)

    def stop(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(building, "finish", stop)
    with pytest.raises(Exception, match="the disk is full") as caught:
        build(plan.recipe, tmp_path / "raw", home, partial=True)
    assert caught.value.disk == "The finished blocks are kept; the next build resumes from them."
    monkeypatch.undo()
    monkeypatch.setattr(blocks, "run", lambda block: (ran.append(block.number), run(block))[1])
    monkeypatch.setattr(building, "BLOCK", 1)
    (staging,) = home.build("STU-Hospital", "x").parent.glob(".r1s1*")
    (staging / "parts" / "half").write_text("x")
    assert build(plan.recipe, tmp_path / "raw", home, partial=True).dataset["counts"]["images"] == 2
    assert ran == [0, 1]


def test_a_source_of_volumes_is_not_surveyed(planned: Callable, tmp_path: Path) -> None:
    """Names of images are inside of files, so a reader runs once."""
    for media, times in (("image2d", 2), ("volume3d", 1)):
        reads: list[int] = []
        plan = planned(lambda _, reads=reads: reads.append(1) or sample("a"), facts={"media": media})
        build(plan.recipe, tmp_path / "raw", Home(tmp_path / media), partial=True)
        assert len(reads) == times
    for media in ("image2d", "volume3d"):
        with pytest.raises(RawDataError, match="the reader found no sample"):
            build(planned(facts={"media": media}).recipe, tmp_path / "raw", Home(tmp_path / "none"), partial=True)


# --------------------------------------------------------------------------------------------------------- the raw tree


def test_keys_as_they_are_listed() -> None:
    fixed = altered(fixes=(Fix(key="Z.png", reason="x"),))
    assert spellings(fixed)["z.png"] == "Z.png"
    assert spellings(fixed)["hospital/test_image_1.png"] == "Hospital/Test_Image_1.png"


def test_rules_of_names() -> None:
    rule = _rule("masks/case_1_mask.png", "images/case_1.jpg")
    assert rule == _Rule("masks/", "_mask.png", "images/", ".jpg")
    assert rule.image_of("masks/case_2_mask.png") == "images/case_2.jpg"
    for other in ("masks/_mask.png", "masks/a/b_mask.png", "case_2_mask.png", "masks/case_2.png"):
        assert rule.image_of(other) == ""
    assert _rule("m_1.png", "i_1.png") == _Rule("m", ".png", "i", ".png")


def test_why_a_file_belongs_to_no_sample(tmp_path: Path) -> None:
    for name in ("a.jpg", "a_mask.png", "b_mask.png", "c.jpg", "c_mask.bmp", "c_mask.png.part", "d/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    tree = RawTree(tmp_path, collect=True)
    inventory = Inventory(STU, tree)
    inventory.note(Sample(key="a", image=tree.path("a.jpg"), masks={LABEL: lazy(np.zeros, tree.path("a_mask.png"))}))
    inventory.note(sample("array"))
    assert inventory.cause("b_mask.png") == "image b.jpg is missing"
    for name in ("c_mask.bmp", "c_mask.png.part"):
        assert inventory.cause(name) == "of image c.jpg, as which c_mask.png would be read"
    assert inventory.cause("e.txt") == inventory.cause("d/b_mask.png") == inventory.cause("a_mask.bmp") == ""


def test_all_that_is_missing_or_too_much(tmp_path: Path) -> None:
    (tmp_path / "x.csv").touch()
    (tmp_path / "Thumbs.db").touch()

    def fault(*samples: Sample, missing: tuple[str, ...] = (), receipt: Any = MappingProxyType({})) -> Any:
        tree = RawTree(tmp_path, collect=True)
        inventory = Inventory(STU, tree)
        for name in missing:
            tree.path(name)
        inventory.survey(samples)
        assert inventory.samples == len(samples)
        return inventory.fault(receipt)

    found = fault(missing=("t.csv",))
    assert type(found) is RawDataError
    assert found.what == (
        "STU-Hospital: 1 file is missing:\n  t.csv is missing\n1 file of the raw tree neither read nor ignored by "
        "name: x.csv."
    )
    assert (found.disk, found.next) == ("No build was written.", way_on(STU, {}))
    one = Sample(key="k", image=tmp_path / "t.csv")
    assert fault(one, missing=("t.csv",)).what.startswith("STU-Hospital: 1 file is missing:\n  k: t.csv is missing\n")
    dropped = Sample(key="k", image=tmp_path / "t.csv", drop="x")
    assert "missing" in fault(dropped, missing=("t.csv",)).what
    found = fault()
    assert type(found) is BuildError
    assert found.what == "STU-Hospital: 1 file of the raw tree neither read nor ignored by name: x.csv."
    assert found.next == "us43d build STU-Hospital --ignore x.csv"
    (tmp_path / "x.csv").unlink()
    assert fault() is None
    found = fault(missing=("t.csv", "u.csv"))
    assert found.what == "STU-Hospital: 2 files are missing:\n  t.csv is missing\n  u.csv is missing"


def test_a_pattern_that_matches_one_name() -> None:
    assert literal("a*b?[c].png") == "a[*]b[?][[]c].png"


@pytest.mark.parametrize(
    ("receipt", "files", "patterns", "command"),
    [
        ({}, ("a b", "[c]"), ("*.x",), "us43d build STU-Hospital --ignore '*.x' --ignore 'a b' --ignore '[[]c]'"),
        ({}, tuple("abcd"), ("*.x",), "us43d build STU-Hospital --ignore '*.x' --skip-bad"),
        ({"kind": "specimen"}, (), (), "us43d fetch STU-Hospital --specimen --force"),
        ({"kind": "given"}, (), (), "us43d build STU-Hospital --skip-bad   (skips and records them; or us43d fetch "
                                    "STU-Hospital --from with a complete copy)"),
    ],
)  # fmt: skip
def test_the_way_on(receipt: dict, files: tuple, patterns: tuple, command: str) -> None:
    assert way_on(STU, receipt, files, patterns) == command


def test_the_way_on_with_a_private_source() -> None:
    private = STU.model_copy(update={"collections": ("private",)})
    assert way_on(private, {}) == (
        "us43d import FOLDER --name STU-Hospital --force   (or, to skip and record them: us43d build STU-Hospital "
        "--skip-bad)"
    )


# --------------------------------------------------------------------------------------------------------- corrections


def written(key: str = "k", **facts: Any) -> Record:
    image = Written(file="f", sha256="s", bytes=9, kept=True, height=6, width=8, pixel_hash="p", phash=5)
    thing = Annotation(label="l", instance=0, counts="01", area=5, box=(1, 2, 3, 4), speck=False)
    return Record(**{
        "id": 7, "key": key, "group": "g", "official": None, "frame": None, "spacing": None, "slice": None, "tags": {},
        "remarks": ("seen",), "image": image, "annotations": (thing,), **facts,
    })  # fmt: skip


def fix(*masks: tuple[str, np.ndarray], key: str = "k", **facts: Any) -> review.Fix:
    given = tuple(Mask(structure, encode(mask).decode()) for structure, mask in masks)
    digest = corrections.masks_digest(["01"])
    return review.Fix(**{"id": "1", "when": "now", "who": "me", "image": Picture("stu_hospital", key, "p"),
                         "replaces": digest, "masks": given, **facts})  # fmt: skip


def verdict(**facts: Any) -> Verdict:
    place = Picture("stu_hospital", "w", "p")
    given = {"id": "2", "when": "then", "who": "you", "kind": "mask", "verdict": "wrong", "a": place, "b": None}
    return Verdict(**{**given, **facts})


def test_a_fix_replaces_masks() -> None:
    one, two = (each.name for each in taxonomy.taxonomy().categories[:2])
    number, other = (each.id for each in taxonomy.taxonomy().categories[:2])
    pieces = np.zeros((6, 8), bool)
    pieces[0, 0] = pieces[3:5, 3:6] = True
    category = {"z": number, "b": number}
    record = written()
    found = Corrections({"k": fix((two, MASK), (one, pieces), (one, MASK))}).apply(record, category)
    assert found == (corrections.REMARK,)
    assert record.remarks == ("seen", corrections.REMARK)
    assert [(each.label, each.instance, each.area, each.box) for each in record.annotations] == [
        ("b", 1, 1, (0, 0, 1, 1)), ("b", 1, 6, (3, 3, 3, 2)), ("b", 2, 48, (0, 0, 8, 6)), (two, 0, 48, (0, 0, 8, 6)),
    ]  # fmt: skip
    assert category == {"z": number, "b": number, two: other}


def test_a_fix_of_other_pixels_or_masks_is_not_applied() -> None:
    name = taxonomy.taxonomy().categories[0].name
    for given in (
        fix((name, MASK), image=Picture("stu_hospital", "k", "q")), fix((name, MASK), replaces="0"),
        fix((name, MASK), key="j"),
    ):  # fmt: skip
        record = written()
        assert Corrections({given.image.key: given}).apply(record, {}) == ()
        assert record == written()
    bare = written(image=None, annotations=())
    assert Corrections({"k": fix((name, MASK))}).apply(bare, {}) == ()
    assert Corrections._holds(fix(), bare) is False


def test_a_fix_that_does_not_fit() -> None:
    name = taxonomy.taxonomy().categories[0].name
    with pytest.raises(BuildError, match=r"^A corrected mask of k does not fit the image: "):
        Corrections({"k": fix((name, np.ones((3, 3), bool)))}).apply(written(), {})
    with pytest.raises(BuildError) as caught:
        Corrections({"k": fix(("made up", MASK))}).apply(written(), {})
    assert caught.value.what == "A correction names the structure 'made up', which the taxonomy lacks."
    assert caught.value.next == "us43d taxonomy   (then choose another name on the page)"


def test_a_speck_of_a_fix() -> None:
    mask = np.zeros((400, 400), bool)
    mask[:3, :5] = True
    mask[9:13, :4] = True
    record = written()
    record.image.height = record.image.width = 400
    Corrections({"k": fix((taxonomy.taxonomy().categories[0].name, mask))}).apply(record, {})
    assert [(each.area, each.speck) for each in record.annotations] == [(15, True), (16, False)]


def test_masks_that_are_wrong() -> None:
    place = Picture("stu_hospital", "k", "p")
    record = written(remarks=())
    assert Corrections(wrong={"k": (place, verdict())}).apply(record, {}) == (review.WRONG,)
    assert record.remarks == (review.WRONG,)
    assert Corrections(wrong={"k": (place._replace(picture="q"), verdict())}).apply(written(), {}) == ()


def test_what_became_of_corrections() -> None:
    wrong = {key: (Picture("s", key, "p"), verdict(id=key)) for key in "xwa"}
    given = Corrections({key: fix(key=key, id=key) for key in "cab"}, wrong, "digest")
    applied = given.applied({"a", "c"}, {"x", "w"})
    assert [each.id for each in applied.fixes] == ["a", "c"]
    assert list(applied.wrong) == ["w", "x"]
    assert applied.stale == ("a", "b")
    assert applied.facts() == {"corrections": {"images": 2, "excluded": 2, "stale": ["a", "b"], "digest": "digest"}}
    digest = corrections.masks_digest(["01"])
    assert applied.provenance()["corrections"][1:3] == [
        {"id": "c", "who": "me", "when": "now", "key": "c", "replaces": digest},
        {"id": "w", "who": "you", "when": "then", "key": "w", "verdict": "wrong"},
    ]
    assert (Applied().facts(), Applied().provenance()) == ({}, {})


def test_corrections_of_a_source(tmp_path: Path) -> None:
    assert corrections.folder(tmp_path, "busi") == tmp_path / "review" / "masks" / "busi"
    assert corrections.read(tmp_path, "busi") == Corrections()
    for source in ("busi", "stu_hospital"):
        for key in "ba":
            review.append_fix(tmp_path, Picture(source, key, "p"), "r", [Mask("s", "01")])
    found = corrections.read(tmp_path, "busi")
    digest = '[["a", "p", "r", [["s", "01"]]], ["b", "p", "r", [["s", "01"]]]]'
    assert sorted(found.by_key) == ["a", "b"]
    assert found.digest == hashlib.sha256(digest.encode()).hexdigest()
    review.append(tmp_path, "mask", "wrong", Picture("busi", "c", "q"), None)
    review.append(tmp_path, "mask", "wrong", Picture("stu_hospital", "d", "q"), None)
    found = corrections.read(tmp_path, "busi")
    assert list(found.wrong) == ["c"]
    assert found.digest == hashlib.sha256(f'{digest[:-1]}, ["c", "q"]]'.encode()).hexdigest()
    assert corrections.masks_digest(["b", "a"]) == hashlib.sha256(b"a\nb").hexdigest()


# --------------------------------------------------------------------------------------------------------------- pixels


def test_one_image_in_several_encodings() -> None:
    grey = np.stack([IMAGE] * 3, axis=2)
    assert np.array_equal(canonical(grey), IMAGE)
    colour = grey.copy()
    colour[0, 0, 1] += 1
    assert canonical(colour[:, ::-1]).flags["C_CONTIGUOUS"]
    assert canonical(IMAGE[:, ::-1]).flags["C_CONTIGUOUS"]
    assert np.array_equal(canonical(colour), colour)


def test_perceptual_hashes_are_these_for_ever() -> None:
    """Bit by bit the signs of the frequencies that an image was made of, at any size, grey or in colour."""
    low = np.random.default_rng(5).permutation(np.arange(-124, 128, 4))
    frequencies = np.zeros((32, 32))
    frequencies[:8, :8] = np.concatenate(([32 * 127], low)).reshape(8, 8)
    picture = np.rint(cv2.idct(frequencies)).astype(np.uint8)
    expected = int("1" + "".join(str(int(value > 0)) for value in low), 2)
    for rows, columns in ((1, 1), (2, 1), (1, 2), (4, 4), (8, 4)):
        assert perceptual_hash(np.kron(picture, np.ones((rows, columns), np.uint8))) == expected
    assert perceptual_hash(np.stack([picture, 0 * picture, 255 - picture], axis=2)) == expected
    thrice = np.kron(picture, np.ones((3, 3), np.uint8))
    thrice[1::3, 1::3] = 127  # a mean of areas, not of the pixels nearest to the middle
    assert perceptual_hash(thrice) == expected
    edges = np.zeros((129, 131), np.uint8)  # of an odd number, the last is left out
    edges[128] = edges[:, 130] = 255
    edges[:60, 130] = edges[128, 70:] = 0
    assert perceptual_hash(edges) == 0
