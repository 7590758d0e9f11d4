"""Merging builds into one corpus (docs/format.md): streams the builds' COCO shards one at a time, in bounded memory.

Images that show what another source evaluates on are excluded, so that no duplicate crosses the splits of the corpus.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from us43d import atomic
from us43d.bibliography import ULTRASAM, bibtex
from us43d.contract import Citation
from us43d.errors import BuildError, listed
from us43d.facts import facts, slugs
from us43d.harmonize.built import Build
from us43d.harmonize.corpus import ANNOTATION, IMAGE, SLICES, SPECK, SPLITS, Corpus
from us43d.licences import CAVEAT, refuse_uncommercial, summary, terms_of
from us43d.splits import duplicate_links, known_duplicates

__all__ = ["excluded_by", "merge"]

#: What corpus.json keeps of a build's dataset.json.
_KEPT = (
    "name", "slug", "version", "digest", "organ", "licence", "citations", "profile", "partial", "specimen", "counts",
    "skipped", "kind", "external_tier", "private", "shares_with",
)  # fmt: skip
#: What builds of before these facts were recorded lack.
_BEFORE: Mapping[str, Any] = {"kind": "human", "external_tier": False, "shares_with": []}
_FILES = ("images.npy", "annotations.npy", "strings.bin", "rle.bin")

Row = Mapping[str, Any]


def merge(
    builds: Sequence[Path], home: Path, release: str, *, commercial: bool = False, folder: Path | None = None
) -> Corpus:
    """Merge builds into corpora/<release>, in the order of their slugs; replaces a corpus of that name.

    Near-duplicates that `us43d audit` found in `home` apply.

    Args:
        builds: Folders of builds below `home`.
        home: Root of the home.
        release: Name of the corpus.
        commercial: Refuse sources that are not known to permit commercial use.
        folder: Folder to write instead of corpora/<release>.

    Returns:
        The corpus, opened.

    Raises:
        BuildError: If a build is unreadable, two builds have one source, or ids collide.
        LicenceError: If `commercial` refuses a source.
        StorageError: If the disk is full or cannot be written.
    """
    final = folder or home / "corpora" / release
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    with atomic.storage_errors(final, "The corpus that was there, if any, is unchanged."):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            _write(temporary, builds, home, release, commercial)
            atomic.replace_dir(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Corpus.open(final, home)


def _write(folder: Path, builds: Sequence[Path], home: Path, release: str, commercial: bool) -> None:
    opened = sorted(map(Build, builds), key=lambda build: build.slug)
    datasets = [(_dataset(build), build) for build in opened]
    several = Counter(dataset["slug"] for dataset, _ in datasets)
    if twice := sorted(slug for slug, number in several.items() if number > 1):
        raise BuildError(f"A corpus takes one build of a source; several were given of {listed(twice)}.")
    if not datasets:
        raise BuildError("A corpus needs at least one build.", next="us43d build --all")
    licences = _licences([dataset for dataset, _ in datasets], commercial)
    names = {dataset["slug"]: dataset["name"] for dataset, _ in datasets}
    rules = {dataset["slug"]: dataset["shares_with"] for dataset, _ in datasets}
    excluded, across = _across({build.slug: build for build in opened}, names, home, rules)
    categories: list[dict[str, Any]] = []
    with ExitStack() as stack:
        tables = _Tables(folder, stack)
        for number, (dataset, build) in enumerate(datasets):
            out = excluded.get(dataset["slug"], frozenset())
            for shard in build.shards():
                content = shard.read()
                categories = content["categories"]
                tables.add(content, number, SPLITS.index(shard.split), out)
    facts = tables.finish()
    citations = (Citation(**citation) for dataset, _ in datasets for citation in dataset["citations"])
    facts |= {
        "release": release,
        "sources": [
            {name: dataset[name] for name in _KEPT if name in dataset}
            | {"path": build.path.relative_to(home).as_posix(), "aliases": _aliases(dataset["slug"])}
            for dataset, build in datasets
        ],
        "categories": categories,
        "across_sources": across,
        "licences": licences,
        "bibliography": f"{ULTRASAM}\n\n{bibtex(citations)}",
    }
    text = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False)
    atomic.write_bytes(folder / "corpus.json", text.encode())


def _dataset(build: Build) -> dict[str, Any]:
    return {**_BEFORE, **build.facts}


def _aliases(slug: str) -> list[str]:
    """Return the other names of a source; none for a source without a recipe."""
    return list(facts(slug).names[2:]) if slug in slugs() else []


def _licences(datasets: Sequence[dict[str, Any]], commercial: bool) -> dict[str, Any]:
    """Return the permitted uses of the corpus.

    Raises LicenceError if commercial use was requested and is not permitted.
    """
    terms = {dataset["name"]: terms_of(dataset["licence"]) for dataset in datasets}
    if commercial:
        refuse_uncommercial(terms, "us43d corpus {} --commercial")
    permitted = summary(terms)
    return {
        "commercial": commercial,
        "uses": {verdict.use: verdict._asdict() for verdict in permitted.verdicts},
        "attribution": permitted.attribution,
        "share_alike": permitted.share_alike,
        "by_licence": permitted.by_licence,
        "caveat": CAVEAT,
    }


# ------------------------------------------------------------------------------------------------------ across sources


def excluded_by(builds: Iterable[Path], home: Path) -> dict[str, int]:
    """Count the images that a corpus of builds would exclude, by slug of their source."""
    opened = {build.slug: build for build in map(Build, builds)}
    rows = {slug: build.columns(_COLUMNS) for slug, build in opened.items()}
    rules = {slug: _dataset(build)["shares_with"] for slug, build in opened.items()}
    return {
        slug: len(keys)
        for slug, keys in duplicate_links.across(rows, duplicate_links.read(home), rules).excluded.items()
    }


def _across(
    builds: Mapping[str, Build], names: Mapping[str, str], home: Path, rules: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[dict[str, frozenset[str]], dict[str, Any]]:
    """Return (slug → keys to exclude; what corpus.json says of groups that lie in several sources)."""
    rows = {slug: build.columns(_COLUMNS) for slug, build in builds.items()}
    overlap = duplicate_links.across(rows, duplicate_links.read(home), rules)
    excluded = {slug: frozenset(keys) for slug, keys in overlap.excluded.items()}
    images: Counter[tuple[str, str, str]] = Counter()
    wanted = {place for shared in overlap.shared for place in shared}
    for slug, images_of in rows.items():
        for row in images_of:
            if row["split"] is not None and (slug, row["group"]) in wanted:
                split = "excluded" if row["key"] in excluded.get(slug, ()) else row["split"]
                images[slug, row["group"], split] += 1
    by_place: dict[tuple[str, str], dict[str, int]] = {}
    for (slug, group, split), number in sorted(images.items()):
        by_place.setdefault((slug, group), {})[split] = number
    return excluded, {
        "excluded": {names[slug]: len(keys) for slug, keys in sorted(excluded.items())},
        "shared": [
            [{"source": names[slug], "group": group, "images": by_place[slug, group]} for slug, group in shared]
            for shared in overlap.shared
        ],
        "unmatched": [
            {"sources": sorted((names[slug], names[rule["source"]])), "what": rule["what"], "certain": rule["certain"]}
            for slug, shares in sorted(rules.items())
            for rule in shares
            if slug < rule["source"] in names and not _matched(rules, slug, rule["source"])
        ],
    }


def _matched(rules: Mapping[str, Sequence[Mapping[str, Any]]], one: str, other: str) -> bool:
    """Return whether it is known by name which groups of two sources are the same."""
    pairs = ((one, other), (other, one))
    return any(known_duplicates.copied_from(a) == b for a, b in pairs) or any(
        rule["source"] == b and duplicate_links.names_groups(rule) for a, b in pairs for rule in rules[a]
    )


_COLUMNS = ("key", "group", "split", "pixel_hash")


# ---------------------------------------------------------------------------------------------------------- the arrays


class _Tables:
    """Writer of the four files, shard by shard; only the records of the arrays are in memory."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Open the files of texts, which `stack` closes."""
        self.folder = folder
        self._files: dict[str, BinaryIO] = {
            name: stack.enter_context((folder / name).open("wb")) for name in ("strings.bin", "rle.bin")
        }
        self._images: list[NDArray[Any]] = []
        self._slices: list[NDArray[np.float32]] = []
        self._annotations: list[NDArray[Any]] = []
        self._image_rows = self._annotation_rows = 0
        self._diagnoses: dict[str, int] = {"": 0}
        self._groups: dict[tuple[int, str], int] = {}

    def add(self, content: dict[str, Any], source: int, split: int, excluded: frozenset[str]) -> None:
        """Add one COCO shard. Raises BuildError if its annotations are not in the order of its images."""
        records, pieces = content["images"], content["annotations"]
        own = [entry["us43d"] for entry in records]
        images, annotations = np.zeros(len(records), IMAGE), np.zeros(len(pieces), ANNOTATION)
        images["id"] = [entry["id"] for entry in records]
        images["source"] = source
        images["split"] = [SPLITS.index("excluded") if entry["key"] in excluded else split for entry in own]
        images["height"], images["width"] = [e["height"] for e in records], [e["width"] for e in records]
        images["group"] = [self._groups.setdefault((source, entry["group"]), len(self._groups)) for entry in own]
        images["spacing"] = [entry["spacing_mm"] or (np.nan, np.nan) for entry in own] or np.empty((0, 2))
        self._slices.append(np.array([entry.get("slice_mm", np.nan) for entry in own], np.float32))
        for name, texts in (
            ("file", [entry["file_name"] for entry in records]),
            ("key", [entry["key"] for entry in own]),
            ("group", [entry["group"] for entry in own]),
        ):
            images[f"{name}_at"], images[f"{name}_len"] = self._append("strings.bin", texts)
        place = {entry["id"]: row for row, entry in enumerate(records)}
        rows = np.array([place[entry["image_id"]] for entry in pieces], np.int64)
        if (rows[1:] < rows[:-1]).any():
            raise BuildError(f"The annotations of a shard of {own[0]['source']} are not ordered as its images.")
        images["count"] = np.bincount(rows, minlength=len(records))
        images["first"] = self._annotation_rows + np.concatenate(([0], np.cumsum(images["count"][:-1])))[: len(records)]
        annotations["id"] = [entry["id"] for entry in pieces]
        annotations["image"] = self._image_rows + rows
        annotations["category"] = [entry["category_id"] for entry in pieces]
        annotations["area"] = [entry["area"] for entry in pieces]
        annotations["bbox"] = [entry["bbox"] for entry in pieces] or np.empty((0, 4))
        annotations["flags"] = [SPECK if entry["us43d"]["speck"] else 0 for entry in pieces]
        diagnosis = [entry["us43d"]["diagnosis"] or "" for entry in pieces]
        annotations["diagnosis"] = [self._diagnoses.setdefault(text, len(self._diagnoses)) for text in diagnosis]
        counts = [entry["segmentation"]["counts"] for entry in pieces]
        annotations["rle_at"], annotations["rle_len"] = self._append("rle.bin", counts)
        self._images.append(images)
        self._annotations.append(annotations)
        self._image_rows += len(images)
        self._annotation_rows += len(annotations)

    def _append(self, name: str, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Write texts one after the other; returns where each begins and how long it is."""
        data = [text.encode() for text in texts]
        sizes = np.array([len(item) for item in data], np.int64)
        begin = self._files[name].tell() + np.cumsum(sizes) - sizes
        self._files[name].write(b"".join(data))
        return begin, sizes

    def finish(self) -> dict[str, Any]:
        """Write the arrays; returns counts and digest for corpus.json."""
        images, annotations = np.concatenate(self._images), np.concatenate(self._annotations)
        _unique(images["id"], "image")
        _unique(annotations["id"], "annotation")
        np.save(self.folder / "images.npy", images, allow_pickle=False)
        np.save(self.folder / "annotations.npy", annotations, allow_pickle=False)
        slices = np.concatenate(self._slices)
        if not np.isnan(slices).all():
            np.save(self.folder / SLICES, slices, allow_pickle=False)
        digest = hashlib.sha256()
        for name in _FILES:
            with (self.folder / name).open("rb") as file:
                os.fsync(file.fileno())
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return {
            "images": {name: int((images["split"] == n).sum()) for n, name in enumerate(SPLITS)},
            "annotations": len(annotations),
            "groups": len(self._groups),
            "diagnoses": list(self._diagnoses),
            "digest": digest.hexdigest(),
        }


def _unique(ids: NDArray[np.int64], what: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise BuildError(f"Two {what}s of the corpus have the id {int(values[counts > 1][0])}; merge fewer sources.")
