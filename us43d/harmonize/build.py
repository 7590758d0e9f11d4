"""The order of work of a build: the reader's stream in blocks (`pool`), then groups, splits and files (`finish`).

The same inputs give the same bytes whatever the number of workers or an interruption: a block depends on its samples
alone, and everything after the blocks runs in the order of keys. Blocks are finished in a staging folder beside the
final one; a build that was killed resumes from the complete blocks.
"""

import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from us43d import atomic
from us43d.contract import Fix, Profile, RawTree, Recipe, Sample, paths_in
from us43d.errors import (
    BuildError,
    Busy,
    MissingRawFile,
    RawDataError,
    UnreadableFile,
    Us43dError,
    counted,
    lines_of,
    listed,
)
from us43d.harmonize import blocks, cluster, pool, records
from us43d.harmonize.built import Build
from us43d.harmonize.finish import finish
from us43d.harmonize.ids import Ids
from us43d.harmonize.inventory import Inventory, Skip, spellings, way_on
from us43d.harmonize.plan import Plan, changed
from us43d.paths import Home
from us43d.rawtree import folded, literal

__all__ = ["BLOCK", "BuildResult", "Skip", "build"]

#: Samples in one block: the unit of work, of resuming, and of the images' folders.
BLOCK = 256

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """path: the build's folder. dataset: what dataset.json holds. reused: it was there already, unchanged."""

    path: Path
    dataset: dict[str, Any]
    reused: bool = False

    @property
    def digest(self) -> str:
        return str(self.dataset["digest"])


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
        fixes: Apply the corrections of the recipe and of reviews.
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
        RawDataError: If raw files are missing, unknown or unreadable, or a label, group or key is invalid.
        RecipeError: If the recipe is invalid for this profile.
        BuildError: If a worker process died, or an image cannot be written.
        StorageError: If the disk is full or cannot be written.
        Busy: If another process builds the source.
        ConfigError: If `executor` is invalid.
    """
    work = cluster.runner(executor, jobs) if executor else pool.runner(jobs)
    tree = RawTree(raw, hide=skip.ignore, collect=True)
    plan = Plan(recipe, tree, home.root, profile, partial, fixes, skip, receipt or {})
    final = home.build(recipe.name, plan.version)
    with atomic.storage_errors(final, "The finished blocks are kept; the next build resumes from them."):
        staging = final.parent / f".{final.name}.{plan.inputs[:16]}"
        if (finished := _finished(final, plan.inputs)) is not None:
            shutil.rmtree(staging, ignore_errors=True)  # left by a process killed right after its last step
            return BuildResult(final, finished, reused=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        name = recipe.name
        busy = Busy(f"{name} is being built by another process.", next=f"us43d build {name}  (when it has ended)")
        with atomic.alone(final.parent / ".lock", busy):
            for old in final.parent.glob(f".{final.name}.*"):
                if old != staging:
                    shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(staging / blocks.PARTS, ignore_errors=True)
            output = staging / blocks.OUTPUT
            for folder in (output, staging / blocks.PARTS):
                folder.mkdir(parents=True, exist_ok=True)
            inventory = Inventory(recipe, tree)
            with _unchanging(plan, staging):
                if recipe.media == "image2d":  # the names of the others are inside of files
                    inventory.survey(sample for _, sample in _samples(plan))
                    if inventory.samples == 0:
                        raise _nothing(plan)
                    _refuse(inventory, plan)
                count = _run_blocks(plan, inventory, staging, work, progress)
                _refuse(inventory, plan)
                dataset = finish(plan, staging, count, inventory)
            atomic.replace_dir(output, final)
            shutil.rmtree(staging, ignore_errors=True)  # the records last, so that a kill costs no block its work
    return BuildResult(final, dataset)


@contextmanager
def _unchanging(plan: Plan, staging: Path) -> Iterator[None]:
    """Raise RawDataError at the end of a block, or in place of its error, if the raw tree was changed meanwhile.

    Blocks may then be of another tree than the one whose name they have.
    """
    error: Exception | None = None
    try:
        yield
    except (Us43dError, OSError) as raised:
        error = raised
    if not plan.is_current():
        shutil.rmtree(staging, ignore_errors=True)
        raise changed(plan.recipe, plan.tree.root) from error
    if error is not None:
        raise error


def _refuse(inventory: Inventory, plan: Plan) -> None:
    """Raise one error for all files that are missing or unknown, unless they are to be skipped."""
    if (fault := inventory.fault(plan.receipt)) is not None and not plan.skip.bad:
        raise fault


def _finished(final: Path, inputs: str) -> dict[str, Any] | None:
    """Return the facts of a build that was made of these inputs already."""
    try:
        finished = Build(final)
        return finished.facts if finished.provenance.get("inputs") == inputs else None
    except BuildError:  # missing, or of another version: it is made again
        return None


def _samples(plan: Plan) -> Iterator[tuple[int, Sample]]:
    """Yield (image id, sample) from the reader, corrected; notes every file a sample refers to."""
    recipe, tree = plan.recipe, plan.tree
    corrections = {fix.key: fix for fix in recipe.fixes} if plan.fixes else {}
    ids, seen, listed_as = Ids(recipe.slug), set(), spellings(recipe)
    unusable: list[str] = []
    groups: dict[str, str] = {}  # as they are compared → as the first sample has it
    for sample, why in _readable(plan):
        compared = folded(sample.key)
        why = "has a key that appears twice" if compared in seen else why or _unassigned(recipe, sample)
        if why and (compared in seen or not plan.skip.bad):
            unusable.append(f"{sample.key} {why}")
            continue
        seen.add(compared)
        if (key := listed_as.get(compared, sample.key)) != sample.key:
            sample = replace(sample, key=key)
        if sample.group and (group := groups.setdefault(folded(sample.group), sample.group)) != sample.group:
            remarks = (*sample.remarks, f"group spelled in two ways: {sample.group} is taken for {group}")
            sample = replace(sample, group=group, remarks=remarks)
        tree.use(*paths_in(sample))
        if (fix := corrections.get(sample.key)) is not None:
            sample = _fixed(sample, fix)
        if why:
            remarks = (*sample.remarks, f"skipped: {sample.key} {why}")
            sample = replace(sample, drop=blocks.SKIPPED, remarks=remarks, masks={}, instances={})
        yield ids.image(sample.key), sample
    if unusable:
        raise RawDataError(
            f"{recipe.name}: {counted(len(unusable), 'sample')} cannot be used:{lines_of(unusable)}",
            disk="No build was written.",
            next=recipe.again_as(plan.receipt.get("kind", ""))
            if plan.skip.bad
            else way_on(recipe, plan.receipt, patterns=plan.skip.ignore),
        )


def _unassigned(recipe: Recipe, sample: Sample) -> str:
    """Return why a sample's labels or group cannot be: a table or a name is not as published; "" if they can."""
    if unknown := sorted((set(sample.masks) | set(sample.instances)) - set(recipe.labels)):
        return f"has the label {listed(map(repr, unknown))}; known labels: {listed(recipe.labels)}"
    return f"has no {recipe.group_kind}: its table or name leaves it empty" if sample.group == "" else ""


