"""Videos: right frames, and one message for a file that is cut or names another."""

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest

from us43d import pictures
from us43d.container import is_fragmented, stated_length
from us43d.errors import ImageError, UnreadableFile
from us43d.masks import videos
from us43d.masks.videos import video_frame

from .files import SHAPE, frames, video


@pytest.mark.parametrize(("ending", "code"), [(".avi", "MJPG"), (".mp4", "mp4v"), (".webm", "VP80")])
def test_videos(tmp_path: Path, grey: np.ndarray, ending: str, code: str) -> None:
    smooth = cv2.GaussianBlur(grey, (0, 0), 3)
    stack = [np.roll(smooth, 5 * n, 1) for n in range(12)]
    path = video(tmp_path / f"a{ending}", stack, code)
    seen = frames(path)
    assert len(seen) == 12
    assert all(np.corrcoef(one.reshape(*SHAPE, -1)[..., 0].ravel(), other.ravel())[0, 1] > 0.98
               for one, other in zip(seen, stack, strict=True))  # fmt: skip
    assert (pictures.open(path).frame(7).pixels == seen[7]).all()
    with pytest.raises(ImageError, match="has 12 frames, no frame 12"):
        pictures.open(path).frame(12)


def test_a_cut_video_is_an_error(tmp_path: Path, grey: np.ndarray) -> None:
    data = video(tmp_path / "a.avi", [np.roll(grey, 5 * n, 1) for n in range(20)]).read_bytes()
    for share in (0.0, 0.3, 0.6):
        (tmp_path / "b.avi").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ImageError, match=r"b.avi"):
            frames(tmp_path / "b.avi")


@pytest.mark.parametrize(
    ("ending", "code"),
    [(".avi", "MJPG"), (".avi", "HFYU"), (".mp4", "mp4v"), (".mov", "mp4v"), (".webm", "VP80"), (".mkv", "mp4v"),
     (".wmv", "WMV2"), (".mpg", "PIM1")],
)  # fmt: skip
def test_a_video_is_shorter_than_it_states(tmp_path: Path, grey: np.ndarray, ending: str, code: str) -> None:
    """Decoders return the last frame of a truncated video, damaged or not at all, without an error."""
    data = video(tmp_path / f"a{ending}", [np.roll(grey, 5 * n, 1) for n in range(20)], code).read_bytes()
    assert stated_length(tmp_path / f"a{ending}") in (len(data), len(data) - 16)
    for share in (0.98, 0.6, 0.2):
        (tmp_path / f"b{ending}").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ImageError, match=rf"b{ending} is truncated: it has [0-9,]+ of [0-9,]+ bytes"):
            frames(tmp_path / f"b{ending}")


def test_containers_that_do_not_state_their_length(tmp_path: Path, grey: np.ndarray) -> None:
    asf = bytearray(video(tmp_path / "a.wmv", [grey] * 5, "WMV2").read_bytes())
    asf[asf.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 88] |= 1  # a broadcast
    live = bytearray(video(tmp_path / "a.webm", [grey] * 5, "VP80").read_bytes())
    at = live.index(b"\x18S\x80g") + 4
    live[at : at + 8] = b"\x01" + b"\xff" * 7  # a segment of unknown size
    avi = bytearray(video(tmp_path / "a.avi", [grey] * 5).read_bytes())
    avi[4:8] = b"\xff" * 4
    for ending, data in ((".wmv", asf), (".webm", live), (".avi", avi), (".mpg", b"\0\0\1\xba")):
        (tmp_path / f"b{ending}").write_bytes(data)
        assert stated_length(tmp_path / f"b{ending}") is None, ending
    for data in (b"", b"RIFF", b"\x1aE\xdf\xa3", b"\0\0\0\0ftyp", b"\0\0\0\1moov"):
        (tmp_path / "c.mp4").write_bytes(data)
        assert stated_length(tmp_path / "c.mp4") in (None, 0)


