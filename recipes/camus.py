"""CAMUS: apical views of 500 hearts from end-diastole to end-systole, three structures drawn on every frame."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from us43d import masks
from us43d.contract import Lazy, RawTree, Sample, Split, lazy
from us43d.facts import source

VALUES = {"left_ventricle": 1, "myocardium": 2, "left_atrium": 3}
PARTS: dict[str, Split] = {"training": "train", "validation": "val", "testing": "test"}


def read(raw: RawTree, *, in_sector: bool = False) -> Iterator[Sample]:
    """in_sector: clear mask pixels where the image is exactly black."""
    tree = raw.at("database_nifti")
    split = {
        patient: split_name
        for name, split_name in PARTS.items()
        for listing in raw.glob(f"**/subgroup_{name}.txt")
        for patient in raw.text(listing).split()
    }
    for key in tree.glob("database_nifti/patient*/patient*_?CH_half_sequence.nii.gz"):
        with tree.reading(key):
            folder, name = key.rsplit("/", 1)
            patient, view = name.split("_")[:2]
            image, truth = tree.path(key), tree.path(key.replace("_half_sequence", "_half_sequence_gt"))
            frames, spacing = masks.nifti_pair(image, truth)
            info = described(tree.text(f"{folder}/Info_{view}.cfg"))
            for frame in range(frames):
                picture, labels = lazy(masks.nifti_frame, image, frame), lazy(masks.nifti_frame, truth, frame)
                phase = {info.get("ED"): "end-diastole", info.get("ES"): "end-systole"}.get(str(frame + 1), "between")
                structures: dict[str, Lazy] = {
                    label: lazy(masks.equal, labels, value) for label, value in VALUES.items()
                }
                yield Sample(
                    key=f"{key}#{frame:03}",
                    image=picture,
                    masks={label: lazy(lit, picture, mask) for label, mask in structures.items()}
                    if in_sector
                    else structures,
                    group=patient,
                    split=split.get(patient),
                    frame=frame,
                    spacing_mm=spacing,
                    tags={
                        "view": view,
                        "phase": phase,
                        **{tag.lower(): info[tag] for tag in ("ImageQuality", "Sex", "Age", "EF") if tag in info},
                    },
                    remarks=() if patient in split else ("official split unknown: no list names the patient",),
                )


def described(text: str) -> dict[str, str]:
    """Return the "key: value" lines of an Info file."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def lit(picture: Any, mask: Any) -> Any:
    return mask & (picture != 0)


RECIPE = source(__name__, read, paper=partial(read, in_sector=True))
