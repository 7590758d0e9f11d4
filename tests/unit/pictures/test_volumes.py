"""NIfTI, MetaImage and NRRD: right pixels, slices, spacing and remarks, or one message that names the file."""

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from us43d import pictures
from us43d.errors import ImageError

from .files import SHAPE, frames, only


def test_nifti(tmp_path: Path, grey: np.ndarray) -> None:
    volume = np.stack([grey.T, np.roll(grey.T, 7, 0), grey.T[::-1]], -1)
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.2, 0.3, 1.5, 1])), tmp_path / name)
        media = pictures.open(tmp_path / name)
        assert (media.count, media.name, media.spacing) == (3, "a", pytest.approx((0.2, 0.3)))
        assert (np.stack(frames(tmp_path / name)) == volume.transpose(2, 1, 0)).all()
        assert (media.frame(2).pixels == grey[:, ::-1]).all()
    nibabel.save(nibabel.Nifti1Image(grey.T, np.eye(4)), tmp_path / "flat.nii")
    assert (only(tmp_path / "flat.nii") == grey).all()
    assert pictures.open(tmp_path / "flat.nii").spacing is None  # neither unit nor size was ever set
    image = nibabel.Nifti1Image(
        volume[:, :, None].repeat(2, 2).astype(np.float32) * 3 - 100, np.diag([2e-4, 3e-4, 1, 1])
    )
    image.header.set_xyzt_units("meter", "sec")
    nibabel.save(image, tmp_path / "time.nii.gz")
    media = pictures.open(tmp_path / "time.nii.gz")
    assert media.spacing == pytest.approx((0.2, 0.3))
    assert media.count == 6
    assert (frames(tmp_path / "time.nii.gz")[2] == np.roll(grey, 7, 1)).all()


def test_colour_nifti(tmp_path: Path, colour: np.ndarray) -> None:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    packed = np.ascontiguousarray(colour.transpose(1, 0, 2)).view(kind)[:, :, 0]
    nibabel.save(nibabel.Nifti1Image(packed[:, :, None], np.eye(4)), tmp_path / "a.nii")
    assert (only(tmp_path / "a.nii") == colour).all()


def test_damaged_nifti(tmp_path: Path, grey: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(np.stack([grey.T] * 3, -1), np.eye(4)), tmp_path / "a.nii.gz")
    data = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "packed.nii").write_bytes(data)
    code = f"from us43d import pictures; pictures.open({str(tmp_path / 'packed.nii')!r})"
    messages = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert "packed.nii is not a readable NIfTI file" in messages
    assert "sizeof_hdr" not in messages  # nibabel's own
    rng = np.random.default_rng(0)
    for n in range(30):
        broken = bytearray(data[: len(data) - 300 * (n % 3)])
        if n % 3 == 0:
            broken[int(rng.integers(30, len(broken)))] ^= 1 << int(rng.integers(8))
        (tmp_path / "b.nii.gz").write_bytes(broken)
        if bytes(broken) == data:
            continue
        with pytest.raises(ImageError, match=r"b.nii.gz"):
            frames(tmp_path / "b.nii.gz")


def test_nifti_of_version_2_and_of_vectors(
    tmp_path: Path, grey: np.ndarray, colour: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    nibabel.save(nibabel.Nifti2Image(np.stack([grey.T, grey[::-1].T], 2), np.eye(4)), tmp_path / "a.nii.gz")
    assert (np.stack(frames(tmp_path / "a.nii.gz")) == np.stack([grey, grey[::-1]])).all()
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(tmp_path / "b.nii"))
    assert (only(tmp_path / "b.nii") == colour).all()
    two = sitk.GetImageFromArray(np.dstack([grey, grey]).astype(np.float32), isVector=True)
    sitk.WriteImage(two, str(tmp_path / "c.nii"))
    with pytest.raises(ImageError, match="has 2 values per pixel"):
        frames(tmp_path / "c.nii")
    (tmp_path / "d.nii").write_bytes((tmp_path / "b.nii").read_bytes()[:40] + bytes(400))
    with pytest.raises(ImageError, match=r"d\.nii is not a readable NIfTI"):
        frames(tmp_path / "d.nii")
    assert capfd.readouterr().err == ""


