"""nnU-Net v2 for volumes: as `us43d.export.nnunet`, one NIfTI file for each volume, with the size of its voxels.

Only volumes whose pixel spacing and slice distance are known, and whose slices are complete from the first to the last
one in the corpus, are cases. Axes are x, y and slice as in the build; position and direction in space are not kept.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UsageError
from us43d.export import frames
from us43d.export.nnunet import NnUnet, dataset_name, luminance
from us43d.export.run import Block
from us43d.export.selection import Item, Selection
from us43d.export.storage import Store

__all__ = ["NnUnet3d"]

#: Compression of the files, and zlib's number of its gzip form, whose header holds no time: the same bytes always.
_LEVEL, _GZIP = 5, 31
#: Length of a header with its mark that no extension follows, in bytes.
_HEADER = 352


class NnUnet3d(NnUnet):
    fidelity = (
        "Label volumes give the mask of every structure back (IoU 1); which pieces are separate instances is not kept. "
        "Voxel sizes are those of the source; position and direction in space are not kept. Colour is reduced to grey. "
        "Images that are not of a volume with known voxel size and complete slices are not exported (counted). "
        "Predictions where structures overlap: as nnU-Net in 2-D, a structure inside another is kept in both."
    )
    ending = ".nii.gz"
    configuration = "3d_fullres"

    def prepare(self, selection: Selection, store: Store) -> None:
        if all(selection.corpus.slice_mm(row) is None for rows in selection.rows.values() for row in rows.tolist()):
            raise UsageError(
                "No image of the selection is of a volume whose slice distance is known.",
                next="the same command with --to nnunet   (2-D)",
            )
        super().prepare(selection, store)

    def cuts(self, selection: Selection, split: str) -> list[int]:
        return frames.cuts(selection, split)

    def block(self, block: Block) -> None:
        folder = dataset_name(block.selection)
        for case, items in frames.of_file(block):
            if fault := frames.fault(items):
                block.count(f"images not exported: {fault}", len(items))
                continue
            suffix = "Ts" if items[0].split == "test" else "Tr"
            name = f"{folder}/images{suffix}/{case}_0000{self.ending}"
            with block.file(name) as path:
                kind = np.uint16 if any(item.deep for item in items) else np.uint8
                _nifti(path, items, lambda item: luminance(item.stored()), kind)
            with block.file(f"{folder}/labels{suffix}/{case}{self.ending}") as path:
                _nifti(path, items, self.labels.encode)
            for item in items:
                block.row(item, name)
                block.count_merged(item)
            block.count("volumes")
            self.case(block, items[0], case)


def _nifti(path: Path, items: list[Item], plane: Callable[[Item], NDArray[Any]], kind: type = np.uint8) -> None:
    """Write a NIfTI file of slices (h, w) of a type, one at a time: axes x, y, slice; voxel sizes in mm."""
    import nibabel

    item = items[0]
    assert item.spacing is not None
    assert item.slice_mm is not None
    # NIfTI's order is column-major: x runs fastest, then y, then the slices, which therefore follow one another.
    nothing = np.broadcast_to(kind(0), (item.width, item.height, len(items)))
    image = nibabel.nifti1.Nifti1Image(nothing, np.diag((*item.spacing, item.slice_mm, 1.0)))
    image.header.set_xyzt_units("mm")
    image.header["vox_offset"] = _HEADER
    image.header.set_slope_inter(1, 0)
    image.update_header()
    deflate = zlib.compressobj(_LEVEL, wbits=_GZIP)
    with path.open("wb") as file:
        file.write(deflate.compress(image.header.binaryblock.ljust(_HEADER, b"\0")))
        for slice_ in items:
            file.write(deflate.compress(np.ascontiguousarray(plane(slice_), kind).data))
        file.write(deflate.flush())
