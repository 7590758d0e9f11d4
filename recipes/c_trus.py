"""C-TRUS: 827 abdominal images of the colon; its wall, where it is seen, in JPEG masks. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("original")
    table = tree.index("c-trus.csv", "file", ("quality_name", "patient", "testitem_in_fold"))
    for key in tree.glob("original/*.jpg"):
        with tree.reading(key):
            name = key.rpartition("/")[2]
            row = table[name]
            yield Sample(
                key=key,
                image=tree.path(key),
                # Cut at a fixed value: an empty mask holds the noise of JPEG, and nothing brighter.
                masks={"colon_wall": lazy(masks.above, lazy(masks.grey, tree.path(f"labels/{name}")), 127)},
                group=row.identifier("patient"),
                tags={"quality": row["quality_name"], "fold": row.whole("testitem_in_fold")},
            )


RECIPE = source(__name__, read)
