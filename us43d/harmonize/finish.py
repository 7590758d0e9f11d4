"""The end of a build: counts against the published ones, groups, splits, COCO files, manifest and dataset.json."""

import json
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from us43d import __version__, atomic
from us43d.contract import Recipe
from us43d.errors import CountError, counted, listed
from us43d.harmonize import blocks, records, shards
from us43d.harmonize.built import DATASET, PROVENANCE
from us43d.harmonize.corrections import REMARK
from us43d.harmonize.inventory import Inventory
from us43d.harmonize.plan import Plan
from us43d.harmonize.records import Record
from us43d.harmonize.taxonomy import taxonomy
from us43d.splits import duplicate_links, pinned
from us43d.splits.assign import Assigned, Assignment, Member
from us43d.splits.decide import decide
from us43d.splits.review import WRONG

__all__ = ["finish"]


def finish(plan: Plan, staging: Path, count: int, inventory: Inventory) -> dict[str, Any]:
    """Write all of a build but its images from the records of `count` blocks.

    Returns:
        The content of dataset.json.

    Raises:
        CountError: If fewer images, masks or groups were found than published.
        BuildError: If a corrected mask does not fit its image or the taxonomy.
    """
    recipe, skip = plan.recipe, plan.skip
    index: list[tuple[str, Path, int]] = []
    members, counts, bare = [], _Counts(), list[str]()
    reviewed: dict[str, set[str]] = {REMARK: set(), WRONG: set()}
    for block in range(count):
        path = records.path_of(staging, block)
        for offset, line in records.lines(path):
            record = records.parse(line)
            counts.annotated_in_source += bool(record.annotations)
            if record.image and not record.annotations:
                bare.append(record.key)
            for remark in plan.corrections.apply(record, plan.category):
                reviewed[remark].add(record.key)
            counts.add(record)
            index.append((record.key, path, offset))
            if record.image:
                members.append(Member(record.key, record.group, record.official, record.image.pixel_hash))
    problems = counts.problems(recipe) if plan.profile == "us43d" and not plan.specimen else []
    skipped = _skipped(plan, inventory, counts) if skip else {}
    if not plan.partial and not any(skipped.get(what) for what in ("samples", "files", "ignored")):
        _refuse_short(plan, problems, {key for key, _, _ in index}, bare)
    decision = decide(members, recipe, plan.profile, links=plan.links, listed=not plan.specimen)
    # The others stay where they are, as if it were there.
    out: dict[str, Assigned] = dict.fromkeys(reviewed[WRONG], "excluded")
    assignment = replace(decision.assignment, split=decision.assignment.split | out)
    output, parts = staging / blocks.OUTPUT, staging / blocks.PARTS
    files = shards.Shards(output, Counter(assignment.split.values()), recipe, plan.category, plan.version, parts)

    def written() -> Iterator[Record]:
        for record in _by_key(plan, index, assignment):
            files.add(record)
            yield record

    rows = shards.manifest(output / shards.MANIFEST, written(), recipe.group_kind, parts)
    files.finish()
    applied = plan.corrections.applied(reviewed[REMARK], reviewed[WRONG])
    facts: dict[str, Any] = {
        "name": recipe.name,
        "slug": recipe.slug,
        "version": plan.version,
        "revision": recipe.revision,
        "schema": shards.SCHEMA,
        "taxonomy": taxonomy().version,
        "profile": plan.profile,
        "partial": plan.partial,
        "specimen": plan.specimen,
        "fixes": [fix.model_dump(mode="json") for fix in recipe.fixes] if plan.fixes else [],
        "title": recipe.title,
        "organ": recipe.organ,
        "kind": recipe.kind,
        "external_tier": recipe.external_tier,
        **({"private": True} if recipe.private else {}),
        "shares_with": [shared.model_dump(mode="json") for shared in recipe.shares_with],
        "licence": {**asdict(recipe.licence.terms), "evidence": recipe.licence.evidence},
        "citations": [citation.model_dump(mode="json") for citation in recipe.citations],
        "labels": plan.category,
        "group": {"kind": recipe.group_kind, "rule": recipe.group_rule},
        "official_split": recipe.official_split,
        "counts": counts.summary()
        | {"published": recipe.expect.model_dump(mode="json", exclude={"evidence", "fuller"}), "differences": problems},
        "drops": dict(sorted(counts.drops.items())),
        "remarks": dict(sorted(counts.remarks.items())),
        "twins": {
            "known": decision.known,
            "audited": len(decision.links),
            "digest": duplicate_links.digest(decision.links),
        },
        **applied.facts(),
        "splits": {"rule": assignment.rule, **files.table},
        **({"skipped": skipped} if skip else {}),
    }
    dataset = facts | {"digest": shards.build_digest(output, facts, rows)}
    atomic.write_bytes(output / DATASET, _json(dataset), parts=parts)
    provenance = {"inputs": plan.inputs, "tool": f"us43d {__version__}", "receipt": plan.receipt}
    provenance |= applied.provenance() | ({"skipped": skipped} if skip else {})
    atomic.write_bytes(output / PROVENANCE, _json(provenance), parts=parts)
    return dataset


