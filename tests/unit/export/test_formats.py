"""What each format holds comes back equal, through the tool's own reader where it is installed."""

import csv
import importlib.util
import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from us43d import export
from us43d.coco.segmentation import encode
from us43d.export import stream
from us43d.export.folds import folds
from us43d.export.polygons import outlines
from us43d.export.selection import Item, Options, Selection
from us43d.export.yolo import line
from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.pictures.levels import eight_bits, finite_range


def made(format: str, planted, folder: Path, **options) -> Path:
    export.write(format, planted.corpus, folder / format, Options(**options))
    return folder / format


def needs(module: str, why: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: {why}")


def items(planted, **options):
    selection = Selection(planted.corpus, Options(**options))
    for split, rows in selection.rows.items():
        yield from selection.items(split, 0, len(rows))


def unions(item) -> dict[str, np.ndarray]:
    return {
        c.name: item.union(c.position)
        for c in item.selection.categories
        if any(s.category == c.position for s in item.shapes)
    }


# ---------------------------------------------------------------------------------------------------------------- coco


def test_coco_gives_images_and_masks_back(planted, tmp_path) -> None:
    from pycocotools.coco import COCO

    out = made("coco", planted, tmp_path)
    for split in ("train", "val", "test"):
        coco = COCO(str(out / f"annotations/instances_{split}.json"))
        names = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
        assert sorted(names) == list(range(1, len(names) + 1))
        expected = [item for item in items(planted) if item.split == split]
        assert coco.getImgIds() == [item.number for item in expected]
        for item in expected:
            image = coco.loadImgs(item.number)[0]
            assert (out / "images" / image["file_name"]).read_bytes() == item.path.read_bytes()
            found = coco.loadAnns(coco.getAnnIds(item.number))
            assert len(found) == len(item.shapes)
            for annotation, shape in zip(found, item.shapes, strict=True):
                assert np.array_equal(coco.annToMask(annotation).astype(bool), item.mask(shape))
                assert annotation["id"] < 2**31
                assert names[annotation["category_id"]] == item.selection.categories[shape.category].name


def test_coco_keeps_ids_on_request(planted, tmp_path) -> None:
    out = made("coco", planted, tmp_path, keep_ids=True, sources=("CAMUS",))
    content = json.loads((out / "labels.json").read_text())
    ids = set(planted.corpus.images["id"].tolist())
    assert {image["id"] for image in content["images"]} <= ids
    taxonomy = {c["id"]: c["name"] for c in planted.corpus.categories}
    assert all(taxonomy[c["id"]] == c["name"] for c in content["categories"])


def test_coco_has_one_folder_for_fiftyone(planted, tmp_path) -> None:
    # COCODetectionDatasetImporter reads labels.json and data/ of a folder, and looks file names up in data/.
    out = made("coco", planted, tmp_path)
    content = json.loads((out / "labels.json").read_text())
    names = {path.relative_to(out / "data").as_posix() for path in (out / "data").iterdir()}
    assert {image["file_name"] for image in content["images"]} == names
    assert not (out / "data").readlink().is_absolute()


def test_coco_loads_in_supervision(planted, tmp_path) -> None:
    needs("supervision", "heavy; run once in an environment of its own")
    import supervision as sv

    out = made("coco", planted, tmp_path, sources=("BUSI", "STU-Hospital"))
    data = sv.DetectionDataset.from_coco(
        str(out / "images"), str(out / "annotations/instances_train.json"), force_masks=True
    )
    expected = {item.file: item for item in items(planted, sources=("BUSI", "STU-Hospital")) if item.split == "train"}
    assert len(data) == len(expected)
    for path, _, found in data:
        item = expected[Path(path).name]
        assert len(found) == len(item.shapes)
        for mask, shape in zip(found.mask if len(found) else (), item.shapes, strict=True):
            assert np.array_equal(mask, item.mask(shape))


def test_coco_loads_in_datumaro(planted, tmp_path) -> None:
    needs("datumaro", "heavy; run once in an environment of its own")
    import datumaro

    out = made("coco", planted, tmp_path)
    data = datumaro.Dataset.import_from(str(out), "coco")
    expected = list(items(planted))
    assert len(data) == len(expected)
    by_name = {entry.id: entry for entry in data}
    for item in expected:
        entry = by_name[item.name]
        masks = [a.image for a in entry.annotations if a.type.name == "mask"]
        assert len(masks) == len(item.shapes)
        assert all(any(np.array_equal(m.astype(bool), item.mask(s)) for m in masks) for s in item.shapes)


@pytest.mark.filterwarnings("ignore")
def test_coco_loads_in_mmdetection(planted, tmp_path) -> None:
    needs("mmdet", "it wants the compiled operators of mmcv; run once in an environment of its own")
    from mmdet.datasets import CocoDataset
    from pycocotools import mask as rle

    out = tmp_path / "coco"
    lines: dict[str, Any] = {}
    usage = export.write("coco", planted.corpus, out, Options()).usage
    exec(usage[usage.index("metainfo = ") :], lines)
    for split in ("train", "val", "test"):
        arguments = lines[f"{split}_dataloader"]["dataset"]
        assert arguments.pop("type") == "CocoDataset"
        data = CocoDataset(**arguments, test_mode=True)
        expected = {item.file: item for item in items(planted) if item.split == split}
        assert len(data) == len(expected)
        for n in range(len(data)):
            entry = data.get_data_info(n)
            item = expected.pop(Path(entry["img_path"]).name)
            assert [found["bbox_label"] for found in entry["instances"]] == [shape.category for shape in item.shapes]
            for found, shape in zip(entry["instances"], item.shapes, strict=True):
                assert np.array_equal(rle.decode(found["mask"]).astype(bool), item.mask(shape))


# ---------------------------------------------------------------------------------------------------------------- yolo


def rasterized(text: str, height: int, width: int) -> dict[int, np.ndarray]:
    """As readers do at the size of the image: fractions → pixels, cut to integers (ultralytics), filled."""
    masks: dict[int, np.ndarray] = {}
    for row in text.splitlines():
        category, *values = row.split()
        assert len(values) >= 6, "ultralytics takes shorter lines for boxes"
        points = np.array(values, np.float32).reshape(-1, 2)
        assert points.min() >= 0
        assert points.max() <= 1
        places = points * np.array([width, height], np.float32)
        pixels = places.astype(np.int32)
        assert np.array_equal(np.round(places), pixels), "supervision rounds where ultralytics truncates"
        mask = masks.setdefault(int(category), np.zeros((height, width), np.uint8))
        mask |= cv2.fillPoly(np.zeros((height, width), np.uint8), [pixels], 1)
    return masks


def test_yolo_polygons_fill_to_the_masks(planted, tmp_path) -> None:
    out = made("yolo", planted, tmp_path)
    assert (
        (out / "data.yaml").read_text().startswith("train: images/train\nval: images/val\ntest: images/test\nnames:\n")
    )
    for item in items(planted):
        assert (out / f"images/{item.split}/{item.file}").is_file()
        found = rasterized((out / f"labels/{item.split}/{item.name}.txt").read_text(), item.height, item.width)
        names = item.selection.categories
        assert {names[n].name for n in found} == set(unions(item))
        for n, mask in found.items():
            assert np.array_equal(mask.astype(bool), item.union(n))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 40), st.integers(3, 40), st.floats(0.1, 0.95), st.booleans())
