"""Masks and tables that were saved again by other programs: read right, remarked, or refused; never silently wrong."""

import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import openpyxl
import pytest
from us43d.recipes import bus_uclm, mmotu_2d

from us43d import masks, registry
from us43d.contract import RawTree
from us43d.errors import RawDataError, UnreadableFile
from us43d.harmonize.build import build
from us43d.masks.convert import fill_polygon
from us43d.paths import Home


def disc(value: tuple[int, int, int], background: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """A painted RGB mask (90, 120, 3) with one disc of 2,821 pixels."""
    array = np.full((90, 120, 3), background, np.uint8)
    cv2.circle(array, (60, 45), 30, value, -1)
    return array


def as_jpeg(array: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", array, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_mask_of_mmotu_saved_as_jpeg_keeps_its_one_class(number: int) -> None:
    painted = disc(list(mmotu_2d.COLOURS.values())[number - 1])
    assert mmotu_2d.classes(painted).remarks == ()
    lossy = mmotu_2d.classes(as_jpeg(painted))
    assert set(np.unique(lossy.array)) == {0, number}
    truth = painted.any(axis=2)
    assert np.count_nonzero((lossy.array == number) & truth) / np.count_nonzero((lossy.array != 0) | truth) > 0.8
    assert all(remark.startswith("several colours in one mask") for remark in lossy.remarks)


def test_two_colours_of_a_mask_of_mmotu_are_two_classes() -> None:
    """Colours that nothing blurred: each says what its pixels are."""
    first, second, *_ = mmotu_2d.COLOURS.values()
    painted = disc(first)
    painted[:10, :20] = second
    read = mmotu_2d.classes(painted)
    assert read.remarks == ()
    assert np.array_equal(read.array == 2, np.all(painted == second, axis=2))
    assert np.array_equal(read.array == 1, np.all(painted == first, axis=2))


@pytest.mark.parametrize("white", [1, 255])
def test_a_black_and_white_mask_of_mmotu_is_unclassified(white: int) -> None:
    read = mmotu_2d.classes(disc((white, white, white)))
    assert np.array_equal(read.array != 0, disc((1, 1, 1)).any(axis=2))
    assert np.unique(read.array).tolist() == [0, 9]
    assert read.remarks[0].startswith("unclassified")
    assert mmotu_2d.classes(disc((0, 0, 0))).remarks == ()


def test_colours_that_bus_uclm_does_not_describe() -> None:
    green = disc(bus_uclm.GREEN)
    assert bus_uclm.two_coloured(green) is green
    assert bus_uclm.two_coloured(disc((255, 255, 255))).remarks == ("painted neither green nor red: 2,821 pixels",)
    green[:2, :3] = (0, 0, 255)
    assert bus_uclm.two_coloured(green).remarks == ("painted neither green nor red: 6 pixels",)


def test_the_outline_of_hc18_saved_as_jpeg_has_no_specks() -> None:
    outline = np.zeros((300, 400), np.uint8)
    cv2.ellipse(outline, (200, 150), (120, 90), 20, 0, 360, 255, 3)
    truth, lossy = masks.ellipse(outline).array, masks.ellipse(as_jpeg(outline))
    assert lossy.remarks == ()
    assert np.count_nonzero(truth ^ lossy.array) < 0.01 * np.count_nonzero(truth)
    assert cv2.connectedComponents(lossy.array.astype(np.uint8))[0] == 2


@pytest.mark.parametrize(("pixel", "right"), [(0.1, True), (0.104, True), (0.11, False), (0.09, False)])
def test_a_circumference_far_from_the_published_one_is_remarked(pixel: float, right: bool) -> None:
    outline = np.zeros((300, 400), np.uint8)
    cv2.circle(outline, (200, 150), 100, 255, 1)
    read = masks.ellipse(outline, pixel, 62.8)
    assert np.array_equal(read.array, masks.ellipse(outline).array)
    assert len(read.remarks) == (not right)
    if not right:
        words = f"circumference differs from the published one: {2 * np.pi * 100.5 * pixel:.0f}"
        assert read.remarks[0].startswith(words[:-1])
        assert read.remarks[0].endswith("mm of the mask, 62.8 mm there")


@pytest.fixture
def busbra(tmp_path: Path) -> Path:
    registry.specimen("busbra")(tmp_path, np.random.default_rng(0))
    return tmp_path


def changed(raw: Path, column: str, value: object) -> list[object]:
    """Read BUS-BRA after `value` (row number, cell → cell) was applied to a column of its table."""
    path = raw / "BUSBRA/bus_data.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for number, row in enumerate(rows):
        row[column] = value(number, row[column])
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return list(registry.recipe("busbra").read(RawTree(raw)))


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("Case", lambda n, cell: "", "Case is '', not a number"),
        ("Case", lambda n, cell: int(cell) + 1, "the name of the image says another"),
        ("Pathology", lambda n, cell: "benign" if cell == "malignant" else "malignant", "in 5-fold-cv.csv another"),
    ],
)
def test_a_column_of_bus_bra_that_moved_is_noticed(busbra: Path, column: str, value: object, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why):
        changed(busbra, column, value)


