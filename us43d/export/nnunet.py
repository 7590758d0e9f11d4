"""nnU-Net v2: Dataset###_<release>/ with imagesTr, labelsTr, imagesTs, labelsTs, dataset.json and splits_final.json.

One grey PNG per image ("2d"). Structures that overlap become regions. Training and validation images are cases of
"Tr"; fold 0 of splits_final.json is the corpus's own split, folds 1 to 4 divide the training groups.
"""

import json
import re
from typing import Any

import cv2
from numpy.typing import NDArray

from us43d.errors import UsageError
from us43d.export import stream
from us43d.export.labelmap import Labelled
from us43d.export.run import Block, Finish, png
from us43d.export.selection import Selection
from us43d.export.storage import Store

__all__ = ["NnUnet", "dataset_name", "luminance"]


class NnUnet(Labelled):
    fidelity = (
        "Label maps give the mask of every structure back (IoU 1); which pieces are separate instances is not kept. "
        "Images are grey: colour images are reduced to luminance (counted). A prediction of nnU-Net has one "
        "value per pixel: it keeps a structure inside another in both, a partial overlap in the smaller one alone."
    )
    #: Ending of the files; configuration of nnU-Net that trains on them.
    ending = ".png"
    configuration = "2d"

    def prepare(self, selection: Selection, store: Store) -> None:
        if "train" not in selection.rows:
            raise UsageError(
                "nnU-Net needs training images. The selection has none.",
                next="us43d export --help   (--split train, or another --source)",
            )
        super().prepare(selection, store)

    def block(self, block: Block) -> None:
        folder = dataset_name(block.selection)
        for item in block.items():
            suffix = "Ts" if item.split == "test" else "Tr"
            file = f"{folder}/images{suffix}/{item.name}_0000.png"
            pixels = item.stored()
            if pixels.ndim == 3:
                block.count("colour images reduced to grey", int(not _grey(pixels)))
            block.write(file, png(luminance(pixels)))
            self.label(block, item, f"{folder}/labels{suffix}/{item.name}.png")
            block.row(item, file)
            self.case(block, item, item.name)

    def finish(self, finish: Finish) -> None:
        selection, folder = finish.selection, dataset_name(finish.selection)
        cases = sorted(self.cases(finish))
        used = sorted({fold for _, fold in cases})
        finish.counts["folds"] = len(used)
        with finish.file(f"{folder}/splits_final.json") as path:
            stream.write(path, (_split(cases, fold) for fold in used))
        labels: dict[str, Any] = {"background": 0}
        dataset: dict[str, Any] = {
            "name": folder,
            "description": f"us43d corpus {selection.corpus.facts['release']}, digest {selection.corpus.digest}",
            "reference": "references.bib beside this folder",
            "licence": "LICENCES.md beside this folder",
            "channel_names": {"0": "ultrasound"},
            "numTraining": len(cases),
            "file_ending": self.ending,
        }
        if self.ending == ".png":
            dataset["overwrite_image_reader_writer"] = "NaturalImage2DIO"
        if self.labels.overlapping:
            # nnU-Net paints the regions that it predicted one after the other, each with one value.
            painted = self.labels.painted(len(selection.categories))
            labels |= {selection.categories[n].name: self.labels.values(n) for n in painted}
            dataset["regions_class_order"] = list(painted.values())
        else:
            labels |= {c.name: c.position + 1 for c in selection.categories}
        finish.write(f"{folder}/dataset.json", _json(dataset | {"labels": labels}))

    def usage(self, finish: Finish) -> str:
        number, folder = finish.selection.options.number, dataset_name(finish.selection)
        return (
            f"export nnUNet_raw={finish.word()} nnUNet_preprocessed=preprocessed nnUNet_results=results\n"
            f"nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity -c {self.configuration}\n"
            f"cp {finish.word(folder, 'splits_final.json')} preprocessed/{folder}/\n"
            f"nnUNetv2_train {number} {self.configuration} 0\n"
        )


def dataset_name(selection: Selection) -> str:
    """Return the name of the dataset, Dataset###_<release>."""
    release = re.sub(r"[^A-Za-z0-9]+", "-", str(selection.corpus.facts["release"])).strip("-")
    return f"Dataset{selection.options.number:03}_{release}"


def _split(cases: list[tuple[str, int]], fold: int) -> stream.Pairs:
    return stream.Pairs([
        ("train", (case for case, number in cases if number != fold)),
        ("val", (case for case, number in cases if number == fold)),
    ])  # fmt: skip


def luminance(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (height, width) grey of (height, width) or (height, width, 3) RGB."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels


def _grey(pixels: NDArray[Any]) -> bool:
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()