def _by_key(plan: Plan, index: list[tuple[str, Path, int]], assignment: Assignment) -> Iterator[Record]:
    """Yield the records with final group and split, by key: the order in which readers yield them nearly always."""
    with ExitStack() as stack:
        opened: Path | None = None
        for key, path, offset in sorted(index):
            if path != opened:
                stack.close()
                opened, file = path, stack.enter_context(path.open("rb"))
            file.seek(offset)
            record = records.parse(file.readline())
            plan.corrections.apply(record, plan.category)
            record.split = assignment.split.get(key)
            record.group = assignment.group.get(key, record.group)
            yield record


def _refuse_short(plan: Plan, problems: list[dict[str, Any]], keys: Set[str], bare: list[str]) -> None:
    """Raise CountError for counts below the published ones, or for more groups among the same images.

    keys: of all samples, to name those of the pinned split that are missing. bare: of images without annotation, to
    name them where every published image has one.
    """
    recipe = plan.recipe
    partial = f"us43d build {recipe.name} --partial"
    next_ = f"{partial}   (for a cut of the source; or us43d fetch {recipe.name} --from with a complete copy)"
    if recipe.private or plan.receipt.get("kind") == "download":
        next_ = f"{recipe.again}   (or, for a cut of the source: {partial})"
    disk = "The finished blocks are kept; no build was written."
    short = [problem for problem in problems if problem["found"] < problem["published"]]
    many = {problem["what"]: problem for problem in problems if problem["found"] > problem["published"]}
    if short:
        counts = listed(
            f"{p['what']} {p['found']:,} of {p['published']:,} ({p['found'] - p['published']:+,})" for p in short
        )
        published = set() if recipe.slug in pinned.GROUPS_ONLY else {row.member.key for row in pinned.rows(recipe.slug)}
        lines = [f"{recipe.name}: fewer than {'at import' if recipe.private else 'published'}: {counts}."]
        if missing := sorted(published - keys):
            lines.append(f"{counted(len(missing), 'image is', 'images are')} missing: {listed(missing)}.")
        if bare and recipe.expect.annotated == recipe.expect.images:
            lines.append(f"{counted(len(bare), 'image has', 'images have')} no annotation: {listed(sorted(bare))}.")
        raise CountError("\n".join(lines), disk=disk, next=next_)
    if "groups" in many and "images" not in many:
        groups = many["groups"]
        raise CountError(
            f"{recipe.name}: the same images have {groups['found']:,} groups, published {groups['published']:,}. "
            f"A table or names are not as published, and splits could share a {recipe.group_kind}.",
            disk=disk,
            next=recipe.again_as(plan.receipt.get("kind", "")),
        )


def _skipped(plan: Plan, inventory: Inventory, counts: "_Counts") -> dict[str, Any]:
    """Return the samples and files skipped on request: unusable samples, unknown files, files by pattern."""
    return {
        "skip_bad": plan.skip.bad,
        "samples": counts.drops[blocks.SKIPPED],
        "files": inventory.unread() | dict.fromkeys(inventory.absent(), "") if plan.skip.bad else {},
        "ignored": {pattern: keys for pattern, keys in plan.tree.hidden.items() if keys},
        "patterns": list(plan.skip.ignore),
    }


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


class _Counts:
    """What the records of a build hold, against what was published.

    annotated_in_source: images with an annotation before people corrected masks, as published counts have them.
    """

    def __init__(self) -> None:
        self.annotated_in_source = 0
        self.images = self.annotated = self.masks = self.annotations = self.specks = 0
        self.groups: set[str] = set()
        self.tags: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.remarks: Counter[str] = Counter()
        self.kept = self.bytes = 0

    def add(self, record: Record) -> None:
        self.images += 1
        self.groups.update([record.group] if record.group else [])  # "" of a sample that could not be read
        self.masks += record.masks
        self.tags.update(f"{name}={value}" for name, value in record.tags.items())
        self.remarks.update({remark.partition(":")[0] for remark in record.remarks})
        if record.image is None:
            self.drops[str(record.drop)] += 1
            return
        self.annotated += bool(record.annotations)
        self.annotations += len(record.annotations)
        self.specks += sum(annotation.speck for annotation in record.annotations)
        self.kept += record.image.kept
        self.bytes += record.image.bytes

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
        fuller = expect.fuller.get
        pairs = [
            ("images", self.images, expect.images, fuller("images")),
            ("annotated images", self.annotated_in_source, expect.annotated, fuller("annotated")),
            ("masks", self.masks, expect.masks, fuller("masks")),
            ("groups", len(self.groups), expect.groups, fuller("groups")),
            *((f"images with {tag}", self.tags[tag], number, None) for tag, number in sorted(expect.tags.items())),
        ]
        return [
            {"what": what, "found": counted, "published": published}
            for what, counted, published, more in pairs
            if published is not None and counted not in (published, more)
        ]
