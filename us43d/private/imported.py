"""Import of a folder as a private source, and its removal."""

import hashlib
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from us43d import atomic
from us43d.contract import Expect, Facts, GroupKind, Licence, PaperProfile, RawTree, paths_in
from us43d.errors import RawDataError, UnknownName, UnreadableFile, UsageError, command, counted, listed
from us43d.facts import every, slugs
from us43d.fetch import store
from us43d.harmonize.taxonomy import category, taxonomy
from us43d.paths import Home
from us43d.private import coco, nnunet, record
from us43d.private.recipe import recipe_of
from us43d.private.record import Coco, NnUnet, Reading, Record
from us43d.spelling import normalised

__all__ = ["Imported", "import_folder", "remove"]

Bars = Callable[[str, str], AbstractContextManager[Callable[[int, int | None], None]]]

#: Leaves a label out: --label NAME=-
_OMIT = "-"
#: nnU-Net's label for pixels without annotation.
_IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Imported:
    """facts: of the source. images, groups: in the folder. files: that are read. other: files that are not.

    remarks: what a person should know. unchanged: the source was there already, the same in every file and option.
    """

    facts: Facts
    images: int
    groups: int
    files: int
    other: tuple[str, ...]
    remarks: tuple[str, ...]
    unchanged: bool = False


def import_folder(
    folder: Path,
    home: Home,
    *,
    name: str | None = None,
    group: str | None = None,
    labels: Mapping[str, str],
    licence: str | None = None,
    force: bool = False,
    bars: Bars,
) -> Imported:
    """Make a private source of a COCO folder or an nnU-Net dataset.

    Args:
        folder: The folder; it is not changed. Its files are hard-linked into the home, or copied to another disk.
        home: Where the source is kept.
        name: Name of the source; the folder's if None.
        group: Regular expression whose first group (or whole match) is the patient in an image's path.
        labels: Name in the folder → structure of the taxonomy, or "-" to exclude the label. Not needed for names
            of the taxonomy.
        licence: Id of a licence; "PRIVATE" (permitted uses unknown) if None.
        force: Replace a private source of this name.
        bars: Opens a progress bar.

    Returns:
        What was imported.

    Raises:
        UsageError: The name is taken or invalid, labels are unknown, or the pattern fits no or not all paths.
        RawDataError, TrainError: The folder is neither form, or has faults.
        StorageError, Busy: The home cannot be written.
    """
    folder = folder.expanduser().absolute()
    tree = RawTree(folder)
    name, slug = _named(name or _default(folder), home, force)
    plan = coco.plan(tree) or nnunet.plan(tree)
    if plan is None:
        raise RawDataError(
            f"{folder} holds neither a COCO file (.json with images, annotations and categories) nor an nnU-Net "
            "dataset (dataset.json and imagesTr).",
            next=_from_pairs(folder),
        )
    names = plan.names if isinstance(plan, coco.Plan) else tuple(plan.values)
    structures = _structures(names, labels)
    kept = {source: label for source, label in zip(names, names, strict=True) if source in structures}
    reading: Reading
    if isinstance(plan, coco.Plan):
        reading = Coco(group=group, labels=kept, files=plan.files, stated=plan.stated and group is None)
    else:
        reading = NnUnet(group=group, labels=kept, ending=plan.ending, values=plan.values)
    facts = _facts(name, slug, reading, plan, structures, licence)
    images, groups, remarks = _surveyed(Record(facts=facts, reading=reading), tree, plan)
    counted = Expect(images=images, groups=groups, evidence={"images": "counted when the folder was imported"})
    made = Record(facts=facts.model_copy(update={"expect": counted}), reading=reading)
    other = tuple(key for key in tree if key not in set(plan.keys))
    done = Imported(made.facts, images, groups, len(plan.keys), other, remarks)
    with (
        atomic.storage_errors(home.root, "The source was not imported."),
        store.alone(home, name),
    ):
        known = record.every(home).get(slug)
        if known is not None and _same(home, known, made, tree, plan.keys):
            return replace(done, unchanged=True)
        if known is not None and not force:
            raise UsageError(
                f"{known.facts.name} is a private source already, with other files or options.",
                disk="Nothing was changed.",
                next="the same command with --force",
            )
        _take(home, made, folder, tree, plan.keys, bars)
    return done


