"""A two-valued mask file means the same in every mode; where the foreground value is unknown it is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from us43d import specimen
from us43d.contract import Remarked
from us43d.errors import UnreadableFile
from us43d.masks import convert

SHAPE = (90, 120)


@pytest.fixture
def mask() -> np.ndarray:
    return specimen.blob(SHAPE, np.random.default_rng(4), 0.4)


def read(path: Path) -> np.ndarray:
    found = convert.binary(path)
    return found.array if isinstance(found, Remarked) else found


def palette(mask: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8), "P") if mask.dtype == bool else Image.fromarray(mask, "P")
    image.putpalette([channel for colour in colours for channel in colour])
    return image


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("value", [1, 2, 38, 127, 128, 190, 191, 192, 254, 255])
def test_grey_and_colours_on_black(tmp_path: Path, mask: np.ndarray, value: int) -> None:
    grey = mask.astype(np.uint8) * np.uint8(value)
    nothing = np.zeros_like(grey)
    opaque = np.full_like(grey, 255)
    forms = {
        "L": grey, "RGB": np.dstack([grey] * 3), "red": np.dstack([grey, nothing, nothing]),
        "green": np.dstack([nothing, grey, nothing]), "blue": np.dstack([nothing, nothing, grey]),
        "LA": np.dstack([grey, opaque]), "RGBA": np.dstack([grey, nothing, nothing, opaque]),
        "in alpha": np.dstack([opaque, opaque, opaque, grey]), "both": np.dstack([grey, grey, grey, 255 * mask]),
        "dark in alpha": np.dstack([nothing, nothing, nothing, grey]),
    }  # fmt: skip
    for name, array in forms.items():
        for ending in (".png", ".tif"):
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / f"{name}{ending}")
            assert (read(tmp_path / f"{name}{ending}") == mask).all(), (name, ending)
    palette(mask, (0, 0, 0), (value, 0, 0)).save(tmp_path / "p.png")
    palette(mask, (0, 0, 0), (value, value, value)).save(tmp_path / "q.png")
    palette(mask, *((n, n, n) for n in range(256))).save(tmp_path / "identity.png")
    palette(mask, (0, 0, 0), (value, 0, 0)).save(tmp_path / "p.gif")
    palette(mask, (0, 0, 0), (value, 0, 0)).save(tmp_path / "p.bmp")
    palette(mask, (0, 0, 0), (value, 0, 0)).save(tmp_path / "p.tif")
    for name in ("p.png", "q.png", "identity.png", "p.gif", "p.bmp", "p.tif"):
        assert (read(tmp_path / name) == mask).all(), name


@pytest.mark.parametrize("value", [1, 255, 4095, 65535])
def test_sixteen_bits(tmp_path: Path, mask: np.ndarray, value: int) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), mask.astype(np.uint16) * value)
    tifffile.imwrite(tmp_path / "a.tif", mask.astype(np.uint16) * value)
    tifffile.imwrite(tmp_path / "f.tif", mask.astype(np.float32) * value)
    for name in ("a.png", "a.tif", "f.tif"):
        assert (read(tmp_path / name) == mask).all(), name


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    ("greys", "edge"),
    [
        ({60: 25}, True), ({60: 26}, False), ({25: 40, 60: 25}, True), ({75: 26}, False), ({76: 40}, True),
        ({1: 3, 40: 9, 50: 9}, True),
    ],
)  # fmt: skip
def test_grey_edges_may_cover_a_quarter_of_the_mask(
    tmp_path: Path, dtype: str, greys: dict[int, int], edge: bool
) -> None:
    """Values between a quarter and three quarters of the range are an edge, if few; else a class of its own."""
    array = np.zeros(SHAPE, dtype)
    array[:10, :10] = 100
    for row, (value, count) in enumerate(greys.items(), 20):
        array[row, :count] = value
    tifffile.imwrite(tmp_path / "a.tif", array)
    if not edge:
        with pytest.raises(UnreadableFile, match="the foreground values are unknown"):
            convert.binary(tmp_path / "a.tif")
        return
    found = convert.binary(tmp_path / "a.tif")
    assert isinstance(found, Remarked)
    assert (found.array == (array > 50)).all()
    assert found.remarks == (f"grey mask edge: {sum(greys.values())} pixels between 0 and 100",)


@pytest.mark.parametrize(
    ("rows", "columns", "values", "edge"),
    [
        (2, 20, [128], True), (3, 20, [128], False), (20, 2, [128], True), (20, 3, [128], False),
        (4, 4, [128], True), (5, 5, [128], False), (5, 5, [1], False), (4, 4, [1], True), (5, 5, [239], False),
        (5, 5, [240], True), (5, 5, [65, 66], True),
    ],
)  # fmt: skip
def test_grey_beside_white_is_a_class_where_it_is_an_area(
    tmp_path: Path, rows: int, columns: int, values: list[int], edge: bool
) -> None:
    """Black, white and one grey, of which a quarter has neighbours of the same value, or two that alternate."""
    array = np.zeros(SHAPE, np.uint8)
    array[60:80, 60:80] = 255
    array[10 : 10 + rows, 10 : 10 + columns] = np.resize(values, (rows, columns))
    Image.fromarray(array).save(tmp_path / "a.png")
    if edge:
        assert (read(tmp_path / "a.png") == (array > 127)).all()
    else:
        with pytest.raises(UnreadableFile, match="the foreground values are unknown"):
            convert.binary(tmp_path / "a.png")


@pytest.mark.parametrize(("classes", "edge"), [(6, False), (30, False), (31, True)])
@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 255), (np.float32, 255)])
def test_a_label_map_with_values_to_ignore_is_not_a_mask(
    tmp_path: Path, classes: int, edge: bool, dtype: type, white: int
) -> None:
    """Classes from 1 in areas of their own, and a border of 255, larger than they are: up to 32 values in all."""
    array = np.full((100, 200), white, dtype)
    array[10:90, 10:190] = 0
    for n in range(classes):
        array[20 + 12 * (n // 15) : 28 + 12 * (n // 15), 12 + 11 * (n % 15) : 20 + 11 * (n % 15)] = n + 1
    tifffile.imwrite(tmp_path / "a.tif", array)
    if edge:
        assert (read(tmp_path / "a.tif") == (array > 127)).all()
    else:
        with pytest.raises(UnreadableFile, match="values: the foreground values are unknown"):
            convert.binary(tmp_path / "a.tif")


@pytest.mark.parametrize(("grey", "white", "edge"), [(20, 10, True), (21, 41, False), (21, 42, True)])
def test_an_image_with_much_grey_is_not_a_mask(tmp_path: Path, grey: int, white: int, edge: bool) -> None:
    """Over 1/8 of 160 pixels, and over half as many as there are white ones."""
    array = np.zeros(160, np.uint8)
    array[:grey], array[160 - white :] = range(64, 64 + grey), 255
    Image.fromarray(array.reshape(10, 16)).save(tmp_path / "a.png")
    if edge:
        assert np.count_nonzero(read(tmp_path / "a.png")) == white
    else:
        with pytest.raises(UnreadableFile, match="the foreground values are unknown"):
            convert.binary(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("light", "pixel", "said"),
    [
        ((200, 0, 0), (0, 100, 0), ""),
        ((200, 0, 0), (0, 101, 0), "several colours"),
        ((255, 0, 0), (255, 129, 0), ""),
        ((255, 0, 0), (255, 130, 0), "several colours"),
    ],
)
def test_a_pixel_of_another_colour(
    tmp_path: Path, light: tuple[int, int, int], pixel: tuple[int, int, int], said: str
) -> None:
    array = np.zeros((20, 20, 3), np.uint8)
    array[5:15, 5:15] = light
    array[5, 5] = pixel
    Image.fromarray(array).save(tmp_path / "a.png")
    if said:
        with pytest.raises(UnreadableFile, match=said):
            convert.binary(tmp_path / "a.png")
    else:
        assert np.count_nonzero(read(tmp_path / "a.png")) == 100 - (max(pixel) < 128)


def test_a_thin_line_of_grey_along_the_border_is_no_area(tmp_path: Path) -> None:
    pixels = np.zeros((60, 80), np.uint8)
    pixels[20:40, 20:40], pixels[:2, 10:70] = 255, 100
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    mask = convert.binary(tmp_path / "a.png")
    assert isinstance(mask, Remarked)
    assert (mask.array == (pixels == 255)).all()


def test_grey_beside_white_is_an_edge_where_it_is_thin(tmp_path: Path) -> None:
    """Two pixels wide, also at the image's border; a darkest grey counts as well."""
    array = np.zeros(SHAPE, np.uint8)
    array[20:40, 20:40], array[:, :2], array[50, 50] = 255, 128, 1
    Image.fromarray(array).save(tmp_path / "a.png")
    found = convert.binary(tmp_path / "a.png")
    assert isinstance(found, Remarked)
    assert found.remarks == ("grey mask edge: 181 pixels between 0 and 255",)


