"""Reading HDF5 files row by row."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from us43d.errors import UnreadableFile, listed
from us43d.limits import MAX_BYTES, check_bytes

__all__ = ["hdf5_row", "hdf5_shape", "hdf5_text"]

#: Of a chunked dataset, chunks that were just read are kept: a chunk usually holds parts of many rows.
CACHE_BYTES = 1 << 26
#: What h5py raises for a damaged file.
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError)


@lru_cache(maxsize=2)
def _file(path: Path) -> Any:
    try:
        return h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES, rdcc_nslots=10_007)
    except _DAMAGED as error:
        raise UnreadableFile(f"{path} is not a readable HDF5 file: {error}.") from error


def _dataset(path: Path, name: str) -> Any:
    """Return the dataset `name`, whose bytes lie in the file itself.

    HDF5 can also take them from other files of the machine (external storage, external links, virtual datasets); a
    build that is passed on would carry those away.
    """
    file = _file(path)
    try:
        node: Any = file
        for step in name.split("/"):
            link = node.get(step, getlink=True) if isinstance(node, h5py.Group) else None
            if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
                raise UnreadableFile(f"{path}: {name} is a link to {link.path!r}, and links are not followed.")
            node = None if link is None else node.get(step)
        if not isinstance(node, h5py.Dataset) or not node.shape:
            raise UnreadableFile(f"{path} has no array {name!r}; it has {listed(sorted(map(str, file))) or 'none'}.")
        if node.is_virtual or node.external:
            raise UnreadableFile(f"{path}: {name} takes its values from other files, which are not read.")
        if node.chunks:
            check_bytes(path, math.prod(node.chunks) * node.dtype.itemsize)
        return node
    except _DAMAGED as error:
        raise UnreadableFile(f"{path}: {name} cannot be read: {error}.") from error


def hdf5_shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of a dataset."""
    return tuple(int(side) for side in _dataset(path, name).shape)


def hdf5_text(path: Path, name: str) -> list[str]:
    """Return a one-dimensional dataset of short texts, all of it."""
    dataset = _dataset(path, name)
    try:
        if dataset.dtype.kind != "S" or len(dataset.shape) != 1 or dataset.nbytes > MAX_BYTES:
            raise UnreadableFile(
                f"{path}: {name} has the type {dataset.dtype} and the shape {dataset.shape}, no texts."
            )
        return [value.decode("ascii") for value in dataset[:].tolist()]
    except _DAMAGED as error:
        raise UnreadableFile(f"{path}: {name} cannot be read: {error}.") from error


def hdf5_row(path: Path, name: str, index: int) -> NDArray[Any]:
    """Read element `index` of the first axis of a dataset; only that part is read."""
    dataset = _dataset(path, name)
    try:
        if not 0 <= index < len(dataset):
            raise UnreadableFile(f"{path}: {name} has {len(dataset)} rows, no row {index}.")
        check_bytes(path, dataset.nbytes // len(dataset))
        if dataset.dtype.kind not in "biuf":
            raise UnreadableFile(f"{path}: {name} has the type {dataset.dtype}, not numbers.")
        return np.asarray(dataset[index])
    except _DAMAGED as error:
        raise UnreadableFile(f"{path}: row {index} of {name} cannot be read: {error}.") from error