def remove(name: str, home: Home) -> tuple[str, list[Path]]:
    """Remove a private source: its record, raw files, receipt and builds. The imported folder is not touched.

    Returns:
        Its name, and what was removed.

    Raises:
        UnknownName: No private source has this name.
        UsageError: A corpus is made of it.
    """
    known = {normalised(entry.facts.name): entry.facts for entry in record.every(home).values()}
    if (facts := known.get(normalised(name))) is None:
        names = listed(entry.name for entry in known.values()) if known else "none"
        raise UnknownName(f"No private source is called {name!r}. Private sources: {names}.", next="us43d list")
    using = [path.name for path in home.corpora() if _holds(path / "corpus.json", facts.slug)]
    if using:
        raise UsageError(
            f"The {'corpus' if len(using) == 1 else 'corpora'} {listed(using)} {'is' if len(using) == 1 else 'are'} "
            f"made of {facts.name}, and would lose its images.",
            next=f"rm -r {home.corpus(using[0])}   (then: us43d import --remove {facts.name})",
        )
    places = [home.builds(facts.name), home.raw(facts.name), home.downloads(facts.name), home.private(facts.slug)]
    gone = [place for place in places if place.exists()]
    with atomic.storage_errors(home.root, "The same command removes the rest."), store.alone(home, facts.name):
        for place in places:
            if place.is_dir():
                store.remove_tree(place)
            else:
                place.unlink(missing_ok=True)
    return facts.name, gone


# ---------------------------------------------------------------------------------------------------------------- names


def _from_pairs(folder: Path) -> str:
    """Return the command that writes a COCO file of images and masks; it names their folders or pairs their names."""
    places = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    images, masks = (
        next((places[name] for name in names if name in places), folder)
        for names in (("images", "image", "imgs", "img"), ("masks", "mask", "labels", "label"))
    )
    if folder in (images, masks):
        images = masks = folder
    return f"{command('coco', images, masks, '--out', folder / 'coco.json')}   (then import)"


def _default(folder: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).strip("-._") or folder.name