@pytest.mark.parametrize(
    ("light", "pixel", "inside"),
    [(192, (96, 128, 96), False), (192, (95, 128, 95), True), (254, (96, 128, 96), False)],
)
def test_white_with_the_noise_of_colours_is_grey(
    tmp_path: Path, light: int, pixel: tuple[int, int, int], inside: bool
) -> None:
    """Its luma is compared with half range; of other images, the lightest channel."""
    array = np.zeros((20, 20, 3), np.uint8)
    array[5:15, 5:15], array[0, 0] = light, pixel
    Image.fromarray(array).save(tmp_path / "a.tif")
    mask = read(tmp_path / "a.tif")
    assert mask[0, 0] == inside
    assert mask[5:15, 5:15].all()


@pytest.mark.parametrize("value", [0, 1, 255, 65535])
def test_one_value_alone_that_is_known(tmp_path: Path, value: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((3, 4), value, np.uint16))
    assert (read(tmp_path / "a.tif") == (value > 0)).all()


@pytest.mark.parametrize(
    ("values", "dtype", "said"),
    [
        ([256], "uint16", "holds the value 256 alone: foreground or background is unknown."),
        ([38], "uint8", "holds the value 38 alone: foreground or background is unknown."),
        ([-1, 0], "int16", "holds -1 to 0: the foreground value is unknown."),
        ([0, np.nan], "float32", "holds 0 to nan: the foreground value is unknown."),
        ([0, np.inf], "float32", "holds 0 to inf: the foreground value is unknown."),
        ([2, 3], "uint16", "holds the values 2, 3: the foreground values are unknown."),
        ([0, 1, 2, 3, 4, 5], "uint8", "holds the values 0, 1, 2, 3, 4, 5: the foreground values are unknown."),
        ([0, 1, 2, 3, 4, 5, 6], "uint8", "holds 7 values: the foreground values are unknown."),
    ],
)
def test_values_of_unknown_meaning(tmp_path: Path, values: list[float], dtype: str, said: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.repeat(np.array([values], dtype), 2, axis=0))
    with pytest.raises(UnreadableFile) as caught:
        convert.binary(tmp_path / "a.tif")
    assert caught.value.what == f"{tmp_path}/a.tif {said}"


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        ([1, 2, 3, 4, 5, 6, 7], "holds the classes 1, 2, 3, 4, 5, 6: the class of the structure is unknown."),
        ([0, 7, 8], "uses the colour 8 of a palette that has 8."),
    ],
)
def test_indices_of_unknown_meaning(indices: list[int], said: str) -> None:
    colours = np.array([(n, 0, 9) if n else (0, 0, 0) for n in range(8)], np.uint8)
    with pytest.raises(UnreadableFile) as caught:
        convert._of_palette(np.array([indices]), colours, Path("a.png"))
    assert caught.value.what == f"a.png {said}"
    if 8 in indices:
        with pytest.raises(UnreadableFile, match=f"^a.png {said}"):
            convert._indexed(np.array([indices]), colours, Path("a.png"), colours=False)
    with pytest.raises(
        UnreadableFile, match=r"palette whose colour 0 is \(1, 2, 3\), not black: the foreground value is"
    ):
        convert._of_palette(np.array([[0, 1]]), colours + np.array([1, 2, 3], np.uint8), Path("a.png"))


