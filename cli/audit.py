"""Verbs that look for what is wrong with builds, and for what changed between two: audit, diff."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from us43d import registry
from us43d.errors import SplitError, listed

from .build import PANEL
from .builds import complain, is_built, newest, of_newest, sources
from .many import Outcome
from .options import Jobs, Names, workers
from .output import Session
from .tables import Table
from .verb import verb

if TYPE_CHECKING:
    from us43d.audit.findings import Findings

#: Columns that are shown even where all their values are 0.
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
    every: Annotated[
        bool, typer.Option("--all", help="Every built source, and the duplicates between sources.")
    ] = False,
    jobs: Jobs = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if duplicates or a group cross splits.")] = False,
) -> None:
    """Find exact and near-duplicates, leaks, contradicting labels and suspicious masks; builds apply the result."""
    from us43d.audit.findings import COLUMNS, summarize
    from us43d.audit.inspect import inspect_builds
    from us43d.audit.record import record, write

    recipes, bad = sources(session, names, every, is_built, "audit"), list[Outcome]()

    def work(builds: list[Path]) -> "Findings":
        with session.progress("audit") as move:
            return inspect_builds(
                builds, session.home.root, jobs=workers(jobs), progress=lambda what, done, total: move(done, total)
            )

    findings = of_newest(session, recipes, work, bad if every else None)
    folder, links = write(findings, session.home.root)
    counts = summarize(findings)
    shown = {key: head for key, head in COLUMNS.items() if key in _ALWAYS or any(row[key] for row in counts)}
    rows = [[row[key] for key in shown] for row in counts]
    session.answer(
        record(findings) | {"path": str(folder), "links": links},
        Table([(head, "left" if key == "name" else "right") for key, head in shown.items()], rows),
        "",
        *_summary(findings),
        f"{links} links between near-duplicates stored for builds and corpora; page: {folder / 'index.html'}",
    )
    if findings.remaining_leaks:
        message = f"{findings.remaining_leaks} remaining leaks: {'; '.join(_leaks(findings))}."
        step = f"us43d build {' '.join(build.name for build in findings.builds)}   # then us43d corpus --all"
        step = "us43d build --all" if every else step
        if strict:
            raise SplitError(message, disk=f"The findings are in {folder}.", next=step)
        session.warn(f"{message}\nNext: {step}")
    complain(recipes, bad)


def _summary(findings: "Findings") -> list[str]:
    across = sum(len(family) for family in findings.across)
    return [
        f"{len(findings.exact):,} sets of exact duplicates, {len(findings.near):,} pairs of near-duplicates, "
        f"{len(findings.across):,} families ({across:,} images) across sources",
        f"{len(findings.conflicts):,} contradicting labels; "
        f"{len(findings.official_leaks):,} families cross published splits",
    ]


def _leaks(findings: "Findings") -> list[str]:
    counts = (
        (len(findings.leaks), "families of duplicates in several splits of a source"),
        (len(findings.across_leaks), "families across sources in several splits"),
        (len(findings.group_leaks), "groups in several splits"),
    )
    return [f"{number} {what}" for number, what in counts if number]


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
    keys: Annotated[
        int, typer.Option("--keys", min=0, help="Number of keys shown for each change; --json prints all.")
    ] = 5,
) -> None:
    """Compare two builds of a source: images, annotations, splits, labels."""
    from us43d.harmonize.diff import diff as compare

    difference = compare(_folder(session, old), _folder(session, new))
    if difference.same:
        session.answer(difference, f"{difference.name}: nothing changed (digest {difference.new[:12]})")
        return
    counts = [
        (what, was, now, f"{now - was:+,}" if now != was else "") for what, (was, now) in difference.counts.items()
    ]
    changes = [(c.kind, c.what, len(c.keys), listed(c.keys, keys) if keys else "") for c in difference.changes]
    session.answer(
        difference,
        Table((("count", "left"), ("old", "right"), ("new", "right"), ("", "right")), counts),
        "",
        Table((("change", "left"), ("", "fold"), ("number", "right"), ("of", "fold")), changes),
    )


def _folder(session: Session, build: str) -> Path:
    """Return a folder as given, or else one below build/ of the home, its source in any spelling."""
    if Path(build).is_dir():
        return Path(build)
    name, _, version = build.partition("/")
    return (
        session.home.build(registry.find(name, session.home).name, version)
        if version
        else newest(session, registry.find(name, session.home))
    )
