"""Verbs that look for what is wrong with builds, and for what changed between two: audit, diff."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from us43d import registry
from us43d.errors import SplitError, listed

from .build import PANEL, is_built, newest, sources
from .options import Jobs, Names, workers
from .output import Session
from .tables import Table
from .verb import verb

if TYPE_CHECKING:
    from us43d.audit.audit import Audit

#: Columns that are shown even where they hold nothing but zeros.
_ALWAYS = ("name", "images", "exact", "near", "leaks")


@verb(
    "audit",
    panel=PANEL,
    kept="The last audit's files stay as they were.",
    examples=("us43d audit BUSI", "us43d audit --all", "us43d audit --all --strict"),
)
def audit(
    session: Session,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every built source, and the twins between them.")] = False,
    jobs: Jobs = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if a twin or a group is in two splits.")] = False,
) -> None:
    """Find twins, leaks, contradicting labels, odd masks and burnt-in marks; builds take in the twins found."""
    from us43d.audit.audit import COLUMNS, counted
    from us43d.audit.audit import audit as examine
    from us43d.audit.record import record, write

    builds = [newest(session, recipe) for recipe in sources(session, names, every, is_built, "audit")]
    with session.progress("audit") as move:
        found = examine(
            builds, session.home.root, jobs=workers(jobs), progress=lambda what, done, total: move(done, total)
        )
    folder, links = write(found, session.home.root)
    counts = counted(found)
    shown = {key: head for key, head in COLUMNS.items() if key in _ALWAYS or any(row[key] for row in counts)}
    rows = [[row[key] for key in shown] for row in counts]
    session.answer(
        record(found) | {"path": str(folder), "links": links},
        Table([(head, "left" if key == "name" else "right") for key, head in shown.items()], rows),
        "",
        *_summary(found),
        f"{links} links between twins are kept for builds and corpora; pictures side by side: {folder / 'index.html'}",
    )
    if found.left:
        said = f"{found.left} leaks are left: {'; '.join(_left(found))}."
        step = f"us43d build {' '.join(build.name for build in found.builds)}   (then us43d corpus --all)"
        if strict:
            raise SplitError(said, disk=f"What was found is in {folder}.", next="us43d build --all" if every else step)
        session.warn(f"{said}\nNext: {'us43d build --all' if every else step}")


def _summary(found: "Audit") -> list[str]:
    across = sum(len(family) for family in found.across)
    return [
        f"{len(found.exact):,} sets of equal pictures, {len(found.near):,} pairs of near duplicates, "
        f"{len(found.across):,} families ({across:,} images) across sources",
        f"{len(found.conflicts):,} contradicting labels; {len(found.official_leaks):,} families cross published splits",
    ]


def _left(found: "Audit") -> list[str]:
    parts = (
        (len(found.leaks), "families of twins in several splits of a source"),
        (len(found.across_leaks), "families across sources in several splits"),
        (len(found.group_leaks), "groups in several splits"),
    )
    return [f"{number} {what}" for number, what in parts if number]


# ---------------------------------------------------------------------------------------------------------------- diff


@verb(
    "diff",
    panel=PANEL,
    examples=("us43d diff BUSI/r1s1-us43d BUSI/r1s1-paper", "us43d diff old/build/BUSI/r1s1-us43d BUSI/r1s1-us43d"),
)
def diff(
    session: Session,
    old: Annotated[str, typer.Argument(help="A build: its folder, or NAME/VERSION below build/.", metavar="OLD")],
    new: Annotated[str, typer.Argument(help="The build to compare with it.", metavar="NEW")],
    keys: Annotated[int, typer.Option("--keys", min=0, help="Keys shown of each change; --json has all.")] = 5,
) -> None:
    """Say what changed between two builds of a source: images, annotations, splits, labels."""
    from us43d.harmonize.diff import diff as compare

    found = compare(_folder(session, old), _folder(session, new))
    if found.same:
        session.answer(found, f"{found.name}: nothing changed (digest {found.new[:12]})")
        return
    counts = [(what, was, now, f"{now - was:+,}" if now != was else "") for what, (was, now) in found.counts.items()]
    changes = [(c.kind, c.what, len(c.keys), listed(c.keys, keys) if keys else "") for c in found.changes]
    session.answer(
        found,
        Table((("count", "left"), ("old", "right"), ("new", "right"), ("", "right")), counts),
        "",
        Table((("change", "left"), ("", "fold"), ("number", "right"), ("of", "fold")), changes),
    )


def _folder(session: Session, build: str) -> Path:
    """A folder as it is, else one below the home's build/, its source in any spelling."""
    if Path(build).is_dir():
        return Path(build)
    name, _, version = build.partition("/")
    return session.home.build(registry.find(name).name, version) if version else newest(session, registry.find(name))