def test_any_mask_survives_as_polygons(seed, height, width, share, smooth) -> None:
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    if smooth:
        noise = cv2.GaussianBlur(noise, (0, 0), 1.5)
    mask = noise < np.quantile(noise, share)
    polygons, holes = outlines(mask)
    assert len(polygons) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    assert holes >= 0
    text = "".join(line(0, polygon, width, height) for polygon in polygons)
    found = rasterized(text, height, width).get(0, np.zeros_like(mask))
    assert np.array_equal(found.astype(bool), mask)


# -------------------------------------------------------------------------------------------------------------- nnunet


def test_nnunet_label_maps_give_every_structure_back(planted, tmp_path) -> None:
    out = made("nnunet", planted, tmp_path) / "Dataset043_local"
    dataset = json.loads((out / "dataset.json").read_text())
    values = sorted(
        {v for entry in dataset["labels"].values() for v in (entry if isinstance(entry, list) else [entry])}
    )
    assert values == list(range(len(values))), "nnU-Net wants consecutive labels"
    regions = [name for name in dataset["labels"] if name != "background"]
    assert any(len(dataset["labels"][name]) > 1 for name in regions), "KidneyUS overlaps, so this corpus needs regions"
    assert len(dataset["regions_class_order"]) == len(regions)
    for name, value in zip(regions, dataset["regions_class_order"], strict=True):
        assert value in dataset["labels"][name]
    cases = 0
    for item in items(planted):
        part = "Ts" if item.split == "test" else "Tr"
        labels = cv2.imread(str(out / f"labels{part}/{item.name}.png"), cv2.IMREAD_UNCHANGED)
        image = cv2.imread(str(out / f"images{part}/{item.name}_0000.png"), cv2.IMREAD_UNCHANGED)
        assert labels.shape == image.shape == (item.height, item.width)
        assert set(np.unique(labels).tolist()) <= set(values)
        for name, mask in unions(item).items():
            assert np.array_equal(np.isin(labels, dataset["labels"][name]), mask)
        cases += part == "Tr"
    assert dataset["numTraining"] == cases == len(list((out / "labelsTr").iterdir()))


