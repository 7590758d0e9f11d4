"""TRUSTED: 3-D ultrasound of 96 kidneys; the mask that agrees best with two annotators. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("US_images")
    for key in tree.glob("US_images/*_imgUS.nii.gz"):
        with tree.reading(key):
            case = key.rpartition("/")[2][: -len("_imgUS.nii.gz")]
            patient = case.rstrip("LRlr")  # left and right kidney of one patient
            image, label = tree.path(key), f"US_masks/GT_estimated_masksUS/{case}_maskUS.nii.gz"
            if not tree.has(label):
                drop = "no consensus mask is published for this volume"
                yield Sample(key=f"{key}#0000", image=image, group=patient, drop=drop)
                continue
            truth = tree.path(label)
            frames, spacing = masks.nifti_pair(image, truth)
            for frame in range(frames):
                yield Sample(
                    key=f"{key}#{frame:04}",
                    image=lazy(masks.eight_bit, lazy(masks.nifti_frame, image, frame)),
                    # Outside the kidney the masks hold about 1e-14, not 0.
                    masks={"kidney": lazy(masks.above, lazy(masks.nifti_frame, truth, frame), 0.5)},
                    group=patient,
                    frame=frame,
                    spacing_mm=spacing,
                    slice_mm=masks.nifti_gap(image),
                )


RECIPE = source(__name__, read)
