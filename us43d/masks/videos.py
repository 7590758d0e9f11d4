"""Reading videos forwards with OpenCV's FFmpeg, and the one rule on how many frames a video may lack.

An AVI whose header states more frames than can be read has lost some, and all after them would have another number: it
is refused. An MP4 or MOV may lack two, which edit lists skip, and gets a remark. Other containers, and MP4 of
fragments, state a duration alone: their frames are compared with an estimate, for a remark.

OpenCV from 4.13 on returns interlaced frames without having written them: as the frame before, or as what was in
memory. FFmpeg's message about that is the only sign of it, so where two frames are equal, another process decodes the
video, and its messages are read. It ends the process at 24-bit RGB whose rows are stored from below, the usual
uncompressed AVI, which is read here.
"""

import itertools
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d import limits
from us43d.container import is_fragmented, stated_length
from us43d.errors import UnreadableFile, counted
from us43d.masks.read import common_channel

__all__ = ["VideoFile", "rgb_frame", "video_frame", "video_length", "video_remark"]

#: (position, bytes) at the start of video files. Other files are refused: FFmpeg follows playlists to other files.
_MAGIC: tuple[tuple[int, bytes], ...] = (
    (8, b"AVI "), (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (0, b"\x1aE\xdf\xa3"),
    (0, b"\0\0\1\xba"), (0, b"\0\0\1\xb3"), (0, b"\x30\x26\xb2\x75"), (0, b"OggS"), (0, b"FLV"),
    (0, b"\0\0\0\1"), (0, b"\x47\x40"), (4, b"\x47\x40"),  # H.264 and HEVC without a container, MPEG transport streams
)  # fmt: skip
#: Frames that a container may lack, by the four bytes that follow its first four; others state no number of frames.
_LACKING = {b"ftyp": 2, b"moov": 2, b"mdat": 2, b"wide": 2, b"free": 2}
#: Frames that are compared when a video is opened. Memory of interlaced ones may change between two of them.
_COMPARED = 5
#: What FFmpeg says of an interlaced frame, and the program that lets it speak.
_INTERLACED = b"Cannot convert interlaced"
_DECODE = (
    "import cv2, sys; capture = cv2.VideoCapture(sys.argv[1], cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])\n"
    "while capture.read()[0]: pass"
)
_SPEAKING = {"OPENCV_FFMPEG_LOGLEVEL": "16", "PYTHONSAFEPATH": "1"}
#: Bytes at the start of an AVI that describe its images: from `vids` to their number, and of them width, height,
#: planes, bits per pixel and compression.
_START, _NUMBER, _IMAGES = 1 << 16, struct.Struct("<4s28xI"), struct.Struct("<iiHHI")


class _Uncompressed:
    """An AVI of 24-bit RGB whose rows are stored from below; methods as those of cv2.VideoCapture."""

    def __init__(self, path: Path, width: int, height: int, number: int) -> None:
        self.file, self.shape, self.stride = path.open("rb"), (height, width, 3), (3 * width + 3) // 4 * 4
        self.chunks = _frame_chunks(self.file)
        self.last: NDArray[np.uint8] | None = None
        self.facts = {
            cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height, cv2.CAP_PROP_FRAME_COUNT: number,
        }  # fmt: skip

    @classmethod
    def opened(cls, path: Path) -> "_Uncompressed | None":
        """Open a video of this kind; None for any other."""
        with path.open("rb") as file:
            start = file.read(_START)
        stream = start.find(b"vids")
        at = start.find(b"strf", stream) + 12
        if start[8:12] != b"AVI " or stream < 0 or at < 12 or len(start) < at + _IMAGES.size:
            return None
        width, height, _, bits, compression = _IMAGES.unpack_from(start, at)
        if (bits, compression) != (24, 0) or width <= 0 or height <= 0:
            return None
        return cls(path, width, height, _NUMBER.unpack_from(start, stream)[1])

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> int:
        return self.facts.get(what, 0)

    def grab(self) -> bool:
        return self.read()[0]

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        height, width, _ = self.shape
        length, size = next(self.chunks, -1), self.stride * height
        if length == 0 and self.last is not None:  # repeats the frame before
            return True, self.last
        data = self.file.read(size) if length >= size else b""
        if len(data) < size:
            return False, None
        self.last = np.frombuffer(data, np.uint8).reshape(height, -1)[::-1, : 3 * width].reshape(self.shape)
        return True, self.last

    def release(self) -> None:
        self.file.close()

    __del__ = release


def _frame_chunks(file: BinaryIO) -> Iterator[int]:
    """Go to each chunk of images of an AVI, and yield its length in bytes."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or not head.strip(b"\0"):  # the end, or zero bytes as a full disk leaves them
            return
        name, length = struct.unpack("<4sI", head)
        if name in (b"RIFF", b"LIST"):  # their chunks follow
            at += 12
            continue
        if name[2:] in (b"db", b"dc"):
            yield length
        at += 8 + length + length % 2


class VideoFile:
    """A video that can be opened. stated: number of frames in its header, or by its duration; None without either.

    lacking: how many of them may be missing; None where `stated` is an estimate.

    Raises:
        UnreadableFile: If the file is not a video, truncated, above the limits, or interlaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                start = file.read(32)
            needed, size, fragmented = stated_length(path), path.stat().st_size, is_fragmented(path)
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error
        if not any(start[at : at + len(magic)] == magic for at, magic in _MAGIC):
            raise UnreadableFile(f"{path} is not a video (it begins with {start[:8]!r}).")
        if needed is not None and size < needed:
            raise UnreadableFile(f"{path} is truncated: it has {size:,} of {needed:,} bytes.")
        capture = self.opened()
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1").strip("\0 ")
        self._compared = isinstance(capture, _Uncompressed)
        first = [bgr for ok, bgr in (capture.read() for _ in range(_COMPARED)) if ok]
        capture.release()
        for before, frame in itertools.pairwise(first):
            self.check(before, frame)
        self.stated = stated if stated > 0 else None
        self.lacking = None if fragmented else 0 if start[8:12] == b"AVI " else _LACKING.get(start[4:8])

    def opened(self) -> Any:
        """Open the video at its first frame."""
        # FFmpeg wherever this runs, so that pixels agree; parallelism is by process.
        capture: Any = _Uncompressed.opened(self.path)
        if capture is None:
            capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise UnreadableFile(f"{self.path} is not a video that OpenCV can read.")
        width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        limits.check_size(self.path, width, height, 3)
        return capture

    def check(self, before: NDArray[Any] | None, frame: NDArray[Any]) -> None:
        """Compare a frame with the one that was decoded before it. Raises UnreadableFile if OpenCV wrote neither."""
        if self._compared or before is None or not np.array_equal(before, frame):
            return
        self._compared = True
        command = [sys.executable, "-c", _DECODE, str(self.path)]
        environment = os.environ | _SPEAKING
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False)
        if ended.returncode:
            raise UnreadableFile(f"{self.path}: decoding it in another process ended with code {ended.returncode}.")
        if _INTERLACED in ended.stdout:
            raise UnreadableFile(
                f"{self.path} is interlaced video, which OpenCV cannot read. ffmpeg -i VIDEO -vf setfield=prog -c:v "
                "ffv1 NEW.avi writes a video that can be read."
            )

    def remark(self, frames: int) -> str:
        """Compare the number of frames that were read to the end with the stated one; "" if there is nothing to say.

        Raises:
            UnreadableFile: If none could be read, or too few.
        """
        if frames < 1:
            raise UnreadableFile(
                f"No frame of {self.path} can be read (codec {self.codec!r}). ffmpeg -i VIDEO -c:v ffv1 NEW.avi writes "
                "a video that can."
            )
        if self.stated is None or frames == self.stated or (frames > self.stated and self.lacking is None):
            return ""
        if self.lacking is not None and frames < self.stated - self.lacking:
            raise UnreadableFile(
                f"{self.path} is damaged, truncated or shortened by an edit list: {frames} of its {self.stated} frames "
                "can be read. ffmpeg -i VIDEO -c:v ffv1 NEW.avi writes a video of these frames."
            )
        by = "its duration and frame rate give" if self.lacking is None else "the header states"
        return f"{counted(frames, 'frame')} read; {by} {self.stated}"


