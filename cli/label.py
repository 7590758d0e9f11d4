"""The verb that opens a local page to label images of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from us43d.errors import UsageError

from .models import Device, device_of, predictor, weights_of
from .output import Session
from .verb import verb
from .view import Host, NoBrowser, Port, run

if TYPE_CHECKING:
    from us43d.view.assistant import Assistant
    from us43d.view.inputs import FileInputs


@verb(
    "label",
    panel="Model",
    kept="Everything shown as saved on the page is in labels.json.",
    examples=(
        "us43d label scans/",
        "us43d label sweep.mp4 --weights first",
        "us43d label scans/ --patient '^(P[0-9]+)_' --out labels",
    ),
)
def label(
    session: Session,
    input: Annotated[Path, typer.Argument(help="A folder, an image, video, DICOM or NIfTI file.", metavar="INPUT")],
    weights: Annotated[
        str | None, typer.Option("--weights", help="The model that answers clicks.", metavar="RUN|FILE|NAME")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the labels; INPUT-labels if left out.", metavar="FOLDER", show_default=False),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(help="Regular expression on file names whose first group is the patient.", metavar="REGEX"),
    ] = None,
    device: Device = None,
    port: Port = None,
    no_browser: NoBrowser = False,
    host: Host = None,
) -> None:
    """Label your own images in the browser: boxes, clicks, brush; saved at once as COCO for `us43d train --data`."""
    from us43d.view.annotate import Annotate
    from us43d.view.inputs import FileInputs
    from us43d.view.labels import Labels
    from us43d.view.server import Site

    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file, not a folder.", next=f"us43d label {input}")
    folder = out or input.absolute().with_name(f"{input.absolute().name}-labels")
    inputs = FileInputs(input, patient, folder)
    labels = Labels(inputs, folder)
    assistant = _assistant(session, inputs, weights, device)
    command = f"us43d train --data {folder / 'labels.json'}"
    site = Annotate(labels, input.name, assistant, command)

    def close() -> None:
        if assistant:
            assistant.close()
        labels.close()

    for file, fault in inputs.faults.items():
        session.warn(f"{file} cannot be labelled: {fault}")
    session.say(f"labels: {labels.file}; fine-tune on them: {command}")
    run(session, Site(site.routes(), "/label", close), f"{len(inputs.items):,} images", port, no_browser, host)


def _assistant(session: Session, inputs: "FileInputs", weights: str | None, device: str | None) -> "Assistant | None":
    """The model in its thread; None without weights."""
    from us43d.view.assistant import Assistant

    if weights is None:
        session.say("without --weights boxes and clicks are off; brush and polygon work")
        return None
    path, place = weights_of(session, weights), device_of(device)
    return Assistant(lambda: predictor(path, place, "float32"), inputs.read)
