"""Verdicts as files: review export, review import."""

from pathlib import Path
from typing import Annotated

import typer

from us43d import atomic

from .build import PANEL
from .output import Session
from .verb import app, verb

review = typer.Typer(
    name="review",
    help="Share verdicts and fixes made in us43d view: export yours, import those of others.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(review, rich_help_panel=PANEL)


@verb("export", panel=PANEL, examples=("us43d review export verdicts.jsonl",), of=review)
def export(
    session: Session,
    file: Annotated[Path, typer.Argument(help="File to write.", metavar="FILE")],
) -> None:
    """Write all verdicts and fixes of this home, with what was undone, to one file."""
    from us43d.splits import review as verdicts

    data = verdicts.export(session.home.root)
    atomic.write_files(file.parent, {file.name: data}, "A file of that name stays as it was.")
    count = data.count(b"\n")
    session.answer({"file": file, "lines": count}, f"{count} lines: {file}")


@verb("import", panel=PANEL, examples=("us43d review import verdicts.jsonl",), of=review)
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A file that us43d review export wrote.", metavar="FILE")],
) -> None:
    """Append the verdicts and fixes of another person; known ones count once."""
    from us43d.splits import review as verdicts

    new, known = verdicts.import_file(session.home.root, file)
    session.answer(
        {"new": new, "known": known},
        f"{new} new verdicts and fixes, {known} known already; builds apply them: us43d build --all",
    )
