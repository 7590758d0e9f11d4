"""us43d predict: segment your own images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from us43d.errors import ImageError, SomeFailed, Us43dError, UsageError, command, counted, listed

from .models import Device, Dtype, device_of, predictor, weights_of
from .output import Session
from .tables import Columns, Table
from .tasks import TaskName, predicted, task_in
from .verb import verb

if TYPE_CHECKING:
    from us43d.model.predictor import Predictor
    from us43d.model.segment import Prompt, Segment, Writer
    from us43d.pictures import Frame, Input, Media

PANEL = "Model"

#: Rows of the table a person is shown; all are in predictions.json.
_SHOWN = 40


@verb(
    "predict",
    panel=PANEL,
    kept="Masks written so far are complete.",
    examples=(
        "us43d predict scan.png --box 120,80,310,260",
        "us43d predict scan.png --structure 'fetal head'",
        "us43d predict scan.dcm --weights ultrasam --point 200,150 --point 260,90,0 --crop-sector",
        "us43d predict scans/ --weights first --prompts prompts.json --out found",
        "us43d predict heart.avi --weights first --box 40,30,90,110",
        "us43d predict sweep.mp4 --weights ultrasam --everything --frame 12",
    ),
)
def predict(
    session: Session,
    input: Annotated[
        Path, typer.Argument(help="An image, folder, video, DICOM, NIfTI, MetaImage or NRRD file.", metavar="INPUT")
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="A run, a file, a folder or a name. Default: us43d-small, which comes with us43d.",
            metavar="RUN|FILE|NAME",
            show_default=False,
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", help="Segment the object in this box (repeatable).", metavar="X0,Y0,X1,Y1"),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point", help="A point inside (1) or outside (0); all points mark one object.", metavar="X,Y[,0|1]"
        ),
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(
            "--structure",
            help="Segment a structure by name, such as 'fetal head' (repeatable).",
            metavar="NAME",
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="COCO file with boxes (bbox) or points (keypoints) per image.", metavar="FILE")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Segment from a grid of points and keep masks that differ.")
    ] = False,
    grid: Annotated[
        int, typer.Option(min=1, max=128, help="--everything: points along the longer side.", metavar="N")
    ] = 16,
    min_score: Annotated[
        float | None,
        typer.Option(
            help="Lowest score of a mask. Default: 0.8 with --everything, 0.5 for the task instances.",
            show_default=False,
        ),
    ] = None,
    min_stability: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="--everything: lowest stability, the IoU of the masks at logits ± --stability-offset.",
            metavar="IOU",
        ),
    ] = 0.8,
    stability_offset: Annotated[
        float, typer.Option(min=0, help="--everything: offset of the logits.", metavar="X")
    ] = 1.0,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, help="--everything: masks with a higher IoU count as one.", metavar="IOU")
    ] = 0.7,
    frame: Annotated[
        int | None,
        typer.Option(min=0, help="Number of one frame, from 0. Default: all frames.", show_default=False, metavar="N"),
    ] = None,
    crop_sector: Annotated[
        bool,
        typer.Option("--crop-sector", help="Show the model only the ultrasound region that a DICOM file declares."),
    ] = False,
    refine: Annotated[
        int, typer.Option(min=0, max=1, help="Number of refinement passes after the first mask.", metavar="N")
    ] = 1,
    postprocess: Annotated[
        Literal["sharp", "paper"],
        typer.Option(help="sharp: upscale, then threshold. paper: threshold first, as published."),
    ] = "sharp",
    propagate: Annotated[
        bool | None,
        typer.Option(
            "--propagate/--no-propagate",
            help="Prompt the first frame of a clip; its masks prompt the frames after it. Default: of videos, with "
            "--box and --point.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder. Predictions in it are replaced.", metavar="FOLDER")] = Path(
        "predictions"
    ),
    task: TaskName = None,
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Segment your images by box, points or structure name; writes PNG, COCO RLE, NIfTI, overlays, scores.

    Prompts are in pixels, x to the right, y down. Without --prompts they apply to every frame of every file.
    """
    place = weights_of(session, weights)
    doing = task_in(place, task)
    if doing == "instances":
        if box or point or structure or prompts or everything or propagate or crop_sector:
            raise UsageError(
                "Weights of the task instances take no prompts.", next=command("predict", input, "--weights", weights)
            )
        _instances(session, input, place, frame, min_score, out, device_of(device))
        return
    if doing == "box-unet":
        boxed = _given(box or [], point or [])
        others = structure or prompts or everything or propagate or crop_sector
        if not boxed or any(prompt.box is None or prompt.points for prompt in boxed) or others:
            raise UsageError(
                "Weights of the task box-unet take boxes: --box, and neither another prompt nor --propagate or "
                "--crop-sector.",
                next=command("predict", input, "--weights", weights, "--box", "x0,y0,x1,y1"),
            )
        _boxes(session, input, place, boxed, frame, out, device_of(device))
        return
    if doing != "promptable":
        if structure or prompts or everything or propagate or crop_sector or frame is not None:
            raise UsageError(
                f"Weights of the task {doing} take whole files: no --structure, --prompts, --everything, --propagate, "
                "--crop-sector or --frame.",
                next=command("predict", input, "--weights", weights),
            )
        boxes = [prompt.box for prompt in _given(box or [], point or [])]
        predicted(session, input, place, boxes, out, device_of(device))
        return
    from us43d import pictures

    inputs = pictures.listing(input, leave_out=out)
    ways = sum((bool(box or point), bool(structure), prompts is not None, everything))
    if ways != 1:
        chosen = ("--weights", weights) if weights else ()
        raise UsageError(
            "Give one of --box and --point, --structure, --prompts, or --everything.",
            next=command("predict", input, *chosen, "--everything"),
        )
    if propagate and (prompts or everything or crop_sector or frame is not None):
        raise UsageError(
            "--propagate can only be combined with --box and --point.",
            next=command("predict", input, "--propagate", "--box", "x0,y0,x1,y1"),
        )
    from us43d.model import segment
    from us43d.model.propagate import Tracker

    fixed = _given(box or [], point or [])
    by_input: dict[str, list[tuple[int | None, Prompt]]] = {}  # of a file, by its relative path
    if prompts:
        by_input = segment.matched(segment.read_prompts(prompts), [one.relative for one in inputs], prompts)
        if without := [one.relative for one in inputs if one.relative not in by_input]:
            session.say(f"{counted(len(without), 'file')} skipped (no prompt): {listed(without, 5)}")
        inputs = [one for one in inputs if one.relative in by_input]
    model = predictor(place, device_of(device), dtype)
    fixed += _structures(structure or [], model)
    trackers: dict[str, list[Tracker]] = {}  # of a clip, one per prompt
    lost: list[str] = []
    absent: list[str] = []
    beyond: list[str] = []

    def check(prompts: list["Prompt"], media: "Media", frame: "Frame") -> None:
        """Check that prompts are for this size, and note a box that is outside of the image for the most part."""
        shape = frame.pixels.shape[0], frame.pixels.shape[1]
        for prompt in prompts:
            prompt.check_size(*shape)
        if any(prompt.is_beyond(*shape) for prompt in prompts):
            beyond.append(f"{media.relative} {frame.number}")

    def followed(media: "Media", frame: "Frame") -> list["Segment"]:
        """Return the segments of a frame of a clip whose first frame is prompted."""
        if media.relative not in trackers:
            check(fixed, media, frame)
            model.set_image(frame.pixels)
            first = [
                model.predict(
                    box=p.box, points=p.points, labels=p.labels, structure=p.structure, refine=refine,
                    postprocess=postprocess,
                )
                for p in fixed
            ]  # fmt: skip
            trackers[media.relative] = [Tracker(model, one, frame.pixels) for one in first]
            return [segment.Segment.of(p, one.mask, one.score) for p, one in zip(fixed, first, strict=True)]
        tracked = [tracker.follow(frame.pixels) for tracker in trackers[media.relative]]
        lost.extend(f"{media.relative} {frame.number}" for one in tracked if one.lost)
        return [segment.Segment.of(segment.Prompt(), one.mask, one.score, p.structure or 1)
                for p, one in zip(fixed, tracked, strict=True)]  # fmt: skip

    def work(media: "Media", frame: "Frame") -> list["Segment"] | None:
        """Return the segments of a frame; None if it has no prompt."""
        still = media.kind == "image" and media.count == 1  # whatever frame it was taken from
        wanted = fixed
        if prompts:
            wanted = [prompt for at, prompt in by_input[media.relative] if still or at in (None, frame.number)]
        if not (wanted or everything):
            return None
        check(wanted, media, frame)
        shape = frame.pixels.shape[0], frame.pixels.shape[1]
        region = _region(media) if crop_sector else (0, 0, shape[1], shape[0])
        x0, y0, x1, y1 = region
        model.set_image(frame.pixels[y0:y1, x0:x1])
        if everything:
            segments = segment.everything(
                model,
                grid=grid,
                min_score=0.8 if min_score is None else min_score,
                min_stability=min_stability,
                stability_offset=stability_offset,
                overlap=overlap,
                refine=refine,
                postprocess=postprocess,
            )
        else:
            placed = [segment.within(prompt, region) for prompt in wanted] if crop_sector else wanted
            segments = segment.prompted(model, placed, refine=refine, postprocess=postprocess)
            if len(segments) < len(placed):  # only a named structure can be absent
                absent.append(f"{media.relative} {frame.number}")
        return [segment.whole(one, region, shape) for one in segments] if crop_sector else segments

    writer = segment.Writer(out, {p.structure: model.structures[p.structure] for p in fixed if p.structure})
    clips = propagate is None and bool(box or point) and frame is None and not crop_sector

    def segmented(media: "Media", frame: "Frame") -> list["Segment"] | None:
        follows = propagate or (clips and media.kind == "video")
        return followed(media, frame) if follows else work(media, frame)

    failed = _run(session, inputs, frame, segmented, writer)
    if lost:
        session.warn(f"Tracking was lost on {len(lost)} frames, which keep the previous mask: {listed(lost, 5)}.")
    if beyond:
        session.warn(
            f"Over a quarter of a box is outside of {counted(len(beyond), 'frame')}: {listed(beyond, 5)}. --box is "
            "x0,y0,x1,y1; bbox is x, y, width, height."
        )
    _alone(inputs, failed, writer)
    if unmet := _unmet(by_input, writer, failed):
        if frame is None:
            session.warn(f"{prompts} has prompts for missing frames: {listed(unmet, 5)}.")
        else:
            session.say(f"prompts for frames other than {frame} skipped: {listed(unmet, 5)}")
    if absent:
        session.say(
            f"a named structure is absent (presence below {segment.PRESENT:g}) in {counted(len(absent), 'frame')}: "
            f"{listed(absent, 5)}"
        )
    _finish(session, inputs, writer, failed)


