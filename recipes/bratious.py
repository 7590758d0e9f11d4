"""BraTioUS: 1,669 images of brain tumours taken during surgery, one NIfTI file each, and their masks. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

IMAGES, LABELS = "imagesBraTioUS-public-dataset", "labelsBraTioUS-public-dataset"


def read(raw: RawTree) -> Iterator[Sample]:
    images, labels = raw.at(IMAGES), raw.at(LABELS)
    for key in images.glob(f"{IMAGES}/*.nii.gz"):
        truth = labels.path(f"{LABELS}/{key.rpartition('/')[2]}")
        yield Sample(
            key=key,
            image=lazy(masks.eight_bit, lazy(masks.nifti_frame, images.path(key), 0)),
            masks={"tumour": lazy(masks.nonzero, lazy(masks.nifti_frame, truth, 0))},
        )


RECIPE = source(__name__, read)
