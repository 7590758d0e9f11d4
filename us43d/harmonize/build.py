"""From a raw tree to a build: the reader's stream in blocks, blocks in parallel, then groups, splits, shards.

The same inputs give the same bytes whatever the number of workers or an interruption: a block depends on its samples
alone, and everything after the blocks runs in the order of keys. Blocks are finished in a staging folder beside the
final one; a build that was killed resumes from the complete blocks.
"""

import ctypes
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from us43d import __version__, atomic
from us43d.contract import Fix, Profile, RawTree, Recipe, Sample, paths_in
from us43d.errors import BuildError, Busy, CountError, MissingRawFile, RawDataError, RecipeError, listed
from us43d.harmonize import blocks, cluster, corrections, shards
from us43d.harmonize.built import DATASET, PROVENANCE, Build
from us43d.harmonize.ids import Ids
from us43d.harmonize.names import Names, Skip, spellings, way_on
from us43d.harmonize.taxonomy import mapping, taxonomy
from us43d.paths import Home
from us43d.rawtree import folded
from us43d.splits import assign, duplicate_links
from us43d.splits.decide import decide

__all__ = ["BLOCK", "BuildResult", "Skip", "build", "version"]

#: Samples in one block: the unit of work, of resuming, and of the images' folders.
BLOCK = 256

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

Progress = Callable[[int, int | None], None]
#: Called with the size of a finished block and what was wrong in it.
Note = Callable[[int, list[str]], None]
#: Runs blocks wherever it runs them, and notes each.
Work = Callable[[Iterator[blocks.Block], Note], None]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """path: the build's folder. dataset: what dataset.json holds. reused: it was there already, unchanged."""

    path: Path
    dataset: dict[str, Any]
    reused: bool = False

    @property
    def digest(self) -> str:
        return str(self.dataset["digest"])


class _Kind(NamedTuple):
    """What decides a build beside the recipe and the raw files."""

    profile: Profile
    partial: bool
    fixes: bool
    specimen: bool
    skip: Skip

    def version(self, recipe: Recipe) -> str:
        name = version(recipe, profile=self.profile, partial=self.partial, fixes=self.fixes, specimen=self.specimen)
        return name + ("-skipping" if self.skip else "")


def version(
    recipe: Recipe, *, profile: Profile = "us43d", partial: bool = False, fixes: bool = True, specimen: bool = False
) -> str:
    """Return the name of a build's folder: r<revision>s<schema>-<profile>[-partial|-specimen][-unfixed][-skipping]."""
    name = f"r{recipe.revision}s{shards.SCHEMA}-{profile}"
    return name + ("-specimen" if specimen else "-partial" if partial else "") + ("" if fixes else "-unfixed")