@pytest.mark.parametrize(("value", "kept"), [(60, False), (64, True)])
def test_a_jpeg_keeps_masks_that_are_light_enough(tmp_path: Path, value: int, kept: bool) -> None:
    array = np.zeros((16, 32), np.uint8)
    array[:, 8:24] = value
    Image.fromarray(array).save(tmp_path / "a.jpg", quality=100)
    if kept:
        assert (read(tmp_path / "a.jpg") == (array > 0)).all()
    else:
        with pytest.raises(UnreadableFile, match=f"is a JPEG with values up to {value} only"):
            convert.binary(tmp_path / "a.jpg")


def test_a_scan_is_not_a_mask(tmp_path: Path) -> None:
    """A folder of scans given as masks: speckle has black, white and all between, and was thresholded before."""
    scan = np.random.default_rng(0).rayleigh(60, (90, 120)).clip(0, 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), scan)
    with pytest.raises(UnreadableFile, match="the foreground values are unknown"):
        convert.binary(tmp_path / "a.png")
    soft = np.zeros((40, 40), np.uint8)
    soft[12:28, 12:28] = 255
    soft = cv2.GaussianBlur(soft, (0, 0), 1.5)  # a small mask is mostly edge
    cv2.imwrite(str(tmp_path / "b.png"), soft)
    assert (read(tmp_path / "b.png") == (soft > 127)).all()


