"""Export a corpus to the formats of other training tools (docs/export.md).

    write("coco", corpus, out, Options()) -> Report

One module per format, each with a `Format`. What all formats share: `selection` (which images and masks), `run`
(blocks, resuming, finishing), `storage` (folders and fsspec URLs), `documents` (README, licences, references),
`check` (verifying an export).
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from us43d.export.run import Report
    from us43d.export.selection import Options
    from us43d.harmonize.corpus import Corpus

__all__ = ["FORMATS", "write"]

#: Format name → module and class of this package.
FORMATS = {
    "coco": "coco.Coco", "yolo": "yolo.Yolo", "nnunet": "nnunet.NnUnet", "nnunet-3d": "nnunet_3d.NnUnet3d",
    "huggingface": "huggingface.HuggingFace", "webdataset": "webdataset.WebDataset", "sam2": "sam2.Sam2",
    "medsam": "medsam.MedSam", "monai": "monai.Monai", "dicom-seg": "dicom_seg.DicomSeg", "masks": "masks.Masks",
}  # fmt: skip


def write(format: str, corpus: "Corpus", out: "str | Path", options: "Options", **how: Any) -> "Report":
    """Export a corpus to a format. how: jobs, progress, as `run.run` takes them. KeyError for an unknown format."""
    from us43d.export.run import run

    module, _, kind = FORMATS[format].partition(".")
    form = getattr(importlib.import_module(f"us43d.export.{module}"), kind)(format)
    return run(form, corpus, out, options, **how)
