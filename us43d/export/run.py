"""Run an export: blocks of images are written one after the other, finished ones are skipped after an interruption.

The same corpus and options give the same bytes, whatever the number of jobs or an interruption: a block depends on its
images alone, and everything after the blocks reads their records in order.
"""

import csv
import hashlib
import json
import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from us43d import __version__, atomic
from us43d.errors import Us43dError, UsageError
from us43d.export import documents
from us43d.export.selection import Item, Options, Selection
from us43d.export.storage import RECORDS, Store, Written, staged
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.remote import is_url
from us43d.harmonize.shards import canonical_json

__all__ = [
    "BLOCK", "CHECKSUMS", "COLUMNS", "FACTS", "IMAGES", "SCHEMA", "Block", "Finish", "Format", "Report", "png",
    "rgb", "run",
]  # fmt: skip

#: Images in one block: the unit of resuming, and of the shards of formats that have shards.
BLOCK = 128
#: Version of export.json and images.csv.
SCHEMA = 1
FACTS, IMAGES, CHECKSUMS = "export.json", "images.csv", "checksums.txt"
#: Columns of images.csv. unit: what must not be divided, the group united with its near-duplicates in other sources.
COLUMNS = (
    "file", "split", "number", "id", "source", "key", "group", "unit", "width", "height", "annotations", "licence",
)  # fmt: skip
_ANNOTATIONS = COLUMNS.index("annotations")

Progress = Callable[[int, int | None], None]


class _Task(NamedTuple):
    """A block to write: images `start` to `stop` of a split. number: of the block within the split; of: how many."""

    split: str
    number: int
    of: int
    start: int
    stop: int

    @property
    def record(self) -> str:
        return f"{RECORDS}/{self.split}-{self.number:06}.json"


class _Writing:
    """Files of an export being written. files: those written so far. counts: what a person should know."""

    def __init__(self, store: Store, selection: Selection) -> None:
        self.store, self.selection = store, selection
        self.files: list[Written] = []
        self.counts: Counter[str] = Counter()

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the export."""
        self.files.append(self.store.write(name, data))

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Give a local path to write a file of the export to."""
        with self.store.file(name) as path:
            yield path
            written = _described(name, path)
        self.files.append(written)


class Block(_Writing):
    """One block being written. What a format notes here is in its record once the block is whole."""

    def __init__(self, store: Store, selection: Selection, task: _Task) -> None:
        super().__init__(store, selection)
        self.task, self.split = task, task.split
        self.rows: list[list[Any]] = []
        self.lines: dict[str, list[Any]] = {}

    @property
    def shard(self) -> str:
        """Name of the block as a shard: <split>-00000-of-00003."""
        return f"{self.task.split}-{self.task.number:05}-of-{self.task.of:05}"

    def items(self) -> Iterator[Item]:
        """Yield the images of the block. Raises TrainError for one that is missing or was changed since its build."""
        for item in self.selection.items(self.task.split, self.task.start, self.task.stop):
            _ = item.sha256
            if not item.compared:
                self.counts["images not compared with their build: its manifest is not beside the corpus"] += 1
            if item.lost:
                self.counts["annotations smaller than a pixel after resizing"] += item.lost
            yield item

    def row(self, item: Item, file: str) -> None:
        """Note an image for images.csv. file: where the export holds it."""
        self.rows.append([
            file, item.split, item.number, item.id, item.source["name"], item.key, item.group,
            self.selection.unit(item), item.width, item.height, len(item.shapes), item.source["licence"]["id"],
        ])  # fmt: skip

    def count(self, what: str, number: int = 1) -> None:
        """Count something a person should know, such as a loss."""
        self.counts[what] += number

    def count_merged(self, item: Item) -> None:
        """Count the annotations of an image of which a mask for each structure keeps the union alone."""
        merged = len(item.shapes) - len({shape.category for shape in item.shapes})
        self.count("annotations merged into the mask of their structure", merged)

    def line(self, stream: str, value: Any) -> None:
        """Keep a JSON value for `Finish.lines`."""
        self.lines.setdefault(stream, []).append(value)

    def image(self, item: Item, name: str) -> None:
        """Write the image: its file as published, or a PNG of the resized image."""
        if item.resized:
            self.write(name, png(self.picture(item)))
            return
        self.store.add(name, item.path, link=self.selection.options.link)
        self.files.append(Written(name, item.path.stat().st_size, item.sha256))

    def picture(self, item: Item) -> Any:
        """Read an image in 8 bits, and count it if it has more."""
        self.count("16-bit images reduced to 8 bits by their range", int(item.deep))
        return item.picture()

    def record(self) -> bytes:
        return canonical_json({"files": self.files, "rows": self.rows, "counts": self.counts, "lines": self.lines})


