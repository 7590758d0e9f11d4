"""What a block writes of each sample: files, records, remarks; and who runs blocks."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from us43d import atomic
from us43d.contract import Polygon, Sample, lazy
from us43d.errors import BuildError, MaskMismatch, RawDataError, StorageError
from us43d.harmonize import blocks, pool, records
from us43d.harmonize.blocks import FIXED, SKIPPED, Block, Options
from us43d.harmonize.pixels import canonical, perceptual_hash, pixel_hash
from us43d.harmonize.records import Record
from us43d.masks.components import whole

PLAIN = Options({}, False)
IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)


def mask(*spots: tuple[int, int]) -> np.ndarray:
    array = np.zeros((6, 8), bool)
    for spot in spots:
        array[spot] = True
    return array


def ran(folder: Path, *samples: Sample, options: Options = PLAIN, number: int = 0) -> list[Record]:
    block = Block(number, folder, tuple(enumerate(samples, start=7)), options)
    assert blocks.run(block) == []
    return [records.parse(line) for _, line in records.lines(records.path_of(folder, number))]


def test_a_record_has_all_of_a_sample(tmp_path: Path) -> None:
    sample = Sample(
        key="k", image=IMAGE, group="g", split="test", frame=3, spacing_mm=(0.5, 1), slice_mm=2.5, tags={"age": 4},
        remarks=("seen", "seen"), masks={"l": mask((1, 1))},
    )  # fmt: skip
    (record,) = ran(tmp_path, sample, number=12)
    assert record.model_dump(exclude={"image", "annotations"}) == {
        "id": 7, "key": "k", "group": "g", "official": "test", "frame": 3, "spacing": (0.5, 1), "slice": 2.5,
        "tags": {"age": 4}, "remarks": ("seen",), "masks": 1, "drop": None, "split": None,
    }  # fmt: skip
    assert record.annotations[0].model_dump() == {
        "label": "l", "instance": 0, "counts": record.annotations[0].counts, "area": 1, "box": (1, 1, 1, 1),
        "speck": False,
    }  # fmt: skip
    image = record.image
    assert image is not None
    data = (tmp_path / "output" / image.file).read_bytes()
    assert image.model_dump() == {
        "file": "images/00012/7.png", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "kept": False,
        "height": 6, "width": 8, "pixel_hash": pixel_hash(IMAGE), "phash": perceptual_hash(IMAGE),
    }  # fmt: skip
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), IMAGE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blocks", "output", "parts"]
    assert list((tmp_path / "parts").iterdir()) == []
    assert (tmp_path / "blocks" / "00012.jsonl").is_file()


def test_a_published_file_is_kept(tmp_path: Path) -> None:
    for ending, kept in (("png", "png"), ("jpg", "jpg"), ("bmp", None)):
        file = tmp_path / f"image.{ending}"
        cv2.imwrite(str(file), IMAGE)
        (record,) = ran(tmp_path / ending, Sample(key="k", image=file))
        assert record.image is not None
        assert record.image.kept is (kept is not None)
        assert record.image.file == f"images/00000/7.{kept or 'png'}"
        written = tmp_path / ending / "output" / record.image.file
        assert (written.read_bytes() == file.read_bytes()) is (kept is not None)
        assert record.image.pixel_hash == pixel_hash(canonical(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)))


def test_images_that_are_written_are_on_the_disk_before_their_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "sync", lambda: synced.append(records.path_of(tmp_path, 0).exists()))
    file = tmp_path / "image.png"
    cv2.imwrite(str(file), IMAGE)
    ran(tmp_path, Sample(key="k", image=file), Sample(key="d", image=file, drop="blurred"))
    assert synced == []
    records.path_of(tmp_path, 0).unlink()
    ran(tmp_path, Sample(key="k", image=file), Sample(key="l", image=IMAGE))
    assert synced == [False]


def test_files_that_are_being_written_are_not_in_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that is killed leaves none there. Images are on the disk before the record, which is waited for."""
    file = tmp_path / "image.png"
    cv2.imwrite(str(file), IMAGE)
    how: list[dict[str, Any]] = []
    for name in ("write_bytes", "link_or_copy"):
        do = getattr(atomic, name)
        monkeypatch.setattr(atomic, name, lambda *what, do=do, **given: (how.append(given), do(*what, **given)))
    ran(tmp_path, Sample(key="k", image=file), Sample(key="l", image=IMAGE))
    parts = {"parts": tmp_path / "parts"}
    assert how == [parts, parts | {"durable": False}, parts]


def test_masks_of_an_image_in_colour(tmp_path: Path) -> None:
    (record,) = ran(
        tmp_path, Sample(key="k", image=np.stack([IMAGE, IMAGE, 255 - IMAGE], axis=2), masks={"l": IMAGE > 5})
    )
    assert record.annotations[0].area == 42


