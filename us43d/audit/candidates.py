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

#: Bits in which windows of one frame may differ where they are looked up: of pairs of windows of different images fewer
#: than one in ten thousand lies within it. And where all windows of two images are compared.
_WINDOW_REACH, _PAIR_REACH, _WINDOW_TABLES = 12, 14, 18
_WHOLE_REACH, _WHOLE_TABLES = 10, 96
#: Windows that propose a pair; windows that must agree on where one image lies in the other, and how closely (pixels
#: of the reduced image).
_VOTES, _AGREE, _NEAR = 2, 5, 6.0
#: Sides (x, y) of an image in another of another shape, at equal area.
_SHAPES = np.array([0.8, 0.9, 1.0, 1.1, 1.25])[:, None] ** [0.5, -0.5]
#: Partners examined for one image at most, within its group and as many outside of it: by windows, by the whole.
_PARTNERS, _WHOLE_PARTNERS = 6, 2
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
    owner = np.repeat(np.arange(len(count)), count)
    if not len(owner):
        return
    spots = np.concatenate([item.spots for item in fingerprints]).astype(np.float64)
    hashes = np.concatenate([item.hashes for item in fingerprints], axis=1)
    mirrorings = np.concatenate([item.mirrorings for item in fingerprints], axis=1)
    index = HashIndex(hashes[0], _WINDOW_TABLES)
    first = np.cumsum([0, *count])

    def vote(windows: slice) -> tuple[NDArray[np.int64], ...]:
        """Look up the windows of some images; return (query, stored, mirroring) of pairs, and the number of votes."""
        votes = []  # (query, mirroring, stored) in one number, so that sorting is fast
        for n in range(len(SCALES)):
            for query, stored in index.near(hashes[n, windows], _WINDOW_REACH):
                query = query + windows.start
                use = owner[query] < owner[stored] if n == 0 else owner[query] != owner[stored]
                query, stored = query[use], stored[use]
                votes.append((query * 4 + (mirrorings[n, query] ^ mirrorings[0, stored])) * len(owner) + stored)
        query, stored = np.divmod(np.unique(np.concatenate(votes)), len(owner))
        query, mirroring = np.divmod(query, 4)
        proposed, number = np.unique((owner[query] * len(count) + owner[stored]) * 4 + mirroring, return_counts=True)
        images, mirroring = np.divmod(proposed[number >= _VOTES], 4)
        return *np.divmod(images, len(count)), mirroring, number[number >= _VOTES]

    def place(pairs: slice) -> list[tuple[int, Candidate]]:
        """Compare all windows of the images of some pairs; return (windows that agree, candidate) for each scale."""
        placed = []
        for a, b, flip in zip(query[pairs].tolist(), stored[pairs].tolist(), mirroring[pairs].tolist(), strict=True):
            of_a, of_b = slice(*first[a : a + 2]), slice(*first[b : b + 2])
            near = distance(hashes[:, of_a, None], hashes[0, None, of_b]) <= _PAIR_REACH
            near &= mirrorings[:, of_a, None] ^ mirrorings[0, None, of_b] == flip
            points = spots[of_a].copy()
            for axis in (0, 1):
                if flip & (1 << axis):
                    points[:, axis] = sizes[a, axis] - 1 - points[:, axis]
            for scale, matches in zip(SCALES, near, strict=True):
                at, to = matches.nonzero()
                if len(at) >= _AGREE:
                    witnesses, matrix = _placed(points[at], spots[of_b][to], 1 / scale)
                    if witnesses >= _AGREE:
                        placed.append((witnesses, _candidate(a, b, flip, matrix, sizes)))
        return placed

    chunks = run(vote, [slice(*first[[low, high]]) for low, high in _chunks(len(count)) if first[low] < first[high]])
    query, stored, mirroring, number = (np.concatenate(column) for column in zip(*chunks, strict=True))
    keep = _limited(query, stored, number, group, _PARTNERS)
    query, stored, mirroring = query[keep], stored[keep], mirroring[keep]
    best: dict[tuple[int, int], tuple[int, Candidate]] = {}
    for placed in run(place, [slice(low, high) for low, high in _chunks(len(query))]):
        for witnesses, candidate in placed:
            pair = candidate.a, candidate.b
            if pair not in best or best[pair][0] < witnesses:
                best[pair] = witnesses, candidate
    yield from (candidate for _, candidate in best.values())


def _chunks(length: int) -> Iterator[tuple[int, int]]:
    return pairwise([*range(0, length, _CHUNK), length])


def _placed(points: NDArray[np.float64], matches: NDArray[np.float64], scale: float) -> tuple[int, NDArray[np.float64]]:
    """Return how many windows at `points` agree on a place of their image in the one of the `matches`, and the place.

    Args:
        points: (n, 2), centres of windows in pixels of the reduced image.
        matches: (n, 2), those of the windows that are like them.
        scale: Size of the second windows in sizes of the first.

    Returns:
        (windows, (2, 3) placement as in `Candidate`), in the shape in which most of them agree with one of them.
    """
    moved = matches - scale * _SHAPES[:, None] * points
    close = np.asarray((np.abs(moved[:, :, None] - moved[:, None]) <= _NEAR).all(axis=3))  # (shapes, n, n)
    shape, window = np.unravel_index(close.sum(axis=2).argmax(), close.shape[:2])
    agree, expected = close[shape, window], scale * _SHAPES[shape]
    # A window with several matches is one witness.
    witnesses = min(_different(points[agree]), _different(matches[agree]))
    p, q = points[agree] + 0.5, matches[agree] + 0.5
    centred = p - p.mean(axis=0)
    spread = (centred**2).sum(axis=0)
    fitted = (centred * (q - q.mean(axis=0))).sum(axis=0) / np.maximum(spread, 1)
    fitted = np.where((spread > 100) & (np.abs(fitted / expected - 1) < 0.15), fitted, expected)
    shift = (q.mean(axis=0) - fitted * p.mean(axis=0)) / SIDE
    return witnesses, np.column_stack([np.diag(fitted), shift])


def _candidate(a: int, b: int, mirroring: int, place: NDArray[np.float64], sizes: NDArray[np.float64]) -> Candidate:
    """Return the candidate of a placement from `a` (mirrored) to `b`, in the order of their positions."""
    if a < b:
        return Candidate(a, b, mirroring, place)
    # From b (mirrored) to a: undo a's mirroring after, b's before.
    back = _mirror(mirroring, sizes[a]) @ np.linalg.inv(np.vstack([place, [0, 0, 1]])) @ _mirror(mirroring, sizes[b])
    return Candidate(b, a, mirroring, back[:2])


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