def test_nnunet_paints_a_structure_inside_another_without_a_hole_in_it(planted, tmp_path) -> None:
    out = made("nnunet", planted, tmp_path) / "Dataset043_local"
    dataset = json.loads((out / "dataset.json").read_text())
    regions = {name: values for name, values in dataset["labels"].items() if name != "background"}
    whole = 0
    for item in items(planted):
        predicted = np.zeros((item.height, item.width), np.uint8)  # by a perfect network, as nnU-Net writes it
        shown = unions(item)
        for name, value in zip(regions, dataset["regions_class_order"], strict=True):
            if name in shown:
                predicted[shown[name]] = value
        for name in {"kidney", "renal_sinus"} & set(shown):  # the sinus lies inside the kidney, and is painted last
            assert np.array_equal(np.isin(predicted, regions[name]), shown[name]), (item.key, name)
            whole += 1
    assert whole > 10


def test_nnunet_fold_0_is_the_split_of_the_corpus(planted, tmp_path) -> None:
    out = made("nnunet", planted, tmp_path)
    splits = json.loads((out / "Dataset043_local/splits_final.json").read_text())
    with (out / "images.csv").open(newline="") as file:
        rows = {f"{Path(row['file']).stem[:-5]}": row for row in csv.DictReader(file) if row["split"] != "test"}
    assert len(splits) == 5
    assert {rows[case]["split"] for case in splits[0]["val"]} == {"val"}
    assert {rows[case]["split"] for case in splits[0]["train"]} == {"train"}
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(rows)
    for fold in splits:
        assert not {rows[c]["unit"] for c in fold["train"]} & {rows[c]["unit"] for c in fold["val"]}


def test_folds_keep_units_whole() -> None:
    cases = [("val" if n < 4 else "train", f"u{n // 3}") for n in range(40)]
    assigned = folds(cases)
    assert set(assigned) == {unit for _, unit in cases}
    assert [unit for unit, fold in assigned.items() if fold == 0] == ["u0", "u1"], "a unit is held out whole"
    sizes = [sum(assigned[unit] == fold for _, unit in cases) for fold in range(5)]
    assert sizes == [6, 9, 9, 9, 7]


def test_json_in_pieces_is_that_of_the_json_module(tmp_path) -> None:
    value = {"name": "ü\n", "none": [], "nothing": {}, "cases": [{"a": [1, 2.5]}, "b"], "by": {"x": {"y": ["z"]}}}
    lazy = dict(value, none=iter(()), nothing=stream.Pairs(()), cases=iter(value["cases"]))
    lazy["by"] = stream.Pairs([("x", stream.Pairs([("y", iter(["z"]))]))])
    stream.write(tmp_path / "lazy.json", stream.Pairs(lazy.items()))
    assert (tmp_path / "lazy.json").read_text("utf-8") == json.dumps(value, indent=1, ensure_ascii=False)