def test_a_group_is_the_key_where_there_is_none(tmp_path: Path) -> None:
    assert ran(tmp_path, Sample(key="k", image=IMAGE))[0].group == "k"


def test_a_dropped_sample_has_no_image(tmp_path: Path) -> None:
    masks = {"a": [mask((1, 1)), mask((2, 2))], "b": mask((1, 1))}
    dropped = Sample(
        key="k", image=IMAGE, masks=masks, instances={"c": (mask((1, 1)),)}, drop="blurred", remarks=("x",)
    )
    fixed = Sample(key="l", image=IMAGE, masks=masks, instances={"c": (mask(), mask())}, drop="a copy",
                   remarks=("x", f"{FIXED}a copy"))  # fmt: skip
    one, other = ran(tmp_path, dropped, fixed)
    assert (one.drop, one.image, one.masks, one.annotations) == ("blurred", None, 0, ())
    assert (other.drop, other.image, other.masks) == ("a copy", None, 5)
    assert not list(tmp_path.rglob("*.png"))


def test_samples_that_cannot_be_read_are_named_or_skipped(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "bad.png").write_bytes(b"no image")
    samples = ((1, Sample(key="bad.png", image=raw / "bad.png", remarks=("seen",), masks={"l": IMAGE})),
               (2, Sample(key="k", image=IMAGE, masks={"l": np.ones((2, 2), bool)})),
               (3, Sample(key="good", image=IMAGE)))  # fmt: skip
    wrong = blocks.run(Block(0, tmp_path, samples, PLAIN))
    assert wrong[0].startswith(f"{raw}/bad.png ")
    assert wrong[1:] == ["k: its mask is 2 × 2 pixels, the image 8 × 6, and no rule covers that."]
    assert not records.path_of(tmp_path, 0).exists()
    assert blocks.run(Block(0, tmp_path, samples, Options({}, False, raw))) == []
    bad, mismatch, good = (records.parse(line) for _, line in records.lines(records.path_of(tmp_path, 0)))
    assert (bad.drop, mismatch.drop, good.drop) == (SKIPPED, SKIPPED, None)
    assert bad.remarks == ("seen", f"skipped: {wrong[0].replace(f'{raw}/', '')}")
    assert mismatch.remarks == (f"skipped: {wrong[1]}",)
    assert (bad.masks, bad.image) == (0, None)


def test_a_reason_that_does_not_name_the_sample_gets_its_key(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    (wrong,) = blocks.run(Block(0, tmp_path, ((1, Sample(key="frame 5", image=tmp_path / "bad.png")),), PLAIN))
    assert wrong.startswith(f"frame 5: {tmp_path}/bad.png")


def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        blocks.run(Block(0, tmp_path, (), PLAIN))
    assert caught.value.disk == "The finished blocks are kept; the next build resumes from them."


def test_images_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RawDataError) as caught:
        blocks._image(Sample(key="k", image=np.zeros((2, 2), np.float32)), {}, [])
    assert caught.value.what == "k: an image of shape (2, 2) and type float32 cannot be written."
    with pytest.raises(RawDataError, match=r"gone\.png cannot be read: No such file or directory\."):
        blocks._image(Sample(key="k", image=tmp_path / "gone.png"), {}, [])
    _, array, kept = blocks._image(Sample(key="k", image=np.full((2, 2), 300, np.uint16)), {}, [])
    assert (array.dtype, kept) == (np.uint16, None)
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, None))
    with pytest.raises(BuildError, match="k: OpenCV could not write its PNG"):
        blocks._image(Sample(key="k", image=IMAGE), {}, [])


def test_an_array_read_later_is_read_once(tmp_path: Path) -> None:
    later = lazy(np.array, tuple(map(tuple, IMAGE.tolist())), np.uint8)
    memo: dict[Any, Any] = {}
    sample = Sample(key="k", image=later, masks={"l": later})
    assert np.array_equal(blocks._image(sample, memo, [])[1], IMAGE)
    assert blocks._mask(later, sample, (6, 8), memo, []) is memo[later]


def test_pieces_labels_and_masks_in_their_order() -> None:
    masks = {"b": mask((0, 7), (3, 3)), "a": [mask(), mask((2, 2)), mask((5, 5), (0, 1))]}
    found, number = blocks._annotations(Sample(key="k", image=IMAGE, masks=masks), (6, 8), {}, [], PLAIN)
    assert number == 3
    assert [(each.label, each.instance, each.box) for each in found] == [
        ("a", 1, (2, 2, 1, 1)), ("a", 2, (1, 0, 1, 1)), ("a", 2, (5, 5, 1, 1)), ("b", 0, (3, 3, 1, 1)),
        ("b", 0, (7, 0, 1, 1)),
    ]  # fmt: skip


