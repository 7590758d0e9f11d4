"""A raw tree that lacks something or has too much: found by name before pixels are read; a way on that is recorded."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from us43d import masks, registry
from us43d.cards.card import left_out
from us43d.contract import Expect, RawTree, Sample, lazy
from us43d.errors import BuildError, CountError, RawDataError
from us43d.harmonize import blocks, shards
from us43d.harmonize.build import BuildResult, Skip, build
from us43d.harmonize.check import check
from us43d.harmonize.inventory import Inventory, way_on
from us43d.loading import latest
from us43d.paths import Home

TOP = "Dataset_BUSI_with_GT"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    registry.specimen("busi")(tmp_path / "raw", np.random.default_rng(3))
    return tmp_path / "raw"


def made(raw: Path, *, bad: bool = False, ignore: tuple[str, ...] = (), kind: str = "specimen") -> BuildResult:
    skip = Skip(bad, ignore)
    home = Home(raw.parent / "home")
    return build(registry.recipe("busi"), raw, home, receipt={"kind": kind}, fixes=False, skip=skip)


def rows(result: BuildResult) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in shards.read_manifest(result.path / shards.MANIFEST)}


def images(raw: Path) -> list[Path]:
    return sorted(path for path in (raw / TOP / "benign").iterdir() if "_mask" not in path.name)


def test_all_that_is_wrong_is_named_at_once_before_a_pixel_is_read(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = images(raw)[:3]
    first.unlink()
    second.with_name(f"{second.stem}_mask.png").unlink()
    third.write_bytes(b"no picture")
    (raw / TOP / "notes.csv").write_text("x")

    def read(*args: object) -> None:
        raise AssertionError("a pixel was read")

    monkeypatch.setattr(blocks, "run", read)
    with pytest.raises(RawDataError) as caught:
        made(raw, kind="download")
    said = caught.value.what
    assert f"{TOP}/benign/{first.stem}_mask.png (image {TOP}/benign/{first.name} is missing)" in said
    assert f"{TOP}/benign/{second.stem}_mask.png is missing" in said
    assert f"{TOP}/notes.csv" in said
    assert caught.value.next.startswith("us43d fetch BUSI --force")
    assert "--skip-bad" in caught.value.next


def test_skip_bad_counts_what_it_leaves_out(raw: Path) -> None:
    whole = rows(made(raw))
    first, second, third = images(raw)[:3]
    first.unlink()
    second.with_name(f"{second.stem}_mask.png").unlink()  # its second mask, if any, stays
    third.unlink()
    third.write_bytes(b"no picture")
    (raw / TOP / "notes.csv").write_text("x")
    result = made(raw, bad=True)
    assert result.path.name.endswith("-skipping")
    found = rows(result)
    dropped = {f"{TOP}/benign/{path.name}" for path in (second, third)}
    assert {key for key, row in found.items() if row["drop"] == blocks.SKIPPED} == dropped
    assert set(whole) - set(found) == {f"{TOP}/benign/{first.name}"}
    remarks = [str(found[key]["remarks"]) for key in sorted(dropped)]
    assert any("is missing" in remark for remark in remarks)
    assert any("readable" in remark for remark in remarks)
    assert str(raw) not in json.dumps(remarks)
    for key, row in found.items():
        if key not in dropped:
            assert (row["sha256"], row["annotations"]) == (whole[key]["sha256"], whole[key]["annotations"])
    skipped = result.dataset["skipped"]
    assert (skipped["skip_bad"], skipped["samples"]) == (True, 2)
    masks = [path for path in skipped["files"] if path.startswith(f"{TOP}/benign/{first.stem}_mask")]
    assert masks
    assert set(skipped["files"]) == {*masks, f"{TOP}/notes.csv"}
    assert json.loads((result.path / "provenance.json").read_bytes())["skipped"] == skipped
    assert "2 samples are dropped" in left_out(result.dataset)
    assert f"image {TOP}/benign/{first.name} is missing" in left_out(result.dataset).replace("\\", "")
    assert check(result.path) == []


def test_ignored_files_are_passed_over_and_recorded(raw: Path) -> None:
    (raw / TOP / "notes.csv").write_text("x")
    (raw / TOP / "odd [1].txt").write_text("x")
    with pytest.raises(BuildError, match=r"2 files .* neither read nor ignored by name") as caught:
        made(raw)
    words = shlex.split(caught.value.next)
    patterns = tuple(after for word, after in itertools.pairwise(words) if word == "--ignore")
    result = made(raw, ignore=patterns)
    assert [key for keys in result.dataset["skipped"]["ignored"].values() for key in keys] == [
        f"{TOP}/notes.csv", f"{TOP}/odd [1].txt",
    ]  # fmt: skip


def test_an_ignored_image_takes_its_mask_along_only_by_name(raw: Path) -> None:
    image = images(raw)[0]
    with pytest.raises(BuildError, match=f"image {TOP}/benign/".replace("(", r"\(")):
        made(raw, ignore=(f"*/{image.name}",))
    result = made(raw, ignore=(f"*/{image.stem}*",))
    assert f"{TOP}/benign/{image.name}" not in rows(result)


def test_a_build_that_leaves_nothing_out_comes_first(raw: Path) -> None:
    home = Home(raw.parent / "home")
    lesser = made(raw, bad=True)
    assert latest(home, "BUSI") == lesser.path
    whole = made(raw)
    assert latest(home, "BUSI") == whole.path
    assert "skipped" not in whole.dataset
    assert lesser.dataset["skipped"]["samples"] == 0


def upper(raw: Path) -> None:
    for path in sorted(raw.rglob("*.png")):
        path.rename(path.with_suffix(".PNG"))


def first_capital(raw: Path) -> None:
    for path in sorted(raw.rglob("*.png")):
        path.rename(path.with_name(path.name.capitalize()))


@pytest.mark.parametrize("change", [upper, first_capital])
def test_upper_case_names_have_the_keys_groups_and_splits_of_the_published(
    raw: Path, change: Callable[[Path], None]
) -> None:
    before = rows(made(raw))
    change(raw)
    after = rows(made(raw))
    for column in ("id", "group", "split", "annotations", "pixel_hash"):
        assert {key: row[column] for key, row in after.items()} == {key: row[column] for key, row in before.items()}


def test_the_command_that_is_printed_works(raw: Path) -> None:
    """As printed, by a user whose tree was put there by hand."""
    home = raw.parent / "home"
    (home / "raw").mkdir(parents=True)
    raw.rename(home / "raw" / "BUSI")
    raw = home / "raw" / "BUSI"
    images(raw)[0].unlink()

    def run(command: str) -> subprocess.CompletedProcess[str]:
        words = [*shlex.split(command)[1:], "--home", str(home), "--quiet", "--partial"]
        return subprocess.run([sys.executable, "-m", "us43d", *words], capture_output=True, text=True, check=False)

    failed = run("us43d build BUSI")
    assert failed.returncode == 1
    after = failed.stderr.split("Next: ")[1].split("   #")[0].strip()
    assert after == shlex.join(["us43d", "build", "BUSI", "--skip-bad", "--home", str(home)])
    done = run(after)
    assert done.returncode == 0, done.stderr


def test_a_name_that_leads_the_reader_astray_is_one_error(tmp_path: Path) -> None:
    registry.specimen("tg3k")(tmp_path / "raw", np.random.default_rng(3))
    image = sorted((tmp_path / "raw").rglob("thyroid-image/*.jpg"))[0]
    image.rename(image.with_name(f"renamed {image.name}"))
    with pytest.raises(RawDataError, match=f"renamed {image.stem}"):
        build(registry.recipe("tg3k"), tmp_path / "raw", Home(tmp_path / "home"), partial=True)


@pytest.fixture
def stu(tmp_path: Path) -> Path:
    """Masks of this source do not have the names of their images."""
    registry.specimen("stu_hospital")(tmp_path / "stu", np.random.default_rng(0))
    return tmp_path / "stu"


def test_the_image_that_is_missing_is_named_though_its_mask_has_another_name(stu: Path) -> None:
    next(stu.rglob("Test_Image_5.png")).unlink()
    with pytest.raises(BuildError, match=r"mask_5\.png \(image .*/Hospital/Test_Image_5\.png is missing\)"):
        build(registry.recipe("stu_hospital"), stu, Home(stu.parent / "home"), receipt={"kind": "given"})


def test_a_file_that_was_converted_is_named(stu: Path) -> None:
    mask = next(stu.rglob("mask_5.png"))
    mask.rename(mask.with_suffix(".tif"))
    with pytest.raises(RawDataError, match=r"mask_5\.png is missing \(there is mask_5\.tif\)"):
        build(registry.recipe("stu_hospital"), stu, Home(stu.parent / "home"), receipt={"kind": "given"})


def test_a_file_that_several_labels_need_is_missing_once(tmp_path: Path) -> None:
    registry.specimen("mmotu_2d")(tmp_path / "raw", np.random.default_rng(0))
    next(path for path in (tmp_path / "raw").rglob("*.PNG") if "_" not in path.name).unlink()
    with pytest.raises(RawDataError, match="1 file is missing"):
        build(registry.recipe("mmotu_2d"), tmp_path / "raw", Home(tmp_path / "home"), receipt={"kind": "specimen"})


def test_a_sample_without_group_or_with_an_unknown_label_is_skipped_on_request(stu: Path) -> None:
    recipe = registry.recipe("stu_hospital")

    def read(tree: RawTree) -> Iterator[Sample]:
        for number, sample in enumerate(recipe.read(tree)):
            masks = {"Lesion": sample.masks["breast_lesion"]} if number == 1 else sample.masks
            yield replace(sample, group="" if number == 0 else None, masks=masks)

    altered = recipe.model_copy(update={"read": read})
    result = build(altered, stu, Home(stu.parent / "home"), receipt={"kind": "specimen"}, skip=Skip(True, ()))
    dropped = {row["key"]: row["remarks"] for row in rows(result).values() if row["drop"]}
    assert len(dropped) == 2
    texts = " ".join(map(str, dropped.values()))
    assert "has no image: its table or name leaves it empty" in texts
    assert "has the label 'Lesion'; known labels: breast_lesion" in texts


def halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without_row(word: str) -> Callable[[Path], None]:
    def change(table: Path) -> None:
        lines = table.read_text().splitlines(keepends=True)
        table.write_text("".join(line for line in lines if word not in line))

    return change


def replaced(old: str, new: str) -> Callable[[Path], None]:
    return lambda file: file.write_text(file.read_text().replace(old, new, 1)) and None


@pytest.mark.parametrize(
    ("slug", "pattern", "damage", "key"),
    [
        ("camus", "patient0001_2CH_half_sequence_gt.nii.gz", halved, "patient0001_2CH_half_sequence.nii.gz"),
        ("camus", "patient0001_2CH_half_sequence_gt.nii.gz", Path.unlink, "patient0001_2CH_half_sequence.nii.gz"),
        ("camus", "patient0001/Info_2CH.cfg", halved, ""),  # still text
        ("camus", "patient0001/Info_2CH.cfg", lambda file: file.write_text(""), "patient0001_2CH_half_sequence.nii.gz"),
        ("ted", "patient*_4CH_sequence_gt.mhd", halved, "patient"),
        ("tdsc_abus", "MASK_*.nrrd", halved, "DATA_"),
        ("hmc_qu", "Mask_*.mat", halved, ".avi"),
        ("aul", "mass/*.json", halved, "/image/"),
        ("cubs", "Manual-A1/*-LI.txt", replaced("1", "l"), "IMAGES/"),
        ("ubpd", "*.json", halved, "images/"),
        ("tg3k", "thyroid-image/*.jpg", lambda file: file.write_text("no picture"), "tg3k/thyroid-image/"),
        ("lumbar_spine", "data_list.txt", lambda file: file.write_text(""), "URS08_H1"),
        ("busbra", "bus_data.csv", without_row("bus_0001-l"), "BUSBRA/Images/bus_0001-l.png"),
    ],
)  # fmt: skip
def test_a_sample_at_which_the_reader_stops_is_skipped_on_request(
    slug: str, pattern: str, damage: Callable[[Path], object], key: str, tmp_path: Path
) -> None:
    recipe, raw = registry.recipe(slug), tmp_path / "raw"
    for folder in (raw, tmp_path / "whole"):
        folder.mkdir()
        registry.specimen(slug)(folder, np.random.default_rng(0))

    def made(bad: bool, folder: Path = raw) -> BuildResult:
        home = Home(tmp_path / f"home of {folder.name}")
        return build(recipe, folder, home, receipt={"kind": "given"}, partial=True, skip=Skip(bad))

    whole = rows(made(False, tmp_path / "whole"))
    damaged = min(raw.rglob(pattern))
    damage(damaged)
    if not key:
        assert made(False)
        return
    with pytest.raises(
        RawDataError, match=rf"1 sample cannot be used:\n  .*{re.escape(key)}.* cannot be read: "
    ) as caught:
        made(False)
    assert caught.value.next.startswith(f"us43d build {recipe.name} --skip-bad")
    result = made(True)
    rest = rows(result)
    ((stopped, row),) = [(name, row) for name, row in rest.items() if row["drop"] == blocks.SKIPPED]
    assert key in stopped
    assert (row["group"], row["split"]) == ("", None)
    assert f"skipped: {stopped} cannot be read: " in str(row["remarks"])
    assert str(raw) not in str(row["remarks"])
    same = ("sha256", "annotations", "group", "tags")
    assert {name: [row[what] for what in same] for name, row in rest.items() if name != stopped} == {
        name: [row[what] for what in same] for name, row in whole.items() if name in rest and name != stopped
    }
    lost = set(whole) - set(rest)
    assert lost or stopped in whole
    assert all(stopped in name or slug == "ted" for name in lost)  # frames; those of TED are named by patient
    assert result.dataset["skipped"]["samples"] == 1
    assert damaged.relative_to(raw).as_posix() not in result.dataset["skipped"]["files"]
    assert result.dataset["counts"]["groups"] <= len({row["group"] for row in whole.values()})
    assert check(result.path) == []


def test_a_table_that_cannot_be_read_is_not_skipped(tmp_path: Path) -> None:
    registry.specimen("busbra")(tmp_path / "raw", np.random.default_rng(0))
    table = tmp_path / "raw/BUSBRA/bus_data.csv"
    recipe, home = registry.recipe("busbra"), Home(tmp_path / "home")
    text = table.read_text()
    table.write_text(text.replace(",", "", 1))
    with pytest.raises(RawDataError, match=r"bus_data\.csv") as caught:
        build(recipe, tmp_path / "raw", home, receipt={"kind": "given"}, skip=Skip(True))
    assert caught.value.next.startswith("us43d fetch BUS-BRA --from FOLDER --force")
    table.write_text(text.splitlines(keepends=True)[0])  # nothing under its headings
    with pytest.raises(RawDataError, match=r"none of the .* samples can be read:\n  BUSBRA/Images/.*has no row"):
        build(recipe, tmp_path / "raw", home, receipt={"kind": "given"}, skip=Skip(True))


def test_more_groups_than_published_among_the_published_images_are_refused(stu: Path) -> None:
    recipe = registry.recipe("stu_hospital")
    images = len(list(stu.rglob("Test_Image_*.png")))
    altered = recipe.model_copy(update={"expect": Expect(images=images, groups=images - 1), "group_kind": "patient"})
    why = rf"have {images} groups, published {images - 1}.*splits could share a patient"
    with pytest.raises(CountError, match=why):
        build(altered, stu, Home(stu.parent / "home"))
    more = recipe.model_copy(update={"expect": Expect(images=images - 1, groups=images - 1)})
    assert build(more, stu, Home(stu.parent / "home")).dataset["counts"]["groups"] == images


def test_the_next_command_keeps_what_is_ignored_already(raw: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (raw / TOP / name).write_text("x")
    with pytest.raises(BuildError) as caught:
        made(raw, ignore=("*a.csv",), kind="given")
    assert caught.value.next == f"us43d build BUSI --ignore '*a.csv' --ignore {TOP}/b.csv"
    images(raw)[0].unlink()
    with pytest.raises(BuildError) as caught:
        made(raw, ignore=("*a.csv",), kind="given")
    assert caught.value.next.startswith("us43d build BUSI --ignore '*a.csv' --skip-bad ")
    assert made(raw, ignore=("*a.csv",), bad=True, kind="given").dataset["skipped"]["ignored"]


def test_a_patient_in_two_spellings_is_one_group(stu: Path) -> None:
    """The images of one patient could be in two splits."""
    recipe = registry.recipe("stu_hospital")
    samples = list(recipe.read(RawTree(stu)))

    def read(raw: RawTree) -> Iterator[Sample]:
        for number, sample in enumerate(samples):
            yield replace(sample, group=("Pat-A", "PAT-a", "other")[min(number, 2)])

    result = build(recipe.model_copy(update={"read": read}), stu, Home(stu.parent / "home"), partial=True)
    assert {row["group"] for row in rows(result).values()} == {"Pat-A", "other"}
    assert result.dataset["remarks"]["group spelled in two ways"] == 1


def test_an_inverted_mask_is_remarked(stu: Path) -> None:
    path = next(stu.rglob("mask_5.png"))
    cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    result = build(registry.recipe("stu_hospital"), stu, Home(stu.parent / "home"), receipt={"kind": "specimen"})
    assert result.dataset["remarks"]["mask covers all four corners of its image"] == 1


def test_a_mask_that_a_copied_file_repeats_is_remarked(raw: Path) -> None:
    mask = next((raw / TOP / "malignant").glob("*_mask.png"))
    mask.with_name(f"{mask.stem}_1.png").write_bytes(mask.read_bytes())
    assert made(raw).dataset["remarks"]["equal masks, as of a copied file"] == 1


@pytest.mark.parametrize("name", ["{}.jpg", "{}.png.part"])
def test_a_further_mask_under_another_ending_is_not_to_be_ignored(raw: Path, name: str) -> None:
    """The build would have lacked it, with no more than a file ignored by its pattern."""
    first, second = images(raw)[:2]
    for path in (first, second):
        further = path.with_name(f"{path.stem}_mask_1.png")
        further.write_bytes(path.with_name(f"{path.stem}_mask.png").read_bytes())
    further.rename(further.with_name(name.format(further.stem)))
    image = further.name.replace("_mask_1", "")
    with pytest.raises(BuildError) as caught:
        made(raw, kind="given")
    assert f"{image}, as which {further.name} would be read" in caught.value.what
    assert "--ignore" not in caught.value.next
    skipped = made(raw, bad=True).dataset["skipped"]["files"]
    assert [image in why for why in skipped.values()] == [True]


def test_rules_of_names_belong_to_a_folder_and_are_few(tmp_path: Path) -> None:
    """A source with a folder per patient, or without any rule, would otherwise compare each name with thousands."""
    pairs = [(f"p{n}/{n}.png", f"p{n}/{n}_mask.png") for n in range(3)]
    pairs += [(f"image/{n:02}.png", f"mask/{chr(97 + n) * 3}{n:02}{chr(122 - n) * 2}.png") for n in range(25)]
    for key in [*itertools.chain(*pairs), "p2/other_mask.png"]:
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).touch()
    tree = RawTree(tmp_path)
    inventory = Inventory(registry.recipe("busi"), tree)
    for image, mask in pairs:
        inventory.note(Sample(key=image, image=tree.path(image), masks={"lesion": lazy(masks.binary, tree.path(mask))}))
    assert inventory.cause("p2/other_mask.png") == "image p2/other.png is missing"
    assert inventory.cause("p1/other.txt") == inventory.cause("p9/other_mask.png") == ""
    assert {folder: len(rules) for folder, rules in inventory._rules.items()} == {"p0": 1, "p1": 1, "p2": 1, "mask": 20}


@pytest.mark.parametrize(
    ("kind", "files", "command"),
    [
        ("", 3, "us43d build BUSI --ignore f0 --ignore f1 --ignore f2"),
        ("download", 4, "us43d build BUSI --skip-bad"),
        ("specimen", 0, "us43d fetch BUSI --specimen --force"),
        ("download", 0, "us43d fetch BUSI --force   (or, to skip and record them: us43d build BUSI --skip-bad)"),
        (
            "",
            0,
            "us43d build BUSI --skip-bad   (skips and records them; or us43d fetch BUSI --from with a complete copy)",
        ),
    ],
)
def test_the_command_to_go_on_with(kind: str, files: int, command: str) -> None:
    recipe = registry.recipe("busi")
    assert way_on(recipe, {"kind": kind}, [f"f{n}" for n in range(files)]) == command


@pytest.mark.parametrize(
    ("slug", "pattern", "remark"),
    [
        ("breast_lesions_usg", "*.xlsx", "clinical data and pixel size unknown"),
        ("tnscui", "train.csv", "diagnosis unknown"),
        ("camus", "subgroup_testing.txt", "official split unknown"),
        ("busbra", "bus_data.csv", ""),
        ("tdsc_abus", "Test/labels.csv", ""),  # read behind other samples
    ],
)
def test_a_damaged_table_that_is_optional_can_be_ignored(tmp_path: Path, slug: str, pattern: str, remark: str) -> None:
    """The next command was to fetch again alone, though the source is read where the table is missing."""
    registry.specimen(slug)(tmp_path / "raw", np.random.default_rng(0))
    recipe, home = registry.recipe(slug), Home(tmp_path / "home")
    table = next((tmp_path / "raw").rglob(pattern))
    table.write_bytes(b"")
    with pytest.raises(RawDataError) as caught:
        build(recipe, tmp_path / "raw", home, partial=True, skip=Skip(ignore=("*.tmp",)))
    first, _, rest = caught.value.next.partition(" (or, without ")
    assert first.startswith(f"us43d fetch {recipe.name} --force")
    if not remark:
        assert rest == ""
        return
    words = shlex.split(rest.partition(": ")[2].removesuffix(")"))
    assert words[:3] == ["us43d", "build", recipe.name]
    patterns = tuple(after for word, after in itertools.pairwise(words) if word == "--ignore")
    assert patterns == ("*.tmp", table.relative_to(tmp_path / "raw").as_posix())
    result = build(recipe, tmp_path / "raw", home, partial=True, skip=Skip(ignore=patterns))
    assert any(name.startswith(remark) for name in result.dataset["remarks"])
    assert [table.relative_to(tmp_path / "raw").as_posix()] in result.dataset["skipped"]["ignored"].values()
