"""Every verb that takes a person's images reads the same pixels and spacing from a file, or refuses it as the others.

The loaders of the verbs are called, without a model: `predict`, `train --data` and `eval --data`, `label`, `coco` and
`import`, of a COCO file and of an nnU-Net dataset.
"""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image
from pydicom import uid

from us43d import pictures
from us43d.coco import own, write
from us43d.contract import RawTree, Sample
from us43d.errors import Us43dError
from us43d.harmonize import blocks
from us43d.pictures.levels import eight_bits
from us43d.private import coco, nnunet
from us43d.private.record import Coco, NnUnet
from us43d.view.inputs import FileInputs

from .files import dicom

cli = importlib.import_module("us43d.cli.predict")
SHAPE = (24, 36)
GREY = np.random.default_rng(0).permutation(24 * 36).reshape(SHAPE) % 256
GREY = GREY.astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 16
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], -1)
STACK = np.stack([GREY, GREY[::-1], 255 - GREY])
REAL = GREY.astype(np.float32)
REAL[0, :3] = np.nan, np.inf, -np.inf


class Read(NamedTuple):
    """What a verb made of a file: pixels and spacing of a frame, or a message."""

    pixels: np.ndarray | None
    spacing: tuple[float, float] | None = None
    refused: str = ""


def exif(path: Path, image: np.ndarray) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(image).save(path, exif=tags)


def itk(path: Path, *, compress: bool = False) -> None:
    image = sitk.GetImageFromArray(GREY)
    image.SetSpacing((0.2, 0.3))
    sitk.WriteImage(image, str(path), compress)


def video(path: Path, code: str) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, SHAPE[::-1])
    for frame in STACK:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()


def cut(path: Path, code: str) -> None:
    video(path, code)
    path.write_bytes(path.read_bytes()[:-600])


def lost(path: Path) -> None:
    """An AVI whose header states one frame more than it holds."""
    video(path, "MJPG")
    data = bytearray(path.read_bytes())
    for name, at in ((b"avih", 24), (b"strh", 40)):
        place = data.find(name) + at
        assert data[place] == len(STACK)
        data[place] += 1
    path.write_bytes(data)