@pytest.mark.parametrize("form", ["{}.0", "{:0>4}"])
def test_cases_of_bus_bra_are_whole_numbers_however_they_are_written(busbra: Path, form: str) -> None:
    before = [sample.group for sample in registry.recipe("busbra").read(RawTree(busbra))]
    assert [sample.group for sample in changed(busbra, "Case", lambda n, cell: form.format(cell))] == before


@pytest.mark.parametrize("form", ["{},{}", "{};{}", '"{}"\t{}'])
def test_the_classes_of_tn3k_are_read_whatever_separates_them(tmp_path: Path, form: str) -> None:
    registry.specimen("tn3k")(tmp_path, np.random.default_rng(0))
    table = next(tmp_path.rglob("label4test.csv"))
    lines = [line.replace('"', "").strip().split(",") for line in table.read_text().splitlines() if line.strip()]

    def read() -> tuple[list[object], list[str]]:
        samples = [s for s in registry.recipe("tn3k").read(RawTree(tmp_path)) if s.split == "test"]
        return [s.tags.get("diagnosis") for s in samples], [remark for s in samples for remark in s.remarks]

    before = read()
    assert all(before[0])
    assert before[1] == []
    table.write_text("".join(f"{form.format(*line)}\r\n" for line in lines))
    assert read() == before
    table.write_text("".join(f"{form.format(*line)}\r\n" for line in lines[1:]))
    assert read()[1] == ["diagnosis unknown: label4test.csv has none for it"]
    table.write_text("nothing")
    with pytest.raises(UnreadableFile, match="no row of an image and 0 or 1"):
        read()


@pytest.mark.parametrize(
    ("slug", "listing", "remark"),
    [
        ("tnscui", "train.csv", "diagnosis unknown: train.csv has none for it"),
        ("ddti", "1_or_data/category.csv", "diagnosis unknown: 1_or_data/category.csv has none for it"),
        ("cesarean_scar_defect", "Segmentation/val.txt", "official split unknown: no list names the image"),
    ],
)
def test_an_image_whose_row_is_missing_is_remarked(tmp_path: Path, slug: str, listing: str, remark: str) -> None:
    registry.specimen(slug)(tmp_path, np.random.default_rng(0))

    def remarks() -> int:
        return sum(remark in sample.remarks for sample in registry.recipe(slug).read(RawTree(tmp_path)))

    before = remarks()
    table = next(path for path in tmp_path.rglob("*") if path.as_posix().endswith(listing))
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], ""]))
    assert remarks() == before + 1


def test_an_image_of_stmus_in_no_official_part_is_remarked(tmp_path: Path) -> None:
    registry.specimen("stmus_nda")(tmp_path, np.random.default_rng(0))
    remark = "official split unknown: no folder of MuscleCNN has the image"
    recipe = registry.recipe("stmus_nda")
    before = sum(remark in sample.remarks for sample in recipe.read(RawTree(tmp_path)))
    unique = next(sample.key.rpartition("/")[2] for sample in recipe.read(RawTree(tmp_path)) if sample.split == "train")
    next(tmp_path.rglob(f"MuscleCNN/train/{unique}")).unlink()
    assert sum(remark in sample.remarks for sample in recipe.read(RawTree(tmp_path))) == before + 1


def test_a_video_of_echonet_without_a_split_is_refused(tmp_path: Path) -> None:
    registry.specimen("echonet_dynamic")(tmp_path, np.random.default_rng(0))
    table = next(tmp_path.rglob("FileList.csv"))
    table.write_text(table.read_text().replace("TEST", ""))
    with pytest.raises(UnreadableFile, match=r"FileList\.csv in .*, line \d+: Split is ''; known splits: TRAIN, VAL"):
        list(registry.recipe("echonet_dynamic").read(RawTree(tmp_path)))


