"""The recipe of a private source: its facts, and the reader of its form."""

from functools import partial

from us43d.contract import Recipe
from us43d.private import coco, nnunet
from us43d.private.record import Coco, Record

__all__ = ["recipe_of"]


def recipe_of(record: Record) -> Recipe:
    """Return the recipe of a private source."""
    if isinstance(record.reading, Coco):
        return Recipe(**dict(record.facts), read=partial(coco.read, record.reading))
    return Recipe(**dict(record.facts), read=partial(nnunet.read, record.reading))