def test_one_bit_empty_and_full(tmp_path: Path, mask: np.ndarray) -> None:
    for name, array in (("mask", mask), ("empty", np.zeros_like(mask)), ("full", np.ones_like(mask))):
        Image.fromarray(array).save(tmp_path / "a.png")
        assert (read(tmp_path / "a.png") == array).all(), name
        Image.fromarray(array.astype(np.uint8) * 255).save(tmp_path / "b.png")
        assert (read(tmp_path / "b.png") == array).all(), name


@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (0, 0, 255), (128, 0, 0), (90, 90, 90)])
def test_edges_that_jpeg_leaves(tmp_path: Path, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    array = mask[:, :, None] * np.array(colour, np.uint8)
    Image.fromarray(array).save(tmp_path / "a.jpg", quality=92, subsampling=0)
    found = convert.binary(tmp_path / "a.jpg")
    assert isinstance(found, Remarked)
    assert found.remarks[0].startswith("grey mask edge: ")
    both = (found.array & mask).sum() / (found.array | mask).sum()
    assert both > 0.985


@pytest.mark.parametrize(("value", "quality"), [(1, 95), (1, 100), (2, 50), (8, 90), (16, 90)])
@pytest.mark.parametrize(("form", "kind"), [("JPEG", "JPEG"), ("WEBP", "lossy WebP")])
def test_lossy_files_that_lost_pixels_of_a_dark_mask_are_refused(
    tmp_path: Path, mask: np.ndarray, value: int, quality: int, form: str, kind: str
) -> None:
    """Whatever the file is called, and also with a block of its own for metadata before the pixels."""
    for extra in ({}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}):
        Image.fromarray(mask.astype(np.uint8) * value).save(tmp_path / "a.png", form, quality=quality, **extra)
        with pytest.raises(
            UnreadableFile, match=rf"a\.png is a {kind} with values up to \d+ only.*save it as PNG from the original"
        ):
            convert.binary(tmp_path / "a.png")
    Image.fromarray(mask.astype(np.uint8) * value).save(tmp_path / "a.webp", lossless=True)
    assert (read(tmp_path / "a.webp") == mask).all()