def _instances(
    session: Session, input: Path, place: Path, frame: int | None, floor: float | None, out: Path, device: str
) -> None:
    """Segment the instances of every frame without prompts."""
    from us43d import pictures
    from us43d.model.segment import Prompt, Segment, Writer
    from us43d.train.tasks import instances

    model, _ = instances.load(place)
    model.to(device)

    def work(media: "Media", frame: "Frame") -> list["Segment"]:
        detections = instances.detect(model, frame.pixels, device, instances.LIKELY if floor is None else floor)
        return [Segment.of(Prompt(), one.mask, round(one.score, 5), one.category) for one in detections]

    inputs = pictures.listing(input, leave_out=out)
    writer = Writer(out, model.categories)
    failed = _run(session, inputs, frame, work, writer)
    _alone(inputs, failed, writer)
    _finish(session, inputs, writer, failed, "score is class times mask probability")


def _boxes(
    session: Session, input: Path, place: Path, boxed: list["Prompt"], frame: int | None, out: Path, device: str
) -> None:
    """Segment the content of boxes in every frame with a box-unet."""
    import numpy as np

    from us43d import pictures
    from us43d.model.segment import Segment, Writer
    from us43d.train.tasks import box_unet

    model, _ = box_unet.load(place)
    model.to(device)
    corners = np.array([prompt.box for prompt in boxed], np.float64)

    def work(media: "Media", frame: "Frame") -> list["Segment"]:
        masks = box_unet.segment(model, frame.pixels, corners, device)
        return [Segment.of(prompt, mask, round(sure, 5)) for prompt, (mask, sure) in zip(boxed, masks, strict=True)]

    inputs = pictures.listing(input, leave_out=out)
    writer = Writer(out)
    failed = _run(session, inputs, frame, work, writer)
    _alone(inputs, failed, writer)
    _finish(session, inputs, writer, failed, "score is the mean probability of the mask's pixels")


