"""The HTML page of an audit: findings sorted by importance, images side by side."""

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d import report
from us43d.audit.align import in_pixels
from us43d.audit.findings import COLUMNS, MIRRORINGS, Conflict, Fault, Findings, Image, Near, summarize
from us43d.audit.fingerprints import mirrored
from us43d.audit.image_checks import load
from us43d.masks import rle

__all__ = ["page"]

#: Figures shown in one section at most; audit.json lists all findings.
_SHOWN = 40
_SIDE = 260

#: Sections whose figures show several images.
_PAIRS = {
    "Leaks in our splits",
    "Leaks in the published splits",
    "Near-duplicates",
    "Exact duplicates",
    "Contradicting labels",
}

_INTRO = {
    "Leaks in our splits": "Duplicates in more than one of train, val and test. A build applies what this audit "
    "found: build again, and this section is empty.",
    "Leaks in the published splits": "Duplicates in more than one published set. Our split keeps the published "
    "test set and excludes their duplicates from training.",
    "Near-duplicates": "Two images of one frame and, on the right, their difference after alignment. Pairs that cross "
    "a split come first, then the least similar.",
    "Exact duplicates": "The same pixels under several names.",
    "Contradicting labels": "One frame with different labels.",
    "Masks outside the field of view": "More than a tenth of the mask lies where the image is black.",
    "Masks that cover the image": "Nine tenths of the image or more.",
}


def page(findings: Findings) -> str:
    """Return the whole HTML page."""
    rows = [[row[key] for key in COLUMNS] for row in summarize(findings)]
    sections = [("", report.table(list(COLUMNS.values()), rows))]
    for head, items, total in _sections(findings):
        if total:
            shown = list(items)
            more = f" {len(shown)} of {total:,} are shown; audit.json lists all." if len(shown) < total else ""
            sections.append(
                (f"{head} ({total:,})", f"<p>{_INTRO[head]}{more}</p>" + report.figures(shown, wide=head in _PAIRS))
            )
    sources = f"{len(findings.builds)} sources" if len(findings.builds) > 1 else findings.builds[0].name
    subtitle = f"{len(findings.images):,} images; {findings.remaining_leaks} remaining leaks"
    return report.page(f"Audit of {sources}", sections, subtitle)


def _sections(findings: Findings) -> Iterator[tuple[str, Iterable[report.Figure], int]]:
    leaks = findings.leaks + findings.across_leaks
    yield "Leaks in our splits", (_family(findings, f, "split") for f in leaks[:_SHOWN]), len(leaks)
    official = findings.official_leaks
    yield "Leaks in the published splits", (_family(findings, f, "official") for f in official[:_SHOWN]), len(official)
    near = sorted(findings.near, key=lambda n: (n.a.split == n.b.split, n.alignment.score))
    yield "Near-duplicates", (_near(findings, pair) for pair in near[:_SHOWN]), len(near)
    conflicts = findings.conflicts
    yield "Contradicting labels", (_conflict(findings, c) for c in conflicts[:_SHOWN]), len(conflicts)
    yield "Exact duplicates", (_family(findings, f, "split") for f in findings.exact[:_SHOWN]), len(findings.exact)
    for kind, head in (("outside", "Masks outside the field of view"), ("whole", "Masks that cover the image")):
        faults = sorted((f for f in findings.faults if f.kind == kind), key=lambda f: -f.value)
        yield head, (_fault(findings, f) for f in faults[:_SHOWN]), len(faults)


def _caption(findings: Findings, image: Image, which: str = "split") -> str:
    split = image.official if which == "official" else image.split
    return f"{findings.builds[image.build].name} {image.key} ({split})"


def _encoded(image: NDArray[Any]) -> str:
    return report.picture(np.asarray(image, np.uint8))


def _outlined(image: Image) -> NDArray[np.uint8]:
    """Return the image with the outline of its masks."""
    mask = np.zeros(image.size, bool)
    for annotation in image.annotations:
        mask |= rle.decode(annotation.counts.encode("ascii"), *image.size)
    return report.overlay(load(image.file), {"truth": mask}, side=_SIDE)


def _side_by_side(images: list[NDArray[Any]]) -> NDArray[np.uint8]:
    """Return the images in a row, padded to one height."""
    high = max(image.shape[0] for image in images)
    padded = [np.pad(i, ((0, high - i.shape[0]), (0, 4), (0, 0)), constant_values=128) for i in images]
    return np.asarray(np.concatenate(padded, axis=1), np.uint8)


def _family(findings: Findings, family: list[Image], which: str) -> report.Figure:
    shown = family[:4]
    caption = " | ".join(_caption(findings, image, which) for image in shown)
    more = f" … and {len(family) - 4} more" if len(family) > 4 else ""
    return report.Figure(_encoded(_side_by_side([_outlined(image) for image in shown])), caption + more)


def _near(findings: Findings, pair: Near) -> report.Figure:
    image, other = (report.overlay(load(i.file), {}, side=_SIDE) for i in (pair.a, pair.b))
    place = in_pixels(pair.alignment.place, _SIDE)
    moved = cv2.warpAffine(mirrored(image, pair.mirroring), place, other.shape[1::-1])
    difference = cv2.applyColorMap(cv2.absdiff(moved, other).max(axis=2), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    how = "" if pair.mirroring == 0 else f", mirrored {MIRRORINGS[pair.mirroring]}"
    caption = f"{_caption(findings, pair.a)} | {_caption(findings, pair.b)} · {pair.alignment.score:.2f}"
    return report.Figure(_encoded(_side_by_side([image, other, difference])), f"{caption} of the blocks equal{how}")


def _conflict(findings: Findings, conflict: Conflict) -> report.Figure:
    images = [_outlined(image) for image in (conflict.a, conflict.b)]
    caption = f"{_caption(findings, conflict.a)} | {_caption(findings, conflict.b)}"
    return report.Figure(_encoded(_side_by_side(images)), f"{caption} · {conflict.kind}: {conflict.detail}")


def _fault(findings: Findings, fault: Fault) -> report.Figure:
    caption = f"{_caption(findings, fault.image)} · {fault.label}, {fault.value:.0%}"
    return report.Figure(_encoded(_outlined(fault.image)), caption)