def test_a_speck_is_one_by_both_sides_of_its_image() -> None:
    piece = whole(np.pad(np.ones((2, 5), bool), 1))
    assert piece is not None
    sizes = ((401, 300), (300, 401), (300, 300), (401, 200))
    assert [blocks._annotation(piece, "l", 0, size).speck for size in sizes] == [True, True, False, False]


def test_instances_stay_whole() -> None:
    instances = {"a": [mask(), mask((0, 7), (3, 3)), mask((1, 1))]}
    found, number = blocks._annotations(Sample(key="k", image=IMAGE, instances=instances), (6, 8), {}, [], PLAIN)
    assert number == 2
    assert [(each.instance, each.area, each.box) for each in found] == [(1, 2, (3, 0, 5, 4)), (2, 1, (1, 1, 1, 1))]


def test_labels_that_the_paper_renames_merges_or_omits() -> None:
    masks = {"a": mask((1, 1)), "b": (mask((1, 2)), mask((4, 4))), "c": mask((0, 0)), "d": mask((5, 5))}
    sample = Sample(key="k", image=IMAGE, masks=masks)
    options = Options({"a": "m", "b": "m", "c": None}, False)
    found, number = blocks._annotations(sample, (6, 8), {}, [], options)
    assert number == 4
    assert [(each.label, each.instance, each.area) for each in found] == [("d", 0, 1), ("m", 0, 2), ("m", 0, 1)]
    found, _ = blocks._annotations(sample, (6, 8), {}, [], Options({"b": "m"}, False))
    assert [(each.label, each.instance) for each in found if each.label == "m"] == [("m", 0), ("m", 1)]


def test_the_paper_drops_images_without_annotation(tmp_path: Path) -> None:
    bare, full = ran(
        tmp_path, Sample(key="k", image=IMAGE, masks={"l": mask()}),
        Sample(key="l", image=IMAGE, masks={"l": mask((1, 1))}),
        options=Options({}, True),
    )  # fmt: skip
    assert (bare.drop, bare.image) == ("no annotation (excluded by the paper profile)", None)
    assert (full.drop, full.image is None) == (None, False)


def test_masks_that_a_person_should_know_of() -> None:
    corners = mask((0, 0), (0, 7), (5, 0), (5, 7))
    equal = [mask((1, 1)), mask(), mask(), mask((1, 1)).astype(np.uint8) * 7, mask((1, 1)), mask((2, 2))]
    remarks: list[str] = []
    blocks._annotations(Sample(key="k", image=IMAGE, masks={"a": corners, "b": equal}), (6, 8), {}, remarks, PLAIN)
    assert remarks == [
        "mask covers all four corners of its image: inverted, or drawn over all of it",
        "equal masks, as of a copied file: 2 more of b",
    ]
    assert blocks._again([mask((1, 1)), mask((1, 1))]) == 1
    assert blocks._again([mask((1, 1))]) == blocks._again([]) == 0


def test_outlines() -> None:
    def remarked(*points: tuple[float, float]) -> tuple[int, list[str]]:
        remarks: list[str] = []
        filled = blocks._mask(
            Polygon(((2, 2), (4, 2), (4, 4), *points)), Sample(key="k", image=IMAGE), (6, 8), {}, remarks
        )
        assert filled.shape == (6, 8)
        return int(filled.sum()), remarks

    assert remarked((2, 4)) == (9, [])
    assert remarked((-1, 4))[1] == remarked((2, -1))[1] == remarked((8, 4))[1] == remarked((2, 6))[1] == []
    told = ["outline leaves the picture of 8 × 6 pixels"]
    for point in ((-1.5, 4), (8.5, 4), (2, -1.5), (2, 6.5)):
        assert remarked(point)[1] == told
    slanted = ((0.0, 0.0), (5.0, 3.0), (0.0, 3.0))
    sample = Sample(key="k", image=IMAGE)
    touch, inside = (blocks._mask(Polygon(slanted, rule), sample, (6, 8), {}, []) for rule in ("touch", "inside"))
    assert touch.sum() > inside.sum()


