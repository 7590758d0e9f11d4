"""CCAUI: the common carotid artery in frames of cine loops; file names contain the time of acquisition."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

_IMAGES, _MASKS = "US images", "Expert mask images"
_VISIT = datetime.timedelta(minutes=5)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at(_IMAGES)
    keys = tree.glob(f"{_IMAGES}/*.png")
    visits = _visits({_acquisition(key) for key in keys})
    for key in keys:
        with tree.reading(key):
            acquisition = _acquisition(key)
            if acquisition not in visits:
                raise UnreadableFile(f"{tree.path(key)} has a name that does not begin with a time.")
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={"carotid_artery": lazy(masks.binary, tree.path(f"{_MASKS}/{key.rpartition('/')[2]}"))},
                group=visits[acquisition],
                tags={"acquisition": acquisition},
            )


def _acquisition(key: str) -> str:
    return key.rpartition("/")[2].partition("_slice_")[0]


def _visits(acquisitions: set[str]) -> dict[str, str]:
    """Acquisition → the first one of its visit: those less than five minutes after another count as one visit.

    One whose name does not begin with a time has no visit.
    """
    visits: dict[str, str] = {}
    last, first = datetime.datetime.min, ""
    for acquisition in sorted(acquisitions):
        try:
            time = datetime.datetime.strptime(acquisition[:14], "%Y%m%d%H%M%S")
        except ValueError:
            continue
        if time - last >= _VISIT:
            first = acquisition
        visits[acquisition], last = first, time
    return visits


RECIPE = source(__name__, read)
