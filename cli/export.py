"""The verb that writes a corpus, or one source, for other training tools."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from us43d import registry
from us43d.contract import Profile
from us43d.errors import UnknownName, UsageError, counted, listed
from us43d.export import FORMATS, write

from .build import PANEL
from .builds import is_built, newest, of_newest
from .many import Outcome
from .models import corpora_on_disk, makes_corpus, release
from .options import Commercial, Jobs, workers
from .output import Session
from .select import sources_on_disk
from .verb import verb

if TYPE_CHECKING:
    from us43d.harmonize.corpus import Corpus


def _several(help: str, metavar: str = "NAME") -> Any:
    return typer.Option(help=f"{help} (repeatable).", metavar=metavar, show_default=False)


@verb(
    "export",
    panel=PANEL,
    kept="Finished blocks are kept in a hidden folder beside --out; the same command resumes.",
    examples=(
        "us43d export us43d --to nnunet --out nnunet --organs thyroid",
        "us43d export BUSI --to yolo --out busi-yolo",
        "us43d export us43d --to coco --out s3://bucket/us43d --commercial",
        "us43d check nnunet",
    ),
)
def export(
    session: Session,
    name: Annotated[
        str | None,
        typer.Argument(
            help="A corpus or a built source. Default: the only corpus.", metavar="CORPUS|NAME", show_default=False
        ),
    ] = None,
    to: Annotated[str, typer.Option("--to", help=f"Format: {', '.join(FORMATS)}.", metavar="FORMAT")] = "",
    out: Annotated[
        str,
        typer.Option(
            "--out", help="Folder or fsspec URL (s3://, gs://, hf://); empty or absent.", metavar="FOLDER|URL"
        ),
    ] = "",
    split: Annotated[list[str] | None, _several("Splits to export. Default: all", "train|val|test")] = None,
    source: Annotated[list[str] | None, _several("Only these sources of the corpus")] = None,
    structures: Annotated[list[str] | None, _several("Only these structures")] = None,
    organs: Annotated[list[str] | None, _several("Only structures of these organs")] = None,
    size: Annotated[
        int | None, typer.Option(min=16, max=4096, help="Resize images to this long side, in pixels.", metavar="N")
    ] = None,
    class_agnostic: Annotated[bool, typer.Option("--class-agnostic", help="One category for all structures.")] = False,
    commercial: Commercial = False,
    link: Annotated[
        bool, typer.Option("--link", help="Hard-link image files instead of copying them, where the disk allows it.")
    ] = False,
    keep_ids: Annotated[bool, typer.Option("--keep-ids", help="COCO: ids of the corpus instead of 1, 2, 3 …")] = False,
    number: Annotated[int, typer.Option(min=1, max=999, help="nnU-Net: number of the dataset.")] = 43,
    jobs: Jobs = None,
) -> None:
    """Export a corpus for another training tool, with its exclusions, groups, splits and licences."""
    from us43d.export.selection import EXPORTED, Options

    if to not in FORMATS:
        problem = f"Unknown format {to!r}." if to else "Missing --to."
        raise UsageError(f"{problem} Use --to with one of {', '.join(FORMATS)}.", next="us43d export --help")
    if not out:
        raise UsageError("Missing --out. Give a folder or URL.", next="us43d export --help")
    if unknown := sorted(set(split or ()) - set(EXPORTED)):
        raise UsageError(
            f"Unknown split {listed(map(repr, unknown))}. Use train, val or test.", next="us43d export --help"
        )
    with _opened(session, name) as (corpus, notes):
        options = Options(
            splits=tuple(exported for exported in EXPORTED if exported in split) if split else EXPORTED,
            sources=tuple(source or ()),
            structures=tuple(structures or ()),
            organs=tuple(organs or ()),
            size=size,
            class_agnostic=class_agnostic,
            commercial=commercial,
            link=link,
            keep_ids=keep_ids,
            number=number,
            notes=notes,
        )
        for note in notes:
            session.warn(note)
        with session.progress(f"export to {to}") as move:
            report = write(to, corpus, out, options, jobs=workers(jobs), progress=move)
    facts = report.facts
    cut = ", ".join(f"{facts['images'][name]:,} {name}" for name in EXPORTED if name in facts["images"])
    lines = [
        f"{to}: {counted(sum(facts['images'].values()), 'image')} ({cut}), "
        f"{counted(facts['annotations'], 'annotation')} in {report.out}"
    ]
    lines += [f"not exported: {number:,} {reason}" for reason, number in facts["skipped"].items()]
    lines += [f"{what}: {number:,}" for what, number in facts["counts"].items()]
    if report.reused:
        lines[0] += " (unchanged)"
    session.answer(facts | {"out": report.out, "reused": report.reused}, *lines, "", report.usage.rstrip("\n"))


@contextmanager
def _opened(session: Session, name: str | None) -> Iterator[tuple["Corpus", tuple[str, ...]]]:
    """Yield the selected corpus and notes for its README; for the name of a source, a corpus of one build."""
    from us43d.harmonize.corpus import Corpus
    from us43d.harmonize.merge import merge

    if name is None or "://" in name or session.home.corpus(name).joinpath("corpus.json").is_file():
        yield Corpus.open(release(session, name, option=None), session.home.root), ()
        return
    try:
        recipe = registry.find(name, session.home)
    except UnknownName as error:
        corpora = corpora_on_disk(session)
        known = f" Corpora: {listed(corpora)}." if corpora else " No corpus is built."
        if name in get_args(Profile):  # what a corpus is called by default; a source with a similar name is not meant
            raise UnknownName(
                f"The corpus {name!r} is not built.{known if corpora else ''}", next=makes_corpus(session)
            ) from error
        raise UnknownName(f"{error.what}{known}", next=error.next) from error
    build = newest(session, recipe)
    with tempfile.TemporaryDirectory(prefix="us43d-", ignore_cleanup_errors=True) as scratch:
        corpus = merge([build], session.home.root, recipe.name, folder=Path(scratch) / recipe.slug)
        yield corpus, _notes(session, recipe.slug, recipe.name)


def _notes(session: Session, slug: str, name: str) -> tuple[str, ...]:
    """Return what a corpus of all built sources would exclude from this source."""
    from us43d.harmonize.merge import excluded_by

    bad = list[Outcome]()
    recipes = sources_on_disk(session.home, is_built)
    number = of_newest(session, recipes, lambda builds: excluded_by(builds, session.home.root), bad).get(slug, 0)
    unread = [f"Duplicates shared with {o.name} are unknown: its build cannot be read." for o in bad]
    if not number:
        return tuple(unread)
    return (
        *unread,
        f"{number:,} images of {name} are near-duplicates of images that other built sources test or validate on. This "
        f"export of {name} alone keeps them; a corpus excludes them (us43d corpus --all, then us43d export RELEASE "
        f"--source {name}).",
    )