def _alone(inputs: list["Input"], failed: dict[str, Us43dError], writer: "Writer") -> None:
    """Raise the error of a single input."""
    if len(inputs) == 1 and failed:
        (error,) = failed.values()
        error.next = error.next or _again(inputs, failed)
        error.disk = (
            f"Masks of the {len(writer.images)} frames before it are in {writer.folder}."
            if writer.images
            else error.disk
        )
        raise error


def _finish(
    session: Session,
    inputs: list["Input"],
    writer: "Writer",
    failed: dict[str, Us43dError],
    meaning: str = "score is the IoU the model expects",
) -> None:
    """Write predictions.json, print the table, and raise SomeFailed where files failed. meaning: of the score."""
    what = f"{len(failed)} of {counted(len(inputs), 'file')} could not be segmented: {listed(failed)}."
    if failed and not writer.images:
        raise SomeFailed(what, next=_again(inputs, failed))  # earlier predictions in the folder stay
    _tell(session, writer, writer.close(), failed, meaning)
    if failed:
        raise SomeFailed(what, disk=f"Masks of what could be read are in {writer.folder}.", next=_again(inputs, failed))


def _again(inputs: list["Input"], failed: dict[str, Us43dError]) -> str:
    """The next step after failures: the one of all, or that of damaged files, or of prompts that do not fit."""
    steps = {error.next for error in failed.values()}
    if len(steps) == 1 and (step := steps.pop()):
        return step
    astray = [one.path for one in inputs if isinstance(failed.get(one.relative), UsageError)]
    if not astray:
        return "the same command again   (with undamaged files)"
    return f"{command('label', astray[0])}   (shows x and y under the pointer, to correct the boxes and points)"


