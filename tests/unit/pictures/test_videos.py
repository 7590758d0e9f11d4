"""Videos: right frames, and one message for a file that is cut or names another."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from us43d import pictures
from us43d.container import stated_length
from us43d.errors import ImageError

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


def test_a_playlist_is_not_a_video(tmp_path: Path, grey: np.ndarray) -> None:
    """FFmpeg would open what it names."""
    video(tmp_path / "secret.avi", [grey] * 3)
    (tmp_path / "a.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.avi\n#EXT-X-ENDLIST\n")
    with pytest.raises(ImageError, match=r"a.mp4 is not a video"):
        frames(tmp_path / "a.mp4")