def test_the_foreground_value_of_a_mask(tmp_path: Path, mask: np.ndarray) -> None:
    whole = mask.astype(np.uint8)
    red = whole[:, :, None] * np.array([255, 0, 0], np.uint8)
    tifffile.imwrite(tmp_path / "half.tif", (mask * 0.5).astype(np.float32))
    tifffile.imwrite(tmp_path / "deep.tif", red.astype(np.uint16) * 257, photometric="rgb")
    Image.fromarray(whole * 3).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([whole * 3] * 3)).save(tmp_path / "rgb.png")
    Image.fromarray(red).save(tmp_path / "red.png")
    Image.fromarray(red).save(tmp_path / "red.bmp")
    Image.fromarray(np.dstack([red, 255 * whole])).save(tmp_path / "alpha.png")
    palette(mask, (0, 0, 0), (255, 0, 0)).save(tmp_path / "palette.png")
    Image.fromarray(0 * whole).save(tmp_path / "empty.png")
    values = {
        "half.tif": "0.5", "deep.tif": "65535, 0, 0", "grey.png": "3", "rgb.png": "3", "red.png": "#ff0000",
        "red.bmp": "#ff0000", "alpha.png": "255", "palette.png": "1", "empty.png": "",
    }  # fmt: skip
    for name, value in values.items():
        found, shown = convert.foreground(tmp_path / name)
        assert shown == value, name
        assert (found == (mask if value else 0)).all(), name


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_what_says_nothing_is_refused(tmp_path: Path, mask: np.ndarray) -> None:
    other = np.zeros_like(mask)
    other[5:20, 60:110] = True
    classes = mask.astype(np.uint8)
    classes[other] = 2
    grey = np.where(mask, 255, 0).astype(np.uint8)
    images = {
        "black index": palette(mask, (255, 255, 255), (0, 0, 0)),
        "classes": palette(classes, (0, 0, 0), (128, 0, 0), (0, 128, 0)),
        "label map": Image.fromarray(classes),
        "spread label map": Image.fromarray(classes * np.uint8(127)),
        "two colours": Image.fromarray(np.dstack([classes == 1, classes == 2, classes == 9]).astype(np.uint8) * 255),
        "constant": Image.fromarray(np.full(SHAPE, 38, np.uint8)),
        "contradiction": Image.fromarray(np.dstack([grey, grey, grey, 255 - grey])),
        "picture": Image.fromarray((np.arange(90 * 120).reshape(SHAPE) % 120).astype(np.uint8)),
    }
    for name, image in images.items():
        for ending in (".png", ".tif"):
            image.save(tmp_path / f"{name}{ending}")
            with pytest.raises(
                UnreadableFile,
                match=rf"{name}{ending} .*(unknown|contradict)",
            ):
                convert.binary(tmp_path / f"{name}{ending}")


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_damaged_palettes(tmp_path: Path, mask: np.ndarray) -> None:
    for ending in (".png", ".gif", ".bmp"):
        palette(mask, (0, 0, 0), (128, 0, 0)).save(tmp_path / f"a{ending}")
        data = (tmp_path / f"a{ending}").read_bytes()
        (tmp_path / f"a{ending}").write_bytes(data[: len(data) // 2])
        with pytest.raises(UnreadableFile, match=f"a{ending}"):
            convert.binary(tmp_path / f"a{ending}")


def test_grey_palettes_mean_their_grey_values(tmp_path: Path, mask: np.ndarray) -> None:
    """The colours decide, not the indices, where a palette is grey: three values of an edge, or none of index 0."""
    edge = mask.astype(np.uint8) * 2
    edge[0, :3] = 1
    palette(edge, (0, 0, 0), (127, 127, 127), (255, 255, 255)).save(tmp_path / "three.png")
    wanted = mask.copy()
    wanted[0, :3] = False
    assert (read(tmp_path / "three.png") == wanted).all()
    palette(mask.astype(np.uint8) + 1, (9, 9, 9), (0, 0, 0), (255, 255, 255)).save(tmp_path / "two.png")
    assert (read(tmp_path / "two.png") == mask).all()
    palette(2 - mask.astype(np.uint8), (9, 9, 9), (255, 255, 255), (0, 0, 0)).save(tmp_path / "reversed.png")
    assert (read(tmp_path / "reversed.png") == mask).all()


def test_what_is_not_black_is_cut_at_half_range_in_a_jpeg_of_any_name(mask: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "mask.png"
    cv2.imwrite(str(file), 3 * mask.astype(np.uint8))
    assert np.array_equal(convert.not_black(file), mask)
    file.write_bytes(cv2.imencode(".jpg", 255 * mask.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes())
    cut = convert.not_black(file)
    assert isinstance(cut, Remarked)
    assert cut.remarks[0].startswith("grey mask edge")
    assert np.count_nonzero(cut.array != mask) < 0.02 * mask.sum() < np.count_nonzero((convert.grey(file) != 0) != mask)