def _region(media: "Media") -> tuple[int, int, int, int]:
    if media.region is None:
        raise ImageError(
            f"No ultrasound region found in {media.path} (DICOM: SequenceOfUltrasoundRegions).",
            next="the same without --crop-sector",
        )
    return media.region


def _run(
    session: Session, inputs: list["Input"], frame: int | None, work: Any, writer: "Writer"
) -> dict[str, Us43dError]:
    """Segment file after file; return failures by file. Failures and remarks are printed at once."""
    from us43d import pictures
    from us43d.errors import StorageError
    from us43d.pictures.levels import is_two_valued

    failed: dict[str, Us43dError] = {}
    masks: list[str] = []
    done = 0
    with session.progress("segmenting", "frames") as move:
        for one in inputs:
            try:
                media = pictures.open(one)
                for picture in media.frames(frame):
                    if (segments := work(media, picture)) is not None:
                        writer.add(media, picture, segments)
                        masks += [picture.name] if is_two_valued(picture.pixels) else []
                    done += 1
                    move(done, len(inputs) if all(entry.kind == "image" for entry in inputs) else None)
                writer.finish(media)
                for remark in media.remarks:
                    session.say(f"{one.relative}: {remark}")
            except StorageError:
                raise
            except Us43dError as error:
                failed[one.relative] = error
                if len(inputs) > 1:
                    session.warn(f"{one.relative}: {error.what}")
    if masks:
        session.warn(
            f"{counted(len(masks), 'frame has', 'frames have')} two values only, as masks do: {listed(masks, 5)}."
        )
    return failed


def _given(boxes: list[str], points: list[str]) -> list["Prompt"]:
    """Return one prompt per box; the points form one prompt, together with the box if there is only one."""
    from us43d.model.segment import Prompt

    if len(boxes) > 1 and points:
        raise UsageError("Several --box and --point cannot be combined. Put them into a COCO file and use --prompts.")
    parsed = [_numbers("--box", text, (4,)) for text in boxes]
    places = [_numbers("--point", text, (2, 3)) for text in points]
    if wrong := [
        text for text, place in zip(points, places, strict=True) if len(place) == 3 and place[2] not in (0, 1)
    ]:
        raise UsageError(f"Invalid label of --point {wrong[0]!r}. Use 1 (inside) or 0 (outside).")
    xy = tuple((place[0], place[1]) for place in places)
    labels = tuple(int(place[2]) if len(place) == 3 else 1 for place in places)
    if places and not boxes:
        return [Prompt(None, xy, labels)]
    return [Prompt((x0, y0, x1, y1), xy, labels) for x0, y0, x1, y1 in parsed]