@pytest.mark.parametrize("slug", ["echonet_dynamic", "echonet_pediatric"])
def test_a_video_that_the_list_has_is_missed(tmp_path: Path, slug: str) -> None:
    """Without counts, the video was lost without a word."""
    registry.specimen(slug)(tmp_path, np.random.default_rng(0))
    table = next(tmp_path.rglob("FileList.csv"))
    name = Path(table.read_text().splitlines()[1].partition(",")[0]).stem
    next(tmp_path.rglob(f"{name}.avi")).unlink()
    with pytest.raises(RawDataError, match=rf"{name}\.avi is missing"):
        build(registry.recipe(slug), tmp_path, Home(tmp_path.parent / f"{tmp_path.name}-home"), partial=True)


def test_a_copy_of_a_frame_of_tg3k_is_named_by_its_mask(tmp_path: Path) -> None:
    registry.specimen("tg3k")(tmp_path, np.random.default_rng(0))
    image = next(tmp_path.rglob("thyroid-image/*.jpg"))
    copy = image.with_name(f"Copy of {image.name}")
    copy.write_bytes(image.read_bytes())
    with pytest.raises(RawDataError, match=rf"1 file is missing:\n.*thyroid-mask/{copy.name} is missing"):
        build(registry.recipe("tg3k"), tmp_path, Home(tmp_path.parent / f"{tmp_path.name}-home"), partial=True)


def test_details_of_a_patient_in_an_empty_file_are_not_lost(tmp_path: Path) -> None:
    """Sex, phase and image quality were silently missing."""
    registry.specimen("camus")(tmp_path, np.random.default_rng(0))
    next(tmp_path.rglob("Info_2CH.cfg")).write_bytes(bytes(40))
    with pytest.raises(UnreadableFile, match=r"Info_2CH\.cfg in .* holds 40 zero bytes\."):
        list(registry.recipe("camus").read(RawTree(tmp_path)))


@pytest.mark.parametrize(
    ("slug", "listing"),
    [("tnscui", "train.csv"), ("ddti", "1_or_data/category.csv"), ("tn3k", "label4test.csv")],
)
def test_an_image_of_two_classes_is_refused(tmp_path: Path, slug: str, listing: str) -> None:
    """The last row was taken."""
    registry.specimen(slug)(tmp_path, np.random.default_rng(0))
    table = next(path for path in tmp_path.rglob("*") if path.as_posix().endswith(listing))
    lines = table.read_text().split()
    image, kind = lines[-1].split(",")
    table.write_text("\n".join([*lines, f"{image},{1 - int(kind)}", ""]))
    with pytest.raises(UnreadableFile, match=r"two different rows|both classes"):
        list(registry.recipe(slug).read(RawTree(tmp_path)))


def test_an_image_of_two_types_in_the_workbook_is_refused(tmp_path: Path) -> None:
    registry.specimen("bus_dataset_b")(tmp_path, np.random.default_rng(0))
    path = next(tmp_path.rglob("DatasetB.xlsx"))
    book = openpyxl.load_workbook(path)
    image, kind = (cell.value for cell in book.worksheets[0][book.worksheets[0].max_row][:2])
    book.worksheets[0].append([image, f"not {kind}"])
    book.save(path)
    with pytest.raises(UnreadableFile, match="two different rows with Image"):
        list(registry.recipe("bus_dataset_b").read(RawTree(tmp_path)))


def test_clinical_columns_are_read_in_any_case(tmp_path: Path) -> None:
    registry.specimen("breast_lesions_usg")(tmp_path, np.random.default_rng(0))
    before = [sample.tags for sample in registry.recipe("breast_lesions_usg").read(RawTree(tmp_path))]
    path = next(tmp_path.rglob("*.xlsx"))
    book = openpyxl.load_workbook(path)
    for cell in book.worksheets[0][1]:
        cell.value = str(cell.value).upper()
    book.save(path)
    assert [sample.tags for sample in registry.recipe("breast_lesions_usg").read(RawTree(tmp_path))] == before


@pytest.mark.parametrize(
    ("slug", "table", "columns"),
    [
        ("acouslic", "fetal_abdominal_circumferences_per_sweep.csv", ["subject_id"]),
        ("c_trus", "c-trus.csv", ["patient"]),
        ("tdsc_abus", "labels.csv", ["case_id"]),
    ],
)
def test_identifiers_that_a_spreadsheet_saved_as_numbers(
    tmp_path: Path, slug: str, table: str, columns: list[str]
) -> None:
    """One patient had two names, or the class of a case was lost."""
    registry.specimen(slug)(tmp_path, np.random.default_rng(0))

    def read() -> list[object]:
        samples = registry.recipe(slug).read(RawTree(tmp_path))
        return [(sample.key, sample.group, sample.tags, sample.remarks) for sample in samples]

    before, edits = read(), 0
    for path in tmp_path.rglob(table):
        rows = list(csv.DictReader(path.read_text().splitlines()))
        for row in rows:
            for column in columns:
                edits += row[column].isdecimal()
                row[column] += ".0" if row[column].isdecimal() else ""
        with path.open("w", newline="") as file:
            made = csv.DictWriter(file, list(rows[0]))
            made.writeheader()
            made.writerows(rows)
    assert edits
    assert read() == before


