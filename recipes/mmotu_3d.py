"""MMOTU-3D: 170 contrast-enhanced images of ovarian tumours; two-dimensional in spite of the name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source


def painted(picture: Any) -> Any:
    """Return the pixels (h, w) of an RGB image (h, w, 3) that are not black."""
    return picture.any(axis=2)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("OTU_3d", "OTU_CEUS")
    pictures = tree.glob("OTU_3d/images/*.JPG")
    lists: dict[Split, str] = {"train": "train.txt", "test": "val.txt"} if pictures else {}
    split = {
        number: split_name
        for split_name, name in lists.items()
        for number in tree.text(tree.one(f"OTU_3d/{name}")).split()
    }
    for image in pictures:
        folder, number = image.split("/")[0], Path(image).stem
        with tree.reading(f"OTU_3d/images/{number}.JPG"):
            if number not in split:
                raise UnreadableFile(f"{folder}/train.txt and val.txt in {tree.root} do not list {image}.")
            coloured, binary = (f"{folder}/annotations/{number}{ending}.PNG" for ending in ("", "_binary"))
            if tree.has(binary):
                mask = lazy(masks.binary, tree.path(binary))
                tree.use(*(tree.path(key) for key in (coloured,) if tree.has(key)))  # the same region, painted
            else:
                mask = lazy(painted, lazy(masks.rgb, tree.path(coloured)))
            key = f"OTU_3d/images/{number}.JPG"
            yield Sample(key=key, image=tree.path(image), masks={"ovarian_lesion": mask}, split=split[number])
    # The figshare deposit has other folders and no lists.
    for image in tree.glob("OTU_CEUS/image/*.JPG"):
        mask = lazy(painted, lazy(masks.rgb, tree.path(f"{image.split('/')[0]}/label/{Path(image).stem}.PNG")))
        yield Sample(key=image, image=tree.path(image), masks={"ovarian_lesion": mask})


RECIPE = source(__name__, read)
