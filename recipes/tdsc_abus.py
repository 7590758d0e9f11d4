"""TDSC-ABUS: 200 automated 3-D breast scans; the slices that show the tumour. Beyond US-43d."""

from collections.abc import Iterator
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.errors import MaskMismatch
from us43d.facts import source

SPLITS: dict[str, Split] = {"Train": "train", "Validation": "val", "Test": "test"}
TUMOURS = {"M": "malignant", "B": "benign"}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at(*SPLITS)
    for folder, split in SPLITS.items():
        if not (keys := tree.glob(f"{folder}/DATA/DATA_*.nrrd")):
            continue
        table = tree.index(f"{folder}/labels.csv", "case_id", ("Label",)) if tree.has(f"{folder}/labels.csv") else None
        kinds = {case.lstrip("0"): row["Label"] for case, row in (table or {}).items()}
        for key in keys:
            with tree.reading(key):
                number = key.rpartition("_")[2].removesuffix(".nrrd")
                tumour = kinds.get(number.lstrip("0"), "")
                facts: dict[str, Any] = {"group": number, "split": split}
                facts["tags"] = {"tumour": TUMOURS.get(tumour.upper(), tumour)} if tumour else {}
                if not tumour:
                    why = "has none for it" if table else "is missing"
                    facts["remarks"] = (f"tumour unknown: labels.csv {why}",)
                image, label = tree.path(key), f"{folder}/MASK/MASK_{number}.nrrd"
                if not tree.has(label):
                    yield Sample(key=f"{key}#0000", image=image, drop="no mask is published for this volume", **facts)
                    continue
                truth = tree.path(label)
                tree.use(truth)
                if masks.nrrd_size(image) != masks.nrrd_size(truth):
                    raise MaskMismatch(
                        f"{truth} has the size {masks.nrrd_size(truth)}, {image} {masks.nrrd_size(image)}."
                    )
                frames = masks.nrrd_size(image)[2]
                shown = [n for n in range(frames) if masks.nrrd_frame(truth, n).any()]
                if not shown:
                    yield Sample(key=f"{key}#0000", image=image, drop="no slice shows a tumour", **facts)
                for n in shown:
                    yield Sample(
                        key=f"{key}#{n:04}",
                        image=lazy(masks.grey_frame, masks.nrrd_frame, image, n, frames),
                        masks={"tumour": lazy(masks.nonzero, lazy(masks.nrrd_frame, truth, n))},
                        frame=n,
                        **facts,
                    )


RECIPE = source(__name__, read)
