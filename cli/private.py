"""us43d import: import a folder of your own as a private source, or remove it."""

from pathlib import Path
from typing import Annotated

import typer

from us43d.errors import UsageError, counted, listed

from .build import PANEL
from .output import Session
from .verb import verb


@verb(
    "import",
    panel=PANEL,
    kept="An existing source of this name is unchanged.",
    examples=(
        "us43d import ~/thyroid-lab --group '(P[0-9]+)_' --name ThyroidLab",
        "us43d import nnUNet_raw/Dataset007_Kidney --group '(pat[0-9]+)' --label kidneys=kidney",
        "us43d build ThyroidLab",
        "us43d import --remove ThyroidLab",
    ),
)
def import_(
    session: Session,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A COCO folder (JSON and images) or an nnU-Net dataset (dataset.json, imagesTr, labelsTr).",
            metavar="FOLDER",
            show_default=False,
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="Regular expression on paths below FOLDER whose first group (or whole match) is the patient.",
            metavar="PATTERN",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the source. Default: that of the folder.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Structure of a label (us43d taxonomy lists them); NAME=- excludes the label; repeatable.",
            metavar="NAME=STRUCTURE",
            show_default=False,
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence id, such as CC-BY-4.0. Default: PRIVATE, permitted uses unknown.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the private source of this name.")] = False,
    remove: Annotated[
        str | None,
        typer.Option("--remove", help="Remove a private source and its builds; FOLDER is not touched.", metavar="NAME"),
    ] = None,
) -> None:
    """Import a COCO or nnU-Net folder of your own as a private source of this home.

    Its files are hard-linked into the home, or copied if that is on another disk; a digest of each is recorded. Nothing
    leaves this machine. All verbs then know the source; published collections and their counts do not change.
    """
    from us43d.licences import LICENCES
    from us43d.private import imported

    if remove is not None:
        if folder is not None:
            raise UsageError("--remove takes no FOLDER.", next=f"us43d import --remove {remove}")
        removed, places = imported.remove(remove, session.home)
        session.answer({"name": removed, "removed": places}, f"{removed}: removed", *map(str, places))
        return
    if folder is None:
        raise UsageError("Missing FOLDER.", next="us43d import --help")
    if licence is not None and licence not in LICENCES:
        raise UsageError(f"Unknown licence {licence!r}. Known: {listed(LICENCES, 30)}.", next="us43d import --help")
    done = imported.import_folder(
        folder, session.home, name=name, group=group, labels=_labels(label or []), licence=licence, force=force,
        bars=session.progress,
    )  # fmt: skip
    facts = done.facts
    labels = ", ".join(text if text == to else f"{text} → {to}" for text, to in facts.labels.items())
    head = f"{facts.name}: {'the private source is unchanged' if done.unchanged else 'imported as a private source'}"
    session.answer(
        {
            "name": facts.name, "slug": facts.slug, "images": done.images, "groups": done.groups,
            "group_kind": facts.group_kind, "labels": facts.labels, "licence": facts.licence.id, "files": done.files,
            "other_files": done.other, "remarks": done.remarks, "unchanged": done.unchanged,
        },
        head,
        f"{counted(done.images, 'image')}, {counted(done.groups, 'group')} ({facts.group_kind}); labels: {labels}",
        f"licence: {facts.licence.terms.title}",
        *([f"not imported: {counted(len(done.other), 'other file')} ({listed(done.other, 3)})"] if done.other else []),
    )  # fmt: skip
    for remark in done.remarks:
        session.warn(f"{facts.name}: {remark}")
    session.say(f"Next: us43d build {facts.name}")


def _labels(pairs: list[str]) -> dict[str, str]:
    """Parse NAME=STRUCTURE.

    Raises:
        UsageError: For any other form.
    """
    labels = {}
    for pair in pairs:
        name, _, structure = pair.rpartition("=")
        if not name or not structure:
            raise UsageError(f"Invalid --label {pair!r}: use NAME=STRUCTURE.", next="us43d import --help")
        labels[name] = structure
    return labels
