"""Read videos forwards with OpenCV's FFmpeg."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d import limits
from us43d.container import stated_length
from us43d.errors import ImageError
from us43d.masks import read

__all__ = ["Video"]

#: (position, bytes) at the start of video files. Other files are refused: FFmpeg follows playlists to other files.
_MAGIC: tuple[tuple[int, bytes], ...] = (
    (8, b"AVI "), (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (0, b"\x1aE\xdf\xa3"),
    (0, b"\0\0\1\xba"), (0, b"\0\0\1\xb3"), (0, b"\x30\x26\xb2\x75"), (0, b"OggS"), (0, b"FLV"),
    (0, b"\0\0\0\1"), (0, b"\x47\x40"),  # H.264 and HEVC without a container, MPEG transport streams
)  # fmt: skip
#: Endings of containers with a frame count; for others, the count is estimated from the duration.
_COUNTED = (".avi", ".mp4", ".mov", ".m4v")
#: Number of frames that a counted video may lack: edit lists of MP4 skip the first ones.
_LACKING = 2


class Video:
    """A video file. count: number of frames in the header; None without one."""

    spacing: tuple[float, float] | None = None
    region: tuple[int, int, int, int] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []
        capture = self._opened()
        claimed = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        self.claimed = claimed if claimed > 0 else None
        self.counted = path.suffix.lower() in _COUNTED and self.claimed is not None
        self.count = self.claimed if self.counted else None

    def _opened(self) -> cv2.VideoCapture:
        try:
            with self.path.open("rb") as file:
                start = file.read(32)
            stated, size = stated_length(self.path), self.path.stat().st_size
        except OSError as error:
            raise ImageError(f"{self.path} cannot be read: {error.strerror}.") from error
        if not any(start[at : at + len(magic)] == magic for at, magic in _MAGIC):
            raise ImageError(f"{self.path} is not a video (it begins with {start[:8]!r}).")
        if stated is not None and size < stated:
            raise ImageError(f"{self.path} is truncated: it has {size:,} of {stated:,} bytes.")
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise ImageError(f"{self.path} is not a video that OpenCV can read.")
        width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        limits.check_size(self.path, width, height, 3)
        return capture

    def read(self, wanted: int | None) -> Iterator[NDArray[Any]]:
        capture = self._opened()
        done, kept = 0, None
        try:
            while True:  # to the end, also for one frame: a lost frame moves those after it; seeking is not exact
                ok, bgr = capture.read() if wanted in (None, done) else (capture.grab(), None)
                if not ok:
                    break
                if wanted is None:
                    yield _rgb(bgr)
                elif done == wanted:
                    kept = _rgb(bgr)
                done += 1
        finally:
            capture.release()
        self._check_end(done)
        if kept is not None:
            yield kept
        elif wanted is not None:
            raise ImageError(f"{self.path} has {done} frames, no frame {wanted}.")

    def _check_end(self, done: int) -> None:
        if done == 0:
            raise ImageError(f"No frame of {self.path} can be read.")
        if self.claimed is None or done >= self.claimed:
            return
        if self.counted and done < self.claimed - _LACKING:
            raise ImageError(f"{self.path} is damaged or truncated: {done} of its {self.claimed} frames can be read.")
        self.remarks.append(f"{done} frames were read; the header states {self.claimed}")


def _rgb(bgr: Any) -> NDArray[np.uint8]:
    colour = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    single = read.common_channel(colour)
    return colour if single is None else single