def test_packets_of_mpeg_2_and_its_end_code(tmp_path: Path, grey: np.ndarray) -> None:
    data = video(tmp_path / "a.vob", [grey] * 9, "MPG2").read_bytes()
    assert stated_length(tmp_path / "a.vob") == len(data)
    end = b"\0\0\1\xb9"
    for content, stated in (
        (data + end, len(data)), (data + end + data, 2 * len(data) + 4), (data[:-5], len(data)),
        (data + b"\0\0\1\xe0\0\0", None), (data + b"\0\0\1\xb3\0\5", None),
    ):  # fmt: skip
        (tmp_path / "b.vob").write_bytes(content)
        assert stated_length(tmp_path / "b.vob") == stated


#: An MP4 of three fragments, each of 12 frames of 48 × 32 pixels with the values 0, 20, 40 …, as FFmpeg wrote it with
#: -movflags frag_keyframe -frag_duration 100000: deflated, in base 85.
FRAGMENTS = (
    "c-oCr&1(}u6rateQKZErO+m1S6?5=VLzC8kheAP+97I@9K`NMScGoW1$%ftOQWb5i)mo$;#s5IO`GM)Nms;`Q#hdid1ux#jlY$@h&1}-Vq-o"
    "5svv20T-@JLh_ueicL^0XTs^vM9kO<)tW*%maRwuKB$P?6Yd_ss#{W+bq4f!j)7KlXn(;8Acs&hY0dX5M@dFE<mSYKmhai`qH+rqw+{oFeaQ"
    "xV2bRJSy~qk1Q=9LyNGyeT%P=XBd`T6{}4F!BoQoq|@;ZG&T^JJhO}ut@n-IK?5P_0Tq|yM~EE9GrJ;C0t8W9-Fmc{n=xljxZmf82$k?IVpt"
    "{Ko**a<OR(y<tH-POm;k{(5i7`vi-!d-CcNJH$2@Fg{;+T7r}89<g}6ysv*eNs4@VW40wFWqkFqL99}OeWOMBi`6w+%Q|Dm&8s8U#BT|GXVV"
    "1d!AZPqyk1-DskwwA52!u;W->?ap0^6--5*vEZm7Eq{o&kA^`UdX`g}KH;hc7&|d7bgfU!{hSe4M~lhR$%cYSqSv#w^?8WYRB~<A^G1;;?WI"
    "^vx!H*fI)6Fufu1Lm=w$qPjG-{=L4lwSAY6S0|&loiB7_t^NmN0(I#g!VJj!F$wVV4r3ngVc_$09NtxNYR=)#xdfjQ*QZ&iKif)({JxR=bR<"
    "-yn5nZ?wql{qov)yRurB-(fx4WBpcaqQUp%hEJgC3<?H>q}EUFLABg~PtE|@@FodLjay8ex0k{s}J+u1pQU!*s`==0wE2K(hVTvVU(pdj-bJ"
    "gzYw6l8u8V*>RV#*BBtq>Abj%y0BR{N&#J23C6WOZLkz6{rvEs5V1g>NiqUSGEx5XqWnp1nT`Ws6S)nR)1R5bouw9GLTaHpG-#mCi+s6Bvc|"
    "%$~{$*G}(tLNSNFF6IlNM_6$`W"
)


def test_fragments_are_read_though_the_header_does_not_count_their_frames(tmp_path: Path, grey: np.ndarray) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data := zlib.decompress(base64.b85decode(FRAGMENTS)))
    assert is_fragmented(path)
    assert not is_fragmented(video(tmp_path / "whole.mp4", [grey] * 2, "mp4v"))
    media = pictures.open(path)
    assert media.count is None
    for number, frame in enumerate(media.frames()):
        assert np.abs(frame.pixels.astype(int) - 20 * number).max() <= 2
    assert number == 11
    assert media.remarks == ()
    assert np.abs(media.frame(11).pixels.astype(int) - 220).max() <= 2
    (tmp_path / "cut.mp4").write_bytes(data[: data.rindex(b"mdat") + 50])
    with pytest.raises(ImageError, match=r"cut.mp4 is truncated"):
        frames(tmp_path / "cut.mp4")


