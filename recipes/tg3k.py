"""TG3K: thyroid glands; 3,585 frames of 16 videos, JPEG images with JPEG masks of the same name."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source


def read(raw: RawTree, *, cut_at_150: bool = False) -> Iterator[Sample]:
    tree = raw.at("tg3k/thyroid-image")
    keys = tree.glob("tg3k/thyroid-image/*.jpg")
    lists = "tg3k/tg3k-trainval.json"
    validation = _numbers(tree, lists, "val") if tree.has(lists) else None
    # Frames of one video follow each other and share their size; neighbouring videos of one size merge, which is safe.
    for run, (_, frames) in enumerate(groupby(_sized(tree, keys), key=itemgetter(1))):
        for key, _ in frames:
            name = key.rpartition("/")[2]
            number = name.removesuffix(".jpg")
            mask = tree.path(f"tg3k/thyroid-mask/{name}")
            nodule = lazy(masks.above, lazy(masks.grey, mask), 149) if cut_at_150 else lazy(masks.binary, mask)
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={"thyroid_gland": nodule},
                group=f"run{run:02}",
                tags={} if validation is None else {"official_val": number.isdecimal() and int(number) in validation},
                remarks=(f"official validation set unknown: {lists} is missing",) if validation is None else (),
            )


def _sized(tree: RawTree, keys: Iterable[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    for key in keys:
        with tree.reading(key):
            yield key, masks.image_size(tree.path(key))


def _numbers(tree: RawTree, key: str, subset: str) -> set[int]:
    try:
        return {int(number) for number in tree.json(key)[subset]}
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{key} in {tree.root} is not a valid split file: {error!r}.") from error


RECIPE = source(__name__, read, paper=partial(read, cut_at_150=True))
