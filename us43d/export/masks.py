"""Plain pairs: <split>/images/<name>.<png|jpg> and <split>/masks/<structure>/<name>.png, 0 and 255.

Every image of a source that annotates a structure has a mask of it, empty where the structure was not annotated in that
image. Images keep the file that was published.
"""

from us43d.export.run import Block, Finish, Format, png

__all__ = ["Masks"]


class Masks(Format):
    fidelity = (
        "A mask file is the union of the annotations of its structure in the image (IoU 1); which pieces are separate "
        "instances is not kept. Masks of different structures may overlap."
    )

    def block(self, block: Block) -> None:
        categories = block.selection.categories
        for item in block.items():
            block.image(item, f"{item.split}/images/{item.file}")
            block.row(item, f"{item.split}/images/{item.file}")
            for index in sorted(block.selection.annotates[block.selection.sources.index(item.source)]):
                name = f"{item.split}/masks/{categories[index].name}/{item.name}.png"
                block.write(name, png(item.union(index)))
                block.count("mask files")
            block.count_merged(item)

    def usage(self, finish: Finish) -> str:
        split, structure = next(iter(finish.selection.rows)), finish.selection.categories[0].name
        return (
            "import pathlib, cv2\n"
            f"for path in sorted(pathlib.Path({finish.literal(split, 'masks', structure)}).glob('*.png')):\n"
            f"    image = cv2.imread(str(next((path.parents[2] / 'images').glob(path.stem + '.*'))), 0)\n"
            "    mask = cv2.imread(str(path), 0) > 0\n"
        )
