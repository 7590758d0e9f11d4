"""Frames that stand one after the other in a file, plain or compressed; what is missing, damaged or too much."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

from us43d.errors import UnreadableFile
from us43d.masks.stacks import Stack, Stream

RNG = np.random.default_rng(0)
UINT8 = np.dtype("u1")


def written(path: Path, data: bytes, form: str = "plain") -> Path:
    """Four bytes, and then the data."""
    path.write_bytes(b"head" + {"plain": bytes, "zlib": zlib.compress, "gzip": gzip.compress}[form](data))
    return path


@pytest.mark.parametrize("form", ["plain", "zlib", "gzip"])
def test_bytes_are_read_in_any_order(tmp_path: Path, form: str) -> None:
    data = RNG.integers(0, 256, 3_000_000, np.uint8).tobytes()
    stream = Stream(written(tmp_path / "a", data, form), 4, form != "plain")
    for offset, length in ((0, 5), (5, 70_000), (2_500_000, 9), (3, 0), (1, 4), (2_999_990, 100), (2_999_999, 1)):
        assert stream.read(offset, length) == data[offset : offset + length], offset
    assert stream.read(3_000_000, 5) == stream.read(4_000_000, 5) == b""
    assert stream.read(1_048_577, 3) == data[1_048_577:1_048_580]  # the end was not lost


def test_a_damaged_stream_is_read_again_from_its_start(tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "a", RNG.bytes(200_000), "zlib").read_bytes())
    data[-2] ^= 1
    (tmp_path / "a").write_bytes(data)
    stream = Stream(tmp_path / "a", 4, True)
    first = stream.read(0, 10)
    with pytest.raises(UnreadableFile, match=r"a is damaged: .*incorrect data check"):
        stream.read(0, 200_001)
    assert stream.read(0, 10) == first
    with pytest.raises(UnreadableFile, match=r"b cannot be read: No such file or directory\."):
        Stream(tmp_path / "b", 0, False)


@pytest.mark.parametrize("form", ["plain", "zlib", "gzip"])
@pytest.mark.parametrize(("dtype", "channels"), [("<u2", 1), (">u2", 3), ("|u1", 1), (">f8", 1)])
def test_frames_have_rows_and_channels(tmp_path: Path, form: str, dtype: str, channels: int) -> None:
    array = RNG.integers(0, 200, (3, 4, 5, channels)).astype(dtype)
    path = written(tmp_path / "a", array.tobytes(), form)
    stack = Stack(path, path, 4, (5, 4, 3), np.dtype(dtype), channels=channels, compressed=form != "plain")
    for index in (2, 0, 1):
        frame = stack.frame(index)
        assert frame.dtype == np.dtype(dtype).newbyteorder("=")
        assert np.array_equal(frame, array[index] if channels == 3 else array[index, :, :, 0])
    for index in (-1, 3):
        with pytest.raises(UnreadableFile, match=rf"a has 3 frames, no frame {index}\."):
            stack.frame(index)
    flat = Stack(path, path, 4, (5, 12), np.dtype(dtype), channels=channels, compressed=form != "plain")
    assert (flat.frames, flat.frame(0).shape[:2]) == (1, (12, 5))
    narrow = written(tmp_path / "b", bytes(20_000))
    assert Stack(narrow, narrow, 4, (1, 20_000), UINT8).frame(0).shape == (20_000, 1)


@pytest.mark.parametrize(
    ("size", "channels", "shown"),
    [
        ((0, 5), 1, "0 × 5 in 1"),
        ((5,), 1, "5 in 1"),
        ((1, 1, 1, 1), 1, "1 × 1 × 1 × 1 in 1"),
        ((2, 2), 2, "2 × 2 in 2"),
    ],
)
def test_sizes_that_are_not_those_of_a_stack(tmp_path: Path, size: tuple[int, ...], channels: int, shown: str) -> None:
    path = written(tmp_path / "a", bytes(100))
    with pytest.raises(UnreadableFile, match=f"a has the size {shown} channels, not that of a stack of images"):
        Stack(path, path, 4, size, UINT8, channels=channels)


@pytest.mark.parametrize("form", ["plain", "zlib", "gzip"])
def test_the_length_of_the_pixels(tmp_path: Path, form: str) -> None:
    def stack(size: tuple[int, ...], path: Path = tmp_path / "a") -> Stack:
        return Stack(tmp_path / "header", path, 4, size, UINT8, compressed=form != "plain")

    written(tmp_path / "a", bytes(6), form)
    stack((2, 3))
    with pytest.raises(UnreadableFile, match=r"a is cut short: 6 of 7 bytes of pixels can be read\."):
        stack((7, 1))
    if form == "plain":
        stack((5, 1))  # what follows the pixels is not read
        return
    with pytest.raises(UnreadableFile, match=r"a holds more pixels than the 5 bytes that its header says\."):
        stack((5, 1))
    whole = written(tmp_path / "b", bytes(6), form).read_bytes()
    (tmp_path / "b").write_bytes(whole[:-1])  # of the checksum
    with pytest.raises(UnreadableFile, match=r"b is cut short: 6 of 6 bytes of pixels can be read\."):
        stack((2, 3), tmp_path / "b")
    (tmp_path / "c").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UnreadableFile, match="c is damaged: "):
        stack((2, 3), tmp_path / "c")
    written(tmp_path / "e", bytes(1 << 20), form)  # one block, and the checksum in the next
    stack((1024, 1024), tmp_path / "e")
    written(tmp_path / "d", bytes(5_000_000), form)  # a small file that inflates to several blocks
    stack((1000, 1000, 5), tmp_path / "d")
    with pytest.raises(UnreadableFile, match="d holds more pixels than the 2,000,000 bytes"):
        stack((1000, 1000, 2), tmp_path / "d")
