"""Verbs that make and prove builds: build, corpus, check, splits."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from us43d import registry
from us43d.contract import Collection, Profile, Recipe
from us43d.errors import (
    BuildError,
    CheckError,
    MissingRawFile,
    SplitError,
    StorageError,
    UnknownName,
    Us43dError,
    UsageError,
    command,
    counted,
    lines_of,
    listed,
)
from us43d.licences import refuse_uncommercial

from .builds import NOT_OF_BUILDS, complain, is_built, is_fetched, newest, of_newest, sources, unsound, without
from .many import Outcome, each, finish
from .options import Apart, Commercial, Every, Include, Jobs, Names, by_default, workers
from .output import Session
from .select import chosen, sources_on_disk
from .tables import Columns, Table
from .verb import verb

if TYPE_CHECKING:
    from us43d.harmonize.corpus import Corpus
    from us43d.splits.proof import Proof

PANEL = "Curation"

ProfileOption = Annotated[
    Profile, typer.Option(help="us43d: corrected conversion. paper: as published, without its bugs.")
]
InCollection = Annotated[
    Collection | None,
    typer.Option(
        "--collection", help="Every source of a collection on this disk; names the corpus.", show_default=False
    ),
]
Release = Annotated[
    str | None, typer.Option("--release", help="Name of the corpus. Default: name of the profile.", metavar="NAME")
]


# --------------------------------------------------------------------------------------------------------------- build


@verb(
    "build",
    panel=PANEL,
    kept="Finished blocks and builds are kept; the same command resumes.",
    examples=(
        "us43d build BUSI CAMUS",
        "us43d build --all --jobs 8",
        "us43d build BUS-BRA --partial",
        "us43d build BUSI --skip-bad",
    ),
)
def build(
    session: Session,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every fetched source, then one corpus of them.")] = False,
    jobs: Jobs = None,
    profile: ProfileOption = "us43d",
    partial: Annotated[
        bool, typer.Option("--partial", help="Report published counts instead of enforcing them (a cut of a source).")
    ] = False,
    fixes: Annotated[
        bool, typer.Option("--fixes/--no-fixes", help="Apply the corrections of the recipe and of reviews.")
    ] = True,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip samples and files that cannot be read, and record them.")
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            help="Pattern of raw files to ignore, such as '*.txt' (repeatable); recorded.",
            metavar="PATTERN",
            show_default=False,
        ),
    ] = None,
    release: Release = None,
    collection: InCollection = None,
    include: Include = None,
    commercial: Commercial = False,
    executor: Annotated[
        str | None,
        typer.Option("--executor", help="A Dask cluster: dask://host:port, or dask://local.", metavar="ADDRESS"),
    ] = None,
) -> None:
    """Harmonize fetched sources into COCO shards, a manifest and leak-free splits."""
    recipes = sources(session, names, every, is_fetched, "build", collection)
    if commercial:
        refuse_uncommercial({recipe.name: recipe.licence.terms for recipe in recipes}, "us43d build {} --commercial")
    built: dict[str, Path] = {}

    def work(recipe: Recipe) -> Outcome:
        outcome = build_one(
            session,
            recipe,
            profile,
            partial=partial,
            fixes=fixes,
            jobs=workers(jobs),
            executor=executor,
            skip_bad=skip_bad,
            ignore=tuple(ignore or ()),
        )
        built[recipe.slug] = Path(outcome.data["path"])
        return outcome

    outcomes = each(session, recipes, work)
    corpora = []
    members = recipes if names else _taken(session, recipes, include)
    builds = [built[recipe.slug] for recipe in members if recipe.slug in built]
    if (every or collection or release) and builds:
        merged = _merge(session, builds, release or collection or profile, commercial)
        corpora.append(Outcome(f"corpus {merged.path.name}", "merged", _size(merged), data=_facts(merged)))
    finish(session, "build", outcomes, corpora)
    _older(session, {Path(corpus.data["path"]) for corpus in corpora})


def _older(session: Session, merged: set[Path]) -> None:
    """Name the corpora with other builds than the newest ones, and the commands that merge them again."""
    from us43d.harmonize.built import Build
    from us43d.harmonize.corpus import Corpus
    from us43d.loading import latest

    for path in session.home.corpora():
        if path in merged:
            continue
        try:
            corpus = Corpus.open(path, session.home.root)
            newer = [
                str(source["name"])
                for source in corpus.sources
                if (build := latest(session.home, source["name"], source.get("profile")))
                and Build(build).digest != source["digest"]
            ]
        except (BuildError, StorageError):  # what is damaged is reported by what reads it, and does not fail this build
            continue
        if newer:
            session.say(f"The corpus {path.name} has an older build of {listed(newer)}.")
            session.say(f"Next: {merging(session, corpus)}")


def build_one(
    session: Session,
    recipe: Recipe,
    profile: Profile,
    *,
    partial: bool,
    fixes: bool = True,
    jobs: int,
    executor: str | None = None,
    skip_bad: bool = False,
    ignore: tuple[str, ...] = (),
) -> Outcome:
    """Build one source with a bar. Raises what `us43d.harmonize.build.build` raises."""
    from us43d.harmonize.build import Skip
    from us43d.harmonize.build import build as harmonize
    from us43d.harmonize.built import Build

    raw = session.home.raw(recipe.name)
    if not raw.is_dir():
        raise MissingRawFile(
            f"{recipe.name} is not fetched: {raw} is missing.", next=recipe.again.removesuffix(" --force")
        )
    with session.progress(recipe.name) as move:
        result = harmonize(
            recipe,
            raw,
            session.home,
            profile=profile,
            partial=partial,
            fixes=fixes,
            jobs=jobs,
            executor=executor,
            receipt=_receipt(session, recipe),
            progress=move,
            skip=Skip(skip_bad, ignore),
        )
    counts, splits = result.dataset["counts"], result.dataset["splits"]
    cut = " / ".join(str(splits.get(split, {}).get("images", 0)) for split in ("train", "val", "test"))
    # The groups in `counts` are those of the files, as published numbers are; the manifest has near-duplicates joined.
    rows = Build(result.path).columns(["group", "split"])
    groups = len({row["group"] for row in rows if row["split"]})
    lines = [
        f"{counted(counts['images'] - counts['dropped'], 'image')}, {counted(counts['annotations'], 'annotation')}, "
        f"{counted(groups, 'group')}; train/val/test {cut}"
        + (f", {excluded:,} excluded" if (excluded := splits.get("excluded", {}).get("images", 0)) else "")
    ]
    lines += [f"{number:,} dropped: {reason}" for reason, number in result.dataset["drops"].items()]
    lines += [f"{number:,} × {remark}" for remark, number in result.dataset["remarks"].items()]
    if stale := result.dataset.get("corrections", {}).get("stale"):
        session.warn(
            f"{recipe.name}: {counted(len(stale), 'correction')} of a review not applied, because the image or its "
            f"published masks have changed since: {listed(stale)}."
        )
    skipped = result.dataset.get("skipped", {})
    lines += [
        f"{counted(len(keys), 'file')} ignored by {pattern!r}" for pattern, keys in skipped.get("ignored", {}).items()
    ]
    lines += [f"skipped: {file}{f' ({why})' if why else ''}" for file, why in skipped.get("files", {}).items()]
    stated = "at import" if recipe.private else "published"
    lines += [f"{d['what']}: {d['found']:,}, {stated} {d['published']:,}" for d in counts["differences"]]
    data = {"path": str(result.path), "digest": result.digest, "reused": result.reused, **result.dataset}
    return Outcome(recipe.name, "unchanged" if result.reused else "built", "\n".join(lines), data=data)


def _receipt(session: Session, recipe: Recipe) -> dict[str, Any]:
    """Return what fetch recorded; empty for a raw tree that you put there yourself."""
    from us43d.fetch.store import receipt

    try:
        return receipt(session.home, recipe.name)
    except MissingRawFile:
        return {}


# -------------------------------------------------------------------------------------------------------------- corpus


@verb(
    "corpus",
    panel=PANEL,
    examples=("us43d corpus --all", "us43d corpus BUSI BUS-BRA --release breast", "us43d corpus --all --commercial"),
)
def corpus(
    session: Session,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every built source.")] = False,
    release: Release = None,
    profile: ProfileOption = "us43d",
    collection: InCollection = None,
    include: Include = None,
    commercial: Commercial = False,
) -> None:
    """Merge builds into one corpus, which training and evaluation read."""
    recipes = sources(session, names, every, is_built, "corpus", collection)
    recipes = recipes if names else _taken(session, recipes, include)
    if not recipes:
        raise UsageError(
            "All builds in this home are excluded from a corpus by default. Name the sources to merge.",
            next="us43d corpus NAME… --release RELEASE",
        )
    if commercial:
        refuse_uncommercial({recipe.name: recipe.licence.terms for recipe in recipes}, "us43d corpus {} --commercial")
    try:
        builds = [newest(session, recipe, profile) for recipe in recipes]
        merged = _merge(session, builds, release or collection or profile, commercial)
    except NOT_OF_BUILDS:
        raise
    except Us43dError:
        lost = unsound(session, recipes, profile) if len(recipes) > 1 and not names else []
        if not lost:
            raise
        reasons = lines_of([f"{outcome.name}: {outcome.said}" for outcome in lost])
        words = [recipe.name for recipe in without(recipes, lost)]
        words += ["--release", release or collection or profile] if release or collection else []
        words += ["--profile", profile] if profile != "us43d" else []
        words += ["--commercial"] if commercial else []
        raise BuildError(
            f"{len(lost)} of {len(recipes)} sources cannot be merged:{reasons}",
            disk="The corpus that was there, if any, is unchanged.",
            next=f"{command('corpus', *words)}   (a corpus without them)",
        ) from None
    session.answer(_facts(merged), f"corpus {merged.path.name}: {_size(merged)}", f"in {merged.path}")


def merging(session: Session, corpus: "Corpus") -> str:
    """Return the command that merges a corpus again, of the newest builds; empty for one that is not of this home."""
    if corpus.path.resolve().parent != (session.home.root / "corpora").resolve():
        return ""
    names = [str(source["name"]) for source in corpus.sources]
    profile, release = str(corpus.sources[0].get("profile", "us43d")), corpus.path.name
    every = {recipe.name for recipe in by_default(sources_on_disk(session.home, is_built), ())[0]}
    words = ["--all"] if release == profile and set(names) == every else names
    words += ["--profile", profile] if profile != "us43d" else []
    words += ["--release", release] if release != profile else []
    words += ["--commercial"] if corpus.facts["licences"]["commercial"] else []
    return command("corpus", *words)


def _taken(session: Session, recipes: list[Recipe], include: list[Apart] | None) -> list[Recipe]:
    """Return the sources of a corpus of --all and print the excluded ones."""
    kept, left = by_default(recipes, include or ())
    for why, names in left.items():
        session.say(f"Not in the corpus: {listed(names)} ({why}). Add them with --include {why}.")
    return kept


def _merge(session: Session, builds: Iterable[Path], release: str, commercial: bool) -> "Corpus":
    from us43d.harmonize.merge import merge

    corpus = merge(list(builds), session.home.root, release, commercial=commercial)
    for pair in corpus.facts["across_sources"]["unmatched"]:
        likely = "" if pair["certain"] else "probably "
        session.say(
            f"{' and '.join(pair['sources'])} {likely}share {pair['what']}, under unknown names: only "
            "equal images, and near-duplicates that us43d audit finds, are kept in one split."
        )
    return corpus


def _size(corpus: "Corpus") -> str:
    images = corpus.facts["images"]
    cut = ", ".join(f"{number:,} {split}" for split, number in images.items() if number)
    return (
        f"{counted(len(corpus), 'image')} ({cut}), {counted(len(corpus.annotations), 'annotation')}, "
        f"{counted(corpus.facts['groups'], 'group')} of {counted(len(corpus.sources), 'source')}"
    )


def _facts(corpus: "Corpus") -> dict[str, Any]:
    kept = ("release", "images", "annotations", "groups", "digest")
    return {name: corpus.facts[name] for name in kept} | {
        "path": str(corpus.path),
        "sources": [source["name"] for source in corpus.sources],
    }


# --------------------------------------------------------------------------------------------------------------- check


@verb("check", panel=PANEL, examples=("us43d check BUSI", "us43d check --all", "us43d check exports/nnunet"))
def check(session: Session, names: Names = None, every: Every = False, jobs: Jobs = None) -> None:
    """Recompute digests, hashes, masks, boxes, ids and splits of builds or exports (folders, URLs) from their files.

    Raw files are not checked: us43d verify compares them with their receipts.
    """
    from us43d.harmonize.check import check as examine

    exports = [name for name in names or () if _is_export(session, name)]
    if exports:
        if every or len(exports) < len(names or ()):
            raise UsageError("Exports are checked on their own.", next=f"us43d check {' '.join(exports)}")
        _check_exports(session, exports)
        return

    def work(recipe: Recipe) -> Outcome:
        problems = []
        versions = session.home.finished(recipe.name)
        if not versions:
            raise BuildError(f"{recipe.name} is not built.", next=f"us43d build {recipe.name}")
        for path in versions:
            with session.progress(f"{recipe.name} {path.name}") as move:
                problems += [(path.name, *p) for p in examine(path, jobs=workers(jobs), progress=move)]
        if problems:
            shown = [f"{version}: {kind}: {where}: {what}" for version, kind, where, what in problems]
            raise CheckError(
                f"{recipe.name}: {len(problems)} problems:{lines_of(shown)}",
                next=f"us43d build {recipe.name}   (after removing {session.home.builds(recipe.name)})",
            )
        return Outcome(recipe.name, "sound", ", ".join(path.name for path in versions))

    finish(session, "check", each(session, sources(session, names, every, is_built, "check"), work))


def _is_export(session: Session, name: str) -> bool:
    """Return whether a name is that of a folder or URL, which has a slash, an export.json, or no source's name."""
    if "/" in name or (Path(name) / "export.json").is_file():
        return True
    if not Path(name).is_dir():
        return False
    try:
        registry.look_up(name, session.home)
    except UnknownName:
        return True
    return False


