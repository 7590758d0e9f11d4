"""Read the frames of a video of the user."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.masks.videos import VideoFile, rgb_frame

__all__ = ["Video"]


class Video:
    """A video file. count: number of frames in the header; None without one, or if some of them may be missing."""

    spacing: tuple[float, float] | None = None
    region: tuple[int, int, int, int] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []
        self._file = VideoFile(path)
        self.count = None if self._file.lacking is None else self._file.stated

    def read(self, wanted: int | None) -> Iterator[NDArray[Any]]:
        capture = self._file.opened()
        done, kept, before = 0, None, None
        try:
            while True:  # to the end, also for one frame: a lost frame moves those after it; seeking is not exact
                decoded = wanted is None or wanted in (done, done + 1)
                ok, bgr = capture.read() if decoded else (capture.grab(), None)
                if not ok:
                    break
                if bgr is not None:
                    self._file.check(before, bgr)
                    before = bgr
                if wanted is None:
                    yield rgb_frame(np.asarray(bgr, np.uint8))
                elif done == wanted:
                    kept = rgb_frame(np.asarray(bgr, np.uint8))
                done += 1
        finally:
            capture.release()
        self.count = done
        if remark := self._file.remark(done):
            self.remarks.append(remark)
        if kept is not None:
            yield kept
