"""OASBUD: raw signals of 100 breast lesions in two planes, turned into B-mode here. Beyond US-43d."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

RANGE_DB = 50  # between black and white
#: Samples of a line that make one row. At 40 MHz and 1,540 m/s they are 0.077 mm deep; 510 lines over 38 mm are 0.075.
SAMPLES = 4
CLASSES = {0: "benign", 1: "malignant"}


def read(raw: RawTree) -> Iterator[Sample]:
    path = raw.path(raw.one("**/OASBUD.mat"))
    for n in range(masks.mat_length(path, "data")):
        with raw.reading(f"{n + 1:03}"):
            entry = f"data[{n}]"
            lesion = _value(path, f"{entry}.id")
            tumour = masks.mat_array(path, f"{entry}.class").item()
            if tumour not in CLASSES:
                raise UnreadableFile(f"{path}: {entry}.class is {tumour}, neither 0 (benign) nor 1 (malignant).")
            for plane in ("1", "2"):
                yield Sample(
                    key=f"{n + 1:03}-{plane}",
                    image=lazy(b_mode, path, f"{entry}.rf{plane}"),
                    masks={"lesion": lazy(outlined, path, f"{entry}.roi{plane}")},
                    group=lesion,
                    tags={"class": CLASSES[tumour], "birads": _value(path, f"{entry}.birads"), "plane": int(plane)},
                )


def _value(path: Path, name: str) -> str:
    """Return text or a number as text; which of them an entry has was not established."""
    try:
        return masks.mat_text(path, name).strip()
    except UnreadableFile:
        return f"{masks.mat_array(path, name).item():g}"


def b_mode(path: Path, name: str) -> Any:
    """Compute the B-mode image (rows, lines) uint8 of radio-frequency lines (samples, lines).

    The envelope is the magnitude of each line's analytic signal, averaged over 4 samples, in decibels below the image's
    highest value; −50 dB and less are 0, 0 dB is 255. Samples after the last full row are ignored.
    """
    import numpy as np
    from scipy.signal import hilbert

    lines = masks.mat_array(path, name).astype(np.float64)
    if lines.ndim != 2 or len(lines) < SAMPLES or not np.isfinite(lines).all():
        raise UnreadableFile(f"{path}: {name} has the shape {lines.shape} or values that are not finite.")
    rows = len(lines) // SAMPLES
    envelope = np.abs(hilbert(lines, axis=0))[: rows * SAMPLES].reshape(rows, SAMPLES, -1).mean(axis=1)
    with np.errstate(divide="ignore"):  # silence is minus infinity
        level = 20 * np.log10(envelope / (envelope.max() or 1))
    return np.rint(np.clip(1 + level / RANGE_DB, 0, 1) * 255).astype(np.uint8)


def outlined(path: Path, name: str) -> Any:
    """Return the lesion in the rows of the B-mode image, taken at one of the two middle samples of a row."""
    outline = masks.mat_array(path, name)
    return masks.nonzero(outline[SAMPLES // 2 : len(outline) // SAMPLES * SAMPLES : SAMPLES])


RECIPE = source(__name__, read)
