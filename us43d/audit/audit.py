"""Everything that can be wrong with built sources and is seen in their pictures: twins, leaks, odd labels and masks.

Exact duplicates share a pixel hash. Near duplicates are proposed by an index over perceptual hashes (`candidates`) and
verified on the pictures (`align`). One picture of each set of exact duplicates stands for all.
"""

import json
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.audit.align import DETAIL, Alignment, Candidate, align, glance, pixels
from us43d.audit.candidates import candidates
from us43d.audit.look import Annotation, Look, grey, look, picture
from us43d.audit.prints import Prints, reduced, turned
from us43d.errors import BuildError
from us43d.harmonize import shards
from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.masks import rle
from us43d.splits.audited import Frame, Link
from us43d.splits.check import prove

__all__ = ["COLUMNS", "TURNS", "Audit", "Build", "Conflict", "Fault", "Image", "Near", "audit", "counted"]

Progress = Callable[[str, int, int | None], None]

TURNS = ("none", "left-right", "top-bottom", "both")
#: Masks of one frame that overlap less than this contradict each other.
_AGREE = 0.7
#: Share of the picture from which a mask is as large as the picture.
_WHOLE = 0.9
#: Tags that say what a picture shows, whatever its mask.
_CLASSES = ("label", "diagnosis")
_PARTS = ("train", "val", "test")

#: Columns of the table of sources: key of `counted` → heading.
COLUMNS = {
    "name": "source", "images": "images", "exact": "exact sets", "near": "near pairs", "across": "with others",
    "leaks": "leaks", "official_leaks": "official leaks", "conflicts": "conflicts", "outside": "outside view",
    "empty": "no mask", "speck": "specks", "whole": "whole image", "marks": "marked",
}  # fmt: skip


class Image(NamedTuple):
    """One image of a build. build: its place among the builds. official: its published split."""

    build: int
    id: int
    key: str
    file: Path
    size: tuple[int, int]
    picture: str
    whole: int
    group: str
    split: str
    official: str | None
    tags: dict[str, Any]
    annotations: list[Annotation]


class Build(NamedTuple):
    path: Path
    dataset: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return str(self.dataset["name"])

    @property
    def slug(self) -> str:
        return str(self.dataset["slug"])


class Near(NamedTuple):
    """Two images of one frame. candidate, alignment: how `a` lies on `b`."""

    a: Image
    b: Image
    candidate: Candidate
    alignment: Alignment


class Conflict(NamedTuple):
    """Two images of one frame that are labelled differently. what: mask or class. said: in words."""

    a: Image
    b: Image
    what: str
    said: str


class Fault(NamedTuple):
    """kind: empty, speck, whole or outside. value: pixels, or a share."""

    image: Image
    label: str
    kind: str
    value: float