def test_nnunet_verifies_the_dataset(planted, tmp_path) -> None:
    needs("nnunetv2", "it wants its own torch; run once in an environment of its own")
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    verify_dataset_integrity(str(made("nnunet", planted, tmp_path) / "Dataset043_local"), 1)


# --------------------------------------------------------------------------------------------------------- huggingface


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_huggingface_loads_the_folder(planted, tmp_path, monkeypatch) -> None:
    needs("datasets", "pip install 'us43d[export]'")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    out = made("huggingface", planted, tmp_path)
    data = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert set(data) == {"train", "validation", "test"}
    expected = {item.id: item for item in items(planted)}
    assert sum(len(part) for part in data.values()) == len(expected)
    for part in data.values():
        names = part.features["structures"].feature.names
        for row in part:
            item = expected.pop(row["id"])
            assert np.array_equal(np.asarray(row["image"]), item.picture())
            assert row["group"] == item.group
            assert [names[n] for n in row["structures"]] == [
                item.selection.categories[s.category].name for s in item.shapes
            ]
            for mask, shape in zip(row["masks"], item.shapes, strict=True):
                assert np.array_equal(np.asarray(mask) > 0, item.mask(shape))
    assert not expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("format", ["huggingface", "yolo"])
def test_a_split_without_images_is_not_announced(format, planted, tmp_path, monkeypatch) -> None:
    val = SPLITS.index("val")
    images = np.array(planted.corpus.images)
    images["split"][images["split"] == val] = SPLITS.index("train")
    monkeypatch.setattr(planted.corpus, "images", images)
    out = made(format, planted, tmp_path, sources=("BUSI",))
    if format == "yolo":
        assert "val" not in (out / "data.yaml").read_text()
        assert "has no val images" in (out / "README.md").read_text()
        return
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install 'us43d[export]'")
    assert set(datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))) == {"train", "test"}


def test_huggingface_does_not_give_the_cached_rows_of_a_folder_of_the_same_name(planted, tmp_path, monkeypatch) -> None:
    needs("datasets", "pip install 'us43d[export]'")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    for source in ("CAMUS", "BUSI"):
        out = made("huggingface", planted, tmp_path / source, sources=(source,))
        assert set(load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))["source"]) == {source}


# --------------------------------------------------------------------------------------------------------------- masks


def test_masks_are_the_union_of_a_structure(planted, tmp_path) -> None:
    out = made("masks", planted, tmp_path)
    count = 0
    for item in items(planted):
        files = {path.parent.name: path for path in (out / item.split / "masks").glob(f"*/{item.name}.png")}
        assert set(unions(item)) <= set(files)
        for c in item.selection.categories:
            if c.name in files:
                mask = cv2.imread(str(files[c.name]), cv2.IMREAD_UNCHANGED)
                assert set(np.unique(mask).tolist()) <= {0, 255}
                assert np.array_equal(mask > 0, item.union(c.position))
                count += 1
    assert count == sum(1 for path in out.rglob("masks/*/*.png"))


# ---------------------------------------------------------------------------------------------------------- webdataset


@pytest.mark.filterwarnings("ignore")
def test_webdataset_reads_in_three_lines(planted, tmp_path) -> None:
    needs("webdataset", "pip install webdataset")
    import webdataset

    out = made("webdataset", planted, tmp_path)
    expected = {item.name: item for item in items(planted)}
    for split in ("train", "val", "test"):
        index = json.loads((out / f"{split}.json").read_text())
        shards = [str(out / shard["url"]) for shard in index["shardlist"]]
        assert all((out / shard["url"]).stat().st_size == shard["filesize"] for shard in index["shardlist"])
        samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
        assert len(samples) == sum(shard["nsamples"] for shard in index["shardlist"])
        for sample in samples:
            item = expected.pop(sample["__key__"])
            shown = item.picture() if item.picture().ndim == 3 else np.repeat(item.picture()[..., None], 3, 2)
            assert np.array_equal(sample[item.suffix[1:]], shown)
            assert sample["json"]["split"] == split
            for entry, shape in zip(sample["json"]["annotations"], item.shapes, strict=True):
                assert np.array_equal(sample[entry["mask"]][..., 0] > 0, item.mask(shape))
    assert not expected