def rgb_frame(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame as OpenCV decodes it as (h, w), or (h, w, 3) RGB where the channels differ."""
    colour = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    single = common_channel(colour)
    return colour if single is None else single


class _Forwards:
    """A video read forwards; seeking is not exact in Motion-JPEG and H.264 files, so going back starts again."""

    def __init__(self, path: Path) -> None:
        self.file = VideoFile(path)
        self.capture, self.next = self.file.opened(), 0
        self.before: NDArray[Any] | None = None

    def frame(self, index: int) -> NDArray[np.uint8]:
        if index < self.next:
            self.capture.release()
            self.capture, self.next = self.file.opened(), 0
        while self.next < index and self.capture.grab():
            self.next += 1
        ok, bgr = self.capture.read()
        if self.next < index or not ok:
            raise UnreadableFile(f"{self.file.path} has {self.next} frames, no frame {index}.")
        self.next += 1
        self.file.check(self.before, bgr)
        self.before = bgr
        return rgb_frame(np.asarray(bgr, np.uint8))


@lru_cache(maxsize=4)
def _forwards(path: Path) -> _Forwards:
    return _Forwards(path)


def video_frame(path: Path, frame: int) -> NDArray[np.uint8]:
    """Read frame `frame` (from 0) of a video: (h, w), or (h, w, 3) RGB where the channels differ."""
    _length(path)
    return _forwards(path).frame(frame)


def video_length(path: Path) -> int:
    """Return the number of frames of a video. Raises UnreadableFile if it has none, or lacks some."""
    return _length(path)[0]


def video_remark(path: Path) -> str:
    """Return what a person should know about the number of frames; "" if nothing. Raises UnreadableFile."""
    return _length(path)[1]


def _length(path: Path) -> tuple[int, str]:
    try:
        return _counted(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error


@lru_cache(maxsize=4096)
def _counted(path: Path, mtime_ns: int) -> tuple[int, str]:
    """Count the frames once by decoding all of them: a frame that is lost on the way would move all after it."""
    video = VideoFile(path)
    capture, frames = video.opened(), 0
    while capture.grab():
        frames += 1
    capture.release()
    return frames, video.remark(frames)