def _named(name: str, home: Home, force: bool) -> tuple[str, str]:
    """Return (name, slug) of a new source. Raises UsageError if the name is invalid or taken."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) or not slug:
        raise UsageError(
            f"Invalid name {name!r}: use up to 64 letters, digits, '-', '_' and '.', a letter or digit first.",
            next="us43d import FOLDER --name MyLab",
        )
    published = {normalised(known): source.name for source in every(slugs()) for known in source.names}
    if taken := published.get(normalised(name)) or published.get(normalised(slug)):
        raise UsageError(
            f"The name {name!r} is taken by the published source {taken}.",
            next=f"us43d import FOLDER --name my-{name}",
        )
    known = record.every(home)
    for other in known.values():
        if normalised(other.facts.name) == normalised(name) and other.facts.slug != slug:
            raise UsageError(
                f"The name {name!r} is too similar to that of the private source {other.facts.name}.",
                next=f"the same command with --name {name}-2",
            )
    if slug not in known and home.raw(name).exists():
        raise UsageError(
            f"{home.raw(name)} exists, but is not of an imported source.", next=f"the same command with --name {name}-2"
        )
    return (known[slug].facts.name if slug in known and force else name), slug


def _structures(names: Sequence[str], labels: Mapping[str, str]) -> dict[str, str]:
    """Return name in the folder → structure, without excluded names. Raises UsageError for unknown ones."""
    if strange := sorted(set(labels) - set(names)):
        raise UsageError(
            f"--label names {listed(map(repr, strange))}, which the folder does not have; it has {listed(names, 12)}.",
            next="us43d import --help",
        )
    structures, unknown, first = {}, [], ""
    for name in names:
        target = labels.get(name, _OMIT if name.lower() == _IGNORE else name)
        if target == _OMIT:
            continue
        try:
            structures[name] = category(target).name
        except UnknownName as error:
            first = first or name
            unknown.append(f"{name!r}" if target == name else f"{name!r} as {target!r}")
            hint = error.what.partition("?")[0].partition("Did you mean ")[2]
            unknown[-1] += f" (perhaps {hint})" if hint else ""
    if unknown:
        raise UsageError(
            f"The taxonomy has no structure for {listed(unknown, 8)}.",
            next=f"the same command with --label {shlex.quote(f'{first}=STRUCTURE')}   (us43d taxonomy lists them; "
            f"{shlex.quote(f'{first}=-')} excludes the label)",
        )
    if not structures:
        raise UsageError(
            "All labels are excluded.", next="us43d import --help   (exclude fewer labels: --label NAME=-)"
        )
    return structures


# ---------------------------------------------------------------------------------------------------------------- facts


def _facts(
    name: str,
    slug: str,
    reading: Reading,
    plan: coco.Plan | nnunet.Plan,
    structures: Mapping[str, str],
    licence: str | None,
) -> Facts:
    entries = {entry.name: entry for entry in taxonomy().categories}
    organs = sorted({entries[structure].organ for structure in structures.values()})
    form = "COCO" if isinstance(reading, Coco) else "nnU-Net"
    volumes = isinstance(plan, nnunet.Plan) and plan.volumes
    kind, rule = _grouping(reading, volumes)
    terms = licence or "PRIVATE"
    split = isinstance(reading, NnUnet) and any(key.startswith("labelsTs/") for key in plan.keys)
    if isinstance(reading, Coco):
        split = any(entry.split for entry in reading.files)
    return Facts(
        name=name,
        slug=slug,
        title=f"{name}: a private dataset in {form} form",
        organ=organs[0] if len(organs) == 1 else "several",
        application="private data",
        media="volume3d" if volumes else "image2d",
        kind="human",
        collections=("private",),
        access="private",
        access_checked=datetime.now(UTC).date(),
        group_kind=kind,
        group_rule=rule,
        official_split="as the names of the folder's files state it" if split else None,
        known_issues=plan.remarks,
        sources=(f"an imported folder in {form} form",),
        confidence="As the imported folder states it.",
        licence=Licence(
            id=terms, evidence="stated by the person who imported it" if licence else "not stated at import"
        ),
        labels=structures,
        paper=PaperProfile(note="Not part of the paper's data."),
    )


def _grouping(reading: Reading, volumes: bool) -> tuple[GroupKind, str]:
    if reading.group is not None:
        return "patient", f"The patient in the path of an image, by the pattern {reading.group}"
    if isinstance(reading, Coco) and reading.stated:
        return "patient", "The patient that the COCO file states (group or patient_id)."
    if volumes:
        return "volume", "The volume; which volumes are of one patient was not stated."
    return "image", "The image; which images are of one patient was not stated."


def _surveyed(made: Record, tree: RawTree, plan: coco.Plan | nnunet.Plan) -> tuple[int, int, tuple[str, ...]]:
    """Return (samples, groups, remarks) of a folder, by names alone.

    Raises UsageError where the pattern does not fit, RawDataError without an image.
    """
    groups, images, turned = set[str](), 0, 0
    without: list[str] = []
    dropped: Counter[str] = Counter()
    for sample in recipe_of(made).samples(tree):
        images += 1
        groups.add(sample.group or sample.key)
        dropped.update([sample.drop] if sample.drop else [])
        turned += nnunet.TURNED in sample.remarks
        path = next(iter(paths_in(sample)))
        if made.reading.group is not None and record.group_of(made.reading.group, tree.name(path)) is None:
            without.append(tree.name(path))
    if not images:
        raise RawDataError(f"{tree.root} lists no image.")
    if without:
        raise UsageError(
            f"--group {shlex.quote(str(made.reading.group))} finds no patient in {len(without):,} of {images:,} image "
            f"paths: {listed(dict.fromkeys(without), 3)}.",
            next="the same command with --group PATTERN   (one that fits every path below the folder)",
        )
    remarks = list(plan.remarks) + [f"{counted(number, 'image')} dropped: {why}" for why, number in dropped.items()]
    remarks += [f"{counted(turned, 'image')}: {nnunet.TURNED}"] if turned else []
    if made.facts.group_kind != "patient":
        remarks.append(
            f"No patients are stated: every {made.facts.group_kind} is a group of its own, and splits may separate "
            "images of one patient. State them with --group PATTERN --force."
        )
    return images, len(groups), tuple(remarks)


# ---------------------------------------------------------------------------------------------------------------- files


def _same(home: Home, known: Record, made: Record, tree: RawTree, keys: Iterable[str]) -> bool:
    """Return whether the source that the home has is the one that would be made, in every option and file."""
    facts = made.facts.model_copy(update={"access_checked": known.facts.access_checked})
    listing = store.listing(home, known.facts.name)
    return (
        known == made.model_copy(update={"facts": facts})
        and home.raw(known.facts.name).is_dir()
        and set(listing) == set(keys)
        and all(listing[key] == _digest(tree.path(key)) for key in listing)
    )


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _take(home: Home, made: Record, folder: Path, tree: RawTree, keys: Sequence[str], bars: Bars) -> None:
    """Link or copy the files into raw/<Name>, with a digest of each, and write the record."""
    name = made.facts.name
    summary = f"imported from {counted(len(keys), 'file')} of {folder}, digests recorded"
    receipt = store.Receipt(home, name)
    with store.making_raw(home, name) as raw, bars(f"{name}: import", "files") as move:
        for number, key in enumerate(keys, start=1):
            target = raw / key
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic.link_or_copy(Path(os.path.realpath(tree.path(key))), target)
            move(number, len(keys))
        # The record first: raw files without one would belong to no source.
        record.write(home, made)
        facts: dict[str, Any] = {"kind": "given", "said": summary, "licence": None, "route": None}
        store.finish_raw(home, name, raw, receipt, **facts)


def _holds(corpus: Path, slug: str) -> bool:
    """Return whether a corpus is made of a source. Raises UnreadableFile for one that cannot be read."""
    try:
        return any(source["slug"] == slug for source in json.loads(corpus.read_text("utf-8"))["sources"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{corpus} cannot be read: {error}.", next="us43d corpus --all") from error
