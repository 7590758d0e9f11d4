"""Export a corpus to the formats of other training tools (docs/export.md).

One module per format, each with `write(corpus, out, options) -> Report`. What all formats share: `selection` (which
images and masks), `run` (blocks, resuming, finishing), `storage` (folders and fsspec URLs), `documents` (README,
licences, references), `check` (verifying an export).
"""

import importlib
from typing import Any

__all__ = ["FORMATS", "module"]

#: Format name → module of this package.
FORMATS = {
    "coco": "coco", "yolo": "yolo", "nnunet": "nnunet", "nnunet-3d": "nnunet_3d", "huggingface": "huggingface",
    "webdataset": "webdataset", "sam2": "sam2", "medsam": "medsam", "monai": "monai", "dicom-seg": "dicom_seg",
    "masks": "masks",
}  # fmt: skip


def module(format: str) -> Any:
    """Import the module of a format; KeyError for an unknown one."""
    return importlib.import_module(f"us43d.export.{FORMATS[format]}")
