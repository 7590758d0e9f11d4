"""Search for near-duplicates: pairs of images that show the same frame."""

import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from us43d.audit.align import DETAIL, Alignment, Candidate, align, align_thumbnails
from us43d.audit.candidates import candidates
from us43d.audit.fingerprints import Fingerprint, reduced
from us43d.audit.image_checks import grey, load

__all__ = ["Match", "Progress", "Search", "map_in_order", "search"]

#: Called with what is done, how much of it is finished, and how much there is (None: unknown).
Progress = Callable[[str, int, int | None], None]

_KEPT = 1024  # images kept in memory for the next comparison

Item = TypeVar("Item")
Result = TypeVar("Result")


class Match(NamedTuple):
    """A verified pair. candidate: the two images. alignment: how the first lies on the second."""

    candidate: Candidate
    alignment: Alignment


class Search(NamedTuple):
    """matches: sorted by the positions of their images. alignments: how often refinement converged or did not."""

    matches: list[Match]
    alignments: dict[str, int]


def search(
    files: Sequence[Path],
    fingerprints: Sequence[Fingerprint],
    whole: NDArray[np.uint64],
    group: NDArray[np.int64],
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> Search:
    """Find the near-duplicates among images.

    Args:
        files: The images.
        fingerprints: Their fingerprints.
        whole: (n,) uint64, their perceptual hashes.
        group: (n,) number of each image's group.
        pool: Threads that compare.
        progress: Called as the search proceeds.
    """
    progress("comparing hashes", 0, None)
    proposed: dict[tuple[int, int], list[Candidate]] = defaultdict(list)
    for candidate in candidates(fingerprints, whole, group, pool.map):
        proposed[candidate.a, candidate.b].append(candidate)
    images = _Images(files)

    def verify(pair: list[Candidate]) -> tuple[Match | None, list[bool]]:
        refined = []
        for candidate in pair:
            coarse = align_thumbnails(fingerprints[candidate.a].thumb, fingerprints[candidate.b].thumb, candidate)
            if coarse.refined is not None:
                refined.append(coarse.refined)
            if coarse.similar:
                placed = candidate._replace(place=coarse.place)
                fine = align(images[candidate.a], images[candidate.b], placed, refined=coarse.refined is True)
                if fine.refined is not None:
                    refined.append(fine.refined)
                if fine.same:
                    return Match(candidate, fine), refined
        return None, refined

    matches: list[Match] = []
    converged: Counter[bool] = Counter()
    for match, refined in map_in_order(pool, verify, list(proposed.values()), "verifying", progress):
        converged.update(refined)
        if match is not None:
            matches.append(match)
    return Search(matches, {"refined": converged[True], "not_converged": converged[False]})


class _Images:
    """Grey images by position, reduced to what is compared; the last ones used stay in memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, position: int) -> NDArray[np.uint8]:
        with self._lock:
            image = self._kept.get(position)
        if image is None:
            image = grey(load(self._files[position]))
            image = reduced(image, DETAIL) if max(image.shape) > DETAIL else image
        with self._lock:
            self._kept[position] = image
            self._kept.move_to_end(position)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return image


def map_in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Sequence[Item], what: str, progress: Progress
) -> Iterator[Result]:
    """Map over items in a pool, a bounded number ahead, and yield the results in the order of the items."""
    source = iter(items)
    waiting: list[Any] = [pool.submit(work, item) for item in islice(source, 64)]
    done = 0
    while waiting:
        now, waiting = waiting[:32], waiting[32:]
        for future in now:
            yield future.result()
        waiting += [pool.submit(work, item) for item in islice(source, len(now))]
        done += len(now)
        progress(what, done, len(items))