def build(
    recipe: Recipe,
    raw: Path,
    home: Home,
    *,
    profile: Profile = "us43d",
    partial: bool = False,
    fixes: bool = True,
    jobs: int = 1,
    executor: str | None = None,
    receipt: dict[str, Any] | None = None,
    progress: Progress | None = None,
    skip: Skip = Skip(),  # noqa: B008  (frozen)
) -> BuildResult:
    """Harmonize one source: COCO files, manifest and dataset.json from its raw tree.

    Args:
        recipe: The recipe of the source.
        raw: The unpacked raw tree; only read.
        home: Home to write the build into.
        profile: "us43d", or "paper" for the published conversion.
        partial: Report published counts instead of enforcing them.
        fixes: Apply the recipe's corrections.
        jobs: Number of worker processes. With 1, everything runs in the current process.
        executor: Dask cluster to use instead: "dask://host:port", or "dask://local" for `jobs` local processes. Its
            workers must see `raw` and `home` under the same paths.
        receipt: Receipt of the download, copied into provenance.json. With kind "specimen", no published count or
            pinned split applies, and the folder's name has "-specimen".
        progress: Called with (samples done, samples in all or None).
        skip: Items to skip on request. They are recorded in dataset.json and provenance.json, every image keeps its
            row in the manifest, and published counts are reported, not enforced.

    Returns:
        The build; `reused` if an equal one was there.

    Raises:
        CountError: If fewer images, masks or groups were found than published.
        RawDataError: If raw files are missing, unknown or unreadable.
        BuildError: If a worker process died, or an image cannot be written.
        RecipeError: If the recipe is invalid for these files.
        StorageError: If the disk is full or cannot be written.
        Busy: If another process builds the source.
        ConfigError: If `executor` is invalid.
    """
    work = cluster.runner(executor, jobs) if executor else _runner(jobs)
    kind = _Kind(profile, partial, fixes, (receipt or {}).get("kind") == "specimen", skip)
    final = home.build(recipe.name, kind.version(recipe))
    category = _categories(recipe, profile)
    tree = RawTree(raw, hide=skip.ignore, collect=True)
    links = [link for link in duplicate_links.read(home.root) if link.a.source == link.b.source == recipe.slug]
    corrected = corrections.read(home.root, recipe.slug) if fixes else corrections.Corrections({}, "")
    named = " ".join(text for text in (final.name, str(skip) if skip else "", corrected.digest) if text)
    inputs = _inputs(recipe, tree, named, duplicate_links.digest(links))
    with atomic.storage_errors(final, "The finished blocks are kept; the next build resumes from them."):
        staging = final.parent / f".{final.name}.{inputs[:16]}"
        if (finished := _finished(final, inputs)) is not None:
            shutil.rmtree(staging, ignore_errors=True)  # left by a process killed right after its last step
            return BuildResult(final, finished, reused=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        with _alone(final.parent / ".lock", recipe.name):
            for old in final.parent.glob(f".{final.name}.*"):
                if old != staging:
                    shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(staging / blocks.PARTS, ignore_errors=True)
            output = staging / blocks.OUTPUT
            for folder in (output, staging / blocks.PARTS):
                folder.mkdir(parents=True, exist_ok=True)
            names = Names(recipe, tree)
            if recipe.media == "image2d":  # the names of the others are inside of files
                names.survey(_samples(recipe, tree, profile, fixes))
                if names.samples == 0:
                    raise _nothing(recipe, tree)
                if (fault := names.fault(receipt or {})) is not None and not skip.bad:
                    raise fault
            count = _run_blocks(recipe, names, staging, kind, work, progress, receipt or {})
            if (fault := names.fault(receipt or {})) is not None and not skip.bad:
                raise fault
            records = (blocks.record_path(staging, number) for number in range(count))
            applied = corrected.apply(records, category, staging / blocks.PARTS)
            dataset = _finish(recipe, staging, count, category, kind, links, names, applied)
            provenance = {"inputs": inputs, "tool": f"us43d {__version__}", "receipt": receipt or {}}
            provenance |= applied.provenance()
            if skip:
                provenance["skipped"] = dataset["skipped"]
            atomic.write_bytes(output / PROVENANCE, _json(provenance), parts=staging / blocks.PARTS)
            atomic.replace_dir(output, final)
            shutil.rmtree(staging, ignore_errors=True)  # the records last, so that a kill costs no block its work
    return BuildResult(final, dataset)


# ---------------------------------------------------------------------------------------------------------- the blocks


def _categories(recipe: Recipe, profile: Profile) -> dict[str, int]:
    """Return label written → category id. The paper's names mean the structures of the labels they replace."""
    by_label = mapping(recipe)
    if profile == "us43d":
        return by_label
    renames, renamed = recipe.paper.renamed, dict[str, int]()
    for label, number in by_label.items():
        to = renames.get(label, label)
        if to is not None and renamed.setdefault(to, number) != number:
            raise RecipeError(f"{recipe.name}: the paper profile calls two structures {to!r}.")
    return renamed


#: Facts that a build carries or depends on: where one was corrected, the build is made again.
_CARRIED = {
    "name", "title", "organ", "homepage", "kind", "external_tier", "shares_with", "citations", "licence", "labels",
    "diagnoses", "colours", "group_kind", "group_rule", "official_split", "expect", "ignore", "fixes", "paper",
    "revision",
}  # fmt: skip


def _inputs(recipe: Recipe, tree: RawTree, name: str, links: str) -> str:
    """A digest of what a build is made from: raw files' names, sizes and times, what reads them, facts, and links.

    Times are enough to know that a build can be reused, as raw trees are read-only; `us43d verify` reads the bytes.
    """
    digest = hashlib.sha256(f"{__version__} {recipe.slug} {name} {taxonomy().version} {links}".encode())
    digest.update(recipe.model_dump_json(include=_CARRIED).encode())
    for key in tree:
        stat = tree.path(key).stat()
        digest.update(f"\0{key}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def _finished(final: Path, inputs: str) -> dict[str, Any] | None:
    """Return the facts of a build that was made of these inputs already."""
    try:
        finished = Build(final)
        return finished.facts if finished.provenance.get("inputs") == inputs else None
    except BuildError:  # missing, or of another version: it is made again
        return None


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """Keep a second build of the source away. It saves double work; two builds would write the same bytes anyway."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Busy(
            f"{name} is being built by another process.", next=f"us43d build {name}  (when it has ended)"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _samples(recipe: Recipe, tree: RawTree, profile: Profile, fixes: bool) -> Iterator[tuple[int, Sample]]:
    """Yield (image id, sample) from the reader, corrected; notes every file a sample refers to."""
    corrections = {fix.key: fix for fix in recipe.fixes} if fixes else {}
    ids, seen, twice, listed_as = Ids(recipe.slug), set(), [], spellings(recipe)
    for sample in _readable(recipe, profile, tree):
        compared = folded(sample.key)
        if compared in seen:
            twice.append(sample.key)
            continue
        seen.add(compared)
        if (key := listed_as.get(compared, sample.key)) != sample.key:
            sample = replace(sample, key=key)
        if unknown := (set(sample.masks) | set(sample.instances)) - set(recipe.labels):
            raise RecipeError(f"{recipe.name}: {sample.key} has labels the recipe does not declare: {listed(unknown)}.")
        tree.use(*paths_in(sample))
        if (fix := corrections.get(sample.key)) is not None:
            sample = _fixed(sample, fix)
        yield ids.image(sample.key), sample
    if twice:
        raise RecipeError(f"{recipe.name}: {len(twice)} keys appear twice: {listed(twice)}.")


def _readable(recipe: Recipe, profile: Profile, tree: RawTree) -> Iterator[Sample]:
    """Yield the reader's samples. Where it stumbles over a file that is missing, that is what is said."""
    samples = recipe.reader(profile)(tree)
    while True:
        try:
            sample = next(samples, None)
        except RawDataError as error:
            error.next = error.next or f"{recipe.again}   (or, to see what changed: us43d verify {recipe.name})"
            if tree.missing and not isinstance(error, MissingRawFile):
                what = f"{listed(tree.missing.values())} in {tree.root}."
                raise MissingRawFile(what, disk=error.disk, next=error.next) from error
            raise
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            # A name or a table of another form than the source's led the reader astray.
            missing = f" {listed(tree.missing.values())}." if tree.missing else ""
            raise RawDataError(
                f"{recipe.name}: the reader failed on {tree.root} ({type(error).__name__}: {error}).{missing}",
                next=f"{recipe.again}   (or, to see what changed: us43d verify {recipe.name})",
            ) from error
        if sample is None:
            return
        yield sample


def _fixed(sample: Sample, fix: Fix) -> Sample:
    tags = {**sample.tags, **fix.tags}
    return replace(
        sample,
        tags=tags,
        drop=fix.reason if fix.drop else sample.drop,
        remarks=(*sample.remarks, f"{blocks.FIXED}{fix.reason}"),
    )


def _run_blocks(
    recipe: Recipe,
    names: Names,
    staging: Path,
    kind: _Kind,
    work: Work,
    progress: Progress | None,
    receipt: Mapping[str, Any],
) -> int:
    """Run every block that has no record yet; return how many blocks there are."""
    profile, tree = kind.profile, names.tree
    relabel = recipe.paper.renamed if profile == "paper" else {}
    skip_bad = tree.root if kind.skip.bad else None
    options = blocks.Options(relabel, profile == "paper" and recipe.paper.skip_empty, skip_bad)
    errors: list[str] = []
    done = number = 0

    def tasks() -> Iterator[blocks.Block]:
        nonlocal number, done
        chunk: list[tuple[int, Sample]] = []

        def block() -> blocks.Block:
            return blocks.Block(number, staging, tuple(chunk), options)

        for image_id, sample in _samples(recipe, tree, profile, kind.fixes):
            if sample.drop is None and (lacking := names.lacks(sample)):
                if not kind.skip.bad:
                    errors.extend(f"{sample.key}: {what}" for what in lacking)
                    continue
                remarks = (*sample.remarks, *(f"skipped: {what}" for what in lacking))
                sample = replace(sample, drop=blocks.SKIPPED, remarks=remarks)
            chunk.append((image_id, sample))
            if len(chunk) == BLOCK:
                yield block()
                chunk, number = [], number + 1
        if chunk:
            yield block()
            number += 1

    def finished(block: blocks.Block) -> bool:
        nonlocal done
        if blocks.record_path(staging, block.number).is_file():
            done += len(block.samples)
            return True
        return False

    def note(block_size: int, wrong: list[str]) -> None:
        nonlocal done
        done += block_size
        errors.extend(wrong)
        if progress:
            progress(done, None)

    work((block for block in tasks() if not finished(block)), note)
    if number == 0 and not errors:
        raise _nothing(recipe, tree)
    if errors:
        more = f"\n  … and {len(errors) - 20} more" if len(errors) > 20 else ""
        raise RawDataError(
            f"{recipe.name}: {len(errors)} samples cannot be read:\n  " + "\n  ".join(errors[:20]) + more,
            disk="The finished blocks are kept; no build was written.",
            next=way_on(recipe, receipt),
        )
    return number


def _nothing(recipe: Recipe, tree: RawTree) -> RawDataError:
    return RawDataError(f"{recipe.name}: the reader found no sample in {tree.root}.", next=recipe.again)


def _runner(jobs: int) -> Work:
    """Return the function that runs blocks: in this process, or in `jobs` workers for several blocks."""

    def work(todo: Iterator[blocks.Block], note: Note) -> None:
        first = list(islice(todo, 2))
        if jobs <= 1 or len(first) < 2:  # one block alone is run sooner than a worker has started
            for block in chain(first, todo):
                note(len(block.samples), blocks.run(block))
        else:
            _pool(chain(first, todo), jobs, note)

    return work


def _begin_worker() -> None:
    """Set up a worker: keep freed memory, and exit with the parent process, even if that was killed.

    Pictures come and go by the megabyte; taking their pages from the system again each time is a fifth of the work.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:  # glibc's
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _pool(todo: Iterator[blocks.Block], jobs: int, note: Note) -> None:
    """Run blocks in worker processes, at most two waiting for each, so that few are in memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([blocks.__name__])  # imported once; workers are forked from there
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker) as pool:
        waiting: dict[Future[list[str]], int] = {}

        def collect(until: int) -> None:
            while len(waiting) > until:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    note(waiting.pop(future), future.result())

        try:
            for block in todo:
                waiting[pool.submit(blocks.run, block)] = len(block.samples)
                collect(2 * jobs)
            collect(0)
        except BrokenProcessPool as error:
            raise BuildError(
                "A worker process died, most likely because memory ran out.",
                disk="The finished blocks are kept; the next build resumes from them.",
                next="us43d build --jobs 1",
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


# ---------------------------------------------------------------------------------------------- what follows the blocks


def _records(staging: Path, count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield from json.loads(blocks.record_path(staging, number).read_bytes())


def _finish(
    recipe: Recipe,
    staging: Path,
    count: int,
    category: dict[str, int],
    kind: "_Kind",
    links: list[duplicate_links.Link],
    names: Names,
    corrected: corrections.Applied,
) -> dict[str, Any]:
    """Write groups, splits, shards, manifest and dataset.json from the records of all blocks."""
    members, index = [], []
    counts = _Counts()
    for place, row in enumerate(_records(staging, count)):
        counts.add(row)
        index.append((row["key"], place))
        if row["drop"] is None:
            members.append(assign.Member(row["key"], row["group"], row["official"], row["pixel_hash"]))
    problems = counts.problems(recipe) if kind.profile == "us43d" and not kind.specimen else []
    short = [problem for problem in problems if problem["found"] < problem["published"]]
    skipped = _skipped(kind.skip, names, counts) if kind.skip else {}
    if short and not kind.partial and not any(skipped.get(what) for what in ("samples", "files", "ignored")):
        raise CountError(
            f"{recipe.name}: fewer than published: "
            + listed(
                f"{p['what']} {p['found']:,} of {p['published']:,} ({p['found'] - p['published']:+,})" for p in short
            )
            + ".",
            disk="The finished blocks are kept; no build was written.",
            next=f"us43d verify {recipe.name}   (or us43d build {recipe.name} --partial for a cut)",
        )
    decision = decide(members, recipe, kind.profile, links=links, listed=not kind.specimen)
    assignment, applied = decision.assignment, decision.links
    output, parts = staging / blocks.OUTPUT, staging / blocks.PARTS
    rows = _sorted_rows(staging, count, index, assignment)
    info = {
        "description": recipe.title,
        "url": recipe.homepage or "",
        "version": kind.version(recipe),
        "contributor": "; ".join(citation.title for citation in recipe.citations),
    }
    table, rows_digest = _write(recipe, output, parts, rows, category, assignment, info)
    facts = {
        "name": recipe.name,
        "slug": recipe.slug,
        "version": info["version"],
        "revision": recipe.revision,
        "schema": shards.SCHEMA,
        "taxonomy": taxonomy().version,
        "profile": kind.profile,
        "partial": kind.partial,
        "specimen": kind.specimen,
        "fixes": [fix.model_dump(mode="json") for fix in recipe.fixes] if kind.fixes else [],
        "title": recipe.title,
        "organ": recipe.organ,
        "kind": recipe.kind,
        "external_tier": recipe.external_tier,
        **({"private": True} if recipe.private else {}),
        "shares_with": [shared.model_dump(mode="json") for shared in recipe.shares_with],
        "licence": {**asdict(recipe.licence.terms), "evidence": recipe.licence.evidence},
        "citations": [citation.model_dump(mode="json") for citation in recipe.citations],
        "labels": category,
        "group": {"kind": recipe.group_kind, "rule": recipe.group_rule},
        "official_split": recipe.official_split,
        "counts": counts.summary()
        | {"published": recipe.expect.model_dump(mode="json", exclude={"evidence"}), "differences": problems},
        "drops": dict(sorted(counts.drops.items())),
        "remarks": dict(sorted(counts.remarks.items())),
        "twins": {"known": decision.known, "audited": len(applied), "digest": duplicate_links.digest(applied)},
        **corrected.facts(),
        "splits": {"rule": assignment.rule, **table},
    }
    facts |= {"skipped": skipped} if kind.skip else {}
    dataset = facts | {"digest": shards.build_digest(output, facts, rows_digest)}
    atomic.write_bytes(output / DATASET, _json(dataset), parts=parts)
    return dataset


def _skipped(skip: Skip, names: Names, counts: "_Counts") -> dict[str, Any]:
    """Return the samples and files skipped on request: unusable samples, unknown files, files by pattern."""
    return {
        "skip_bad": skip.bad,
        "samples": counts.drops[blocks.SKIPPED],
        "files": names.unread() | dict.fromkeys(names.absent(), "") if skip.bad else {},
        "ignored": {pattern: keys for pattern, keys in names.tree.hidden.items() if keys},
        "patterns": list(skip.ignore),
    }


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


#: Rows by key, all or those of one split.
Rows = Callable[[str | None], Iterator[dict[str, Any]]]


def _sorted_rows(staging: Path, count: int, index: list[tuple[str, int]], assignment: assign.Assignment) -> Rows:
    """Return rows with their final group and split, re-read from a file as often as asked.

    Readers yield in sorted order nearly always, so the rows are written once by offset and read back in key order.
    """
    path = staging / "rows.jsonl"
    offsets = []
    with path.open("wb") as file:
        for row in _records(staging, count):
            offsets.append(file.tell())
            row["split"] = assignment.split.get(row["key"])
            row["group"] = assignment.group.get(row["key"], row["group"])
            file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
    index.sort()

    def rows(split: str | None) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            for key, place in index:
                if split is None or assignment.split.get(key) == split:
                    file.seek(offsets[place])
                    yield json.loads(file.readline())

    return rows


def _write(
    recipe: Recipe,
    output: Path,
    parts: Path,
    rows: Rows,
    category: dict[str, int],
    assignment: assign.Assignment,
    info: dict[str, Any],
) -> tuple[dict[str, Any], str]:
    """Write COCO shards and manifest; return per split images, groups and annotations, and the digest of the rows."""
    shutil.rmtree(output / "annotations", ignore_errors=True)
    sizes = Counter(assignment.split.values())
    table: dict[str, dict[str, int]] = {}
    for split in ("train", "val", "test", "excluded"):
        of = -(-sizes[split] // shards.SHARD)
        chunk: list[dict[str, Any]] = []
        number = annotations = 0
        groups: set[str] = set()

        def flush(split: str = split, of: int = of) -> None:
            nonlocal chunk, number, annotations
            path = output / "annotations" / f"{split}-{number:05}-of-{of:05}.json"
            annotations += shards.write_shard(path, chunk, recipe, category, info, parts)
            chunk, number = [], number + 1

        for row in rows(split) if of else ():
            chunk.append(row)
            groups.add(row["group"])
            if len(chunk) == shards.SHARD:
                flush()
        if chunk:
            flush()
        if of:
            table[split] = {"images": sizes[split], "groups": len(groups), "annotations": annotations}
    return table, shards.manifest(output / shards.MANIFEST, rows(None), recipe.group_kind, parts)


class _Counts:
    """What the records of a build hold, against what was published."""

    def __init__(self) -> None:
        self.images = self.annotated = self.masks = self.annotations = self.specks = 0
        self.groups: set[str] = set()
        self.tags: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.remarks: Counter[str] = Counter()
        self.kept = self.bytes = 0

    def add(self, row: dict[str, Any]) -> None:
        self.images += 1
        self.groups.add(row["group"])
        self.masks += row["masks"]
        self.tags.update(f"{name}={value}" for name, value in row["tags"].items())
        self.remarks.update({remark.partition(":")[0] for remark in row["remarks"]})
        if row["drop"] is not None:
            self.drops[row["drop"]] += 1
            return
        self.annotated += bool(row["annotations"])
        self.annotations += len(row["annotations"])
        self.specks += sum(annotation["speck"] for annotation in row["annotations"])
        self.kept += row["kept"]
        self.bytes += row["bytes"]

    def summary(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "dropped": sum(self.drops.values()),
            "annotated": self.annotated,
            "masks": self.masks,
            "annotations": self.annotations,
            "specks": self.specks,
            "groups": len(self.groups),
            "kept_byte_for_byte": self.kept,
            "image_bytes": self.bytes,
        }

    def problems(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Return the counts that differ from the published ones."""
        expect = recipe.expect
        pairs = [
            ("images", self.images, expect.images),
            ("annotated images", self.annotated, expect.annotated),
            ("masks", self.masks, expect.masks),
            ("groups", len(self.groups), expect.groups),
            *((f"images with {tag}", self.tags[tag], number) for tag, number in sorted(expect.tags.items())),
        ]
        return [
            {"what": what, "found": counted, "published": published}
            for what, counted, published in pairs
            if published is not None and counted != published
        ]
