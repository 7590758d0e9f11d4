"""MONAI: images, label maps and datalist.json with folds, as load_decathlon_datalist and Auto3DSeg read it."""

import json
from pathlib import Path
from typing import Any, ClassVar

from us43d.export.folds import folds
from us43d.export.labelmap import LabelMap, label_map
from us43d.export.run import Block, Finish, Format, Report, png, run
from us43d.export.selection import Options, Selection
from us43d.export.storage import Store
from us43d.harmonize.corpus import Corpus

__all__ = ["Monai", "write"]


def write(corpus: Corpus, out: str | Path, options: Options, **how: Any) -> Report:
    """Export for MONAI. how: jobs, progress, as `run` takes them."""
    return run(Monai(), corpus, out, options, **how)


class Monai(Format):
    name: ClassVar[str] = "monai"
    fidelity: ClassVar[str] = (
        "Label maps give the mask of every structure back (IoU 1), by the values that datalist.json lists under "
        '"values"; which pieces are separate instances is not kept.'
    )
    labels: LabelMap

    def prepare(self, selection: Selection, store: Store) -> None:
        self.labels = label_map(selection, store)

    def block(self, block: Block) -> None:
        for item in block.items():
            image, label = f"images/{item.file}", f"labels/{item.name}.png"
            block.image(item, image)
            block.write(label, png(self.labels.encode(item)))
            block.row(item, image)
            # Nothing that may be None: MONAI's loader collates every value of a case.
            entry = {"image": image, "label": label, "source": item.source["name"]}
            if item.spacing:
                block.line("spacings", (image, item.spacing))
            block.line(item.split, (entry, block.selection.unit(item)))

    def finish(self, finish: Finish) -> None:
        cases = [(entry, split, unit) for split in ("train", "val") for entry, unit in finish.lines(split)]
        fold_of = folds((entry["image"], split, unit) for entry, split, unit in cases)
        listing = {
            "name": str(finish.selection.corpus.facts["release"]),
            "numTraining": len(cases),
            "modality": {"0": "ultrasound"},
            "labels": {str(v): self._name(finish.selection, v) for v in range(len(self.labels.combinations))},
            "values": {c.name: self.labels.values(c.position) for c in finish.selection.categories},
            "spacing_mm": dict(finish.lines("spacings")),
            "training": [entry | {"fold": fold_of[entry["image"]]} for entry, _, _ in cases],
            "testing": [entry for entry, _ in finish.lines("test")],
        }  # fmt: skip
        finish.write("datalist.json", json.dumps(listing, indent=1, ensure_ascii=False).encode())

    def _name(self, selection: Selection, value: int) -> str:
        names = [selection.categories[n].name for n in self.labels.combinations[value]]
        return " + ".join(names) or "background"

    def usage(self, finish: Finish) -> str:
        return (
            "from monai.data import load_decathlon_datalist\n"
            f"cases = load_decathlon_datalist({finish.literal('datalist.json')}, True, 'training')\n"
            "train = [case for case in cases if case['fold'] != 0]   # fold 0 is the corpus's validation split\n"
        )