def _interlaced(data: bytes, *wanted: int) -> bytes:
    """MPEG-2 whose frames with these numbers, in the order of the file, say that they are interlaced."""
    changed, number = bytearray(data), 0
    for at in (n for n in range(len(data)) if data[n : n + 4] == b"\0\0\1\xb5"):  # ISO/IEC 13818-2, 6.2.2.3, 6.2.3.1
        if data[at + 4] >> 4 == 1:
            changed[at + 5] &= 0xF7  # progressive_sequence
        if data[at + 4] >> 4 == 8:
            if number in wanted:
                changed[at + 8] &= 0x7F  # progressive_frame
            number += 1
    return bytes(changed)


#: OpenCV reads interlaced video.
FIT = tuple(int(number) for number in cv2.__version__.split(".")[:2]) < (4, 13)


@pytest.mark.parametrize("wanted", [range(9), (6,)], ids=["all", "frame 5"])
def test_interlaced_video_is_refused(tmp_path: Path, grey: np.ndarray, wanted: tuple[int, ...]) -> None:
    """OpenCV from 4.13 on returns what happens to be in memory for its frames, mostly the frame before."""
    data = video(tmp_path / "a.vob", [np.roll(grey, 5 * n, 1) for n in range(9)], "MPG2").read_bytes()
    assert len(frames(tmp_path / "a.vob")) == 9
    (tmp_path / "b.vob").write_bytes(_interlaced(data, *wanted))
    if FIT:
        assert len(frames(tmp_path / "b.vob")) == 9
        return
    with pytest.raises(ImageError, match=r"b\.vob is interlaced video.* setfield=prog"):
        frames(tmp_path / "b.vob")
    with pytest.raises(ImageError, match="interlaced"):
        pictures.open(tmp_path / "b.vob").frame(5)
    with pytest.raises(UnreadableFile, match="interlaced"):
        [video_frame(tmp_path / "b.vob", number) for number in range(9)]


