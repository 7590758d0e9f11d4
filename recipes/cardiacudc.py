"""CardiacUDC: apical four-chamber videos of two hospitals; four chambers, on a few frames each or outlined on all."""

import functools
import operator
from collections.abc import Iterator
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, lazy
from us43d.errors import MaskMismatch
from us43d.facts import source

CHAMBERS = {"left_ventricle": 1, "left_atrium": 2, "right_atrium": 3, "right_ventricle": 4}
VALUES = {**CHAMBERS, "value_5": 5, "value_6": 6}
OUTLINED = "label_all_frame"
FOLDERS = ("Site_G_20", "Site_G_29", "Site_G_100", "Site_R_52", "Site_R_73", "Site_R_126", OUTLINED)


def read(raw: RawTree, *, paper: bool = False) -> Iterator[Sample]:
    """paper: fill holes in every mask and drop frames with few labelled pixels."""
    tree = raw.at(*FOLDERS)
    keys = sorted(key for folder in FOLDERS for key in tree.glob(f"{folder}/*_image.nii.gz"))
    outlined = {_person(key)[1] for key in keys if key.startswith(f"{OUTLINED}/")}
    for key in keys:
        with tree.reading(key):
            site, person, view = _person(key)
            # A person of label_all_frame may be the one of that name in any folder of the hospital R.
            place = "Site_R" if person in outlined and not site.startswith("Site_G") else site
            facts: dict[str, Any] = {
                "group": f"{place}/{person}",
                "tags": {"site": site, "subject": person.rstrip("-0123456789"), "view": view},
            }
            image, label = tree.path(key), f"{key[: -len('_image.nii.gz')]}_label.nii.gz"
            labelled, drop = dict[int, tuple[int, ...]](), "no labels are published for this video"
            if tree.has(label):
                drop = "no frame of this video is labelled"
                truth = tree.path(label)
                tree.use(truth)
                try:
                    frames, _ = masks.nifti_pair(image, truth)
                except MaskMismatch:
                    frames, drop = 0, "the labels have another shape than the video"
                every = ((n, masks.label_values(masks.nifti_frame(truth, n), truth)) for n in range(frames))
                labelled = {n: values for n, values in every if values}
            if not labelled:
                yield Sample(key=f"{key}#0000", image=image, drop=drop, **facts)
                continue
            names, remarks = _names(site, {value for values in labelled.values() for value in values})
            for n, values in labelled.items():
                labels = lazy(masks.nifti_frame, truth, n)
                known = {name: value for name, value in names.items() if value in values}
                structures = {
                    name: lazy(masks.turned, lazy(masks.equal, labels, value)) for name, value in known.items()
                }
                if paper or site == OUTLINED:
                    fill = _filled if site == OUTLINED else masks.fill_holes
                    structures = {name: lazy(fill, mask) for name, mask in structures.items()}
                strange = len(known) < len(values)
                few = paper and _labelled_part(masks.nifti_frame(truth, n), values) < 0.025
                yield Sample(
                    key=f"{key}#{n:04}",
                    image=lazy(masks.turned, lazy(masks.eight_bit, lazy(masks.nifti_frame, image, n))),
                    masks=structures,
                    frame=n,
                    drop="a label value is not described" if strange else "few labelled pixels" if few else None,
                    remarks=remarks,
                    **facts,
                )


def _person(key: str) -> tuple[str, str, str]:
    """Return (site, person, view) of <site>/<patient|normal>[-]<number>-<view>_image.nii.gz."""
    site, name = key.split("/")
    person, _, view = name[: -len("_image.nii.gz")].rpartition("-")
    return site, person or view, view


def _names(site: str, values: set[int]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return label → value.

    Four outlines count 1, 2, 3, 4 in the order of their values, as the authors' loader has it.
    """
    if site != OUTLINED:
        return VALUES, ()
    ordered = dict(zip(CHAMBERS, sorted(values), strict=False)) if len(values) == len(CHAMBERS) else CHAMBERS
    if ordered == CHAMBERS:
        return CHAMBERS, ()
    return ordered, (f"label values in another code: {', '.join(map(str, ordered.values()))} for 1, 2, 3, 4",)


def _filled(outline: Any) -> Any:
    whole = masks.fill_holes(outline)
    return whole if whole.sum() > outline.sum() else Remarked(whole, ("outline not closed, kept as it is",))


def _labelled_part(labels: Any, values: tuple[int, ...]) -> float:
    filled = (masks.fill_holes(masks.equal(labels, value)) for value in values)
    return float(functools.reduce(operator.or_, filled).mean())


RECIPE = source(__name__, read, paper=functools.partial(read, paper=True))
