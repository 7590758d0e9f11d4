"""Ids: deterministic, positive, below 2^53 (JSON's exact integers), the same in every build and every corpus."""

import hashlib

__all__ = ["Ids", "annotation_id"]


def _digest(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big") >> 11


class Ids:
    """Image ids of one source, given out in the order of its keys.

    An id is the first 53 bits of sha256(source, key). Should two keys of a source share one (a chance of 10^-6 at
    100,000 images), the later key is hashed again with a counter.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._given: set[int] = set()

    def image(self, key: str) -> int:
        attempt, number = 0, _digest("image", self.source, key)
        while number in self._given or number == 0:
            attempt += 1
            number = _digest("image", self.source, key, str(attempt))
        self._given.add(number)
        return number


def annotation_id(image: int, label: str, number: int) -> int:
    """Return the id of the `number`-th annotation with `label` on an image."""
    return _digest("annotation", str(image), label, str(number)) or 1