@pytest.mark.skipif(FIT, reason="this OpenCV reads interlaced video")
def test_memory_that_changes_hides_no_interlaced_video(
    tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = video(tmp_path / "a.vob", [np.roll(grey, 5 * n, 1) for n in range(9)], "MPG2").read_bytes()
    (tmp_path / "b.vob").write_bytes(_interlaced(data, *range(9)))
    reading, shifts = cv2.VideoCapture, iter(range(100))

    class Shifting:
        def __init__(self, *how: Any) -> None:
            self.capture = reading(*how)

        def read(self) -> Any:
            ok, frame = self.capture.read()
            return ok, frame + np.uint8(next(shifts) < 2) if ok else frame

        def __getattr__(self, name: str) -> Any:
            return getattr(self.capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Shifting)
    with pytest.raises(ImageError, match="interlaced"):
        pictures.open(tmp_path / "b.vob")


def test_equal_frames_are_read(tmp_path: Path, grey: np.ndarray) -> None:
    assert len(frames(video(tmp_path / "a.avi", [grey]))) == 1
    assert len(frames(video(tmp_path / "b.avi", [grey, grey, 255 - grey]))) == 3
    assert len(frames(video(tmp_path / "c.avi", [grey] * 9))) == 9
    assert len(frames(video(tmp_path / "d.vob", [grey] * 9, "MPG2"))) == 9


def uncompressed(frames: list[bytes], width: int, height: int, bits: int = 24) -> bytes:
    """An AVI as frame grabbers and MATLAB write it: rows of BGR from below, each filled up to four bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    count = len(frames)
    image = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)
    stream = b"vids\0\0\0\0" + struct.pack(
        "<IHHIIIIIIIIhhhh", 0, 0, 0, 0, 1, 25, 0, count, 0, 0, 0, 0, 0, width, height
    )
    main = struct.pack("<14I", 40_000, 0, 0, 0x10, count, 0, 1, 0, width, abs(height), 0, 0, 0, 0)
    lists = b"hdrl" + chunk(b"avih", main) + chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", image))
    pixels = b"movi" + b"".join(chunk(b"01wb", b"sound") + chunk(b"00db", frame) for frame in frames)
    return chunk(b"RIFF", b"AVI " + chunk(b"LIST", lists) + chunk(b"LIST", pixels))


@pytest.mark.parametrize("width", [120, 117])
def test_uncompressed_colours_with_rows_from_below(tmp_path: Path, colour: np.ndarray, width: int) -> None:
    """OpenCV from 4.13 on ends the process."""
    stack = [np.roll(colour, 5 * n, 1)[:, :width] for n in range(7)]
    rows = [np.pad(one[::-1, :, ::-1].reshape(len(one), -1), ((0, 0), (0, -3 * width % 4))) for one in stack]
    packed = [one.tobytes() for one in rows]
    path = tmp_path / "a.avi"
    path.write_bytes(uncompressed([*packed, b""], width, SHAPE[0]))
    assert pictures.open(path).count == 8
    assert (np.stack(frames(path)) == np.stack([*stack, stack[-1]])).all()
    assert (pictures.open(path).frame(4).pixels == stack[4]).all()
    assert (video_frame(path, 5) == stack[5]).all()
    assert (video_frame(path, 2) == stack[2]).all()
    path.write_bytes(uncompressed([packed[0]] * 6, width, SHAPE[0]))
    assert (np.stack(frames(path)) == stack[0]).all()
    path.write_bytes(uncompressed([*packed[:3], packed[3][:-3], *packed[4:]], width, SHAPE[0]))
    with pytest.raises(ImageError, match="3 of its 7 frames can be read"):
        frames(path)
    path.write_bytes(uncompressed([b"", *packed], width, SHAPE[0]))
    with pytest.raises(ImageError, match="No frame of"):
        frames(path)
    path.write_bytes(uncompressed(packed, 30_000, 30_000))
    with pytest.raises(ImageError, match="claims 30000 × 30000 pixels"):
        pictures.open(path)
    if width == 120:  # rows from above are left to OpenCV
        path.write_bytes(uncompressed([one[::-1].tobytes() for one in rows], width, -SHAPE[0]))
        assert (np.stack(frames(path)) == np.stack(stack)).all()


def test_uncompressed_images_in_chunks_named_as_compressed_ones(tmp_path: Path, colour: np.ndarray) -> None:
    """Some writers name every chunk of images 00dc."""
    rows = np.pad(colour[::-1, :, ::-1].reshape(len(colour), -1), ((0, 0), (0, -3 * colour.shape[1] % 4))).tobytes()
    data = uncompressed([rows] * 2, colour.shape[1], len(colour)).replace(b"00db", b"00dc")
    (tmp_path / "a.avi").write_bytes(data)
    assert (np.stack(frames(tmp_path / "a.avi")) == colour).all()


def test_zero_bytes_at_the_end_of_an_uncompressed_video_are_not_searched() -> None:
    """A full disk leaves gigabytes of them."""
    file = mock.Mock(wraps=io.BytesIO(uncompressed([bytes(120)] * 3, 10, 4) + bytes(8000)))
    assert list(videos._frame_chunks(file)) == [120] * 3
    assert file.read.call_count < 30


def test_a_playlist_is_not_a_video(tmp_path: Path, grey: np.ndarray) -> None:
    """FFmpeg would open what it names."""
    video(tmp_path / "secret.avi", [grey] * 3)
    (tmp_path / "a.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.avi\n#EXT-X-ENDLIST\n")
    with pytest.raises(ImageError, match=r"a.mp4 is not a video"):
        frames(tmp_path / "a.mp4")
