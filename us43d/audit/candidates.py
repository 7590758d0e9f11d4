"""Pairs of images that may show the same frame: their windows agree, or the hashes of the whole images do.

Everything here is an index over hashes; no step compares every image with every other. `near_duplicates` verifies the
candidates, on thumbnails first, then on the images.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.audit.align import Candidate
from us43d.audit.fingerprints import MIRRORED, SCALES, SIDE, Fingerprint
from us43d.audit.hash_index import HashIndex, distance

__all__ = ["candidates"]

#: Bits in which windows of one frame may differ. Of pairs of windows of different images fewer than one in ten thousand
#: lies within it.
_WINDOW_REACH, _WINDOW_TABLES = 12, 18
_WHOLE_REACH, _WHOLE_TABLES = 10, 96
#: Windows that must agree on where one image lies in the other, and how closely (pixels of the reduced image).
_VOTES, _NEAR = 3, 10.0
#: Partners examined for one image at most, within its group and as many outside of it: by windows, by the whole.
_PARTNERS, _WHOLE_PARTNERS = 4, 2
#: Images whose windows are looked up at a time; bounds the memory.
_CHUNK = 512


def candidates(
    fingerprints: Sequence[Fingerprint],
    whole: NDArray[np.uint64],
    group: NDArray[np.int64],
    run: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]] = map,
) -> list[Candidate]:
    """List every pair worth comparing, sorted by (a, b).

    Args:
        fingerprints: Of each image.
        whole: (n,) perceptual hash of each image.
        group: (n,) number of each image's group.
        run: Maps, as the `map` of a pool of threads does.
    """
    sizes = np.array([item.size for item in fingerprints], np.float64)
    # A stable sort: of one pair, the placement by windows comes before the one by the whole.
    proposals = [*_by_windows(fingerprints, sizes, group, run), *_by_whole(whole, sizes, group)]
    return sorted(proposals, key=lambda candidate: candidate[:2])


def _limited(
    a: NDArray[np.int64], b: NDArray[np.int64], score: NDArray[np.int64], group: NDArray[np.int64], most: int
) -> NDArray[np.bool_]:
    """Return which pairs are among the `most` best of one of their two images."""
    keep = np.zeros(len(a), bool)
    within = group[a] == group[b]
    for image, other in ((a, b), (b, a)):
        order = np.lexsort((other, -score, within, image))
        new = np.ones(len(order), bool)
        new[1:] = (image[order][1:] != image[order][:-1]) | (within[order][1:] != within[order][:-1])
        first = np.flatnonzero(new)
        rank = np.arange(len(order)) - np.repeat(first, np.diff([*first, len(order)]))
        keep[order[rank < most]] = True
    return keep


def _by_windows(
    fingerprints: Sequence[Fingerprint],
    sizes: NDArray[np.float64],
    group: NDArray[np.int64],
    run: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]],
) -> Iterator[Candidate]:
    count = [len(item.spots) for item in fingerprints]
    owner = np.repeat(np.arange(len(fingerprints)), count)
    if not len(owner):
        return
    spots = np.concatenate([item.spots for item in fingerprints]).astype(np.float64)
    hashes = np.concatenate([item.hashes for item in fingerprints], axis=1)
    mirrorings = np.concatenate([item.mirrorings for item in fingerprints], axis=1)
    index = HashIndex(hashes[0], _WINDOW_TABLES)

    def vote(windows: slice) -> tuple[NDArray[np.int64], ...]:
        """Look up the windows of some images; return (query, stored, scale, mirroring) of those that agree, and votes.

        Votes are counted per pair of images, scale and mirroring.
        """
        votes = []  # (query, scale, stored) in one number, so that sorting is fast
        for n in range(len(SCALES)):
            for query, stored in index.near(hashes[n, windows], _WINDOW_REACH):
                query = query + windows.start
                a, b = owner[query], owner[stored]
                use = a < b if n == 0 else a != b
                votes.append((query[use] * len(SCALES) + n) * len(owner) + stored[use])
        query, stored = np.divmod(np.unique(np.concatenate(votes)), len(owner))
        query, scale = np.divmod(query, len(SCALES))
        mirroring = mirrorings[scale, query] ^ mirrorings[0, stored]
        bins = ((owner[query] * len(fingerprints) + owner[stored]) * len(SCALES) + scale) * 4 + mirroring
        enough, number = np.unique(bins, return_counts=True)
        enough, number = enough[number >= _VOTES], number[number >= _VOTES]
        place = np.searchsorted(enough, bins)  # far fewer bins are left, which makes this cheap
        kept = np.flatnonzero(np.append(enough, -1)[place] == bins)
        order = kept[np.argsort(bins[kept], kind="stable")]
        return query[order], stored[order], scale[order], mirroring[order], number

    edges = np.cumsum([0, *count])[[*range(0, len(fingerprints), _CHUNK), len(fingerprints)]].tolist()
    chunks = run(vote, [slice(low, high) for low, high in pairwise(edges) if high > low])
    query, stored, scale, mirroring, number = (np.concatenate(column) for column in zip(*chunks, strict=True))
    starts = np.cumsum(number) - number
    keep = _limited(owner[query[starts]], owner[stored[starts]], number, group, _PARTNERS)
    best: dict[tuple[int, int], tuple[int, Candidate]] = {}
    for start, length in zip(starts[keep], number[keep], strict=True):
        votes = slice(start, start + length)
        placed = _placed(spots[query[votes]], spots[stored[votes]], sizes, int(owner[query[start]]),
                         int(owner[stored[start]]), int(mirroring[start]), 1 / SCALES[scale[start]])  # fmt: skip
        if placed is None:
            continue
        witnesses, candidate = placed
        pair = candidate.a, candidate.b
        if pair not in best or best[pair][0] < witnesses:
            best[pair] = witnesses, candidate
    yield from (candidate for _, candidate in best.values())


def _placed(
    spots: NDArray[np.float64],
    matches: NDArray[np.float64],
    sizes: NDArray[np.float64],
    a: int,
    b: int,
    mirroring: int,
    scale: float,
) -> tuple[int, Candidate] | None:
    """Return (windows that agree, candidate) from windows of `a` and their matches in `b`; None if too few agree."""
    points = spots.copy()
    for axis in (0, 1):
        if mirroring & (1 << axis):
            points[:, axis] = sizes[a, axis] - 1 - points[:, axis]
    moved = matches - scale * points
    agree = (np.abs(moved - np.median(moved, axis=0)) <= _NEAR).all(axis=1)
    # A window with several matches is one witness.
    witnesses = min(_different(points[agree]), _different(matches[agree]))
    if witnesses < _VOTES:
        return None
    p, q = points[agree] + 0.5, matches[agree] + 0.5
    centred = p - p.mean(axis=0)
    spread = float((centred**2).sum())
    fitted = float((centred * (q - q.mean(axis=0))).sum()) / spread if spread > 100 else scale
    if not 0.9 < fitted / scale < 1.1:
        fitted = scale
    shift = (q.mean(axis=0) - fitted * p.mean(axis=0)) / SIDE
    place = np.array([[fitted, 0, shift[0]], [0, fitted, shift[1]]])
    if a < b:
        return witnesses, Candidate(a, b, mirroring, place)
    # From b (mirrored) to a: undo a's mirroring after, b's before.
    back = _mirror(mirroring, sizes[a]) @ np.linalg.inv(np.vstack([place, [0, 0, 1]])) @ _mirror(mirroring, sizes[b])
    return witnesses, Candidate(b, a, mirroring, back[:2])


def _different(points: NDArray[np.float64]) -> int:
    """Count different points (n, 2) of whole coordinates, as those of windows are."""
    return len(set((points @ [SIDE, 1]).tolist()))


def _mirror(mirroring: int, size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (3, 3) matrix that mirrors an image of this reduced size, its longer side being 1."""
    width, height = size / SIDE
    x, y = (-1.0 if mirroring & bit else 1.0 for bit in (1, 2))
    return np.array([[x, 0, width if x < 0 else 0], [0, y, height if y < 0 else 0], [0, 0, 1]])


def _by_whole(whole: NDArray[np.uint64], sizes: NDArray[np.float64], group: NDArray[np.int64]) -> Iterator[Candidate]:
    """Yield pairs whose perceptual hashes agree; all of one image lies on all of the other, whatever their shapes."""
    pairs = []
    index = HashIndex(whole, _WHOLE_TABLES)
    for mirroring in range(4):
        for query, stored in index.near(whole ^ MIRRORED[mirroring], _WHOLE_REACH):
            use = query < stored
            pairs.append((query[use] * len(whole) + stored[use]) * 4 + mirroring)
    a, mirrorings = np.divmod(np.unique(np.concatenate(pairs)), 4)
    a, b = np.divmod(a, len(whole))
    far = distance(whole[a] ^ MIRRORED[mirrorings], whole[b]).astype(np.int64)
    keep = _limited(a, b, -far, group, _WHOLE_PARTNERS)
    for first, second, mirroring in zip(a[keep], b[keep], mirrorings[keep], strict=True):
        ratio = sizes[second] / sizes[first]
        place = np.array([[ratio[0], 0, 0], [0, ratio[1], 0]])
        yield Candidate(int(first), int(second), int(mirroring), place, exact=True)
