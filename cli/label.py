"""us43d label: a local page to label your own images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from us43d import registry
from us43d.errors import ImageError, StorageError, UnknownName, UsageError, command, counted

from .builds import newest
from .models import Device, device_of, predictor, weights_of
from .output import Session
from .verb import verb
from .view import Host, NoBrowser, Port, run

if TYPE_CHECKING:
    from us43d.contract import Recipe
    from us43d.view.assistant import Assistant
    from us43d.view.inputs import FileInputs
    from us43d.view.labels import Inputs, Labels


@verb(
    "label",
    panel="Model",
    kept="Everything shown as saved on the page is in labels.json.",
    examples=(
        "us43d label scans/",
        "us43d label sweep.mp4 --weights first",
        "us43d label scans/ --patient '^(P[0-9]+)_' --out labels",
        "us43d label scans/ --masks predictions/predictions.json",
        "us43d label BUSI --weights first --all",
    ),
)
def label(
    session: Session,
    input: Annotated[
        str,
        typer.Argument(help="A folder, an image, video, DICOM or NIfTI file; or a built source.", metavar="INPUT|NAME"),
    ],
    weights: Annotated[
        str | None, typer.Option("--weights", help="The model that answers clicks.", metavar="RUN|FILE|NAME")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the labels. Default: INPUT-labels.", metavar="FOLDER", show_default=False),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(help="Regular expression on file names whose first group is the patient.", metavar="REGEX"),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="COCO file of masks to start from, such as predictions.json of us43d predict; yours are not replaced.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="For a source: include images that have masks, to correct them.")
    ] = False,
    device: Device = None,
    port: Port = None,
    no_browser: NoBrowser = False,
    host: Host = None,
) -> None:
    """Label images in the browser: boxes, clicks, brush; saved at once as COCO for `us43d train --data`.

    Of a built source, images without masks are shown. What you mark as reviewed replaces its masks in the next build.
    """
    from us43d.view.annotate import Annotate
    from us43d.view.labels import Labels
    from us43d.view.server import Site

    recipe = _source(session, input)
    if recipe is not None:
        if out or patient or masks:
            raise UsageError(
                "--out, --patient and --masks are for files, not for a built source.", next=command("label", input)
            )
        labels = _built(session, recipe, every)
        then = f"us43d build {recipe.name}   # applies what is marked as reviewed"
    else:
        inputs, folder = _files(session, Path(input), out, patient)
        if masks:
            number, excluded = inputs.start_from(masks)
            if excluded:
                session.warn(f"Not shown: annotations {excluded}.")
            session.say(f"{counted(number, 'image')} with masks of {masks}; Enter confirms them, and saves them")
        try:
            labels = Labels(inputs, folder)
        except StorageError as error:
            error.next = f"{command('label', input)} --out FOLDER   (one that you can write to)"
            raise
        then = command("train", "--data", folder / "labels.json")
    assistant = _assistant(session, labels.inputs, weights, device)
    site = Annotate(labels, Path(input).name, assistant, then)

    def close() -> None:
        if assistant:
            assistant.close()
        labels.close()

    session.say(f"labels: {labels.file}; then: {then}")
    run(
        session,
        Site(site.routes(), "/label", close),
        counted(len(labels.inputs.items), "image"),
        port,
        no_browser,
        host,
    )


def _source(session: Session, name: str) -> "Recipe | None":
    """Return the source of this name, or None for a path.

    Raises:
        UnknownName: For neither a source nor a path.
    """
    if Path(name).exists():
        return None
    try:
        return registry.find(name, session.home)
    except UnknownName as error:
        if Path(name).suffix or "/" in name:
            return None  # a file that is missing: the loader raises
        raise UnknownName(f"No file or folder is called {name!r}. {error.what}", next=error.next) from error


def _files(session: Session, path: Path, out: Path | None, patient: str | None) -> "tuple[FileInputs, Path]":
    from us43d.view.inputs import FileInputs

    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file, not a folder.", next=command("label", path))
    folder = out or path.absolute().with_name(f"{path.absolute().name}-labels")
    with session.progress("opening", "files") as move:
        inputs = FileInputs(path, patient, folder, move)
    if len(inputs.faults) == len(inputs.files):
        first = next(iter(inputs.faults.values()))
        raise ImageError(first if len(inputs.files) == 1 else f"None of {len(inputs.files)} files can be read: {first}")
    if inputs.named:
        whose = counted(len(set(inputs.named.values())), "patient")
        session.say(f"{counted(len(inputs.named), 'DICOM file')} of {whose}, by their PatientID; --patient overrides")
    for file, fault in inputs.faults.items():
        session.warn(f"{file} cannot be labelled: {fault}")
    return inputs, folder


def _built(session: Session, recipe: "Recipe", every: bool) -> "Labels":
    """Return the images of the newest build of a source, to correct their masks."""
    from us43d.view import fixes
    from us43d.view.opening import indexed

    root = session.home.root
    return fixes.opened(root, indexed([newest(session, recipe)], root), 0, every=every)


def _assistant(session: Session, inputs: "Inputs", weights: str | None, device: str | None) -> "Assistant":
    """Return an assistant that loads the model in its thread."""
    from us43d.view.assistant import Assistant

    path, place = weights_of(session, weights), device_of(device)
    return Assistant(lambda: predictor(path, place, "float32"), inputs.read)