def _check_exports(session: Session, exports: list[str]) -> None:
    from us43d.export.check import check as examine

    problems = []
    for out in exports:
        with session.progress(out, "files") as move:
            problems += [(out, *problem) for problem in examine(out, progress=move)]
    if problems:
        shown = [f"{out}: {kind}: {where}: {what}" for out, kind, where, what in problems]
        raise CheckError(
            f"{len(problems)} problems:{lines_of(shown)}",
            next="us43d export --help   (export again, to an empty folder)",
        )
    session.answer([{"name": out, "state": "sound"} for out in exports], *(f"{out}: sound" for out in exports))


# -------------------------------------------------------------------------------------------------------------- splits


@verb(
    "splits",
    panel=PANEL,
    examples=("us43d splits", "us43d splits BUSI", "us43d splits --reproduce"),
)
def splits(
    session: Session,
    names: Names = None,
    reproduce: Annotated[
        bool, typer.Option("--reproduce", help="Compute every pinned split again from its list and the rule.")
    ] = False,
    profile: ProfileOption = "us43d",
) -> None:
    """Prove that no group, no image and no known near-duplicate is in two splits, within and across sources."""
    if reproduce:
        _reproduce(session)
        return
    from us43d.harmonize.built import Build
    from us43d.splits import duplicate_links, known_duplicates, pinned
    from us43d.splits.proof import prove

    recipes = chosen(names, None, "splits", session.home) if names else sources(session, None, True, is_built, "splits")
    data, rows_of, wrong, bad = [], [], [], list[Outcome]()
    lines = []
    unsearched, step = [], "us43d audit --all"
    verified = duplicate_links.read(session.home.root)

    def read(builds: list[Path]) -> list[tuple[Build, list[dict[str, Any]]]]:
        return [(build, [row | {"source": build.slug} for row in build.rows]) for build in map(Build, builds)]

    for build, rows in of_newest(session, recipes, read, None if names else bad, None if names else profile):
        pictures = {row["key"]: row["pixel_hash"] for row in rows if row["split"] is not None}
        links = duplicate_links.within(verified, build.slug, pictures)
        proof = prove(rows, [*known_duplicates.known(build.slug), *((link.a.key, link.b.key) for link in links)])
        searched = duplicate_links.searched(session.home.root, build.slug, pictures.values())
        if searched != "audit":
            unsearched.append(build.name)
        if proof.shared_links:
            step = f"us43d build {build.name}"
        differ = [] if "-specimen" in build.path.name else pinned.compare(build.slug, profile, rows)
        rows_of += rows
        how = "pinned" if build.slug in pinned.slugs() else "by the rule, not pinned"
        how = "specimen" if "-specimen" in build.path.name else how
        state = _SEARCHED[searched]
        lines.append((build.name, *_cells(proof), how, "yes" if proof.sound else "NO", state))
        wrong += [f"{build.name}: {line}" for line in proof.lines() if line.startswith("NOT")]
        wrong += [f"{build.name}: {line}" for line in differ]
        data.append(
            {
                "name": build.name,
                "version": build.path.name,
                "how": how,
                "pinned_differences": differ,
                "near_duplicates": searched,
                **_said(proof),
            }
        )
    whole = prove(rows_of)
    across = sorted(set(whole.shared_pictures))
    heads: Columns = (
        ("source", "left"), ("train", "right"), ("val", "right"), ("test", "right"), ("excluded", "right"),
        ("groups", "right"), ("split", "left"), ("disjoint", "left"), ("near-duplicates", "left"),
    )  # fmt: skip
    session.answer(
        {"sources": data, "all": _said(whole)}, Table(heads, lines), "", "All sources together:", *whole.lines()
    )
    if unsearched:
        session.warn(
            f"Near-duplicates were not searched among these images of {listed(unsearched)}: 'disjoint' covers groups, "
            f"equal images and known pairs.\nNext: us43d audit --all"
        )
    if across and not wrong:
        wrong.append(f"{counted(len(across), 'image is', 'images are')} in different splits of different sources")
    if wrong:
        raise SplitError(f"The splits do not hold: {listed(wrong)}.", next=step)
    complain(recipes, bad)


