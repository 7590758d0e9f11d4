"""MVSeg-3DTEE: 135 transoesophageal volumes, 175 with the test folder; the two leaflets of the mitral valve. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.facts import source

VALUES = {"posterior_leaflet": 1, "anterior_leaflet": 2}
SPLITS: tuple[Split, ...] = ("train", "val", "test")  # the challenge did not hand out the third


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("train", "val")
    for split in SPLITS:
        for key in tree.glob(f"{split}/*-US.nii.gz"):
            with tree.reading(key):
                case = key.rpartition("/")[2].removesuffix("-US.nii.gz")
                image, truth = tree.path(key), tree.path(f"{split}/{case}-label.nii.gz")
                tree.use(truth)
                frames, spacing = masks.nifti_pair(image, truth)
                shown = [n for n in range(frames) if masks.nifti_frame(truth, n).any()]
                if not shown:
                    yield Sample(key=f"{key}#0000", image=image, group=case, split=split, drop="no slice is labelled")
                for n in shown:
                    yield Sample(
                        key=f"{key}#{n:04}",
                        image=lazy(masks.grey_frame, masks.nifti_frame, image, n, frames),
                        masks=masks.by_value(lazy(masks.nifti_frame, truth, n), VALUES),
                        group=case,
                        split=split,
                        frame=n,
                        spacing_mm=spacing,
                        slice_mm=masks.nifti_gap(image),
                    )


RECIPE = source(__name__, read)
