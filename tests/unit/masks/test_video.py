"""Videos that lost something on the way."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from us43d import masks
from us43d.errors import UnreadableFile
from us43d.masks import videos
from us43d.masks.videos import VideoFile

FRAMES = np.random.default_rng(0).integers(0, 255, (12, 48, 64, 3), dtype=np.uint8)


def write(path: Path) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for frame in FRAMES:
        writer.write(frame)
    writer.release()
    return path.read_bytes()


def test_length_and_frames(tmp_path: Path) -> None:
    write(tmp_path / "a.avi")
    assert masks.video_length(tmp_path / "a.avi") == 12
    assert masks.video_frame(tmp_path / "a.avi", 11).shape == (48, 64, 3)
    for number in (12, 13):
        with pytest.raises(UnreadableFile, match=rf"a\.avi has 12 frames, no frame {number}\."):
            masks.video_frame(tmp_path / "a.avi", number)


def test_what_a_video_states(tmp_path: Path) -> None:
    write(path := tmp_path / "a.avi")
    video = VideoFile(path)
    assert (video.codec, video.stated, video.remark(12)) == ("MJPG", 12, "")
    with pytest.raises(UnreadableFile, match=r"^No frame of .*a\.avi can be read \(codec 'MJPG'\)"):
        video.remark(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    writer.write(FRAMES[0])
    writer.release()
    assert VideoFile(path).stated == 1


@pytest.mark.parametrize("end", [b"", b"vids", b"vidsstrf", b"strf" + bytes(28), b"vidsstrf" + bytes(23)])
def test_an_avi_that_describes_no_image_is_refused(tmp_path: Path, end: bytes) -> None:
    """Its header is unpacked only where it is whole."""
    path = tmp_path / "a.avi"
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(end)) + b"AVI " + end)
    with pytest.raises(UnreadableFile, match=r"a\.avi is not a video that OpenCV can read"):
        VideoFile(path)


def test_an_avi_that_states_no_frame_states_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), 0, 10, (64, 48))  # uncompressed
    for frame in FRAMES:
        writer.write(frame)
    writer.release()
    data = bytearray(path.read_bytes())
    at = data.index(b"vids") + 32  # the number of frames in the header of the stream
    assert data[at : at + 4] == struct.pack("<I", 12)
    assert VideoFile(path).stated == 12
    data[at : at + 4] = bytes(4)
    (tmp_path / "b.avi").write_bytes(data)
    assert VideoFile(tmp_path / "b.avi").stated is None
    assert masks.video_length(tmp_path / "b.avi") == 12
    assert masks.video_remark(tmp_path / "b.avi") == ""


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "import os; os.abort()"])
def test_a_decoding_process_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Only its messages tell interlaced videos, whose frames OpenCV returns without having written them."""
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(FRAMES[0])
    writer.release()
    assert VideoFile(path).stated == 3
    monkeypatch.setattr(videos, "_DECODE", code)
    with pytest.raises(UnreadableFile, match=r"a\.avi: decoding it in another process ended with code (3|-6)\."):
        VideoFile(path)


STATES, GIVES = "the header states 10", "its duration and frame rate give 10"


@pytest.mark.parametrize(
    ("lacking", "frames", "remark"),
    [
        (None, 10, ""), (None, 12, ""), (None, 9, f"9 frames read; {GIVES}"), (None, 1, f"1 frame read; {GIVES}"),
        (2, 10, ""), (2, 12, f"12 frames read; {STATES}"), (2, 8, f"8 frames read; {STATES}"), (2, 7, None),
        (0, 10, ""), (0, 11, f"11 frames read; {STATES}"), (0, 9, None),
    ],
)  # fmt: skip
def test_frames_read_and_frames_stated(tmp_path: Path, lacking: int | None, frames: int, remark: str | None) -> None:
    write(tmp_path / "a.avi")
    video = VideoFile(tmp_path / "a.avi")
    assert video.lacking == 0
    video.stated, video.lacking = 10, lacking
    if remark is None:
        with pytest.raises(UnreadableFile, match=f"{frames} of its 10 frames can be read"):
            video.remark(frames)
    else:
        assert video.remark(frames) == remark
    video.stated = None
    assert video.remark(frames) == ""


def test_the_remark_is_that_of_the_frames_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.avi")
    monkeypatch.setattr(VideoFile, "remark", lambda _, frames: f"read {frames}")
    assert masks.video_remark(tmp_path / "a.avi") == "read 12"


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.avi")
    (tmp_path / "b.avi").write_text("#EXTM3U\n#EXTINF:1,\na.avi\n")
    with pytest.raises(UnreadableFile, match=r"b\.avi is not a video \(it begins with b'#EXTM3U"):
        masks.video_length(tmp_path / "b.avi")


def test_a_cut_video_is_an_error_wherever_it_is_cut(tmp_path: Path) -> None:
    data = write(tmp_path / "a.avi")
    for number, cut in enumerate(np.linspace(200, len(data) - 40, 60).astype(int)):
        path = tmp_path / f"{number}.avi"
        path.write_bytes(data[:cut])
        for read in (masks.video_length, lambda p: masks.video_frame(p, 0)):
            with pytest.raises(UnreadableFile, match=r"is truncated|is not a video"):
                read(path)


@pytest.mark.parametrize(("ending", "codec"), [(".mkv", "MJPG"), (".webm", "VP80"), (".wmv", "WMV2")])
def test_a_cut_video_without_a_count_of_frames_is_an_error(tmp_path: Path, ending: str, codec: str) -> None:
    path = tmp_path / f"a{ending}"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
    for frame in FRAMES:
        writer.write(frame)
    writer.release()
    assert masks.video_length(path) == 12
    (tmp_path / f"b{ending}").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableFile, match="is truncated"):
        masks.video_length(tmp_path / f"b{ending}")


def test_a_frame_that_is_lost_on_the_way_is_an_error(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.avi"))
    third = [at for at in range(len(data)) if data[at : at + 4] == b"00dc"][2]
    (size,) = struct.unpack_from("<I", data, third + 4)
    data[third : third + 4] = b"JUNK"
    index = data.index(b"idx1")
    del data[index + 8 + 2 * 16 : index + 8 + 3 * 16]
    struct.pack_into("<I", data, index + 4, 11 * 16)
    data += bytes(16)
    path = tmp_path / "b.avi"
    path.write_bytes(data)
    assert size > 100
    with pytest.raises(UnreadableFile, match="11 of its 12 frames can be read"):
        masks.video_frame(path, 0)