@dataclass(frozen=True)
class Audit:
    """What was found. exact: sets of equal pictures. near: pairs of pictures, the first of a set standing for all.

    corpora: name → image id → split, of those on disk that hold several of these builds as they are. Samples that were
    dropped have no picture and are not here.
    """

    builds: list[Build]
    images: list[Image]
    exact: list[list[Image]]
    near: list[Near]
    conflicts: list[Conflict]
    faults: list[Fault]
    marks: list[tuple[Image, str, float]]
    corpora: dict[str, dict[int, str]]

    @cached_property
    def families(self) -> list[list[Image]]:
        """Twins of twins put together, largest first."""
        parent: dict[int, int] = {}

        def root(number: int) -> int:
            parent.setdefault(number, number)
            while parent[number] != number:
                parent[number] = parent[parent[number]]
                number = parent[number]
            return number

        by_id: dict[int, Image] = {}
        pairs = [pair for same in self.exact for pair in pairwise(same)] + [(each.a, each.b) for each in self.near]
        for a, b in pairs:
            by_id |= {a.id: a, b.id: b}
            low, high = sorted((root(a.id), root(b.id)))
            parent[high] = low
        found: dict[int, list[Image]] = defaultdict(list)
        for number, image in by_id.items():
            found[root(number)].append(image)
        ordered = [sorted(family, key=lambda i: (i.build, i.key)) for family in found.values()]
        return sorted(ordered, key=lambda family: (-len(family), family[0].build, family[0].key))

    @cached_property
    def _in_sources(self) -> list[list[Image]]:
        """The part of every family that lies in one source."""
        parts = []
        for family in self.families:
            for number in sorted({image.build for image in family}):
                parts.append([image for image in family if image.build == number])
        return parts

    @cached_property
    def leaks(self) -> list[list[Image]]:
        """Twins inside a source that lie in more than one of train, val and test of our split."""
        return [family for family in self._in_sources if _crosses(image.split for image in family)]

    @cached_property
    def official_leaks(self) -> list[list[Image]]:
        """Twins inside a source that lie in more than one of its published sets."""
        return [family for family in self._in_sources if _crosses(image.official for image in family)]

    @cached_property
    def across(self) -> list[list[Image]]:
        """Families of more than one source."""
        return [family for family in self.families if len({image.build for image in family}) > 1]

    @cached_property
    def across_leaks(self) -> list[list[Image]]:
        """Twins in several sources that cross the splits of a corpus on disk.

        Where no corpus holds them, their builds' own splits count, as they would be trained on together.
        """

        def leaks(family: list[Image]) -> bool:
            held = [[split[i.id] for i in family if i.id in split] for split in self.corpora.values()]
            held = [splits for splits in held if len(splits) > 1] or [[image.split for image in family]]
            return any(map(_crosses, held))

        return [family for family in self.across if leaks(family)]

    @cached_property
    def group_leaks(self) -> list[tuple[Build, str, tuple[str, ...]]]:
        """(build, group, splits) of groups that lie in more than one split."""
        return [(build, *each) for build in self.builds for each in prove(build.rows).shared_groups.items()]

    @property
    def left(self) -> int:
        """How many leaks remain."""
        return len(self.leaks) + len(self.across_leaks) + len(self.group_leaks)

    def links(self) -> list[Link]:
        """What builds and corpora take in: near twins across sources as they were verified, families inside each.

        A family is linked as a chain, as it may hold together by pictures of another source. Equal pictures need no
        link; builds and corpora find them by themselves.
        """
        pairs = [(each.a, each.b) for each in self.near if each.a.build != each.b.build]
        pairs += [pair for part in self._in_sources for pair in pairwise(part)]
        return sorted({Link(self.frame(a), self.frame(b)) for a, b in pairs if a.picture != b.picture})

    def frame(self, image: Image) -> Frame:
        return Frame(self.builds[image.build].slug, image.key, image.picture)


def _crosses(splits: Iterable[str | None]) -> bool:
    return len(set(splits) & set(_PARTS)) > 1


