"""CardiacNet: 727 apical four-chamber videos (pulmonary hypertension, septal defect, controls), sparsely labelled."""

from collections.abc import Iterator
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import MaskMismatch
from us43d.facts import source

VALUES = {"left_ventricle": 1, "right_ventricle": 2, "left_atrium": 3, "right_atrium": 4}
FEWEST = 10  # labelled pixels of a frame, fewer being slips


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("CardiacNet-PAH", "CardiacNet-ASD")
    files = dict[str, str]()  # <subset>/<class>/<number>_image → the file; Kaggle's copy has folders called .nii
    endings = [f"_{what}.nii{rest}" for what in ("image", "label") for rest in (".gz", "", "/*.nii*")]
    for ending in endings:
        for key in tree.glob(f"CardiacNet-{{PAH,ASD}}/{{PAH,Non-PAH,ASD,Non-ASD}}/*{ending}"):
            files["/".join(key.split("/")[:3]).removesuffix(".gz").removesuffix(".nii")] = key
    for case in sorted(name.removesuffix("_image") for name in files if name.endswith("_image")):
        with tree.reading(case):
            image = tree.path(files[f"{case}_image"])
            subset, finding, _ = case.split("/")
            facts: dict[str, Any] = {"group": case, "tags": {"subset": subset, "class": finding}}
            shown, drop = list[int](), "no labels are published for this video"
            if label := files.get(f"{case}_label"):
                truth, drop = tree.path(label), "no frame of this video is labelled"
                tree.use(truth)
                try:
                    frames, _ = masks.nifti_pair(image, truth)
                    shown = [n for n in range(frames) if masks.nifti_frame(truth, n).any()]
                except MaskMismatch:
                    drop = "the labels have another shape than the video"
            if not shown:
                yield Sample(key=f"{case}#0000", image=image, drop=drop, **facts)
            for n in shown:
                few = int((masks.nifti_frame(truth, n) != 0).sum()) < FEWEST
                yield Sample(
                    key=f"{case}#{n:04}",
                    image=lazy(masks.grey_frame, masks.nifti_frame, image, n, frames),
                    masks=masks.by_value(lazy(masks.nifti_frame, truth, n), VALUES),
                    frame=n,
                    drop=f"fewer than {FEWEST} labelled pixels" if few else None,
                    **facts,
                )


RECIPE = source(__name__, read)