# ---------------------------------------------------------------------------------------------------------------- sam2


def test_sam2_has_images_and_videos(planted, tmp_path) -> None:
    from pycocotools import mask as rle

    out = made("sam2", planted, tmp_path)
    objects = json.loads((out / "objects.json").read_text())
    with (out / "images.csv").open(newline="") as file:
        file_of = {int(row["id"]): row["file"] for row in csv.DictReader(file)}
    videos = 0
    for item in items(planted):
        path = out / file_of[item.id]
        shown = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        own = item.picture() if item.picture().ndim == 3 else np.repeat(item.picture()[..., None], 3, 2)
        assert shown.shape == own.shape
        assert np.abs(shown.astype(int) - own).mean() < 5, "JPEG at quality 95"
        if "#" in item.key:
            assert item.source["name"] == "CAMUS"
            video = path.parent.name
            found = {
                objects[p.parent.name]: cv2.imread(str(p), 0) > 0
                for p in (out / item.split / "videos/Annotations" / video).glob(f"*/{path.stem}.png")
            }
            assert set(found) == set(unions(item))
            assert all(np.array_equal(found[name], mask) for name, mask in unions(item).items())
            videos += 1
            assert (video in (out / item.split / "videos.txt").read_text().split()) == bool(item.shapes)
        else:
            assert (item.name in (out / item.split / "images.txt").read_text().split()) == bool(item.shapes)
            content = json.loads(path.with_suffix(".json").read_text())
            for entry, shape in zip(content["annotations"], item.shapes, strict=True):
                mask = rle.decode(entry["segmentation"]).astype(bool)
                assert np.array_equal(mask, item.mask(shape))
                x, y = (int(value) for value in entry["point_coords"][0])
                assert mask[y, x]
    assert videos


@pytest.mark.filterwarnings("ignore")
def test_sam2_reads_what_is_listed(planted, tmp_path) -> None:
    needs("sam2", "it wants its own torch; run once in an environment of its own")
    from training.dataset import vos_raw_dataset

    usage = export.write("sam2", planted.corpus, tmp_path / "sam2", Options()).usage
    printed = re.findall(r"(SA1BRawDataset|PNGRawDataset)(\(.+\))$", usage, re.M)
    assert [name for name, _ in printed] == ["SA1BRawDataset", "PNGRawDataset"]
    train = [item for item in items(planted) if item.split == "train" and item.shapes]
    masks = 0
    for name, arguments in printed:
        data = eval(name + arguments, vars(vos_raw_dataset))
        for n in range(len(data)):
            video, loader = data.get_video(n)
            for frame in video.frames:
                masks += len(loader.load(frame.frame_idx))
    stills = sum(len(item.shapes) for item in train if "#" not in item.key)
    assert masks == stills + sum(len(unions(item)) for item in train if "#" in item.key) > stills > 0


# -------------------------------------------------------------------------------------------------------------- medsam


def test_medsam_keeps_every_instance(planted, tmp_path) -> None:
    out = made("medsam", planted, tmp_path)
    layers = 0
    for item in items(planted):
        paths = sorted((out / item.split).glob(f"{item.name}*.npz"))
        layers += len(paths) > 1
        found = []
        for path in paths:
            data = np.load(path)
            assert data["imgs"].shape == (item.height, item.width, 3)
            for n, (box, name) in enumerate(zip(data["boxes"], data["structures"], strict=True), start=1):
                mask = data["gts"] == n
                assert mask[box[1] : box[3] + 1, box[0] : box[2] + 1].sum() == mask.sum()
                found.append((str(name), mask))
        assert len(found) == len(item.shapes)
        for shape in item.shapes:
            name = item.selection.categories[shape.category].name
            assert any(name == other and np.array_equal(mask, item.mask(shape)) for other, mask in found)
    assert layers, "structures of KidneyUS overlap"


# --------------------------------------------------------------------------------------------------------------- monai