def test_unknown_spacing_of_nrrd_is_unknown(tmp_path: Path) -> None:
    head = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 3 2\nencoding: raw\nspacings: {}\n\n"
    for text, spacing in (("NaN 0.5", None), ("0.2 0.5", (0.2, 0.5))):
        (tmp_path / "a.nrrd").write_bytes(head.format(text).encode() + bytes(range(6)))
        assert pictures.open(tmp_path / "a.nrrd").spacing == spacing
    colours = head.replace("dimension: 2", "dimension: 3\nkinds: RGB-color domain domain").replace(": 3 2", ": 3 3 2")
    (tmp_path / "a.nrrd").write_bytes(colours.format("NaN 0.2 0.5").encode() + bytes(range(18)))
    assert pictures.open(tmp_path / "a.nrrd").spacing == (0.2, 0.5)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_metaimage_and_nrrd(
    tmp_path: Path, grey: np.ndarray, colour: np.ndarray, ending: str, compressed: bool
) -> None:
    path = tmp_path / f"a{ending}"
    volume = sitk.GetImageFromArray(np.stack([grey, grey[::-1]]))
    volume.SetSpacing((0.2, 0.3, 1.5))
    sitk.WriteImage(volume, str(path), compressed)
    media = pictures.open(path)
    assert (media.count, media.spacing) == (2, pytest.approx((0.2, 0.3)))
    assert (np.stack(frames(path)) == np.stack([grey, grey[::-1]])).all()
    assert (media.frame(1).pixels == grey[::-1]).all()
    sitk.WriteImage(sitk.GetImageFromArray(grey.astype(np.float32) / 7 - 3), str(path), compressed)
    assert (only(path) == grey).all()
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(path), compressed)
    assert (only(path) == colour).all()


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("first", [True, False])
def test_sequences_of_3d_slicer_are_frames(tmp_path: Path, grey: np.ndarray, times: int, first: bool) -> None:
    """Three frames were read as red, green and blue."""
    stack = np.stack(
        [np.stack([np.roll(grey, 9 * time, 1), np.roll(255 - grey, 9 * time, 0)]) for time in range(times)]
    )
    sizes, kinds, directions = [120, 90, 2], ["domain"] * 3, ["(0.2,0,0)", "(0,0.3,0)", "(0,0,1)"]
    for axis, text in ((sizes, times), (kinds, "list"), (directions, "none")):
        axis.insert(0 if first else 3, text)
    head = ["NRRD0005", "type: uchar", "dimension: 4", f"sizes: {' '.join(map(str, sizes))}", "encoding: raw",
            "space: left-posterior-superior", f"space directions: {' '.join(directions)}",
            f"kinds: {' '.join(kinds)}"]  # fmt: skip
    pixels = np.moveaxis(stack, 0, -1) if first else stack
    (tmp_path / "a.seq.nrrd").write_bytes("\n".join([*head, "", ""]).encode() + pixels.tobytes())
    media = pictures.open(tmp_path / "a.seq.nrrd")
    assert (media.count, media.spacing) == (2 * times, pytest.approx((0.2, 0.3)))
    assert (np.stack(frames(tmp_path / "a.seq.nrrd")) == stack.reshape(-1, *SHAPE)).all()
    assert (media.frame(3).pixels == stack[1, 1]).all()


def test_pixels_outside_of_the_folder_are_refused(tmp_path: Path, grey: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(grey), str(tmp_path / "a.mhd"))
    text = (tmp_path / "a.mhd").read_text()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "a.raw")
    for place in ("../a.raw", str(tmp_path / "a.raw"), "LIST", "a%02d.raw 1 2 1", "link.raw", "none.raw"):
        (tmp_path / "in" / "a.mhd").write_text(text.replace("a.raw", place))
        with pytest.raises(ImageError, match="takes its pixels from"):
            pictures.open(tmp_path / "in" / "a.mhd")
    (tmp_path / "a.mhd").write_text(text.replace("NDims = 2", "NDims = 1e308"))  # ends SimpleITK by a signal
    with pytest.raises(ImageError, match="has '1e308' dimensions"):
        pictures.open(tmp_path / "a.mhd")
    nhdr = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 120 90\nencoding: raw\ndata file: ../a.raw\n"
    (tmp_path / "in" / "a.nhdr").write_text(nhdr)
    with pytest.raises(ImageError, match="takes its pixels from"):
        pictures.open(tmp_path / "in" / "a.nhdr")


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_files_with_names_beyond_ascii(tmp_path: Path, grey: np.ndarray, ending: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(grey), str(tmp_path / f"übersicht 1{ending}"))
    assert (only(tmp_path / f"übersicht 1{ending}") == grey).all()