def test_a_mask_resized_to_its_image() -> None:
    sample = Sample(key="k", image=IMAGE, fit="nearest")
    remarks: list[str] = []
    small = np.array([[1, 0, 0], [0, 1, 1]], np.uint8)
    found = blocks._mask(small, sample, (6, 8), {}, remarks)
    rows, columns = [(2 * n + 1) * 2 // 12 for n in range(6)], [(2 * n + 1) * 3 // 16 for n in range(8)]
    assert found.tolist() == [[int(small[row, column]) for column in columns] for row in rows]
    assert remarks == ["mask resized to its image by nearest neighbour: 3 × 2 to 8 × 6"]
    for wrong in (np.ones((6, 8, 1), bool), np.ones((0, 8), bool)):
        with pytest.raises(MaskMismatch):
            blocks._mask(wrong, sample, (6, 8), {}, [])
    assert blocks._mask(IMAGE, sample, (6, 8), {}, remarks) is IMAGE
    assert len(remarks) == 1


def test_blocks_run_here_or_in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block alone runs in this process, several with more than one job in workers."""
    ran: list[Any] = []
    monkeypatch.setattr(blocks, "run", lambda block: [f"wrong {block.number}"])
    monkeypatch.setattr(pool, "_pool", lambda todo, jobs, note: ran.append((jobs, [block.number for block in todo])))

    def work(jobs: int, number: int) -> list[tuple[int, list[str]]]:
        noted: list[tuple[int, list[str]]] = []
        todo = (Block(n, tmp_path, ((1, Sample(key="k", image=IMAGE)),) * (n + 1), PLAIN) for n in range(number))
        pool.runner(jobs)(todo, lambda *done: noted.append(done))
        return noted

    assert work(1, 3) == work(0, 3) == [(1, ["wrong 0"]), (2, ["wrong 1"]), (3, ["wrong 2"])]
    assert work(4, 1) == [(1, ["wrong 0"])]
    assert work(4, 0) == []
    assert ran == []
    assert work(2, 2) == []
    assert work(3, 3) == []
    assert ran == [(2, [0, 1]), (3, [0, 1, 2])]


def test_few_blocks_wait_for_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are threads here."""
    made: list[Any] = []

    def executor(jobs: int, **how: Any) -> ThreadPoolExecutor:
        made.append((jobs, how["initializer"], how["mp_context"].get_start_method()))
        return ThreadPoolExecutor(jobs)

    monkeypatch.setattr(pool, "ProcessPoolExecutor", executor)
    monkeypatch.setattr(blocks, "run", lambda block: [f"wrong {block.number}"])
    noted: list[tuple[int, list[str]]] = []
    ahead: list[int] = []

    def todo(number: int) -> Iterator[Block]:
        for n in range(number):
            ahead.append(n - len(noted))
            yield Block(n, tmp_path, ((1, Sample(key="k", image=IMAGE)),) * (n + 1), PLAIN)

    pool._pool(todo(20), 2, lambda *done: noted.append(done))
    assert sorted(noted) == [(n + 1, [f"wrong {n}"]) for n in range(20)]
    assert max(ahead) == 4
    pool._pool(todo(1), 2, lambda *done: noted.append(done))
    assert len(noted) == 21
    assert made == [(2, pool._begin_worker, "forkserver")] * 2

    def broken(block: Block) -> list[str]:
        raise BrokenProcessPool

    monkeypatch.setattr(blocks, "run", broken)
    with pytest.raises(BuildError, match="A worker process died, most likely because memory ran out") as caught:
        pool._pool(todo(3), 2, lambda *done: None)
    assert caught.value.disk == "The finished blocks are kept; the next build resumes from them."
    assert caught.value.next == "us43d build --jobs 1"


def test_what_waits_is_not_run_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[dict[str, bool]] = []

    class Threads(ThreadPoolExecutor):
        def shutdown(self, **how: bool) -> None:  # type: ignore[override]
            ended.append(how)
            super().shutdown(**how)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda jobs, **_: Threads(jobs))
    monkeypatch.setattr(blocks, "run", lambda block: [])
    with pytest.raises(KeyboardInterrupt):
        pool._pool(iter([Block(0, tmp_path, (), PLAIN)]), 1, stop)
    assert ended[0] == {"wait": True, "cancel_futures": True}


def test_a_worker_keeps_memory_and_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up: list[tuple[int, int]] = []
    ended: list[Any] = []
    begun: list[dict[str, Any]] = []

    class Thread:
        def __init__(self, **how: Any) -> None:
            begun.append(how)

        def start(self) -> None:
            ended.append("begun")

    parent = SimpleNamespace(join=lambda: ended.append("gone"))
    library = SimpleNamespace(mallopt=lambda *option: set_up.append(option))
    monkeypatch.setattr(pool.ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(pool.multiprocessing, "parent_process", lambda: parent)
    monkeypatch.setattr(pool.threading, "Thread", Thread)
    monkeypatch.setattr(os, "_exit", ended.append)
    pool._begin_worker()
    assert set_up == [(-1, 64 << 20), (-3, 32 << 20)]
    assert begun[0]["daemon"] is True
    begun[0]["target"]()
    assert ended == ["begun", "gone", 1]
    library = SimpleNamespace()  # not glibc's
    monkeypatch.setattr(pool.multiprocessing, "parent_process", lambda: None)
    pool._begin_worker()
    begun[1]["target"]()
    assert ended == ["begun", "gone", 1, "begun"]
