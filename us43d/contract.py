"""What a recipe is: facts in frozen pydantic models, and one reader that yields samples.

Facts are written in recipes/facts/<slug>.toml and read by `us43d.facts`; these models are their schema. A recipe never
downloads, writes, resizes, encodes, assigns ids or splits by chance: it says what the archive holds. Importing this
module must stay cheap (no numpy, no OpenCV): `us43d list` needs it.
"""

import datetime
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from us43d.errors import ASTRAY, RawDataError
from us43d.licences import LICENCES, Terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from us43d.rawtree import RawTree

    Array: TypeAlias = NDArray[np.generic]

__all__ = [
    "APART", "Access", "Citation", "Collection", "CountName", "Expect", "Facts", "Fix", "GroupKind", "Image", "Kind",
    "Lazy", "Licence", "Mask", "PaperProfile", "Polygon", "Profile", "Published", "RawFile", "RawTree", "Reader",
    "Recipe", "Remarked", "Route", "RouteKind", "Sample", "Shared", "Split", "Stated", "lazy", "paths_in",
]  # fmt: skip

Url: TypeAlias = Annotated[str, Field(pattern=r"^https?://\S+$")]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Level: TypeAlias = Annotated[int, Field(ge=0, le=255)]
Word: TypeAlias = Annotated[str, Field(pattern=r"^[^\W\d_]+$")]
Slug: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]

Access: TypeAlias = Literal["open", "login", "agreement", "request", "unavailable", "unknown", "private"]
Split: TypeAlias = Literal["train", "val", "test"]
Profile: TypeAlias = Literal["us43d", "paper"]
RouteKind: TypeAlias = Literal[
    "http", "zenodo", "mendeley", "kaggle", "kaggle_competition", "github", "gdrive", "onedrive", "figshare", "girder",
    "dataverse", "grand_challenge", "tcia", "stanford_aimi", "osf", "synapse", "torrent", "manual",
]  # fmt: skip
#: The unit that must not cross splits, from the safest down.
GroupKind: TypeAlias = Literal["patient", "exam", "study", "video", "volume", "cluster", "image"]


#: Scanned object, and origin of the masks. human: scans of people with masks drawn for them. phantom: gel or
#: water tanks. animal: living or dead animals. synthetic: images made by a model or a simulation. derived: scans of
#: people whose masks, or whose images, follow from other data (a curve that is closed, raw signals).
Kind: TypeAlias = Literal["human", "phantom", "animal", "synthetic", "derived"]
#: us43d: a row of the US-43d table. beyond: any other published source. sonocorpus: one of the 53 sets of SonoCorpus.
#: private: a folder of the user's own, imported into one home (`us43d.private`); never published, never counted so.
Collection: TypeAlias = Literal["us43d", "beyond", "sonocorpus", "private"]
#: Kinds that are listed apart from human scans, and are in a corpus only if asked for.
APART: frozenset[Kind] = frozenset({"animal", "synthetic", "derived"})
#: Counted items of a source.
CountName: TypeAlias = Literal["images", "annotated", "masks", "groups"]


def __getattr__(name: str) -> Any:
    if name == "RawTree":  # late: readers need it, listing does not
        from us43d.rawtree import RawTree

        return RawTree
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


# ------------------------------------------------------------------------------------------------ where it comes from


class RawFile(_Frozen):
    """One file to download, by the name it is stored under in downloads/<Name>/.

    url: its own address; None where the route's host resolver finds it by name.
    size: bytes. An unpublished size or digest is None and is recorded at the first download.
    generated: the server builds the file on the fly, so only the digest of its content is stable.
    unpack: an archive that is unpacked into the raw tree; False for a file that is placed there as it is.
    into: folder of the raw tree it goes to ("" for the top).
    """

    name: str
    url: Url | None = None
    size: int | None = Field(default=None, gt=0)
    md5: Md5 | None = None
    sha256: Sha256 | None = None
    generated: bool = False
    unpack: bool = True
    into: str = ""

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not name or "/" in name or "\\" in name or name in {".", ".."}:
            raise ValueError(f"{name!r} is not a plain file name")
        return name