def listed(folder: Path, line: str, *names: str, fields: str = "") -> Path:
    """Write a MetaImage of 4 × 3 × 2 values, which the files of a list hold."""
    head = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\nElementSpacing = 0.2 0.3 1\n"
    (folder / "a.mhd").write_bytes(f"{head}{fields}ElementDataFile = {line}\n{chr(10).join(names)}\n".encode())
    return folder / "a.mhd"


def test_a_metaimage_of_listed_files(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for n in range(2):
        values[n].tofile(tmp_path / f"s {n}.raw")
    for n in range(6):
        values.reshape(6, 4)[n].tofile(tmp_path / f"r{n}.raw")
    for line, names in (("LIST", ("s 0.raw", "s 1.raw")), ("LIST 2", ("s 0.raw\r", "s 1.raw\r")),
                        ("LIST 1", tuple(f"r{n}.raw" for n in range(6)))):  # fmt: skip
        path = listed(tmp_path, line, *names)
        assert pictures.open(path).spacing == pytest.approx((0.2, 0.3))
        assert (np.stack(frames(path)) == values).all()
    for names in (("s 0.raw",), ("s 0.raw", "s 1.raw", "s 1.raw")):  # SimpleITK leaves black what is missing
        with pytest.raises(ImageError, match=rf"lists {len(names)} files? in place of 2\."):
            pictures.open(listed(tmp_path, "LIST", *names))
    with pytest.raises(ImageError, match="lists files that are compressed or have headers"):
        pictures.open(listed(tmp_path, "LIST", "s 0.raw", "s 1.raw", fields="HeaderSize = 2\n"))
    with pytest.raises(ImageError, match="a list of files that is empty or over 65,536 bytes"):
        pictures.open(listed(tmp_path, "LIST", *["s 0.raw"] * 9000))
    (tmp_path / "s 1.raw").write_bytes(b"too short")
    with pytest.raises(ImageError, match=r"s 1\.raw is cut short: 9 of 12 bytes"):
        pictures.open(listed(tmp_path, "LIST", "s 0.raw", "s 1.raw"))


@pytest.mark.parametrize("line", ["LIST", "LIST 2", "LISTS.raw", "LIST.raw", "LIST 2 2", "LIST 2D", "LIST\t2"])
@pytest.mark.parametrize("name", ["../secret.raw", "{}/secret.raw", "link.raw", "none.raw", ".."])
def test_files_of_a_list_are_in_the_folder(tmp_path: Path, line: str, name: str) -> None:
    """Whatever begins with LIST is a list for SimpleITK, also the name of a file that is there."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(12))
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "secret.raw")
    for there in ("near.raw", line):
        (tmp_path / "in" / there).write_bytes(bytes(24))
    with pytest.raises(ImageError, match=r"takes its pixels from"):
        pictures.open(listed(tmp_path / "in", line, "near.raw", name.format(tmp_path)))
    text = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 3 2\nencoding: raw\ndata file: {}\n{}\n"
    (tmp_path / "in" / "a.nhdr").write_text(text.format(line, f"near.raw\n{name.format(tmp_path)}"))
    with pytest.raises(ImageError, match=r"takes its pixels from"):
        pictures.open(tmp_path / "in" / "a.nhdr")


@pytest.mark.parametrize("version", [1, 2])
def test_a_pair_of_nifti_files(tmp_path: Path, grey: np.ndarray, version: int) -> None:
    pair = (nibabel.Nifti1Pair, nibabel.Nifti2Pair)[version - 1]
    stack = np.stack([grey, grey[::-1]])
    image = pair(stack.T, np.diag([0.2, 0.3, 1, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.img")
    media = pictures.open(tmp_path / "a.hdr")
    assert (media.kind, media.count, media.spacing) == ("nifti", 2, pytest.approx((0.2, 0.3)))
    assert (np.stack(frames(tmp_path / "a.hdr")) == stack).all()
    with pytest.raises(ImageError, match=r"a\.img holds pixels without their header\. Give the \.hdr beside it"):
        pictures.open(tmp_path / "a.img")
    nibabel.save(nibabel.AnalyzeImage(grey.T, None), tmp_path / "b.img")
    with pytest.raises(ImageError, match=r"b\.hdr is an Analyze header, which is not read here"):
        pictures.open(tmp_path / "b.hdr")
    data = (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.img").write_bytes(data[:-1])
    with pytest.raises(ImageError, match=r"a\.hdr is damaged or truncated"):
        frames(tmp_path / "a.hdr")
    (tmp_path / "out").mkdir()
    (tmp_path / "a.img").rename(tmp_path / "out" / "a.img")
    with pytest.raises(ImageError, match=r"takes its pixels from 'a\.img', which is not a file in the same folder"):
        pictures.open(tmp_path / "a.hdr")
    (tmp_path / "a.img").symlink_to(tmp_path / "out" / "a.img")
    with pytest.raises(ImageError, match=r"takes its pixels from 'a\.img', which is not a file in the same folder"):
        pictures.open(tmp_path / "a.hdr")


@pytest.mark.parametrize(
    ("ending", "before"),
    [
        (".mhd", "Comment = x\n" * 6000), (".mhd", "\n"), (".mhd", "elementdatafile = LOCAL\n"),
        (".mhd", "Comment = a\fElementDataFile = LOCAL\n"), (".nhdr", "# x\n" * 20_000), (".nhdr", "# a\f\f\n"),
        (".nhdr", "data file:=near.raw\n"),
    ],
)  # fmt: skip
def test_no_line_hides_that_pixels_are_outside_of_the_folder(tmp_path: Path, ending: str, before: str) -> None:
    heads = {
        ".mhd": "ObjectType = Image\nNDims = 2\n{}DimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = {}\n",
        ".nhdr": "NRRD0004\n{}type: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\ndata file: {}\n",
    }
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(b"\1\2\3\4")
    (tmp_path / "in" / "near.raw").write_bytes(b"\5\6\7\7")
    path = tmp_path / "in" / f"a{ending}"
    path.write_text(heads[ending].format("", "near.raw"))
    assert only(path).tolist() == [[5, 6], [7, 7]]
    path.write_text(heads[ending].format(before, "../secret.raw"))
    with pytest.raises(ImageError, match=r"takes its pixels from|header of more than"):
        pictures.open(path)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_damaged_volumes(tmp_path: Path, grey: np.ndarray, ending: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([grey] * 3)), str(tmp_path / f"a{ending}"), True)
    data = (tmp_path / f"a{ending}").read_bytes()
    for length in (10, 200, len(data) // 2, len(data) - 40):
        (tmp_path / f"b{ending}").write_bytes(data[:length])
        with pytest.raises(ImageError, match=f"b{ending}"):
            frames(tmp_path / f"b{ending}")
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([grey] * 3)), str(tmp_path / f"c{ending}"))
    (tmp_path / f"c{ending}").write_bytes((tmp_path / f"c{ending}").read_bytes()[:-40])
    with pytest.raises(ImageError, match=f"c{ending} is cut short: 32,360 of 32,400 bytes"):
        pictures.open(tmp_path / f"c{ending}")
    sums = bytearray(data)
    sums[-6 if ending == ".nrrd" else -2] ^= 1  # CRC-32 of gzip, Adler-32 of zlib
    (tmp_path / f"b{ending}").write_bytes(sums)
    with pytest.raises(ImageError, match=f"b{ending} is damaged"):
        frames(tmp_path / f"b{ending}")


@pytest.mark.parametrize(("sizes", "wanted"), [((0, 0), None), ((0.5, 0), None), ((-0.5, 0.25), (0.5, 0.25))])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_pixel_size_of_zero_is_unknown(
    tmp_path: Path, grey: np.ndarray, sizes: tuple[float, float], wanted: tuple[float, float] | None, ending: str
) -> None:
    image = nibabel.Nifti1Image(grey.T[:, :, None], np.eye(4))
    image.header.set_xyzt_units("mm")
    data = bytearray(image.to_bytes())
    struct.pack_into("<2f", data, 80, *sizes)  # pixdim[1], pixdim[2]
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(bytes(data)) if ending == ".nii.gz" else data)
    assert pictures.open(path).spacing == wanted
    assert (only(path) == grey).all()


def test_an_undefined_unit_of_nifti_counts_as_unknown(tmp_path: Path, grey: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(grey, np.diag([0.25, 0.5, 1, 1])), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[123] = 6  # xyzt_units
    (tmp_path / "a.nii").write_bytes(data)
    media = pictures.open(tmp_path / "a.nii")
    assert media.spacing == (0.25, 0.5)
    assert "unit of the spacing is missing" in media.remarks[0]
