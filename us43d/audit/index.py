"""Codes of 64 bits that are nearly equal, found without comparing all with all.

Bits are sampled (Indyk and Motwani 1998): codes that agree in 24 bits drawn by a fixed seed fall into one bucket of a
table, and several tables with other bits catch what one misses. Two codes that differ in d bits meet in one of t
tables with probability 1 − (1 − (1 − d/64)²⁴)ᵗ.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["Index", "distance"]

_BITS, _SEED = 24, 43
#: A bucket gives at most this many partners to one code, evenly chosen, so that work grows with the codes alone.
_BUCKET = 32


def distance(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """In how many bits codes differ. (NumPy has bitwise_count from 2.0 on.)"""
    x = a ^ b
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    found: NDArray[np.uint64] = (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return found


def _keys(codes: NDArray[np.uint64], places: NDArray[np.int64]) -> NDArray[np.uint32]:
    keys = np.zeros(len(codes), np.uint32)
    for n, place in enumerate(places):
        keys |= ((codes >> np.uint64(place)) & np.uint64(1)).astype(np.uint32) << np.uint32(n)
    return keys


class Index:
    """Codes stored in several tables, each in the order of bits of its own."""

    def __init__(self, codes: NDArray[np.uint64], tables: int) -> None:
        rng = np.random.default_rng(_SEED)
        self.codes = codes
        self._tables = []
        for _ in range(tables):
            places = rng.choice(64, _BITS, replace=False)
            keys = _keys(codes, places)
            order = np.argsort(keys, kind="stable")
            self._tables.append((places, keys[order], order.astype(np.int32)))

    def near(self, asked: NDArray[np.uint64], reach: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Pairs (place in asked, place in codes) of codes that differ in at most `reach` bits, table by table.

        A pair that meets in several tables comes several times; one that meets in none is missed.
        """
        for places, keys, order in self._tables:
            asked_keys = _keys(asked, places)
            who = np.argsort(asked_keys, kind="stable")  # neighbours ask the same part of the table
            first = np.searchsorted(keys, asked_keys[who], "left")
            size = np.searchsorted(keys, asked_keys[who], "right") - first
            take = np.minimum(size, _BUCKET)
            ask = np.repeat(np.arange(len(who)), take)
            place = np.arange(len(ask)) - np.repeat(np.cumsum(take) - take, take)
            found = order[first[ask] + place * size[ask] // np.maximum(take[ask], 1)].astype(np.int64)
            near = distance(asked[who[ask]], self.codes[found]) <= reach
            yield who[ask[near]], found[near]