class Route(_Frozen):
    """One way to get the whole source. Routes are tried in the order of `Recipe.routes`.

    record: what the host calls it (Zenodo record, Kaggle owner/slug, GitHub owner/repo@commit, Girder id, …).
    url: the page a person would open for this route.
    mirror: a third party's copy, used only when the routes before it failed.
    """

    kind: RouteKind
    url: Url | None = None
    record: str | None = None
    files: tuple[RawFile, ...] = ()
    mirror: bool = False
    note: str = ""


class Licence(_Frozen):
    """The data's licence. The fields left None are those of the table in `us43d.licences`."""

    id: str
    evidence: str
    url: Url | None = None
    name: str | None = None
    commercial: bool | None = None
    redistribute: bool | None = None
    derivatives: bool | None = None
    share_alike: bool | None = None
    attribution: bool | None = None

    @field_validator("id")
    @classmethod
    def _known(cls, id: str) -> str:
        if id not in LICENCES:
            raise ValueError(f"{id!r} is not a known licence id; known: {', '.join(LICENCES)}")
        return id

    @property
    def terms(self) -> Terms:
        """The table's terms, with what this source states itself laid over them."""
        table = LICENCES[self.id]

        def over(own: bool | None, known: bool | None) -> bool | None:
            return known if own is None else own

        return Terms(
            id=self.id,
            title=self.name or table.title,
            url=self.url or table.url,
            commercial=over(self.commercial, table.commercial),
            redistribute=over(self.redistribute, table.redistribute),
            derivatives=over(self.derivatives, table.derivatives),
            share_alike=over(self.share_alike, table.share_alike),
            attribution=over(self.attribution, table.attribution),
        )


class Citation(_Frozen):
    title: str
    bibtex: str
    venue: str | None = None
    year: int | None = None
    doi: str | None = None


# ------------------------------------------------------------------------------------------------- what must be in it