def _structures(names: list[str], model: "Predictor") -> list["Prompt"]:
    """Return a prompt for each structure, in any spelling or synonym of the taxonomy.

    Raises:
        UnknownName: If the taxonomy lacks a structure.
        UsageError: If the model does not know it.
    """
    from us43d.harmonize.taxonomy import category
    from us43d.model.segment import Prompt

    wanted = [category(name) for name in names]
    if unknown := [structure.name for structure in wanted if structure.id not in model.structures]:
        known = sorted(model.structures.values())
        raise UsageError(
            f"The model does not know {listed(unknown)} by name. Known structures: {listed(known) or 'none'}.",
            next="the same with --box x0,y0,x1,y1",
        )
    return [Prompt(structure=structure.id) for structure in wanted]


def _numbers(option: str, text: str, counts: tuple[int, ...]) -> list[float]:
    try:
        values = [float(number) for number in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(abs(value) < 1e9 for value in values):
        example = "40,60,180,210" if option == "--box" else "120,90 or 120,90,0"
        raise UsageError(f"Invalid {option} {text!r}. Use the form {example}.")
    return values


def _unmet(
    by_input: dict[str, list[tuple[int | None, "Prompt"]]], writer: "Writer", failed: dict[str, Us43dError]
) -> list[str]:
    """Return frames that have prompts but do not exist."""
    met = {(image["file_name"], image["frame"]) for image in writer.images}
    wanted = {
        (name, at) for name, prompts in by_input.items() for at, _ in prompts if at is not None and name not in failed
    }
    return [f"{name} {at}" for name, at in sorted(wanted - met) if name not in writer.stills]


def _tell(session: Session, writer: "Writer", file: Path, failed: dict[str, Us43dError], meaning: str) -> None:
    from us43d.model.segment import NAMELESS

    content = json.loads(file.read_text("utf-8"))
    names = {image["id"]: (image["file_name"], image["frame"]) for image in content["images"]}
    named = writer.categories if writer.categories != NAMELESS else {}
    rows = [
        (names[entry["image_id"]][0], names[entry["image_id"]][1],
         named.get(entry["category_id"], "") or _said(entry["prompt"]), entry["area"], entry["score"], entry["mask"])
        for entry in content["annotations"]
    ]  # fmt: skip
    what = "structure" if named else "prompt"
    heads: Columns = (("file", "left"), ("frame", "right"), (what, "fold"), ("pixels", "right"), ("score", "right"),
                      ("mask", "left"))  # fmt: skip
    shown: list[str | Table] = [Table(heads, rows[:_SHOWN])] if rows else ["no structures found"]
    if len(rows) > _SHOWN:
        shown.append(f"… and {len(rows) - _SHOWN:,} more in {file}")
    data = {"folder": writer.folder, "failed": {name: error.what for name, error in failed.items()}}
    session.answer(data | content, *shown)
    session.say(f"{writer.folder}: masks, overlays, predictions.json; {meaning}")
    if writer.removed:
        session.say(f"{counted(writer.removed, 'file')} of earlier predictions in {writer.folder} removed")


def _said(prompt: dict[str, Any]) -> str:
    parts = [f"box {','.join(f'{v:g}' for v in prompt['box'])}"] if "box" in prompt else []
    if "structure" in prompt:
        from us43d.harmonize.taxonomy import taxonomy

        parts += [known.name.replace("_", " ") for known in taxonomy().categories if known.id == prompt["structure"]]
    signs = {1: "+", 0: "−"}
    parts += (
        f"{signs[label]}{round(x, 1):g},{round(y, 1):g}"
        for (x, y), label in zip(prompt.get("points", ()), prompt.get("labels", ()), strict=True)
    )
    return " ".join(parts)
