"""An audit for a person: what to look at first, pictures side by side."""

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d import report
from us43d.audit.align import pixels
from us43d.audit.audit import COLUMNS, TURNS, Audit, Fault, Image, Near, counted
from us43d.audit.look import picture
from us43d.audit.prints import turned
from us43d.masks import rle

__all__ = ["page"]

#: Pictures drawn in one section at most; audit.json has all.
_SHOWN = 40
_SIDE = 260

#: Sections whose pictures are pairs or more.
_PAIRS = {
    "Leaks in our splits",
    "Leaks in the published splits",
    "Near duplicates",
    "Equal pictures",
    "Contradicting labels",
}

_INTRO = {
    "Leaks in our splits": "Twins in more than one of train, val and test. A build takes in what this audit found: "
    "build again, and this section is empty.",
    "Leaks in the published splits": "Twins in more than one published set. Our split keeps the published test set and "
    "excludes their twins from training.",
    "Near duplicates": "Two pictures of one frame and, on the right, where they differ once the first is laid on the "
    "second. Those that cross a split come first, then the least alike.",
    "Equal pictures": "The same pixels under several names.",
    "Contradicting labels": "One frame, labelled differently.",
    "Masks outside the field of view": "More than a tenth of the mask lies where the picture is black.",
    "Masks as large as the picture": "Nine tenths of the picture or more.",
    "Marks": "Graphics burnt into the pixels, as far as they are cheap to see: colour in grey pictures, thin lines.",
}


def page(found: Audit) -> str:
    """A whole HTML page."""
    rows = [[row[key] for key in COLUMNS] for row in counted(found)]
    sections = [("", report.table(list(COLUMNS.values()), rows))]
    for head, items, total in _parts(found):
        if total:
            drawn = list(items)
            more = f" {len(drawn)} of {total:,} are drawn; audit.json has all." if len(drawn) < total else ""
            sections.append(
                (f"{head} ({total:,})", f"<p>{_INTRO[head]}{more}</p>" + report.figures(drawn, wide=head in _PAIRS))
            )
    sources = f"{len(found.builds)} sources" if len(found.builds) > 1 else found.builds[0].name
    return report.page(f"Audit of {sources}", sections, f"{len(found.images):,} images; {found.left} leaks left")


def _parts(found: Audit) -> Iterator[tuple[str, Iterable[report.Figure], int]]:
    leaks = found.leaks + found.across_leaks
    yield "Leaks in our splits", (_family(found, f, "split") for f in leaks[:_SHOWN]), len(leaks)
    official = found.official_leaks
    yield "Leaks in the published splits", (_family(found, f, "official") for f in official[:_SHOWN]), len(official)
    near = sorted(found.near, key=lambda n: (n.a.split == n.b.split, n.alignment.score))
    yield "Near duplicates", (_near(found, each) for each in near[:_SHOWN]), len(near)
    conflicts = found.conflicts
    yield "Contradicting labels", (_conflict(found, *c) for c in conflicts[:_SHOWN]), len(conflicts)
    yield "Equal pictures", (_family(found, f, "split") for f in found.exact[:_SHOWN]), len(found.exact)
    for kind, head in (("outside", "Masks outside the field of view"), ("whole", "Masks as large as the picture")):
        faults = sorted((f for f in found.faults if f.kind == kind), key=lambda f: -f.value)
        yield head, (_fault(found, f) for f in faults[:_SHOWN]), len(faults)
    seen: dict[tuple[int, str], tuple[Image, str, float]] = {}
    for mark in found.marks:
        seen.setdefault((mark[0].build, mark[1]), mark)
    marks = (
        report.Figure(_img(_drawn(image)), f"{_said(found, image)} · {kind} {share:.2%}")
        for image, kind, share in list(seen.values())[:_SHOWN]
    )
    yield "Marks", marks, len(found.marks)


def _said(found: Audit, image: Image, what: str = "split") -> str:
    where = image.official if what == "official" else image.split
    return f"{found.builds[image.build].name} {image.key} ({where})"


def _img(drawn: NDArray[Any]) -> str:
    return report.picture(np.asarray(drawn, np.uint8))


def _drawn(image: Image) -> NDArray[np.uint8]:
    """The picture with the outline of its masks."""
    mask = np.zeros(image.size, bool)
    for each in image.annotations:
        mask |= rle.decode(each.counts.encode("ascii"), *image.size)
    return report.overlay(picture(image.file), {"truth": mask}, side=_SIDE)


def _beside(drawn: list[NDArray[Any]]) -> NDArray[np.uint8]:
    """Pictures in a row, padded to one height."""
    high = max(each.shape[0] for each in drawn)
    gaps = [np.pad(each, ((0, high - each.shape[0]), (0, 4), (0, 0)), constant_values=128) for each in drawn]
    return np.asarray(np.concatenate(gaps, axis=1), np.uint8)


def _family(found: Audit, family: list[Image], what: str) -> report.Figure:
    shown = family[:4]
    said = " | ".join(_said(found, image, what) for image in shown)
    more = f" … and {len(family) - 4} more" if len(family) > 4 else ""
    return report.Figure(_img(_beside([_drawn(image) for image in shown])), said + more)


def _near(found: Audit, pair: Near) -> report.Figure:
    one, other = (report.overlay(picture(image.file), {}, side=_SIDE) for image in (pair.a, pair.b))
    place = pixels(pair.alignment.place, _SIDE)
    moved = cv2.warpAffine(turned(one, pair.candidate.turn), place, other.shape[1::-1])
    differ = cv2.applyColorMap(cv2.absdiff(moved, other).max(axis=2), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    turn = TURNS[pair.candidate.turn]
    said = f"{_said(found, pair.a)} | {_said(found, pair.b)} · {pair.alignment.score:.2f} of the blocks equal"
    return report.Figure(_img(_beside([one, other, differ])), said + ("" if turn == "none" else f", mirrored {turn}"))


def _conflict(found: Audit, a: Image, b: Image, what: str, said: str) -> report.Figure:
    return report.Figure(
        _img(_beside([_drawn(a), _drawn(b)])), f"{_said(found, a)} | {_said(found, b)} · {what}: {said}"
    )


def _fault(found: Audit, fault: Fault) -> report.Figure:
    said = f"{_said(found, fault.image)} · {fault.label}, {fault.value:.0%}"
    return report.Figure(_img(_drawn(fault.image)), said)
