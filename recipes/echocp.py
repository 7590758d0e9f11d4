"""EchoCP: contrast echocardiograms of 30 patients at rest and in the Valsalva manoeuvre; chambers on some frames."""

from collections.abc import Iterator
from functools import partial

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import MaskMismatch
from us43d.facts import source
from us43d.rawtable import agreed

CHAMBERS = {"left_ventricle": 1, "left_atrium": 2, "right_atrium": 3, "right_ventricle": 4}
ACTIONS = {"r": "rest", "v": "valsalva"}


def read(raw: RawTree, *, merged: bool = False) -> Iterator[Sample]:
    """merged: all values are one label."""
    levels, contradicted = agreed(_levels(raw))
    tree = raw.at("EchoCP_dataset")
    for key in tree.glob("EchoCP_dataset/*_?_image.nii.gz"):
        with tree.reading(key):
            patient, action = key.rpartition("/")[2].split("_")[:2]
            video = patient, action.lower()
            image, truth = tree.path(key), tree.path(f"{key[: -len('_image.nii.gz')]}_label.nii.gz")
            tags = {"action": ACTIONS.get(action.lower(), action)}
            remarks: tuple[str, ...] = ()
            if video in levels:
                tags["pfo_level"] = levels[video]
            elif video in contradicted:
                remarks = ("level unknown: rows of the table of diagnoses contradict each other",)
            else:
                remarks = ("the table of diagnoses has no row for this video, or is not there",)
            tree.use(truth)
            frames, drop = 0, "no frame of this video is labelled"
            try:
                frames, _ = masks.nifti_pair(image, truth)
            except MaskMismatch:
                drop = "the labels have another shape than the video"
            labelled = False
            for n in range(frames):
                if not (values := masks.label_values(masks.nifti_frame(truth, n), truth)):
                    continue
                labelled, labels = True, lazy(masks.nifti_frame, truth, n)
                structures = {
                    name: lazy(masks.equal, labels, value) for name, value in CHAMBERS.items() if value in values
                }
                if merged:
                    structures = {"chamber": lazy(masks.nonzero, labels)}
                yield Sample(
                    key=f"{key}#{n:04}",
                    image=lazy(masks.turned, lazy(masks.eight_bit, lazy(masks.nifti_frame, image, n))),
                    masks={name: lazy(masks.turned, mask) for name, mask in structures.items()},
                    group=patient,
                    frame=n,
                    tags=tags,
                    drop=None if set(values) <= set(CHAMBERS.values()) else "a label value is not described",
                    remarks=remarks,
                )
            if not labelled:
                yield Sample(key=f"{key}#0000", image=image, group=patient, tags=tags, drop=drop, remarks=remarks)


def _levels(raw: RawTree) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield ((patient, r or v), level of the shunt), where the letter o is read as 0; nothing without the table."""
    for table in raw.glob("**/echoCP_diagnosis_label.xlsx"):
        for row in raw.sheet(table, ("Idx", "Action", "PFO level")):
            video = f"{row.whole('Idx'):03}", row["Action"][:1].lower()
            yield video, row["PFO level"].lower().replace("o", "0")


RECIPE = source(__name__, read, paper=partial(read, merged=True))