@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_monai_reads_the_datalist(planted, tmp_path) -> None:
    from monai.data import load_decathlon_datalist
    from monai.transforms import LoadImage

    out = made("monai", planted, tmp_path)
    values = json.loads((out / "datalist.json").read_text())["values"]
    listing = str(out / "datalist.json")
    cases = [(case, key) for key in ("training", "testing") for case in load_decathlon_datalist(listing, True, key)]
    expected = {item.name: item for item in items(planted)}
    assert len(cases) == len(expected)
    load = LoadImage("PILReader", image_only=True, reverse_indexing=False)
    for case, key in cases:
        item = expected.pop(Path(case["label"]).stem)
        assert (key == "testing") == (item.split == "test")
        if key == "training":
            assert (case["fold"] == 0) == (item.split == "val")
        labels = np.asarray(load(case["label"]))
        assert np.asarray(load(case["image"])).shape[:2] == labels.shape == (item.height, item.width)
        for name, mask in unions(item).items():
            assert np.array_equal(np.isin(labels, values[name]), mask)


# ----------------------------------------------------------------------------------------------------------- dicom-seg


def test_dicom_seg_reads_back(planted, tmp_path) -> None:
    needs("highdicom", "pip install 'us43d[export]'")
    import highdicom
    import pydicom

    out = made("dicom-seg", planted, tmp_path, sources=("CAMUS", "BUSI"))
    systems, series_of, numbers = set(), {}, []
    for item in items(planted, sources=("CAMUS", "BUSI")):
        folder = out / item.split / item.name
        image = pydicom.dcmread(folder / "image.dcm")
        assert np.array_equal(image.pixel_array, item.picture())
        if item.spacing:
            region = image.SequenceOfUltrasoundRegions[0]
            assert region.PhysicalDeltaX == pytest.approx(item.spacing[0] / 10)
        assert (folder / "seg.dcm").is_file() == bool(item.shapes)
        if item.shapes:
            seg = highdicom.seg.segread(folder / "seg.dcm")
            assert series_of.setdefault(image.SeriesInstanceUID, seg.SeriesInstanceUID) == seg.SeriesInstanceUID
            assert seg.InstanceNumber == image.InstanceNumber
            numbers.append((seg.SeriesInstanceUID, seg.InstanceNumber))
            found = seg.get_pixels_by_source_instance([image.SOPInstanceUID])[0]
            for n, shape in enumerate(item.shapes):
                assert np.array_equal(found[..., n] > 0, item.mask(shape))
                described = seg.get_segment_description(n + 1)
                assert described.segment_label.startswith(item.selection.categories[shape.category].name)
                systems.add(described.segmented_property_type.scheme_designator)
    assert systems == {"SCT", "99US43D"}
    assert len(set(numbers)) == len(numbers) > len(series_of) == len(set(series_of.values())), "videos have one series"


