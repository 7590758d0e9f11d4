"""Evaluating and predicting with the weights of a task other than promptable segmentation."""

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from us43d.errors import ImageError, SomeFailed, UsageError, counted, listed

from .models import predictor
from .output import Session
from .tables import Columns, Table

if TYPE_CHECKING:
    from us43d.evaluate.protocols import Segmenter
    from us43d.harmonize.corpus import Corpus

__all__ = ["TaskName", "evaluated", "new_folder", "predicted", "segmenter", "task_in"]

TaskName: TypeAlias = Annotated[
    str | None,
    typer.Option("--task", help="Task of the weights. Default: read from the weights.", show_default=False),
]


def task_in(place: Path, named: str | None) -> str:
    """Return the task of weights.

    Raises:
        UsageError: If it differs from the one named.
    """
    from us43d.model import weights

    task = "promptable"
    if place.is_dir() and (place / weights.CONFIG).is_file():
        try:
            content = json.loads((place / weights.CONFIG).read_text("utf-8"))
            task = str(content["task"]["name"])
        except (OSError, ValueError, KeyError, TypeError):
            task = "promptable"  # `weights.load` reports an invalid file when it reads it
    if named is not None and named != task:
        raise UsageError(
            f"The task of the weights {place} is {task}, not {named}.", next=f"the same with --task {task}"
        )
    return task


def segmenter(place: Path, device: str, dtype: str) -> "Segmenter":
    """Load weights that segment what a prompt shows, those of a box-unet too. Raises WeightsError."""
    if task_in(place, None) == "box-unet":
        from us43d.bench.models import BoxUNet

        return BoxUNet(place, device)
    return predictor(place, device, dtype)


def new_folder(session: Session, name: str) -> Path:
    """Return the folder of an evaluation that is written now."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return session.home.root / "evaluations" / f"{name}-{stamp}"


def evaluated(session: Session, place: Path, corpus: "Corpus", wanted: dict[str, Any], out: Path | None) -> None:
    """Evaluate the weights of a task; write and tell the results."""
    from us43d.train.tasks.evaluation import evaluate

    with session.progress("evaluating", "items") as move:
        evaluation = evaluate(place, corpus, progress=move, **wanted)
    folder = evaluation.write(out or new_folder(session, evaluation.facts["weights"]))
    shown: list[str | Table] = [evaluation.described()]
    for head, heads, rows in evaluation.tables:
        columns: Columns = [(name, "left" if n == 0 else "right") for n, name in enumerate(heads)]
        shown += ["", head, Table(columns, rows)]
    session.answer({"facts": evaluation.facts, **evaluation.numbers, "folder": folder}, *shown)
    session.say(f"{folder}: page.html, table.md, metrics.json")


def predicted(session: Session, input: Path, place: Path, boxes: list[Any], out: Path, device: str) -> None:
    """Classify images, or the content of a box: prints a table, writes predictions.csv."""
    import csv
    import io

    if task_in(place, None) == "semantic":
        _label_maps(session, input, place, boxes, out, device)
        return
    from us43d import pictures
    from us43d.pictures.outputs import Outputs
    from us43d.train.tasks import classify

    model, record = classify.load(place)
    model.to(device)
    if len(boxes) != model.prompted or None in boxes:
        wants = "exactly one --box" if model.prompted else "no prompt"
        raise UsageError(f"The task {record.name} takes {wants}.", next="us43d predict --help")
    rows: list[list[Any]] = []
    inputs, failed = pictures.listing(input, leave_out=out), {}
    outputs = Outputs(out)
    outputs.claim("predictions.csv")
    for one in inputs:
        try:
            for frame in pictures.open(one).frames():
                chances = classify.classify(model, frame.pixels, boxes[0] if boxes else None, device)
                best = model.classes[int(chances.argmax())]
                rows.append([one.relative, frame.number, best, *(round(float(value), 5) for value in chances)])
        except ImageError as error:
            if len(inputs) == 1:
                raise
            failed[one.relative] = error
            session.warn(f"{one.relative}: {error.what}")
    heads = ["file", "frame", "class", *model.classes]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    file = outputs.write("predictions.csv", text.getvalue().encode())
    columns: Columns = [(name, "left" if n in (0, 2) else "right") for n, name in enumerate(heads)]
    session.answer({"predictions": [dict(zip(heads, row, strict=True)) for row in rows], "file": file},
                   Table(columns, rows))  # fmt: skip
    if failed:
        raise SomeFailed(
            f"{len(failed)} of {counted(len(inputs), 'file')} could not be classified: {listed(failed)}.",
            disk=f"The others are in {file}." if len(failed) < len(inputs) else "",
        )


def _label_maps(session: Session, input: Path, place: Path, boxes: list[Any], out: Path, device: str) -> None:
    """Write a label map and an overlay of every frame as PNG, and number → structure as labels.json."""
    import cv2
    import numpy as np

    from us43d import pictures, report
    from us43d.pictures.outputs import Outputs
    from us43d.train.tasks import semantic

    if boxes:
        raise UsageError("The task semantic takes no prompt.", next="us43d predict --help")
    model, _ = semantic.load(place)
    model.to(device)
    rows: list[list[Any]] = []
    inputs, failed = pictures.listing(input, leave_out=out), {}
    outputs = Outputs(out)
    outputs.claim("labels.json")
    for one in inputs:
        try:
            for frame in pictures.open(one).frames():
                labels = semantic.segment(model, frame.pixels, device)
                masks = np.stack([labels == number for number in range(1, len(model.classes) + 1)])
                overlay = report.overlay(frame.pixels, {"found": masks}, side=max(640, *labels.shape))
                for name, content in (("", labels), ("overlays/", overlay[:, :, ::-1])):
                    _, data = cv2.imencode(".png", np.ascontiguousarray(content))
                    outputs.write(f"{name}{frame.name}.png", data.tobytes())
                pixels = {name: int(mask.sum()) for name, mask in zip(model.classes, masks, strict=True)}
                rows += [[one.relative, frame.number, name, count] for name, count in pixels.items() if count]
        except ImageError as error:
            if len(inputs) == 1:
                raise
            failed[one.relative] = error
            session.warn(f"{one.relative}: {error.what}")
    names = {str(number): name for number, name in enumerate(model.classes, 1)}
    outputs.write("labels.json", json.dumps(names, indent=1).encode())
    heads = ("file", "frame", "structure", "pixels")
    columns: Columns = [(name, "right" if name in ("frame", "pixels") else "left") for name in heads]
    session.answer({"found": [dict(zip(heads, row, strict=True)) for row in rows], "labels": names, "folder": out},
                   Table(columns, rows))  # fmt: skip
    session.say(f"{out}: label maps, overlays, labels.json")
    if failed:
        raise SomeFailed(
            f"{len(failed)} of {counted(len(inputs), 'file')} could not be segmented: {listed(failed)}.",
            disk=f"Label maps of the others are in {out}." if len(failed) < len(inputs) else "",
        )
