"""The verb that writes a COCO file from images and masks."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from us43d import atomic
from us43d.errors import UsageError, command, counted

from .output import Session
from .verb import verb


@verb(
    "coco",
    panel="Model",
    examples=(
        "us43d coco scans/ masks/ --category lesion --patient '^(p[0-9]+)_' --out my_coco.json",
        "us43d coco scans/ masks/ --suffix _mask --out my_coco.json",
        "us43d coco cases/ cases/ --replace image=mask --patient '([^/]+)/image' --out my_coco.json",
        "us43d coco scans/ masks/ --classes 1=nodule,2=cyst --out my_coco.json",
        "us43d coco scans/ scans/ --out my_coco.json   # scans/a.png and scans/a.json of LabelMe",
        "us43d coco scans/ via_project.json --out my_coco.json",
    ),
)
def coco(
    session: Session,
    images: Annotated[Path, typer.Argument(help="Folder of images, of any format predict reads.", metavar="IMAGES")],
    masks: Annotated[
        Path,
        typer.Argument(
            help="Folder of masks with the same file names (black is background), or of LabelMe files; a VIA file.",
            metavar="MASKS",
        ),
    ],
    out: Annotated[Path, typer.Option(help="COCO file to write.", metavar="FILE")] = Path("coco.json"),
    category: Annotated[
        str | None,
        typer.Option(
            help="Structure that the masks show. Default: structure, or the labels of outlines.", show_default=False
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Names of a label map's values, palette indices or colours ('#ff0000=nodule'); those named background "
            "are not annotated.",
            metavar="VALUE=NAME,…",
            show_default=False,
        ),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(
            help="Regular expression for the patient in an image's path below IMAGES: its first group, or all of it.",
            metavar="PATTERN",
            show_default=False,
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Text before an image's name in the name of its mask, such as mask_.")
    ] = "",
    suffix: Annotated[
        str,
        typer.Option(
            help="Text after an image's name in the name of its mask, such as _mask (and _mask_1, _mask_2 …)."
        ),
    ] = "",
    replace: Annotated[
        str | None,
        typer.Option(
            help="Text in an image's path below IMAGES, and the text in its place in the mask's path, such as "
            "image=mask.",
            metavar="TEXT=TEXT",
            show_default=False,
        ),
    ] = None,
    united: Annotated[
        bool, typer.Option("--united", help="One annotation per mask, not one per connected component.")
    ] = False,
    instances: Annotated[
        bool,
        typer.Option("--instances", help="Each value of a mask is an object (label images of napari, Cellpose …)."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
) -> None:
    """Write a COCO file from a folder of images and a folder of their masks, for train --data and eval --data."""
    if out.is_dir():
        raise UsageError(
            f"{out} is a folder; --out takes a file.", next=f"the same with --out {shlex.quote(str(out / 'coco.json'))}"
        )
    if out.suffix.lower() != ".json":
        raise UsageError(
            f"{out} does not end in .json, as COCO files do.", next=f"the same with --out {shlex.quote(f'{out}.json')}"
        )
    if out.exists() and not force:
        raise UsageError(f"{out} already exists.", next="the same with --force")
    if category is not None and not category.strip():
        raise UsageError("--category is empty.", next="the same with --category structure")
    if category is not None and classes is not None:
        raise UsageError(
            "--category and --classes cannot be combined: --classes names what the masks show.",
            next=f"the same without --category {shlex.quote(category)}",
        )
    if instances and (classes is not None or united):
        raise UsageError(
            "--instances cannot be combined with --classes or --united.", next="the same without --instances"
        )
    from us43d.coco.write import from_masks

    with session.progress("reading masks") as move:
        written = from_masks(
            images,
            masks,
            category=category,
            classes=None if classes is None else _named(classes),
            patient=patient,
            prefix=prefix,
            suffix=suffix,
            replace=None if replace is None else _texts(replace),
            united=united,
            instances=instances,
            progress=move,
        )
    text = json.dumps(written.content, indent=1, ensure_ascii=False)
    atomic.write_files(out.parent, {out.name: text}, "Nothing was changed on disk.")
    for line in written.remarks:
        session.warn(line)
    content = written.content
    groups = {image["patient_id"] for image in content["images"] if "patient_id" in image}
    counts = {"images": len(content["images"]), "annotations": len(content["annotations"]), "patients": len(groups)}
    patients = f" of {counted(counts['patients'], 'patient')}" if patient else ""
    session.answer(
        {"file": out, **counts, "remarks": written.remarks},
        f"{out}: {counted(counts['annotations'], 'annotation')} in {counted(counts['images'], 'image')}{patients}",
    )
    folder = images if images.is_dir() else images.parent
    session.say(f"Next: {command('train', '--data', out, '--images', folder)}")


def _texts(text: str) -> tuple[str, str]:
    """Read --replace."""
    old, equals, new = text.partition("=")
    if not old or not equals or "=" in new:
        raise UsageError(f"Invalid --replace {text!r}: use IMAGE=MASK.", next="the same with --replace image=mask")
    return old, new


def _named(text: str) -> dict[int, str]:
    """Read --classes: the name of each class by its key."""
    from us43d.masks.classes import BACKGROUND, parse_key

    classes: dict[int, str] = {}
    try:
        for entry in text.split(","):
            key, equals, name = (piece.strip() for piece in entry.partition("="))
            number = parse_key(key)
            if not equals or not name:
                raise ValueError(f"{entry.strip()!r} is not VALUE=NAME")
            if number in classes:
                raise ValueError(f"{key} is named twice")
            classes[number] = name
        if not set(classes.values()) - {BACKGROUND}:
            raise ValueError("it names no class besides background")
        if len({key[:1] == "#" for key in text.replace(" ", "").split(",")}) > 1:
            raise ValueError("values and colours cannot be mixed")
    except ValueError as error:
        raise UsageError(
            f"Invalid --classes {text!r}: {error}.", next="the same with --classes 1=nodule,2=cyst"
        ) from error
    return classes
