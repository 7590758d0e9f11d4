"""nnU-Net v2 for volumes: as `us43d.export.nnunet`, one NIfTI file for each volume, with the size of its voxels.

Only volumes whose pixel spacing and slice distance are known, and whose slices are complete from the first to the last
one in the corpus, are cases. Axes are x, y and slice as in the build; position and direction in space are not kept.
"""

import gzip
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UsageError
from us43d.export import frames
from us43d.export.nnunet import NnUnet, dataset_name, luminance
from us43d.export.run import Block, Report, run
from us43d.export.selection import Item, Options, Selection
from us43d.export.storage import Store
from us43d.harmonize.corpus import Corpus

__all__ = ["NnUnet3d", "write"]

#: Compression of the files. gzip's header holds no time, so that the bytes are always the same.
_LEVEL = 5


def write(corpus: Corpus, out: str | Path, options: Options, **how: Any) -> Report:
    """Export volumes to nnU-Net. how: jobs, progress, as `run` takes them."""
    return run(NnUnet3d(), corpus, out, options, **how)


class NnUnet3d(NnUnet):
    name: ClassVar[str] = "nnunet-3d"
    fidelity: ClassVar[str] = (
        "Label volumes give the mask of every structure back (IoU 1); which pieces are separate instances is not kept. "
        "Voxel sizes are those of the source; position and direction in space are not kept. Colour is reduced to grey. "
        "Images that are not of a volume with known voxel size and complete slices are not exported (counted)."
    )
    ending: ClassVar[str] = ".nii.gz"
    configuration: ClassVar[str] = "3d_fullres"

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
            block.write(name, _nifti([luminance(item.picture()) for item in items], items[0]))
            labels = [self.labels.encode(item) for item in items]
            block.write(f"{folder}/labels{suffix}/{case}{self.ending}", _nifti(labels, items[0]))
            for item in items:
                block.row(item, name)
            block.count("volumes")
            if suffix == "Tr":
                block.line("cases", (case, items[0].split, block.selection.unit(items[0])))


def _nifti(planes: list[NDArray[np.uint8]], item: Item) -> bytes:
    """A NIfTI file of planes (h, w) uint8: axes x, y, slice; voxel sizes in mm."""
    import nibabel

    assert item.spacing is not None
    assert item.slice_mm is not None
    volume = np.stack(planes, axis=-1).transpose(1, 0, 2)
    image = nibabel.nifti1.Nifti1Image(volume, np.diag((*item.spacing, item.slice_mm, 1.0)))
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), _LEVEL, mtime=0)