class Finish(_Writing):
    """Indices and documents written after the blocks, from the records in order.

    inputs: digest of everything that decides the bytes of the export.
    """

    def __init__(self, store: Store, selection: Selection, tasks: list[_Task], out: str, inputs: str) -> None:
        super().__init__(store, selection)
        self.inputs, self._out, self._tasks = inputs, out, tasks

    def place(self, *names: str) -> str:
        """Path of a file of the export, or of the export itself."""
        return "/".join((self._out.rstrip("/") or "/", *names))

    def literal(self, *names: str) -> str:
        """Return `place` as a Python literal, for lines that are copied."""
        return repr(self.place(*names))

    def word(self, *names: str) -> str:
        """Return `place` quoted for a shell."""
        return shlex.quote(self.place(*names))

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (split, record) of every block."""
        for task in self._tasks:
            yield task.split, json.loads(self.store.read(task.record) or b"")

    def lines(self, stream: str) -> Iterator[Any]:
        """Yield the lines that blocks kept under a name, in order."""
        for _, record in self.records():
            yield from record["lines"].get(stream, ())


class Format(ABC):
    """One export format.

    Attributes:
        name: As in `--to`.
        fidelity: One or two sentences for the README: what comes back equal and what does not.
    """

    fidelity: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self, selection: Selection, store: Store) -> None:  # noqa: B027  (few formats need it)
        """Do what must be known before the first block."""

    def cuts(self, selection: Selection, split: str) -> list[int]:
        """Where the blocks of a split begin, from 0, among its images; nothing for an empty split."""
        return list(range(0, len(selection.rows[split]), BLOCK))

    @abstractmethod
    def block(self, block: Block) -> None:
        """Write the images of a block."""

    def finish(self, finish: Finish) -> None:  # noqa: B027
        """Write what follows the blocks."""

    def front(self, finish: Finish) -> str:
        """Return text to put before the README, such as YAML front matter."""
        return ""

    @abstractmethod
    def usage(self, finish: Finish) -> str:
        """Code that reads the export, for the README and the terminal."""


@dataclass(frozen=True, slots=True)
class Report:
    """out: folder or URL. facts: content of export.json. usage: code that reads it. reused: it was there already."""

    out: str
    facts: dict[str, Any]
    usage: str
    reused: bool = False


def run(
    form: Format, corpus: Corpus, out: str | Path, options: Options, *, jobs: int = 1, progress: Progress | None = None
) -> Report:
    """Export a corpus; resume if an export of the same corpus and options was interrupted.

    Args:
        form: The format.
        corpus: An opened corpus.
        out: Folder or fsspec URL; must be empty, absent, or this very export.
        options: What to export.
        jobs: Number of threads.
        progress: Called with images done and their number.

    Raises:
        UsageError: If `out` holds something else or is inside the corpus's own data, or nothing is left to export.
        LicenceError: If the options ask for commercial use and a source does not allow it.
        TrainError: If an image or mask of the corpus cannot be read.
        StorageError: If `out` cannot be written.
    """
    _refuse_inside(corpus, out)
    selection = Selection(corpus, options)
    inputs = _inputs(form, selection)
    store = staged(out, inputs)
    tasks = _tasks(form, selection)
    finish = Finish(store, selection, tasks, str(out), inputs)
    with _state(store), atomic.storage_errors(Path(str(out)), ""):
        if (ready := store.published(FACTS)) is not None and _inputs_of(ready) == inputs:
            store.discard()
            facts = json.loads(ready)
            return Report(str(out), facts, facts["usage"], reused=True)
        if store.occupied() and ready is None and not _resumable(store):
            what = f"The folder {out} is not empty." if is_url(out) or Path(out).is_dir() else f"{out} is a file."
            raise UsageError(what, next=_beside(out))
        if ready is not None:
            raise UsageError(
                f"{out} holds an export with other content or options.",
                next=_beside(out),
            )
        form.prepare(selection, store)
        _blocks(form, selection, store, tasks, jobs, progress)
        facts = _finish(form, finish)
        store.publish()
    return Report(str(out), facts, facts["usage"])


@contextmanager
def _state(store: Store) -> Iterator[None]:
    """State in an error what is left on the disk."""
    try:
        yield
    except Us43dError as error:
        kept = "Finished blocks are kept in a hidden folder beside --out; the same command resumes."
        error.disk = kept if store.begun else "Nothing was changed on disk."
        raise


def _beside(out: str | Path) -> str:
    place = str(out).rstrip("/")  # "folder/-2" would lie inside the folder that is in use
    return f"the same command with --out {shlex.quote(f'{place}-2')}"


def _refuse_inside(corpus: Corpus, out: str | Path) -> None:
    """Refuse a folder of the home that holds data: an export there would be taken for a build or a corpus."""
    if is_url(out):
        return
    target = Path(out).expanduser().resolve()
    for place in (*(Path(corpus.home) / name for name in ("build", "corpora", "raw", "downloads")), corpus.path):
        if target.is_relative_to(place.resolve()):
            raise UsageError(
                f"{out} is inside {place}, where us43d keeps its own data.",
                next=f"the same command with --out {shlex.quote(target.name)}",
            )


def _inputs(form: Format, selection: Selection) -> str:
    """Return a digest of everything that decides the bytes of the export."""
    options = {key: value for key, value in asdict(selection.options).items() if key != "link"}
    facts = selection.corpus.facts
    parts = {
        "format": form.name, "schema": SCHEMA, "tool": __version__, "corpus": facts["digest"],
        "release": facts["release"], "sources": [[s["slug"], s["version"]] for s in selection.exported_sources],
        "categories": selection.categories, "options": options,
    }  # fmt: skip
    return hashlib.sha256(canonical_json(parts)).hexdigest()


def _inputs_of(facts: bytes) -> str:
    try:
        return str(json.loads(facts)["inputs"])
    except (ValueError, KeyError, TypeError):
        return ""


def _resumable(store: Store) -> bool:
    """Return whether the files in the final folder come from this export, interrupted before export.json."""
    return store.read(f"{RECORDS}/publishing") is not None


def _tasks(form: Format, selection: Selection) -> list[_Task]:
    tasks = []
    for split, rows in selection.rows.items():
        cuts = form.cuts(selection, split)
        stops = [*cuts[1:], len(rows)]
        tasks += [
            _Task(split, n, len(cuts), start, stop) for n, (start, stop) in enumerate(zip(cuts, stops, strict=False))
        ]
    return tasks


def _blocks(
    form: Format, selection: Selection, store: Store, tasks: list[_Task], jobs: int, progress: Progress | None
) -> None:
    """Write every block that has no record yet; at most two blocks wait for each thread."""
    total = done = 0
    for task in tasks:
        total += task.stop - task.start

    def work(task: _Task) -> int:
        block = Block(store, selection, task)
        form.block(block)
        store.write(task.record, block.record())
        return task.stop - task.start

    def move(images: int) -> None:
        nonlocal done
        done += images
        if progress:
            progress(done, total)

    todo = []
    for task in tasks:
        if store.read(task.record) is None:
            todo.append(task)
        else:
            move(task.stop - task.start)
    if jobs <= 1:
        for task in todo:
            move(work(task))
        return
    with ThreadPoolExecutor(jobs) as pool:
        waiting: set[Future[int]] = set()
        try:
            for task in todo:
                waiting.add(pool.submit(work, task))
                if len(waiting) >= 2 * jobs:
                    ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in ended:
                        move(future.result())
            for future in waiting:
                move(future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _finish(form: Format, finish: Finish) -> dict[str, Any]:
    """Write indices, documents, checksums and export.json."""
    form.finish(finish)
    selection, counts = finish.selection, finish.counts
    units: set[str] = set()
    annotations = 0
    by_source: Counter[str] = Counter()
    images: Counter[str] = Counter()
    with finish.file(IMAGES) as path, path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for split, record in finish.records():
            table.writerows(record["rows"])
            images[split] += len(record["rows"])
            by_source.update(row[4] for row in record["rows"])
            units.update(row[7] for row in record["rows"])
            annotations += sum(row[_ANNOTATIONS] for row in record["rows"])
            counts.update(record["counts"])
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "format": form.name,
        "tool": f"us43d {__version__}",
        "inputs": finish.inputs,
        "corpus": {"release": selection.corpus.facts["release"], "digest": selection.corpus.digest},
        "sources": [documents.source(s, by_source[s["name"]]) for s in selection.exported_sources],
        "options": {key: value for key, value in asdict(selection.options).items() if key not in ("link", "notes")},
        "categories": [category._asdict() for category in selection.categories],
        "images": dict(images),
        "annotations": annotations,
        "units": len(units),
        "skipped": selection.skipped,
        "counts": dict(sorted((+counts).items())),
        "notes": list(selection.options.notes),
        "fidelity": form.fidelity,
        "usage": form.usage(finish),
    }
    for name, text in documents.written(facts, selection, form.front(finish)).items():
        finish.write(name, text.encode())
    with finish.file(CHECKSUMS) as path, path.open("w", encoding="utf-8", newline="") as file:
        for _, record in finish.records():
            file.writelines(f"{digest}  {name}\n" for name, _, digest in record["files"])
        file.writelines(f"{written.sha256}  {written.name}\n" for written in finish.files)
    facts["checksums"] = finish.files[-1].sha256
    finish.store.write(f"{RECORDS}/publishing", b"")
    finish.store.write(FACTS, json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False).encode())
    return facts


def _described(name: str, path: Path) -> Written:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Written(name, path.stat().st_size, digest)


def png(pixels: Any) -> bytes:
    """Encode (h, w) or (h, w, 3) RGB, uint8 or uint16, as PNG; a bool array becomes 0 and 255."""
    import cv2
    import numpy as np

    array = np.asarray(pixels)
    if array.dtype == bool:
        array = array.view(np.uint8) * np.uint8(255)
    bgr = np.ascontiguousarray(array[..., ::-1]) if array.ndim == 3 else np.ascontiguousarray(array)
    whole, data = cv2.imencode(".png", bgr)
    if not whole:
        raise ValueError(f"OpenCV cannot encode {array.shape} {array.dtype} as PNG")
    return bytes(data.tobytes())


def rgb(pixels: Any) -> Any:
    """Return (h, w, 3) RGB of (h, w) grey or (h, w, 3) RGB."""
    return pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, axis=2)
