"""What an audit found: duplicates, leaks between splits, contradicting labels, suspicious masks."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from us43d.audit.align import Alignment
from us43d.audit.image_checks import Annotation
from us43d.harmonize.built import Build
from us43d.splits.duplicate_links import Frame, Link, picture_digest
from us43d.splits.proof import crosses, prove
from us43d.unions import Unions

__all__ = ["COLUMNS", "MIRRORINGS", "Build", "Conflict", "Fault", "Findings", "Image", "Near", "summarize"]

#: How the first image of a pair is mirrored, by number.
MIRRORINGS = ("none", "left-right", "top-bottom", "both")

#: Columns of the table of sources: key of `summarize` → heading.
COLUMNS = {
    "name": "source", "images": "images", "exact": "exact sets", "near": "near pairs", "across": "with others",
    "leaks": "leaks", "official_leaks": "official leaks", "conflicts": "conflicts", "outside": "outside view",
    "empty": "no mask", "speck": "specks", "whole": "whole image",
}  # fmt: skip


class Image(NamedTuple):
    """One image of a build.

    Attributes:
        build: Position of its build among the builds.
        id: COCO id.
        key: Key in the source.
        file: Path.
        size: (height, width), pixels.
        picture: Pixel hash.
        whole: Perceptual hash.
        group: Group that must not cross splits.
        split: Our split.
        official: The published split.
        tags: What the source says of the image.
        annotations: Its annotations.
    """

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


class Near(NamedTuple):
    """Two images of one frame. mirroring: how `a` is mirrored first. alignment: how it then lies on `b`."""

    a: Image
    b: Image
    mirroring: int
    alignment: Alignment


class Conflict(NamedTuple):
    """Two images of one frame with different labels. kind: mask or class. detail: one sentence."""

    a: Image
    b: Image
    kind: str
    detail: str


class Fault(NamedTuple):
    """A suspicious mask. kind: empty, speck, whole or outside. value: pixels, or a share of the image or the mask."""

    image: Image
    label: str
    kind: str
    value: float


@dataclass(frozen=True)
class Findings:
    """Everything an audit found.

    Attributes:
        builds: The audited builds.
        images: Their images; samples that were excluded from the build have none.
        exact: Sets of equal images. The first image of each set represents all in the search for near-duplicates.
        near: Pairs of near-duplicates.
        conflicts: Contradicting labels.
        faults: Suspicious masks.
        corpora: Name → image id → split, of corpora on disk that hold several of these builds as they are.
        alignments: How often the refinement of an alignment converged ("refined") and did not ("not_converged").
    """

    builds: list[Build]
    images: list[Image]
    exact: list[list[Image]]
    near: list[Near]
    conflicts: list[Conflict]
    faults: list[Fault]
    corpora: dict[str, dict[int, str]]
    alignments: dict[str, int]

    @cached_property
    def families(self) -> list[list[Image]]:
        """Connected components of exact and near-duplicates, largest first."""
        by_id: dict[int, Image] = {}
        unions = Unions[int]()
        for same in [*self.exact, *((pair.a, pair.b) for pair in self.near)]:
            by_id |= {image.id: image for image in same}
            unions.unite(image.id for image in same)
        members: dict[int, list[Image]] = defaultdict(list)
        for number, image in by_id.items():
            members[unions.root(number)].append(image)
        ordered = [sorted(family, key=lambda i: (i.build, i.key)) for family in members.values()]
        return sorted(ordered, key=lambda family: (-len(family), family[0].build, family[0].key))

    @cached_property
    def _in_sources(self) -> list[list[Image]]:
        """The members of each family that lie in one source."""
        return [
            [image for image in family if image.build == number]
            for family in self.families
            for number in sorted({image.build for image in family})
        ]

    @cached_property
    def leaks(self) -> list[list[Image]]:
        """Duplicates inside a source that lie in more than one of train, val and test of our split."""
        return [family for family in self._in_sources if crosses(image.split for image in family)]

    @cached_property
    def official_leaks(self) -> list[list[Image]]:
        """Duplicates inside a source that lie in more than one of its published sets."""
        return [family for family in self._in_sources if crosses(image.official for image in family)]

    @cached_property
    def across(self) -> list[list[Image]]:
        """Families of more than one source."""
        return [family for family in self.families if len({image.build for image in family}) > 1]

    @cached_property
    def across_leaks(self) -> list[list[Image]]:
        """Duplicates in several sources that cross the splits of a corpus on disk.

        Where no corpus holds them, their builds' own splits count, as if they were trained on together.
        """

        def leaks(family: list[Image]) -> bool:
            sides = [[split[i.id] for i in family if i.id in split] for split in self.corpora.values()]
            sides = [splits for splits in sides if len(splits) > 1] or [[image.split for image in family]]
            return any(map(crosses, sides))

        return [family for family in self.across if leaks(family)]

    @cached_property
    def group_leaks(self) -> list[tuple[Build, str, tuple[str, ...]]]:
        """(build, group, splits) of groups that lie in more than one split."""
        return [(build, *shared) for build in self.builds for shared in prove(build.rows).shared_groups.items()]

    @property
    def remaining_leaks(self) -> int:
        """Number of families and groups that cross splits."""
        return len(self.leaks) + len(self.across_leaks) + len(self.group_leaks)

    def links(self) -> list[Link]:
        """List what builds and corpora apply: verified pairs across sources, families inside each source.

        A family is linked as a chain, as images of another source may hold it together. Equal images need no link:
        builds and corpora recognise them by their pixel hashes.
        """
        pairs = [(pair.a, pair.b) for pair in self.near if pair.a.build != pair.b.build]
        pairs += [pair for members in self._in_sources for pair in pairwise(members)]
        return sorted({Link(self.frame(a), self.frame(b)) for a, b in pairs if a.picture != b.picture})

    def audited(self) -> dict[str, str]:
        """Map each audited source's slug to the digest of the images that were compared."""
        return {
            build.slug: picture_digest(image.picture for image in self.images if image.build == number)
            for number, build in enumerate(self.builds)
        }

    def frame(self, image: Image) -> Frame:
        """Return how links name an image."""
        return Frame(self.builds[image.build].slug, image.key, image.picture)


def summarize(findings: Findings) -> list[dict[str, Any]]:
    """Count the findings of each source, one row per source."""
    near = Counter(pair.a.build for pair in findings.near if pair.a.build == pair.b.build)
    exact = Counter(
        build for same in findings.exact for build, n in Counter(image.build for image in same).items() if n > 1
    )
    across = Counter(build for family in findings.across for build in {image.build for image in family})
    leaks, official = (
        Counter(family[0].build for family in families) for families in (findings.leaks, findings.official_leaks)
    )
    groups = Counter(build.slug for build, _, _ in findings.group_leaks)
    conflicts = Counter(build for c in findings.conflicts for build in {c.a.build, c.b.build})
    faults = Counter((fault.image.build, fault.kind) for fault in findings.faults)
    return [
        {
            "name": build.name, "slug": build.slug, "version": build.path.name, "digest": build.digest,
            "images": sum(row["split"] is not None for row in build.rows), "exact": exact[n], "near": near[n],
            "across": across[n], "leaks": leaks[n] + groups[build.slug], "official_leaks": official[n],
            "conflicts": conflicts[n], **{kind: faults[n, kind] for kind in ("outside", "empty", "speck", "whole")},
        }
        for n, build in enumerate(findings.builds)
    ]  # fmt: skip