def empty_frames(path: Path, number: int) -> None:
    """An MP4 of six frames, the last of which are empty."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, SHAPE[::-1])
    for frame in (*STACK, *STACK):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    data = bytearray(path.read_bytes())
    sizes = data.find(b"stsz") + 16
    for frame in range(6 - number, 6):
        data[sizes + 4 * frame : sizes + 4 * frame + 4] = bytes(4)
    path.write_bytes(data)


def palette(path: Path) -> None:
    table = np.arange(256, dtype=np.uint16)[::-1] * 257
    fields = {f"{name}PaletteColorLookupTable{what}": value for name in ("Red", "Green", "Blue")
              for what, value in (("Descriptor", [256, 0, 16]), ("Data", table.tobytes()))}  # fmt: skip
    dicom(path, GREY, "PALETTE COLOR", **fields)


def ls(path: Path) -> None:
    import imagecodecs

    dicom(path, DEEP, bits=12, syntax=uid.JPEGLSLossless, encoded=[imagecodecs.jpegls_encode(DEEP)])


def sixteen(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), image)


def turned(path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(path, image, extratags=[(274, "H", 1, 6, True)])


#: name → (writes it, frame)
FORMS: dict[str, tuple[Callable[[Path], Any], int | None]] = {
    "plain.png": (lambda path: sixteen(path, GREY), None),
    "plain.jpg": (lambda path: Image.fromarray(COLOUR).save(path), None),
    "plain.bmp": (lambda path: sixteen(path, GREY), None),
    "plain.webp": (lambda path: Image.fromarray(COLOUR).save(path, lossless=True), None),
    "exif.png": (lambda path: exif(path, COLOUR), None),
    "exif.jpg": (lambda path: exif(path, GREY), None),
    "exif16.png": (lambda path: exif(path, DEEP), None),
    "turned.tif": (lambda path: turned(path, GREY), None),
    "turned16.tif": (lambda path: turned(path, DEEP), None),
    "palette.png": (lambda path: Image.fromarray(COLOUR).quantize(16).save(path), None),
    "palette.bmp": (lambda path: Image.fromarray(COLOUR).quantize(16).save(path), None),
    "palette.gif": (lambda path: Image.fromarray(COLOUR).quantize(16).save(path), None),
    "palette.tif": (lambda path: Image.fromarray(COLOUR).quantize(16).save(path), None),
    "bits.png": (lambda path: Image.fromarray(GREY).convert("1").save(path), None),
    "bits.bmp": (lambda path: Image.fromarray(GREY).convert("1").save(path), None),
    "bits.tif": (lambda path: Image.fromarray(GREY).convert("1").save(path), None),
    "cmyk.jpg": (lambda path: Image.fromarray(COLOUR).convert("CMYK").save(path), None),
    "cmyk.tif": (lambda path: Image.fromarray(COLOUR).convert("CMYK").save(path), None),
    "alpha.png": (lambda path: Image.fromarray(np.dstack([COLOUR, GREY])).save(path), None),
    "alpha.tif": (lambda path: Image.fromarray(np.dstack([COLOUR, GREY])).save(path), None),
    "12in16.png": (lambda path: sixteen(path, DEEP), None),
    "12in16.tif": (lambda path: sixteen(path, DEEP), None),
    "colour16.png": (lambda path: sixteen(path, COLOUR.astype(np.uint16) * 200), None),
    "int16.tif": (lambda path: tifffile.imwrite(path, DEEP.astype(np.int16) - 900), None),
    "nan.tif": (lambda path: tifffile.imwrite(path, REAL), None),
    "white.tif": (lambda path: tifffile.imwrite(path, GREY, photometric="miniswhite"), None),
    "pages.tif": (lambda path: tifffile.imwrite(path, STACK, photometric="minisblack"), 1),
    "pages16.tif": (lambda path: tifffile.imwrite(path, STACK * np.uint16([[[1]], [[5]], [[9]]]),
                                                   photometric="minisblack"), 1),
    "unnamed.tif": (lambda path: tifffile.imwrite(path, STACK, photometric="minisblack"), None),
    "moving.gif": (lambda path: Image.fromarray(GREY).save(path, save_all=True, append_images=[
        Image.fromarray(255 - GREY)]), 1),
    "a.mha": (itk, None),
    "packed.mha": (lambda path: itk(path, compress=True), None),
    "a.nrrd": (itk, None),
    "a.nii": (lambda path: nibabel.save(nibabel.Nifti1Image(GREY.T, np.diag([0.2, 0.3, 1, 1])), path), None),
    "deep.nii.gz": (lambda path: nibabel.save(
        nibabel.Nifti1Image(STACK.T.astype(np.int16) * 9, np.diag([0.2, 0.3, 1, 1])), path), 2),
    "a.webm": (lambda path: video(path, "VP80"), 1),
    "a.avi": (lambda path: video(path, "MJPG"), 2),
    "a.mp4": (lambda path: video(path, "mp4v"), 0),
    "palette.dcm": (palette, None),
    "signed.dcm": (lambda path: dicom(path, DEEP.astype(np.int16) - 900, PixelSpacing=[0.3, 0.2]), None),
    "window.dcm": (lambda path: dicom(path, DEEP, bits=12, WindowCenter=1024, WindowWidth=1024), None),
    "ls.dcm": (ls, None),
    "frames.dcm": (lambda path: dicom(path, STACK, PixelSpacing=[0.3, 0.2]), 2),
    "jpeg-ls.jpg": (lambda path: path.write_bytes(b"\xff\xd8\xff\xf7\0\x0b\x08\0\x18\0\x24\x01\x01\x11\0" + b"\0" * 99),
                    None),
    "pdf.png": (lambda path: path.write_bytes(b"%PDF-1.4" + b"\0" * 99), None),
    "cut.avi": (lambda path: cut(path, "MJPG"), 0),
    "cut.mp4": (lambda path: cut(path, "mp4v"), 0),
    "lost.avi": (lambda path: lost(path), 0),
    "two_less.mp4": (lambda path: empty_frames(path, 2), 1),
    "three_less.mp4": (lambda path: empty_frames(path, 3), 1),
    "short.png": (lambda path: path.write_bytes(cv2.imencode(".png", GREY)[1].tobytes()[:200]), None),
}  # fmt: skip


#: What no verb reads; "unnamed.tif" has three frames, none of which the entry names.
TURNED = {"exif.png", "exif.jpg", "exif16.png", "turned.tif", "turned16.tif"}  # upright, by a tag
REFUSED = {"unnamed.tif", "jpeg-ls.jpg", "pdf.png", "cut.avi", "cut.mp4", "lost.avi", "three_less.mp4", "short.png"}


def annotated(path: Path, frame: int | None, size: tuple[int, ...]) -> Path:
    """Write a COCO file with one image and a mask."""
    height, width = size[:2]
    image = {"id": 1, "file_name": path.name, "width": width, "height": height, "group": "p"}
    shape = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 2, 20, 2, 20, 20, 2, 20]]}
    file = path.parent / "data.json"
    content = {"images": [image | ({} if frame is None else {"frame": frame})], "annotations": [shape],
               "categories": [{"id": 1, "name": "cyst"}]}  # fmt: skip
    file.write_text(json.dumps(content))
    return file


def predicted(path: Path, frame: int | None) -> Read:
    def work(media: Any, shown: Any) -> None:
        met.append(Read(shown.pixels, media.spacing))

    met: list[Read] = []
    session = SimpleNamespace(progress=lambda *_: _Bar(), say=lambda _: None, warn=lambda _: None)
    failed = cli._run(session, pictures.listing(path), frame, work, SimpleNamespace(finish=lambda _: None))
    if failed:
        return Read(None, None, next(iter(failed.values())).what)
    return met[0] if len(met) == 1 else Read(None, None, f"{len(met)} frames")


class _Bar:
    def __enter__(self) -> Callable[..., None]:
        return lambda *_: None

    def __exit__(self, *_: object) -> None: ...


def trained(path: Path, frame: int | None, size: tuple[int, ...]) -> Read:
    file = annotated(path, frame, size)
    corpus = own.read(file, path.parent / "corpus")
    spacing = corpus.images["spacing"][0].tolist()
    return Read(corpus.picture(0), None if np.isnan(spacing).any() else tuple(spacing))


def labelled(path: Path, frame: int | None) -> Read:
    inputs = FileInputs(path)
    if inputs.faults:
        return Read(None, None, next(iter(inputs.faults.values())))
    if frame is None and len(inputs.items) > 1:
        return Read(None, None, f"{len(inputs.items)} frames")
    return Read(inputs.read(frame or 0), inputs.items[frame or 0].spacing)


def imported(path: Path, frame: int | None, size: tuple[int, ...]) -> Read:
    annotated(path, frame, size)
    tree = RawTree(path.parent)
    plan = coco.plan(tree)
    assert plan is not None
    (sample,) = coco.read(Coco(group=None, labels={"cyst": "cyst"}, files=plan.files, stated=True), tree)
    return stored(sample, path.parent, size)


def stored(sample: Sample, folder: Path, size: tuple[int, ...]) -> Read:
    """A sample as a build stores it."""
    data, array, kept = blocks._image(sample, {}, [])
    blocks._annotations(sample, array.shape[:2], {}, [], blocks.Options({}, skip_empty=False))
    path = folder / f"stored.{kept or 'png'}"
    assert (array.shape[:2]) == (size[0], size[1])
    return Read(eight_bits(blocks.picture(data, path, blocks.header(data, path))), sample.spacing_mm)


def from_nnunet(path: Path, frame: int | None, size: tuple[int, ...]) -> Read:
    """What `import` makes of the file as the image of an nnU-Net dataset; labels are of the same form."""
    folder = path.parent
    ending = next(ending for ending in nnunet.ENDINGS if path.name.endswith(ending))
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    path.rename(folder / f"imagesTr/a_0000{ending}")
    labels = np.ones(size[:2], np.uint8)
    if ending in (".nii", ".nii.gz"):
        volume = labels.T if frame is None else np.repeat(labels.T[:, :, None], len(STACK), 2)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / f"labelsTr/a{ending}")
    elif ending == ".mha":
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / "labelsTr/a.mha"))
    else:
        Image.fromarray(labels).save(folder / f"labelsTr/a{ending}")
    content = {"labels": {"background": 0, "cyst": 1}, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps(content))
    tree = RawTree(folder)
    plan = nnunet.plan(tree)
    assert plan is not None
    samples = list(nnunet.read(NnUnet(labels={"cyst": "cyst"}, ending=ending, values=plan.values), tree))
    return stored(samples[0 if len(samples) == 1 else frame or 0], folder, size)


def written(path: Path, frame: int | None, size: tuple[int, ...]) -> Read:
    masks = path.parent / "masks"
    masks.mkdir()
    Image.fromarray(np.full(size[:2], 255, np.uint8)).save(masks / f"{path.name.split('.')[0]}.png")
    (entry,) = write.from_masks(path.parent, masks).content["images"]
    spacing = entry.get("spacing_mm")
    return Read(np.zeros((entry["height"], entry["width"])), tuple(spacing) if spacing else None)


def tried(read: Callable[..., Read], *what: Any) -> Read:
    try:
        return read(*what)
    except Us43dError as error:
        return Read(None, None, error.what)


@pytest.mark.parametrize("name", FORMS)
def test_all_verbs_read_alike(tmp_path: Path, name: str) -> None:
    make, frame = FORMS[name]
    made = []
    for verb in ("predict", "train", "label", "import", "coco", "nnunet"):
        folder = tmp_path / verb
        folder.mkdir()
        make(folder / name)
        made.append(folder / name)
    first = tried(predicted, made[0], frame)
    size = SHAPE if first.pixels is None else first.pixels.shape
    others = {
        "train": tried(trained, made[1], frame, size),
        "label": tried(labelled, made[2], frame),
        "import": tried(imported, made[3], frame, size),
    }
    if name.endswith(nnunet.ENDINGS):
        shape = size[1::-1] if name in TURNED else size  # nnU-Net knows no orientation tag
        nn = others["import, nnU-Net"] = tried(from_nnunet, made[5], frame, shape)
        if name in TURNED and nn.pixels is not None:
            others["import, nnU-Net"] = nn._replace(pixels=np.rot90(nn.pixels, -1))
        if name in ("pages.tif", "pages16.tif"):
            assert "3 images" in others.pop("import, nnU-Net").refused
    if frame is None:
        others["coco"] = tried(written, made[4], frame, size)
    assert bool(first.refused) == (name in REFUSED), first.refused
    if name in REFUSED:
        assert all(read.refused for read in others.values()), others
        return
    for verb, read in others.items():
        assert read.pixels is not None, (verb, read.refused)
        assert read.pixels.shape[:2] == first.pixels.shape[:2], verb
        if verb != "coco":  # which reads the size alone
            assert np.array_equal(read.pixels, first.pixels), verb
        assert read.spacing == (pytest.approx(first.spacing) if first.spacing else None), verb
