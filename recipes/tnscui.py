"""TN-SCUI 2020: thyroid nodules; PNG masks that are 0/255 in some copies and 0/1 in others."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

_VOC = "JPEGImages"  # the re-packaging UltraSam read; the official tree has image/ and mask/


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("mask", "SegmentationClass")  # images alone are found in the test set, too
    if tree.has("train.csv"):
        rows = tree.index("train.csv", "ID", ("CATE",))  # carriage returns only, which csv takes as line ends
        classes = {name.removesuffix(".PNG"): row for name, row in rows.items()}
    else:
        classes = {}
    for key in tree.glob("image/*.PNG") or tree.glob(f"{_VOC}/*.jpg"):
        with tree.reading(key):
            stem = key.rpartition("/")[2].rpartition(".")[0]
            mask = f"SegmentationClass/{stem}.png" if key.startswith(_VOC) else f"mask/{key.rpartition('/')[2]}"
            label = classes[stem]["CATE"] if stem in classes else ""
            why = "has none for it" if classes else "is missing"
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={"thyroid_nodule": lazy(masks.not_black, tree.path(mask))},
                tags={"diagnosis": ("benign", "malignant")[int(label)]} if label in {"0", "1"} else {},
                remarks=() if label in {"0", "1"} else (f"diagnosis unknown: train.csv {why}",),
            )


RECIPE = source(__name__, read)