#: `us43d.splits.duplicate_links.searched` → cell.
_SEARCHED = {
    "audit": "searched by audit", "other images": "searched in other images", "list": "known list only",
    "no": "not searched",
}  # fmt: skip


def _cells(proof: "Proof") -> tuple[int | None, ...]:
    parts = ("train", "val", "test", "excluded")
    return (*(proof.images.get(split) for split in parts), sum(proof.groups.values()))


def _said(proof: "Proof") -> dict[str, Any]:
    return {
        "images": proof.images,
        "groups": proof.groups,
        "pictures": proof.pictures,
        "shared_groups": proof.shared_groups,
        "shared_pictures": proof.shared_pictures,
        "shared_near_duplicates": [list(link) for link in proof.shared_links],
        "sound": proof.sound,
    }


def _reproduce(session: Session) -> None:
    from us43d.splits import pinned

    differences = pinned.reproduce()
    rows = [
        (slug, pinned.index()["sources"][slug]["rows"], pinned.index()["sources"][slug]["groups"])
        for slug in pinned.slugs()
    ]
    rest = sorted(recipe.name for recipe in registry.recipes() if recipe.slug not in pinned.slugs())
    heads: Columns = (("pinned", "left"), ("rows", "right"), ("groups", "right"))
    session.answer(
        {"pinned": [row[0] for row in rows], "unpinned": rest, "differences": differences},
        Table(heads, rows),
        "",
        f"{len(rows)} pinned splits computed again: {len(differences)} differences",
        f"by the rule alone, as no complete list is known: {', '.join(rest)}",
    )
    if differences:
        raise SplitError(
            f"{len(differences)} pinned splits cannot be reproduced: {listed(differences)}.",
            next="git diff manifests/ us43d/splits/",
        )
