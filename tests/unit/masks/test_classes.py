"""Label maps of several classes: their keys, one mask per class, and what is not a label map."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from us43d.errors import UnreadableFile
from us43d.masks import classes

COLOUR = 1 << 32


@pytest.mark.parametrize(
    ("text", "key"),
    [("0", 0), ("999999999", 999_999_999), ("#000000", COLOUR), ("#0A00ff", COLOUR + 0x0A00FF)],
)
def test_keys_are_read_and_written(text: str, key: int) -> None:
    assert classes.parse_key(text) == key
    assert classes.key_text(key) == text.lower()


@pytest.mark.parametrize("text", ["1234567890", "-1", "1.5", "²", "", "#00000", "#0000000", "#00000g"])
def test_invalid_keys(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'.*' is neither a whole number nor a colour such as #ff0000$"):
        classes.parse_key(text)


def test_masks_of_values_and_colours(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [3, 2, 0]], np.uint8)
    table = np.array([(0, 0, 0), (1, 0, 0), (0, 2, 0), (0, 0, 3)], np.uint8)
    Image.fromarray(labels).save(tmp_path / "values.png")
    Image.fromarray(table[labels]).save(tmp_path / "colours.png")
    tifffile.imwrite(tmp_path / "whole.tif", labels.astype(np.float32))
    Image.fromarray(np.dstack([labels] * 3)).save(tmp_path / "grey.png")
    colours = [COLOUR + key for key in (0x010000, 0x000200, 0x000003)]
    for name, keys in (("values", [1, 2, 3]), ("whole", [1, 2, 3]), ("grey", [1, 2, 3]), ("colours", colours)):
        path = tmp_path / f"{name}.{'tif' if name == 'whole' else 'png'}"
        assert classes.keys(path) == sorted(keys)
        found = dict(classes.masks(path, dict(zip(keys, ("b", classes.BACKGROUND, "a"), strict=True)) | {9: "b"}))
        assert list(found) == ["b", "a"]
        assert (found["b"] == (labels == 1)).all()
        assert (found["a"] == (labels == 3)).all()
    found = dict(classes.masks(tmp_path / "grey.png", {COLOUR + 0x010101 * n: f"{n}" for n in (1, 2, 3)}))
    assert all((found[f"{n}"] == (labels == n)).all() for n in (1, 2, 3))
    Image.fromarray(0 * labels).save(tmp_path / "black.png")
    assert dict(classes.masks(tmp_path / "black.png", {COLOUR: "black"}))["black"].all()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([[0.5]], np.float32), "has values that are not whole numbers, so it is not a label map."),
        (np.array([[np.inf]], np.float32), "has values that are not whole numbers, so it is not a label map."),
        (np.array([[-1]], np.int16), "has values below 0 or above 32 bits, so it is not a label map."),
        (np.array([[2**32]], np.float64), "has values below 0 or above 32 bits, so it is not a label map."),
        (np.array([[[1, 2, 3]]], np.uint16), "has colours of the type uint16; a label map has colours of 8 bits."),
    ],
)
def test_what_is_not_a_label_map(tmp_path: Path, array: np.ndarray, said: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb" if array.ndim == 3 else "minisblack")
    with pytest.raises(UnreadableFile) as caught:
        classes.keys(tmp_path / "a.tif")
    assert caught.value.what == f"{tmp_path}/a.tif {said}"


def test_keys_without_a_name(tmp_path: Path) -> None:
    array = np.arange(11, dtype=np.uint8)[:, None].repeat(16, axis=1).repeat(16, axis=0)
    Image.fromarray(array).save(tmp_path / "a.png")
    with pytest.raises(UnreadableFile) as caught:
        list(classes.masks(tmp_path / "a.png", {1: "a", 2: "b"}))
    named = "3, 4, 5, 6, 7, 8, 9, 10"
    assert caught.value.what == f"{tmp_path}/a.png holds {named} besides the classes 1, 2."
    with pytest.raises(UnreadableFile) as caught:
        list(classes.masks(tmp_path / "a.png", {10: "a"}))
    assert caught.value.what.endswith("holds 1, 2, 3, 4, 5, 6, 7, 8 … and 1 more besides the classes 10.")
    for name, kind in (("a.jpg", "JPEG"), ("a.jpeg", "JPEG"), ("a.webp", "lossy WebP")):
        Image.fromarray(array * np.uint8(25)).save(tmp_path / name, quality=100)
        with pytest.raises(
            UnreadableFile, match=rf" besides the classes 1 \({kind} changes values: save masks as PNG\)\."
        ):
            list(classes.masks(tmp_path / name, {1: "a"}))
