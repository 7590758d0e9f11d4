"""COCO's compressed run-length encoding, read with numpy alone.

A mask is read column by column; `counts` are the lengths of alternating runs, background first. From the third on, each
is stored as its difference to the one two before, in 5-bit groups, lowest first: bit 5 says another follows, bit 4 of
the last is the sign, 48 is added to make it ASCII (the format of pycocotools' maskApi.c).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["counts", "decode"]


def counts(text: bytes) -> NDArray[np.int64]:
    """Run lengths of a compressed RLE. Raises ValueError for text that cannot be one."""
    symbols = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if len(symbols) == 0:
        return np.zeros(0, np.int64)
    if symbols.min() < 0 or symbols.max() > 63 or symbols[-1] & 32:
        raise ValueError("is not a compressed run-length encoding", text.decode("latin-1"))
    last = np.flatnonzero((symbols & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    place = np.arange(len(symbols)) - np.repeat(first, last - first + 1)
    if place.max() > 11:
        raise ValueError(f"{text[:20]!r} holds a run of over 60 bits")
    values = np.add.reduceat((symbols & 31) << (5 * place), first)
    negative = (symbols[last] & 16) != 0
    values[negative] -= np.int64(1) << (5 * (place[last][negative] + 1))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def decode(text: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask (height, width) of a compressed RLE. Raises ValueError if the runs do not fill it exactly."""
    runs = counts(text)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"the runs hold {int(runs.sum())} pixels, not {height} × {width}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T