class Expect(_Frozen):
    """Published counts that a build must reach. None: not published.

    images: samples the reader yields, dropped ones included. annotated: images with at least one annotation.
    masks: non-empty masks read, before components are separated. tags: "name=value" → samples that carry it.
    fuller: name of a count → that of a more complete copy in circulation, which is as right as the count itself.
    evidence: name of a count → why it is this number, where it differs from the one published.
    """

    images: int | None = None
    annotated: int | None = None
    masks: int | None = None
    groups: int | None = None
    tags: Mapping[str, int] = Field(default_factory=dict)
    fuller: Mapping[CountName, int] = Field(default_factory=dict)
    evidence: Mapping[CountName | Literal["tags"], str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _more(self) -> Self:
        for what, count in self.fuller.items():
            published = getattr(self, what)
            if published is None or count <= published or what not in self.evidence:
                raise ValueError(f"fuller.{what} needs a lower count {what} and its evidence")
        return self


class Stated(_Frozen):
    """A number published about a source. estimate: the number is rounded, summed or inferred by `source`."""

    value: int = Field(gt=0)
    source: str = Field(min_length=1)
    estimate: bool = False


class Published(_Frozen):
    """What others state of a source and no build can check: counts of the whole dataset, bytes to download.

    images: every image or frame that is distributed, annotated or not. annotated: images with at least one mask.
    """

    images: Stated | None = None
    annotated: Stated | None = None
    masks: Stated | None = None
    groups: Stated | None = None
    bytes: Stated | None = None


class Shared(_Frozen):
    """Patients or frames that this source has in common with another; a corpus keeps them in one split.

    certain: False where it is only likely. group, to: which groups are the same, as a regular expression for the whole
    name of a group here, and the name of the other source's group as its template: "case (\\d+)" and "patient\\1".
    groups: the same as a table, from names here to names there. Without either the groups are not known by name, and
    only equal and near-duplicate images are found.
    """

    source: Slug
    what: Literal["patients", "frames"]
    evidence: str = Field(min_length=1)
    certain: bool = True
    group: str | None = None
    to: str | None = None
    groups: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rule(self) -> Self:
        if self.group is not None and self.groups:
            raise ValueError("groups are named by a rule (group and to) or by a table (groups), not by both")
        if (self.group is None) != (self.to is None):
            raise ValueError("group and to are given together or not at all")
        try:
            re.sub(self.group or "", self.to or "", "")
        except (re.error, IndexError) as error:
            raise ValueError(f"group and to are not a regular expression and its template: {error}") from error
        return self


class Fix(_Frozen):
    """A correction of one published sample, kept apart from reading and switched off by `--no-fixes`."""

    key: str
    reason: str
    drop: bool = False
    tags: Mapping[str, str | int | float | bool] = Field(default_factory=dict)


class PaperProfile(_Frozen):
    """How the published US-43d conversion differs, for `--profile paper`.

    skip_empty: images without annotation are dropped. labels: source label → the paper's label (labels sent to one
    name are merged before components are separated); labels not named stay. omit: source labels that are excluded.
    """

    note: str
    skip_empty: bool = False
    labels: Mapping[str, str] = Field(default_factory=dict)
    omit: tuple[str, ...] = ()

    @property
    def renamed(self) -> dict[str, str | None]:
        """Source label → the paper's label, None for an excluded label."""
        return {**self.labels, **dict.fromkeys(self.omit)}


# ------------------------------------------------------------------------------------------------------ what is in it


class Remarked(NamedTuple):
    """An array together with what a person should know about how it was read."""

    array: "Array"
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lazy:
    """An array read later, in a worker: `func(*args)`, where an argument may itself be Lazy.

    `func` must be a module-level function, arguments hashable and picklable. It returns an array or `Remarked`.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]

    def read(self, memo: dict["Lazy", Any], remarks: list[str]) -> Any:
        """Return the array. Nodes already in `memo` are not read twice; what the functions remark is appended."""
        if self not in memo:
            args = [arg.read(memo, remarks) if isinstance(arg, Lazy) else arg for arg in self.args]
            value = self.func(*args)
            if isinstance(value, Remarked):
                remarks.extend(value.remarks)
                value = value.array
            memo[self] = value
        return memo[self]


def lazy(func: Callable[..., Any], *args: Any) -> Lazy:
    """Defer a call: `lazy(masks.equal, lazy(masks.labels, path), 2)`: read later, only where it is needed."""
    return Lazy(func, args)


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled outline. points: ((x, y), …) in pixels of the image, x to the right, y down; closed by itself.

    rule "touch" fills every pixel the outline passes through (OpenCV's, LabelMe's); "inside" fills the pixels whose
    integer coordinates lie inside or on it (scikit-image's, which misses some on slanted edges by rounding).
    """

    points: tuple[tuple[float, float], ...]
    rule: Literal["touch", "inside"] = "touch"


Image: TypeAlias = "Path | Lazy | Array"
Mask: TypeAlias = "Lazy | Polygon | Array"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image with its annotations, before harmonizing.

    key: stable and unique in the source (relative path, or video and frame).
    image: a file, or an array read later: (height, width) or (height, width, 3) RGB, uint8 or uint16.
    masks: source label → mask(s) of the image's size, non-zero inside; every connected component of every mask becomes
        an annotation. Several masks of a label stay apart.
    instances: source label → masks that are one annotation each, however many pieces they have.
    group: the unit that must not cross splits, of the kind the recipe names. None: the key itself. "" is an error.
    split: the official split, where there is one.
    frame: index in its video or volume, from 0.
    spacing_mm: (x, y) size of a pixel. slice_mm: distance to the next frame of a volume; None where it is not one.
    tags: diagnosis, view, sex, device …: whatever the source says of the image.
    fit: the rule that lets masks differ in size from the image: "nearest" resizes them to it. None: that is an error.
    drop: the reason to exclude the sample; the sample keeps its row in the manifest.
    remarks: oddities the reader met and handled.
    """

    key: str
    image: "Image"
    masks: "Mapping[str, Mask | Sequence[Mask]]" = field(default_factory=dict)
    instances: "Mapping[str, Sequence[Mask]]" = field(default_factory=dict)
    group: str | None = None
    split: Split | None = None
    frame: int | None = None
    spacing_mm: tuple[float, float] | None = None
    slice_mm: float | None = None
    tags: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    fit: Literal["nearest"] | None = None
    drop: str | None = None
    remarks: tuple[str, ...] = ()


def paths_in(sample: Sample) -> Iterator[Path]:
    """Yield every raw file a sample refers to, once."""

    def walk(node: object) -> Iterator[Path]:
        if isinstance(node, Path):
            yield node
        elif isinstance(node, Lazy):
            for arg in node.args:
                yield from walk(arg)
        elif isinstance(node, Mapping):
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list | tuple):
            for value in node:
                yield from walk(value)

    yield from dict.fromkeys(walk((sample.image, sample.masks, sample.instances)))


# ----------------------------------------------------------------------------------------------- facts and the recipe


class Facts(_Frozen):
    """Published metadata of one source: the schema of recipes/facts/<slug>.toml.

    name: folder name and what the user types. row: its name in the US-43d table (None for sources beyond it).
    same_as: another source that is the same archive; facts that are not given here are that source's.
    external_tier: kept for comparing models; never trained on unless asked for.
    homepage, citations: of every published source; a private one has neither.
    revision: raised when the meaning of the output changes; `changes` says how, per revision.
    labels: every label the reader may yield → the structure of the taxonomy it means. diagnoses: label → what it says
        of the structure beyond that (benign, malignant, a tumour type); "tag:NAME": what that tag of the image says.
        colours: label → RGB colour of its pixels, where masks are painted.
    ignore: pattern of raw files that are not read (fnmatch on the path, case-insensitive) → why.
    spelling, letters: how names of files and folders are published, so that keys do not follow the case that a disk or
        an archiver gave them. spelling: words (runs of letters); letters: the case of all other letters, "lower" also
        where the names were not published; None: as they are on disk.
    nested: patterns of archives inside the archives, unpacked where they lie; with "/" at the end of the pattern, each
        into a folder of the archive's name.
    group_rule, official_split: one sentence each, for people. sources, confidence: where the facts were read.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    slug: Slug
    same_as: Slug | None = None
    row: str | None = None
    aliases: tuple[str, ...] = ()
    title: str
    organ: str
    application: str
    media: Literal["image2d", "video", "volume3d", "hdf5", "npy"]
    kind: Kind
    collections: tuple[Collection, ...] = Field(min_length=1)
    external_tier: bool = False
    homepage: Url | None = None
    doi: str | None = None
    citations: tuple[Citation, ...] = ()
    access: Access
    access_checked: datetime.date
    access_note: str = ""
    group_kind: GroupKind
    group_rule: str
    official_split: str | None = None
    revision: int = Field(default=1, ge=1)
    spelling: tuple[Word, ...] = ()
    letters: Literal["lower", "upper"] | None = None
    nested: tuple[str, ...] = ()
    known_issues: tuple[str, ...] = ()
    sources: tuple[str, ...] = Field(min_length=1)
    confidence: str
    licence: Licence
    labels: Mapping[str, Slug]
    diagnoses: Mapping[str, str] = Field(default_factory=dict)
    colours: Mapping[str, tuple[Level, Level, Level]] = Field(default_factory=dict)
    expect: Expect = Expect()
    published: Published = Published()
    ignore: Mapping[str, str] = Field(default_factory=dict)
    paper: PaperProfile
    changes: Mapping[int, str] = Field(default_factory=dict)
    shares_with: tuple[Shared, ...] = ()
    fixes: tuple[Fix, ...] = ()
    routes: tuple[Route, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.access in {"open", "login"} and not any(route.files or route.record for route in self.routes):
            raise ValueError(f"access is {self.access}, but no route says where the files are")
        if unknown := {label for label in self.paper.renamed if label not in self.labels}:
            raise ValueError(f"the paper profile names labels that are not in `labels`: {sorted(unknown)}")
        if unknown := set(self.diagnoses) - set(self.labels):
            raise ValueError(f"diagnoses are given for labels that are not in `labels`: {sorted(unknown)}")
        if unknown := set(self.colours) - set(self.labels):
            raise ValueError(f"colours are given for labels that are not in `labels`: {sorted(unknown)}")
        if missing := {n for n in range(2, self.revision + 1) if n not in self.changes}:
            raise ValueError(f"revisions {sorted(missing)} have no entry in `changes`")
        if ("us43d" in self.collections) != (self.row is not None):
            raise ValueError("a source is in the collection us43d if and only if it has a `row` of its table")
        if sum(name in self.collections for name in ("us43d", "beyond", "private")) != 1:
            raise ValueError("a source is in exactly one of the collections us43d, beyond and private")
        if self.private != (self.access == "private"):
            raise ValueError("access is private if and only if the collection is")
        if not self.private and not (self.homepage and self.citations):
            raise ValueError("a published source has a homepage and citations")
        return self

    @property
    def private(self) -> bool:
        """Whether this is a folder of the user's own that was imported into a home."""
        return "private" in self.collections

    @property
    def again(self) -> str:
        """The command that gets the raw files again."""
        return f"us43d import FOLDER --name {self.name} --force" if self.private else f"us43d fetch {self.name} --force"

    def again_as(self, kind: str) -> str:
        """The command that gets the raw files again as a receipt says (its `kind`)."""
        ways = {"specimen": " --specimen", "given": " --from FOLDER"}
        return f"us43d fetch {self.name}{ways[kind]} --force" if kind in ways else self.again

    def stated(self, what: CountName) -> Stated | None:
        """The published count: the one that a build must reach, else the one that others state; None if unknown."""
        count = getattr(self.expect, what)
        return getattr(self.published, what) if count is None else Stated(value=count, source=self.title)

    @property
    def ways(self) -> list[Route]:
        """The routes in the order they are tried: origins, then mirrors."""
        return sorted(self.routes, key=lambda route: route.mirror)

    @property
    def download(self) -> Stated | None:
        """Bytes of the first route: the sum of its files, else what is stated of the source; None if unknown."""
        if not self.routes:
            return None
        route = self.ways[0]
        sizes = [file.size for file in route.files]
        if sizes and None not in sizes:
            return Stated(value=sum(size for size in sizes if size), source=route.url or self.title)
        return None if route.mirror else self.published.bytes

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling the recipe answers to."""
        return tuple(dict.fromkeys((self.name, self.slug, *([self.row] if self.row else []), *self.aliases)))


if TYPE_CHECKING:
    Reader: TypeAlias = Callable[[RawTree], Iterator[Sample]]
else:
    Reader = Callable[..., Iterator[Sample]]  # RawTree is not imported; pydantic asks for a callable only


class Recipe(Facts):
    """One source: its facts, and how to read it. read_paper: another reader, for the paper profile."""

    read: Reader
    read_paper: Reader | None = None

    def reader(self, profile: Profile) -> Reader:
        return self.read_paper or self.read if profile == "paper" else self.read

    def samples(self, tree: "RawTree", profile: Profile = "us43d") -> Iterator[Sample]:
        """Yield the samples that the reader finds.

        Raises RawDataError, also where a name or a table of another form than the source's led the reader astray.
        """
        try:
            yield from self.reader(profile)(tree.spelled(self.spelling, self.letters))
        except ASTRAY as error:
            raise RawDataError(
                f"{self.name}: the reader failed on {tree.root} ({type(error).__name__}: {error})."
            ) from error