def audit(builds: Iterable[Path], home: Path, *, jobs: int = 1, progress: Progress | None = None) -> Audit:
    """Audit builds together. home: where corpora of them may lie. jobs: threads.

    Raises BuildError for a folder that is none, UnreadableFile for a picture that was spoilt (`us43d check` says more).
    """
    step = progress or (lambda what, done, total: None)
    opened = [_open(path) for path in builds]
    images = [image for number, build in enumerate(opened) for image in _images(number, build)]
    exact: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        exact[image.picture].append(image)
    with _one_thread_each(), ThreadPoolExecutor(jobs) as pool:
        looks = list(_mapped(pool, lambda i: look(i.file, i.annotations), images, "looking", step))
        seen = {image.picture: n for n, image in reversed(list(enumerate(images)))}
        chosen = sorted(seen.values())
        near = _near([images[n] for n in chosen], [looks[n].prints for n in chosen], pool, step)
    same = [each for each in exact.values() if len(each) > 1]
    marks = [(image, *mark) for image, each in zip(images, looks, strict=True) for mark in each.marks.items()]
    conflicts, faults = list(_conflicts(same, near)), list(_faults(images, looks))
    return Audit(opened, images, same, near, conflicts, faults, marks, _corpora(opened, home))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """OpenCV's own threads would fight with ours over the processors."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


# ------------------------------------------------------------------------------------------------------------- reading


def _open(path: Path) -> Build:
    try:
        dataset = json.loads((path / "dataset.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{path} is no build: {error}.", next="us43d build --all") from error
    return Build(path, dataset, shards.read_manifest(path / shards.MANIFEST))


def _images(number: int, build: Build) -> Iterator[Image]:
    annotations: dict[int, list[Annotation]] = defaultdict(list)
    for shard in sorted((build.path / "annotations").glob("*.json")):
        for each in json.loads(shard.read_bytes())["annotations"]:
            own = each["us43d"]
            annotations[each["image_id"]].append(
                Annotation(
                    own["label"], each["category_id"], own["diagnosis"], each["area"], tuple(each["bbox"]),
                    each["segmentation"]["counts"], own["speck"],
                )
            )  # fmt: skip
    for row in build.rows:
        if row["split"] is not None:
            yield Image(
                number, row["id"], row["key"], build.path / row["file"], (row["height"], row["width"]),
                row["pixel_hash"], row["phash"], row["group"], row["split"], row["official_split"],
                json.loads(row["tags"]), annotations[row["id"]],
            )  # fmt: skip


def _corpora(builds: Sequence[Build], home: Path) -> dict[str, dict[int, str]]:
    """The corpora on disk that hold several of these builds as they are now: name → image id → split."""
    digests = {build.slug: build.dataset["digest"] for build in builds}
    found = {}
    for path in sorted((home / "corpora").glob("*/corpus.json")):
        corpus = Corpus.open(path.parent, home)
        held = [n for n, each in enumerate(corpus.sources) if digests.get(each["slug"]) == each["digest"]]
        if len(held) > 1:
            rows = corpus.images[np.isin(corpus.images["source"], held)]
            splits = (SPLITS[number] for number in rows["split"])
            found[path.parent.name] = dict(zip(rows["id"].tolist(), splits, strict=True))
    return found


def _mapped(
    pool: ThreadPoolExecutor, work: Callable[[Any], Any], items: Sequence[Any], what: str, step: Progress
) -> Iterator[Any]:
    """In order, a bounded number ahead."""
    source = iter(items)
    waiting = [pool.submit(work, item) for item in islice(source, 64)]
    done = 0
    while waiting:
        now, waiting = waiting[:32], waiting[32:]
        for future in now:
            yield future.result()
        waiting += [pool.submit(work, item) for item in islice(source, len(now))]
        done += len(now)
        step(what, done, len(items))


# --------------------------------------------------------------------------------------------------------------- twins


def _near(images: list[Image], prints: list[Prints], pool: ThreadPoolExecutor, step: Progress) -> list[Near]:
    numbers: dict[tuple[int, str], int] = {}
    group = np.array([numbers.setdefault((i.build, i.group), len(numbers)) for i in images], np.int64)
    whole = np.array([image.whole for image in images], np.uint64)
    step("comparing hashes", 0, None)
    proposed: dict[tuple[int, int], list[Candidate]] = defaultdict(list)
    for each in candidates(prints, whole, group, pool.map):
        proposed[each.a, each.b].append(each)
    pictures: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def opened(number: int) -> NDArray[np.uint8]:
        found = pictures.get(number)
        if found is None:
            found = grey(picture(images[number].file))
            found = reduced(found, DETAIL) if max(found.shape) > DETAIL else found
            pictures[number] = found
            while len(pictures) > 1024:
                pictures.popitem(last=False)
        return found

    def verified(pair: list[Candidate]) -> Near | None:
        for each in pair:
            seen = glance(prints[each.a].thumb, prints[each.b].thumb, each)
            if seen is not None:
                found = align(opened(seen.a), opened(seen.b), seen)
                if found.same:
                    return Near(images[seen.a], images[seen.b], seen, found)
        return None

    return [each for each in _mapped(pool, verified, list(proposed.values()), "verifying", step) if each]


def _conflicts(exact: list[list[Image]], near: list[Near]) -> Iterator[Conflict]:
    for same in exact:
        for a, b in pairwise(same):
            yield from _compared(a, b, 0, np.eye(2, 3))
    for each in near:
        yield from _compared(each.a, each.b, each.candidate.turn, each.alignment.place)


def _compared(a: Image, b: Image, turn: int, place: NDArray[np.float64]) -> Iterator[Conflict]:
    """How the labels of two images of one frame contradict each other; of different sources, on shared structures."""
    if a.build == b.build:
        labels = [", ".join(sorted({each.label for each in image.annotations})) for image in (a, b)]
        tags = [(a.tags[tag], b.tags[tag]) for tag in _CLASSES if tag in a.tags and tag in b.tags]
        words = [labels] * all(labels) + tags
        if differ := [f"{one} and {other}" for one, other in words if one != other]:
            yield Conflict(a, b, "class", "; ".join(dict.fromkeys(differ)))
    structures = {each.category for each in a.annotations}, {each.category for each in b.annotations}
    shared = structures[0] | structures[1] if a.build == b.build else structures[0] & structures[1]
    if not shared:
        return
    one, other = (_union(image, shared) for image in (a, b))
    matrix = pixels(place, DETAIL)
    moved = cv2.warpAffine(turned(one, turn), matrix, other.shape[::-1], flags=cv2.INTER_NEAREST) > 0
    overlap = int((moved & (other > 0)).sum()) / max(1, int((moved | (other > 0)).sum()))
    if overlap < _AGREE:
        yield Conflict(a, b, "mask", f"the masks overlap by {overlap:.2f} (IoU)")


def _union(image: Image, categories: set[int]) -> NDArray[np.uint8]:
    """The masks of some categories as 0 or 1, the longer side DETAIL pixels."""
    mask = np.zeros(image.size, np.uint8)
    for each in image.annotations:
        if each.category in categories:
            mask |= rle.decode(each.counts.encode("ascii"), *image.size)
    scale = DETAIL / max(image.size)
    size = max(8, round(image.size[1] * scale)), max(8, round(image.size[0] * scale))
    return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _faults(images: list[Image], looks: list[Look]) -> Iterator[Fault]:
    for image, seen in zip(images, looks, strict=True):
        pixels_ = image.size[0] * image.size[1]
        if not image.annotations:
            yield Fault(image, "", "empty", 0)
        for each in image.annotations:
            if each.speck:
                yield Fault(image, each.label, "speck", each.area)
            elif each.area >= _WHOLE * pixels_:
                yield Fault(image, each.label, "whole", each.area / pixels_)
        yield from (Fault(image, label, "outside", share) for label, share in seen.outside)


def counted(found: Audit) -> list[dict[str, Any]]:
    """One row per source: how often each thing was found in it."""
    near = Counter(n.a.build for n in found.near if n.a.build == n.b.build)
    exact = Counter(build for same in found.exact for build, n in Counter(i.build for i in same).items() if n > 1)
    across = Counter(build for family in found.across for build in {i.build for i in family})
    leaks, official = (Counter(f[0].build for f in each) for each in (found.leaks, found.official_leaks))
    groups = Counter(build.slug for build, _, _ in found.group_leaks)
    conflicts = Counter(build for c in found.conflicts for build in {c.a.build, c.b.build})
    faults = Counter((fault.image.build, fault.kind) for fault in found.faults)
    marked = Counter(number for number, _ in {(image.build, image.id) for image, _, _ in found.marks})
    return [
        {
            "name": build.name, "slug": build.slug, "version": build.path.name, "digest": build.dataset["digest"],
            "images": sum(row["split"] is not None for row in build.rows), "exact": exact[n], "near": near[n],
            "across": across[n], "leaks": leaks[n] + groups[build.slug], "official_leaks": official[n],
            "conflicts": conflicts[n], **{kind: faults[n, kind] for kind in ("outside", "empty", "speck", "whole")},
            "marks": marked[n],
        }
        for n, build in enumerate(found.builds)
    ]  # fmt: skip