def _readable(plan: Plan) -> Iterator[tuple[Sample, str]]:
    """Yield (sample, why it cannot be used or ""). Of an error and a file that is missing, the file is the reason."""
    recipe, tree = plan.recipe, plan.tree
    samples = recipe.samples(tree, plan.profile)
    again = f"{recipe.again_as(plan.receipt.get('kind', ''))}   (or, to see what changed: us43d verify {recipe.name})"
    usable, reasons = 0, list[str]()
    while True:
        try:
            sample = next(samples, None)
        except RawDataError as error:
            error.next = error.next or again + ("" if usable else _without_file(plan))
            if tree.missing and not isinstance(error, MissingRawFile):
                what = f"{listed(tree.missing.values())} in {tree.root}."
                raise MissingRawFile(what, disk=error.disk, next=error.next) from error
            raise
        for stop in tree.stopped:
            reasons.append(f"{stop.key}: {stop.why}")
            yield Sample(key=stop.key, image=tree.root / stop.key, group=""), f"cannot be read: {stop.why}"
        tree.stopped.clear()
        if sample is None:
            break
        usable += 1
        yield sample, ""
    if reasons and not usable:
        what = f"{recipe.name}: none of the {counted(len(reasons), 'sample')} can be read:{lines_of(reasons)}"
        raise RawDataError(what, disk="No build was written.", next=again)


def _without_file(plan: Plan) -> str:
    """Return the command that does without the files at which the reader stops, if they are optional; else ""."""
    files, tree = list[str](), plan.tree
    while (file := tree.asked_last) and file not in files:
        files.append(file)
        patterns = [*plan.skip.ignore, *map(literal, files)]
        tree = RawTree(plan.tree.root, hide=patterns)
        try:
            next(plan.recipe.samples(tree, plan.profile))
        except UnreadableFile:
            continue
        except (RawDataError, StopIteration):
            return ""
        skip = "".join(f" --ignore {shlex.quote(pattern)}" for pattern in patterns) + " --skip-bad" * plan.skip.bad
        return f"   (or, without {listed(files)}: us43d build {plan.recipe.name}{skip})"
    return ""


def _fixed(sample: Sample, fix: Fix) -> Sample:
    tags = {**sample.tags, **fix.tags}
    return replace(
        sample,
        tags=tags,
        drop=fix.reason if fix.drop else sample.drop,
        remarks=(*sample.remarks, f"{blocks.FIXED}{fix.reason}"),
    )


def _run_blocks(plan: Plan, inventory: Inventory, staging: Path, work: pool.Work, progress: Progress | None) -> int:
    """Run every block that has no record yet; return how many blocks there are."""
    recipe, paper = plan.recipe, plan.profile == "paper"
    options = blocks.Options(
        relabel=recipe.paper.renamed if paper else {},
        skip_empty=paper and recipe.paper.skip_empty,
        skip_bad=plan.tree.root if plan.skip.bad else None,
    )
    errors: list[str] = []
    done = number = 0

    def tasks() -> Iterator[blocks.Block]:
        nonlocal number, done
        chunk: list[tuple[int, Sample]] = []

        def block() -> blocks.Block:
            return blocks.Block(number, staging, tuple(chunk), options)

        for image_id, sample in _samples(plan):
            if sample.drop is None and (lacking := inventory.lacks(sample)):
                if not plan.skip.bad:
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
        if records.path_of(staging, block.number).is_file():
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
        raise _nothing(plan)
    if errors:
        raise RawDataError(
            f"{recipe.name}: {counted(len(errors), 'sample')} cannot be read:{lines_of(errors)}",
            disk="The finished blocks are kept; no build was written.",
            next=way_on(recipe, plan.receipt, patterns=plan.skip.ignore),
        )
    return number


def _nothing(plan: Plan) -> RawDataError:
    return RawDataError(f"{plan.recipe.name}: the reader found no sample in {plan.tree.root}.", next=plan.recipe.again)