SORTED = "chords do not follow one another along the long axis"


@pytest.mark.parametrize(
    ("edit", "remark"),
    [
        (lambda rows: rows, ""),
        (lambda rows: rows[:1] + rows[:0:-1], ""),  # from the base to the apex: the same contour
        (lambda rows: rows[::-1], SORTED),
        (lambda rows: sorted(rows, key=lambda row: float(row[1])), SORTED),
        (lambda rows: sorted(rows, key=lambda row: row[3]), SORTED),
        (lambda rows: rows[1:], "the tracing has another number of rows than most"),
        (lambda rows: rows[:9] + rows[10:], "the tracing has another number of rows than most"),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_rows_of_a_tracing_in_another_order(
    tmp_path: Path, edit: Callable[[list[list[str]]], list[list[str]]], remark: str, apart: bool
) -> None:
    """Of a sorted table the polygon is wrong, with a remark; the order of the frames means nothing."""
    registry.specimen("echonet_dynamic")(tmp_path, np.random.default_rng(0))

    def read() -> dict[str, tuple[np.ndarray, list[str]]]:
        drawn = {}
        for sample in registry.recipe("echonet_dynamic").read(RawTree(tmp_path)):
            for polygon in sample.masks.values():
                mask = fill_polygon(polygon.points, (112, 112), polygon.rule)
                drawn[sample.key] = mask, [words.partition(":")[0] for words in sample.remarks]
        return drawn

    before, table = read(), next(tmp_path.rglob("VolumeTracings.csv"))
    head, *rows = (line.split(",") for line in table.read_text().splitlines())
    frames = [[row for row in rows if (row[0], row[5]) == frame] for frame in dict.fromkeys((r[0], r[5]) for r in rows)]
    edited = [edit(frames[0]), *frames[1:]]
    if apart:  # frames are no longer one after the other
        edited = [[row for rows_ in itertools.zip_longest(*edited) for row in rows_ if row]]
    table.write_text("\n".join(",".join(row) for row in [head, *itertools.chain(*edited)]))
    key = f"Videos/{frames[0][0][0]}#{int(frames[0][0][5]):04}"
    after = read()
    assert [name for name, (_, remarks) in after.items() if remarks] == ([key] if remark else [])
    assert remark in ["", *after[key][1]]
    assert {name for name in before if (before[name][0] != after[name][0]).any()} <= ({key} if remark else set())


def test_a_damaged_row_of_tracings_is_of_one_video(tmp_path: Path) -> None:
    registry.specimen("echonet_dynamic")(tmp_path, np.random.default_rng(0))
    table = next(tmp_path.rglob("VolumeTracings.csv"))
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace(lines[1].split(",")[1], "NaN")
    table.write_text("\n".join(lines))
    tree = RawTree(tmp_path, collect=True)
    read = list(registry.recipe("echonet_dynamic").read(tree))
    ((key, why),) = tree.stopped
    assert key == f"Videos/{lines[1].partition(',')[0]}"
    assert "line 2: X1 is 'NaN', not a number" in why
    assert not [sample for sample in read if sample.key.startswith(key)]


def test_rows_of_echocp_that_contradict_each_other(tmp_path: Path) -> None:
    """The last row was taken."""
    registry.specimen("echocp")(tmp_path, np.random.default_rng(0))
    path, read = tmp_path / "echoCP_diagnosis_label.xlsx", registry.recipe("echocp").read
    before = {sample.key: sample for sample in read(RawTree(tmp_path))}
    book = openpyxl.load_workbook(path)
    book.active.append([1, "rest", "o"])  # another spelling of what is there
    book.active.append([2, "v", 0])
    book.save(path)
    after = {sample.key: sample for sample in read(RawTree(tmp_path))}
    changed = [key for key in before if after[key] != before[key]]
    assert {key.partition("#")[0] for key in changed} == {"EchoCP_dataset/002_v_image.nii.gz"}
    assert all(after[key].tags == {"action": "valsalva"} for key in changed)
    why = ("level unknown: rows of the table of diagnoses contradict each other",)
    assert all(after[key].remarks == why for key in changed)


def test_rows_of_breast_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    registry.specimen("breast_lesions_usg")(tmp_path, np.random.default_rng(0))
    path = next(tmp_path.rglob("*.xlsx"))
    book = openpyxl.load_workbook(path)
    last = [cell.value for cell in list(book.active.rows)[-1]]
    book.active.append([value if value != last[0] else f"{last[0]}1" for value in last])
    book.save(path)
    with pytest.raises(UnreadableFile, match="two different rows with Image_filename 'case"):
        list(registry.recipe("breast_lesions_usg").read(RawTree(tmp_path)))


@pytest.mark.parametrize(
    ("slug", "pattern", "remark"),
    [
        ("tnscui", "train.csv", "diagnosis unknown"),
        ("ddti", "category.csv", "diagnosis unknown"),
        ("tn3k", "label4*.csv", "diagnosis unknown"),
        ("tn3k", "tn3k-trainval-fold0.json", "split into training and validation unknown"),
        ("bus_dataset_b", "DatasetB.xlsx", "diagnosis unknown"),
        ("tdsc_abus", "labels.csv", "tumour unknown"),
        ("breast_lesions_usg", "*.xlsx", "clinical data and pixel size unknown"),
        ("tg3k", "tg3k-trainval.json", "official validation set unknown"),
        ("mmotu_2d", "train.txt", "official split unknown"),
        ("cubs", "*_CF.txt", "spacing unknown"),
        ("camus", "subgroup_*.txt", "official split unknown"),
        ("echocp", "*.xlsx", "the table of diagnoses has no row for this video"),
        ("stmus_nda", "MuscleCNN/train/*.png", "official split unknown"),
    ],
)
def test_an_optional_file_that_is_missing_is_remarked(tmp_path: Path, slug: str, pattern: str, remark: str) -> None:
    registry.specimen(slug)(tmp_path, np.random.default_rng(0))

    def read() -> dict[str, tuple[object, bool]]:
        samples = registry.recipe(slug).read(RawTree(tmp_path))
        return {
            sample.key: (
                (sample.tags, sample.split, sample.spacing_mm),
                any(text.startswith(remark) for text in sample.remarks),
            )
            for sample in samples
        }

    before = read()
    for path in tmp_path.rglob(pattern):
        path.unlink()
    after = read()
    assert after.keys() == before.keys()
    lost = {key for key in before if before[key][0] != after[key][0]}
    assert lost
    assert lost == {key for key in before if after[key][1] > before[key][1]}


@pytest.mark.parametrize(
    ("slug", "table", "column"),
    [
        ("busbra", "bus_data.csv", "ID"),
        ("busbra", "5-fold-cv.csv", "ID"),
        ("bus_uclm", "INFO.csv", "Image"),
        ("hc18", "*.csv", "filename"),
        ("ddti", "category.csv", "ID"),
        ("tnscui", "train.csv", "ID"),
        ("c_trus", "c-trus.csv", "file"),
        ("echonet_dynamic", "FileList.csv", "FileName"),
    ],
)
def test_a_row_that_was_cut_is_of_one_sample(tmp_path: Path, slug: str, table: str, column: str) -> None:
    """The whole table was refused, and with it the source."""
    registry.specimen(slug)(tmp_path, np.random.default_rng(0))
    before = {sample.key for sample in registry.recipe(slug).read(RawTree(tmp_path))}
    path = next(tmp_path.rglob(table))
    text = path.read_text("utf-8-sig")
    separator = ";" if ";" in text else ","
    lines = list(csv.reader(text.splitlines(), delimiter=separator))
    name = lines[-1][lines[0].index(column)]
    lines[-1].pop()
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(lines)
    tree = RawTree(tmp_path, collect=True)
    read = {sample.key for sample in registry.recipe(slug).read(tree)}
    ((key, why),) = tree.stopped
    assert name.rpartition(".")[0] in key or name in key
    assert f"line {len(lines)}, has" in why
    assert read == {other for other in before if not other.startswith(key)} < before


def test_a_frame_of_ccaui_without_a_time_in_its_name_is_one_sample(tmp_path: Path) -> None:
    """The whole source was refused."""
    registry.specimen("ccaui")(tmp_path, np.random.default_rng(0))
    before = {sample.key: sample.group for sample in registry.recipe("ccaui").read(RawTree(tmp_path))}
    image = next(tmp_path.rglob("US images/*.png"))
    image.rename(image.with_name(f"Copy of {image.name}"))
    tree = RawTree(tmp_path, collect=True)
    after = {sample.key: sample.group for sample in registry.recipe("ccaui").read(tree)}
    assert [stop.key for stop in tree.stopped] == [f"US images/Copy of {image.name}"]
    assert "does not begin with a time" in tree.stopped[0].why
    assert after == {key: group for key, group in before.items() if not key.endswith(f"/{image.name}")}
