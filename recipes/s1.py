"""S1: breast tumours; labels grey-coded 127 benign, 255 malignant; numbers restart in every folder."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

#: Part, images, labels; the second of the test set as one reader names it.
_FOLDERS = (
    ("test", "Data/TestingDataSet/Test-Expanded-BreastTumourImages", "Data/TestingDataSet/Test-Expanded-3-channel-Labels"),
    ("test", "Data/TestingDataSet/BreastTumourImages", "Data/TestingDataSet/Expanded-3-channel-Labels"),
    ("train", "Data/TrainingDataSet/BreastTumourImages", "Data/TrainingDataSet/Expanded-3-channel-Labels"),
)  # fmt: skip


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("Data/TrainingDataSet")
    for split, images, labels in _FOLDERS:
        for key in tree.glob(f"{images}/*.jpg"):
            grey = lazy(masks.grey, tree.path(f"{labels}/{key.rpartition('/')[2].removesuffix('.jpg')}.png"))
            yield Sample(
                key=key,
                image=tree.path(key),
                # 127 and 255 as published; the bands are those a reader found after sampling files
                masks={"benign": lazy(masks.between, grey, 64, 190), "malignant": lazy(masks.above, grey, 190)},
                split="test" if split == "test" else "train",
            )


RECIPE = source(__name__, read)
