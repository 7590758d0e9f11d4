"""Pairs of pictures that may show the same frame: their windows agree, or their whole pictures do.

Everything here is an index over hashes; no step compares all pictures with all. `align` verifies what is proposed, at a
glance on thumbnails, then on the pictures themselves.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.audit.align import Candidate
from us43d.audit.index import Index, distance
from us43d.audit.prints import MIRRORED, SCALES, SIDE, Prints

__all__ = ["candidates"]

#: Bits in which windows of one frame may differ. On the real cuts 23 of 32 windows are found again within it after a
#: crop of a tenth, and of pairs of windows of different pictures fewer than one in ten thousand lies within it.
_WINDOW_REACH, _WINDOW_TABLES = 10, 10
_WHOLE_REACH, _WHOLE_TABLES = 10, 24
#: Windows that must agree on where one picture lies in the other, and how closely (pixels of the reduced picture).
_VOTES, _NEAR = 4, 10.0
#: Partners examined for one picture at most, within its group and as many outside of it: by windows, by the whole.
_PARTNERS, _WHOLE_PARTNERS = 4, 2
#: Pictures whose windows are looked up at a time; bounds the memory.
_CHUNK = 512


def candidates(
    found: Sequence[Prints],
    whole: NDArray[np.uint64],
    group: NDArray[np.int64],
    run: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]] = map,
) -> list[Candidate]:
    """Every pair worth a glance, by (a, b).

    whole: the perceptual hash of each picture. group: the number of its group. run: maps, as the `map` of a pool of
    threads does.
    """
    sizes = np.array([each.size for each in found], np.float64)
    # Stable: of one pair, what windows say comes before what the whole says.
    both = [*_by_windows(found, sizes, group, run), *_by_whole(whole, sizes, group)]
    return sorted(both, key=lambda each: each[:2])


def _limited(
    a: NDArray[np.int64], b: NDArray[np.int64], score: NDArray[np.int64], group: NDArray[np.int64], most: int
) -> NDArray[np.bool_]:
    """Which pairs are among the `most` best of one of their two pictures."""
    keep = np.zeros(len(a), bool)
    within = group[a] == group[b]
    for one, other in ((a, b), (b, a)):
        order = np.lexsort((other, -score, within, one))
        new = np.ones(len(order), bool)
        new[1:] = (one[order][1:] != one[order][:-1]) | (within[order][1:] != within[order][:-1])
        first = np.flatnonzero(new)
        rank = np.arange(len(order)) - np.repeat(first, np.diff([*first, len(order)]))
        keep[order[rank < most]] = True
    return keep


def _by_windows(
    found: Sequence[Prints],
    sizes: NDArray[np.float64],
    group: NDArray[np.int64],
    run: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]],
) -> Iterator[Candidate]:
    count = [len(each.spots) for each in found]
    owner = np.repeat(np.arange(len(found)), count)
    if not len(owner):
        return
    spots = np.concatenate([each.spots for each in found]).astype(np.float64)
    codes = np.concatenate([each.codes for each in found], axis=1)
    turns = np.concatenate([each.turns for each in found], axis=1)
    index = Index(codes[0], _WINDOW_TABLES)

    def voted(windows: slice) -> tuple[NDArray[np.int64], ...]:
        """Windows of some pictures and those they meet, (ask, at, size, turn), where enough of a bin agree; a bin is
        one pair, size and turn. Last, how many votes each bin has."""
        votes = []  # (asked, scale, stored) in one number, so that sorting is fast
        for n in range(len(SCALES)):
            for ask, at in index.near(codes[n, windows], _WINDOW_REACH):
                ask = ask + windows.start
                one, other = owner[ask], owner[at]
                use = one < other if n == 0 else one != other
                votes.append((ask[use] * len(SCALES) + n) * len(owner) + at[use])
        ask, at = np.divmod(np.unique(np.concatenate(votes)), len(owner))
        ask, size = np.divmod(ask, len(SCALES))
        turn = turns[size, ask] ^ turns[0, at]
        bins = ((owner[ask] * len(found) + owner[at]) * len(SCALES) + size) * 4 + turn
        enough, many = np.unique(bins, return_counts=True)
        enough, many = enough[many >= _VOTES], many[many >= _VOTES]
        place = np.searchsorted(enough, bins)  # far fewer are left than there were, which makes this cheap
        kept = np.flatnonzero(np.append(enough, -1)[place] == bins)
        order = kept[np.argsort(bins[kept], kind="stable")]
        return ask[order], at[order], size[order], turn[order], many

    edges = np.cumsum([0, *count])[[*range(0, len(found), _CHUNK), len(found)]].tolist()
    parts = run(voted, [slice(low, high) for low, high in pairwise(edges) if high > low])
    ask, at, size, turn, many = (np.concatenate(each) for each in zip(*parts, strict=True))
    starts = np.cumsum(many) - many
    keep = _limited(owner[ask[starts]], owner[at[starts]], many, group, _PARTNERS)
    best: dict[tuple[int, int], tuple[int, Candidate]] = {}
    for start, length in zip(starts[keep], many[keep], strict=True):
        part = slice(start, start + length)
        placed = _placed(spots[ask[part]], spots[at[part]], sizes, int(owner[ask[start]]), int(owner[at[start]]),
                         int(turn[start]), 1 / SCALES[size[start]])  # fmt: skip
        if placed is None:
            continue
        agreed, candidate = placed
        pair = candidate.a, candidate.b
        if pair not in best or best[pair][0] < agreed:
            best[pair] = agreed, candidate
    yield from (candidate for _, candidate in best.values())


def _placed(
    from_: NDArray[np.float64],
    to: NDArray[np.float64],
    sizes: NDArray[np.float64],
    a: int,
    b: int,
    turn: int,
    scale: float,
) -> tuple[int, Candidate] | None:
    """(how many windows agree, where the picture lies), from windows of `a` and where they were met in `b`."""
    at = from_.copy()
    for axis in (0, 1):
        if turn & (1 << axis):
            at[:, axis] = sizes[a, axis] - 1 - at[:, axis]
    moved = to - scale * at
    agree = (np.abs(moved - np.median(moved, axis=0)) <= _NEAR).all(axis=1)
    # A window that meets several is one witness.
    witnesses = min(len(np.unique(at[agree], axis=0)), len(np.unique(to[agree], axis=0)))
    if witnesses < _VOTES:
        return None
    p, q = at[agree] + 0.5, to[agree] + 0.5
    centred = p - p.mean(axis=0)
    spread = float((centred**2).sum())
    fitted = float((centred * (q - q.mean(axis=0))).sum()) / spread if spread > 100 else scale
    if not 0.9 < fitted / scale < 1.1:
        fitted = scale
    shift = (q.mean(axis=0) - fitted * p.mean(axis=0)) / SIDE
    place = np.array([[fitted, 0, shift[0]], [0, fitted, shift[1]]])
    if a < b:
        return witnesses, Candidate(a, b, turn, place)
    # From b (mirrored) to a: undo a's mirroring after, b's before.
    back = _mirror(turn, sizes[a]) @ np.linalg.inv(np.vstack([place, [0, 0, 1]])) @ _mirror(turn, sizes[b])
    return witnesses, Candidate(b, a, turn, back[:2])


def _mirror(turn: int, size: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3): mirroring a picture of this reduced size, in coordinates where its longer side is 1."""
    width, height = size / SIDE
    x, y = (-1.0 if turn & bit else 1.0 for bit in (1, 2))
    return np.array([[x, 0, width if x < 0 else 0], [0, y, height if y < 0 else 0], [0, 0, 1]])


def _by_whole(whole: NDArray[np.uint64], sizes: NDArray[np.float64], group: NDArray[np.int64]) -> Iterator[Candidate]:
    """Pairs whose perceptual hashes agree; the whole of one lies on the whole of the other, whatever their shapes."""
    pairs = []
    index = Index(whole, _WHOLE_TABLES)
    for turn in range(4):
        for ask, at in index.near(whole ^ MIRRORED[turn], _WHOLE_REACH):
            use = ask < at
            pairs.append((ask[use] * len(whole) + at[use]) * 4 + turn)
    a, turns = np.divmod(np.unique(np.concatenate(pairs)), 4)
    a, b = np.divmod(a, len(whole))
    far = distance(whole[a] ^ MIRRORED[turns], whole[b]).astype(np.int64)
    keep = _limited(a, b, -far, group, _WHOLE_PARTNERS)
    for one, other, way in zip(a[keep], b[keep], turns[keep], strict=True):
        ratio = sizes[other] / sizes[one]
        yield Candidate(int(one), int(other), int(way), np.array([[ratio[0], 0, 0], [0, ratio[1], 0]]), exact=True)
