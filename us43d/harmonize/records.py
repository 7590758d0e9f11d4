"""Records: what a block writes of each sample, and what groups, splits, shards and manifest are made from."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from us43d.contract import Split
from us43d.masks.components import Piece
from us43d.splits.assign import Assigned

__all__ = ["FOLDER", "Annotation", "Record", "Written", "dump", "lines", "parse", "path_of"]

#: In the staging folder: one file of records per block.
FOLDER = "blocks"


class Annotation(BaseModel):
    """A mask of an image.

    Attributes:
        label: Label of the source.
        instance: Place of the published mask among those of the label.
        counts: Compressed run lengths (COCO).
        area: Pixels.
        box: x, y, width, height in pixels.
        speck: Whether it is a speck (docs/format.md).
    """

    label: str
    instance: int
    counts: str
    area: int
    box: tuple[int, int, int, int]
    speck: bool

    @classmethod
    def of(cls, piece: Piece, label: str, instance: int, speck: bool) -> "Annotation":
        """Describe a component of a mask."""
        return cls(label=label, instance=instance, counts=piece.counts, area=piece.area, box=piece.box, speck=speck)


class Written(BaseModel):
    """The image file of a sample. kept: the published file, byte for byte. bytes: size of the file."""

    file: str
    sha256: str
    bytes: int
    kept: bool
    height: int
    width: int
    pixel_hash: str
    phash: int


class Record(BaseModel):
    """A sample after its block.

    Attributes:
        id: Image id.
        group: Group of the source; the final one once the build is split.
        official: Published split.
        spacing: x, y in mm per pixel.
        slice: Distance to the next slice in mm.
        masks: Number of masks that are not empty.
        drop: Reason for excluding the sample, which then has no image.
        split: Final split; set once the build is split.
    """

    id: int
    key: str
    group: str
    official: Split | None
    frame: int | None
    spacing: tuple[int | float, int | float] | None  # a whole number stays one in the files
    slice: int | float | None
    tags: dict[str, str | int | float | bool]
    remarks: tuple[str, ...]
    masks: int = 0
    drop: str | None = None
    image: Written | None = None
    annotations: tuple[Annotation, ...] = ()
    split: Assigned | None = None


def path_of(staging: Path, block: int) -> Path:
    """Return the file of a block's records."""
    return staging / FOLDER / f"{block:05}.jsonl"


def dump(records: Iterable[Record]) -> bytes:
    """Encode records as lines of JSON."""
    return b"".join(record.model_dump_json(exclude_defaults=True).encode() + b"\n" for record in records)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (offset in the file, line) of each record."""
    offset = 0
    for line in path.read_bytes().splitlines(keepends=True):
        yield offset, line
        offset += len(line)


def parse(line: bytes) -> Record:
    """Decode a line of JSON."""
    return Record.model_validate_json(line)
