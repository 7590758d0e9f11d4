"""MONAI: images, label maps and datalist.json with folds, as load_decathlon_datalist and Auto3DSeg read it."""

from us43d.export import stream
from us43d.export.labelmap import Labelled
from us43d.export.run import Block, Finish
from us43d.export.selection import Selection

__all__ = ["Monai"]


class Monai(Labelled):
    fidelity = (
        "Label maps give the mask of every structure back (IoU 1), by the values that datalist.json lists under "
        '"values"; which pieces are separate instances is not kept.'
    )

    def block(self, block: Block) -> None:
        for item in block.items():
            image, label = f"images/{item.file}", f"labels/{item.name}.png"
            block.image(item, image)
            self.label(block, item, label)
            block.row(item, image)
            # Nothing that may be None: MONAI's loader collates every value of a case.
            entry = {"image": image, "label": label, "source": item.source["name"]}
            if item.spacing:
                block.line("spacings", (image, item.spacing))
            self.case(block, item, entry)

    def finish(self, finish: Finish) -> None:
        listing = {
            "name": str(finish.selection.corpus.facts["release"]),
            "numTraining": sum(1 for _ in finish.lines("cases")),
            "modality": {"0": "ultrasound"},
            "labels": {str(v): self._name(finish.selection, v) for v in range(len(self.labels.combinations))},
            "values": {c.name: self.labels.values(c.position) for c in finish.selection.categories},
            "spacing_mm": stream.Pairs(finish.lines("spacings")),
            "training": (entry | {"fold": fold} for entry, fold in self.cases(finish)),
            "testing": (entry for entry, _, _ in finish.lines("tested")),
        }
        with finish.file("datalist.json") as path:
            stream.write(path, stream.Pairs(listing.items()))

    def _name(self, selection: Selection, value: int) -> str:
        names = [selection.categories[n].name for n in self.labels.combinations[value]]
        return " + ".join(names) or "background"

    def usage(self, finish: Finish) -> str:
        fold = "   # fold 0 is the corpus's validation split" if "val" in finish.selection.rows else ""
        return (
            "from monai.data import load_decathlon_datalist\n"
            f"cases = load_decathlon_datalist({finish.literal('datalist.json')}, True, 'training')\n"
            f"train = [case for case in cases if case['fold'] != {0 if fold else 1}]{fold}\n"
        )