def compare_volumes(volumes, out: Path, options: Options) -> int:
    """Compare an export of volumes with the corpus, through highdicom and pydicom. Return the number of masks."""
    import highdicom
    import pydicom

    selection = Selection(volumes, options)
    of_id = {item.id: item for split, rows in selection.rows.items() for item in selection.items(split, 0, len(rows))}
    slices: dict[str, list] = {}
    with (out / "images.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            slices.setdefault(row["file"], []).append(of_id.pop(int(row["id"])))
    assert not of_id, "every slice is exported"
    counts = json.loads((out / "export.json").read_text())["counts"]
    assert len(slices) == len(list(out.rglob("image.dcm"))) == counts["volumes"]
    masks = 0
    for file, group in slices.items():
        assert [item.key for item in group] == sorted(item.key for item in group)
        image = pydicom.dcmread(out / file)
        assert np.array_equal(image.pixel_array, np.stack([item.picture() for item in group]))
        spacing = (group[0].slice_mm, *group[0].spacing[::-1])
        assert highdicom.imread(out / file).get_volume().spacing == pytest.approx(spacing)
        path = out / Path(file).with_name("seg.dcm")
        found = highdicom.seg.segread(path).get_pixels_by_source_frame(
            image.SOPInstanceUID, list(range(1, len(group) + 1))
        )
        names = [s.SegmentLabel.rpartition(" ")[0] for s in pydicom.dcmread(path).SegmentSequence]
        for item, segments in zip(group, found, strict=True):
            drawn = [(name, segments[..., n] > 0) for n, name in enumerate(names) if segments[..., n].any()]
            wanted = [(selection.categories[shape.category].name, item.mask(shape)) for shape in item.shapes]
            assert len(drawn) == len(wanted)
            assert all(any(a == b and np.array_equal(m, k) for b, k in drawn) for a, m in wanted)
            masks += len(wanted)
    return masks


@pytest.mark.parametrize("format", ["nnunet", "nnunet-3d", "dicom-seg", "medsam"])
def test_images_of_16_bits(format, volumes, tmp_path, monkeypatch) -> None:
    """nnU-Net gets them as they are; of others, the slices of a volume keep one scale, and they are counted."""
    stored = Corpus.stored
    monkeypatch.setattr(
        Corpus, "stored", lambda self, row: stored(self, row).astype(np.uint16) * np.uint16(9 + row % 2)
    )
    monkeypatch.setattr(Item, "deep", True)
    options = Options(sources=("CETUS",), splits=("train",))
    report = export.write(format, volumes, tmp_path / "out", options)
    selection = Selection(volumes, options)
    of_id = {item.id: item for item in selection.items("train", 0, len(selection))}
    slices: dict[str, list] = {}
    with (tmp_path / "out/images.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            slices.setdefault(row["file"], []).append(of_id[int(row["id"])].stored())
    for file, planes in slices.items():
        path = tmp_path / "out" / file
        if format == "nnunet":
            assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), planes[0])
        elif format == "nnunet-3d":
            nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: pip install 'us43d[export]'")
            assert np.array_equal(np.asarray(nibabel.load(path).dataobj).T, np.stack(planes))
        elif format == "dicom-seg":
            pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed: pip install 'us43d[train]'")
            volume = np.stack(planes)
            expected = eight_bits(volume, finite_range([volume]))
            assert np.array_equal(pydicom.dcmread(path).pixel_array, expected)
    said = report.facts["counts"].get("16-bit images reduced to 8 bits by their range", 0)
    assert said == (0 if format.startswith("nnunet") else sum(report.facts["images"].values()))


@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_a_volume_is_one_image_and_one_segmentation(volumes, tmp_path) -> None:
    needs("highdicom", "pip install 'us43d[export]'")
    out = tmp_path / "dicom"
    report = export.write("dicom-seg", volumes, out, Options())
    assert compare_volumes(volumes, out, Options()) == report.facts["annotations"] > 0
    again = export.write("dicom-seg", volumes, tmp_path / "again", Options(), jobs=2)
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*.dcm")} == {
        p.relative_to(again.out): p.read_bytes() for p in Path(again.out).rglob("*.dcm")
    }


@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_structures_of_a_volume_that_overlap_are_written_a_frame_at_a_time(volumes, tmp_path, monkeypatch) -> None:
    needs("highdicom", "pip install 'us43d[export]'")
    import pydicom

    shapes = Item._shapes

    def overlapping(self, first):
        for shape in shapes(self, first):
            shifted = np.roll(self.mask(shape), 9, axis=1)
            yield shape
            yield from (shape._replace(counts=encode(shifted)) for _ in range(5))

    monkeypatch.setattr(Item, "_shapes", overlapping)
    options, out = Options(sources=("CETUS",), splits=("val",), size=701), tmp_path / "dicom"
    export.write("dicom-seg", volumes, tmp_path / "small", replace(options, size=None))  # imports what it needs
    tracemalloc.start()
    try:
        report = export.write("dicom-seg", volumes, out, options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert compare_volumes(volumes, out, options) == report.facts["annotations"] > 0
    for path in out.rglob("seg.dcm"):
        seg = pydicom.dcmread(path)
        assert (seg.SegmentsOverlap, len(seg.SegmentSequence)) == ("YES", 6)
        assert seg.Rows * seg.Columns % 8, "a frame begins within a byte"
        assert peak < seg.NumberOfFrames * seg.Rows * seg.Columns  # not even a byte for each pixel
