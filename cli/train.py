"""The verb that trains."""

import contextlib
import os
import shlex
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from us43d import atomic
from us43d.errors import Busy, ConfigError, TrainError, UsageError, counted

from .models import CorpusName, Device, OwnData, OwnImages, corpora_on_disk, device_of, release, weights_of
from .options import Commercial
from .output import Session
from .tables import Columns, Table
from .tasks import task_in
from .verb import verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from us43d.harmonize.corpus import Corpus
    from us43d.model.config import ModelConfig
    from us43d.train.config import TrainConfig
    from us43d.train.loop import Result

PANEL = "Model"


@verb(
    "train",
    panel=PANEL,
    kept="The checkpoints of the run are intact; --resume continues from the newest.",
    examples=(
        "us43d train --preset nano",
        "us43d train --preset ultrasam-vitb --init sam_vit_b --run first",
        "us43d train --run first --resume",
        "torchrun --nproc-per-node 4 -m -- us43d train --preset ultrasam-vitb --init sam_vit_b --run full",
        "us43d train --init ultrasam --data my_coco.json --set lora=16",
        "us43d train --task classify --init ultrasam --set frozen=true --run diagnosis",
        "us43d train --preset nano --set balance=organ --set learning_rate=1e-3 --steps 200",
    ),
)
def train(
    session: Session,
    preset: Annotated[
        str | None,
        typer.Option(
            help="ultrasam-vitb, ultrasam-vitb-clicks, small, nano, tiny; or finetune and finetune-small, which --init "
            "and --data imply.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        Literal["promptable", "classify", "classify-prompt", "semantic", "instances", "box-unet"] | None,
        typer.Option(help="Task to train. Default: promptable segmentation.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML or JSON with values of the training configuration.", metavar="FILE")
    ] = None,
    corpus: CorpusName = None,
    data: OwnData = None,
    images: OwnImages = None,
    init: Annotated[
        str | None, typer.Option(help="Weights to start from: a file, a folder or a name.", metavar="WEIGHTS")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the run. Default: name of the preset.", metavar="NAME")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the newest checkpoint of the run, if any.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Number of steps; warm-up and milestones are scaled. With --resume: the new end."),
    ] = None,
    device: Device = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A value of the configuration (repeatable).", metavar="KEY=VALUE"),
    ] = None,
    commercial: Commercial = False,
    allow_external: Annotated[
        bool, typer.Option("--allow-external", help="Also train on sources of the external tier.")
    ] = False,
) -> None:
    """Train the promptable model on a corpus, or fine-tune it on a COCO file of your own.

    Without --init, --data fine-tunes the weights that come with us43d (us43d-small).

    SIGTERM saves a checkpoint and ends with exit code 0. us43d/train/config.py describes every setting.
    """
    from us43d.harmonize.corpus import Corpus
    from us43d.train.loop import train as work

    leads = os.environ.get("RANK", "0") == "0"
    session.quiet = session.quiet or not leads
    if data and corpus:
        raise UsageError("--data and --corpus cannot be combined.")
    if task and task != "promptable":
        # The preset of that name is the task's; a preset or a file given beside it stays, with the task set.
        changes = [*(changes or []), f'task="{task}"']
        preset = preset or (None if config or (run and resume) else task)
    goes_on = bool(resume and run) and (session.home.runs / str(run) / "log.jsonl").is_file()
    if resume and run and not (goes_on or preset or config or task or init or data or changes):
        raise UsageError(
            f"No run {run!r} found in {session.home.runs}.",
            next=f"us43d train --preset nano --run {run}   (starts one; with --resume, too)",
        )
    if goes_on and not (data or corpus):
        data, images, corpus = _trained_on(session, str(run), images)
    own = bool(data) and not (preset or config or goes_on or _values(changes or []).get("model"))
    start = weights_of(session, init, "--init") if init or own else None
    settings = _config(session, preset, config, start, run if resume else None, bool(data), changes or [], steps)
    if commercial:
        settings = settings.model_copy(update={"commercial": True})
    if allow_external:
        settings = settings.model_copy(update={"allow_external": True})
    place, chosen = session.home.runs / (run or settings.name), device_of(device)
    if chosen == "cpu" and settings.model.image_size >= 1024:
        session.warn("On a CPU this model takes months; --preset nano learns in minutes.")

    def report(record: dict[str, Any]) -> None:
        session.say(_line(record))

    with _alone(place) if leads else contextlib.nullcontext():
        if data:
            read = _own(session, data, place, images, leads)
        else:
            read = Corpus.open(release(session, corpus), session.home.root)
        with session.progress(f"training {place.name}", "steps") as move:
            result = work(settings, read, place, init=start, resume=resume, device=chosen, progress=move, report=report)
    if leads:
        _tell(session, result, read)


@contextlib.contextmanager
def _alone(run: Path) -> "Iterator[None]":
    """Keep other commands from writing the same run; leave no folder behind that the run does not fill."""
    lock = run.with_name(f".{run.name}.lock")
    absent = [folder for folder in lock.parents if not atomic.exists(folder)]
    with atomic.storage_errors(run, "Nothing was changed on disk."):
        lock.parent.mkdir(parents=True, exist_ok=True)
    free = Path(shlex.split(atomic.free_beside(run))[0]).name
    busy = Busy(f"Another us43d train writes the run {run.name}.", next=f"the same with --run {shlex.quote(free)}")
    with atomic.alone(lock, busy):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()
                for folder in absent:
                    folder.rmdir()


def _trained_on(session: Session, run: str, images: Path | None) -> tuple[Path | None, Path | None, str | None]:
    """Return the COCO file and its images, or else the corpus, on which a run was trained; None if unknown."""
    from us43d.coco import own
    from us43d.train import journal

    place = session.home.runs / run
    known = next(journal.read(place / "log.jsonl"), {}).get("corpus", {})
    if origin := own.made_of(place / "data", known.get("digest")):
        return origin[0], images or origin[1], None
    return None, images, known["release"] if known.get("release") in corpora_on_disk(session) else None


def _own(session: Session, file: Path, run: Path, images: Path | None, leads: bool) -> "Corpus":
    """Make a corpus of a COCO file: one process makes it and reports exclusions, the others wait."""
    from us43d.coco import own as coco

    while not leads and not coco.made(file, run / "data", images):
        time.sleep(0.2)
    corpus = coco.read(file, run / "data", images)
    for line in coco.told(corpus) if leads else ():
        session.warn(line)
    return corpus


def _config(
    session: Session,
    preset: str | None,
    file: Path | None,
    start: Path | None,
    resumed: str | None,
    own: bool,
    changes: list[str],
    steps: int | None,
) -> "TrainConfig":
    """Return the configuration: that of the resumed run, or else a preset with the file and --set applied."""
    from us43d.model import weights
    from us43d.train import config as known

    values = _values(changes)
    if preset or not start:
        base = known.preset(preset or ("finetune" if own else "ultrasam-vitb"))
    else:
        base = known.finetuning(weights.load(start).config)
    log = session.home.runs / resumed / "log.jsonl" if resumed else None
    if log and log.is_file() and not preset and not file:
        base = _resumed(log)
    elif start and "model" not in values and base.task != "promptable":
        base = base.model_copy(update={"model": _model_of(start)})
    settings = known.read(base, file, **values)
    if log and log.is_file() and steps:  # a longer run keeps its warm-up and milestones
        return known.read(settings, steps=steps)
    return settings.shortened(steps) if steps and steps != settings.steps else settings


def _model_of(start: Path) -> "ModelConfig":
    """Return the architecture of initial weights, of a promptable model or of a task."""
    from us43d.model import weights
    from us43d.train.tasks import images

    if task_in(start, None) == "promptable":
        return weights.load(start).config
    return images.read(start)[0].model


def _resumed(log: Path) -> "TrainConfig":
    from us43d.train import journal
    from us43d.train.config import TrainConfig

    first = next(journal.read(log), None)
    if first is None:
        raise TrainError(
            f"{log} does not record the configuration of the run.", next="us43d train --help   (--preset or --config)"
        )
    return TrainConfig.model_validate(first["config"])


def _values(changes: list[str]) -> dict[str, Any]:
    """Parse key=value pairs: TOML values, anything else is text. A dotted key belongs to the model."""
    values: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"Invalid --set {change!r}. Use key=value.")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        outer, _, inner = key.strip().partition(".")
        if inner:
            values.setdefault(outer, {})[inner] = value
        else:
            values[outer] = value
    return values


def _line(record: dict[str, Any]) -> str:
    """Return the line to print for a record of the log."""
    if record["kind"] == "note":
        return str(record["text"])
    if record["kind"] in ("run", "resumed"):
        counts = record["drawn"]
        start = f"resumed at step {record['step']:,}" if record["step"] else "from the beginning"
        return (
            f"{counted(counts['instances'], 'instance')} in {counted(counts['images'], 'image')}, "
            f"{counts['validation_images']:,} held out, "
            f"on {record['device']}, {start}"
        )
    if record["kind"] == "validation":
        if "point_dice" not in record:
            return f"step {record['step']:,}: {', '.join(f'{name} {value:.3f}' for name, value in _numbers(record))}"
        return (
            f"step {record['step']:,}: Dice of a box {record['box_dice']:.3f}, of a point {record['point_dice']:.3f}; "
            f"the box's inscribed ellipse {record['ellipse_dice']:.3f}"
        )
    parts = [f"step {record['step']:,}: loss {record['loss']:.3f}"]
    if "images_per_second" in record:
        parts.append(f"{record['images_per_second']:.1f} images/s")
        parts += [f"MFU {record['mfu']:.0%}"] if record.get("mfu") else []
        minutes, seconds = divmod(round(record["seconds_left"]), 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left")
    return ", ".join(parts)


def _numbers(record: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the scores in a record of the validation."""
    return [(name, value) for name, value in record.items() if isinstance(value, float)]


def _again() -> str:
    """Return the command line of this run with --resume."""
    words = ["us43d", *sys.argv[1:]]
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


def _tell(session: Session, result: "Result", read: "Corpus") -> None:
    data = {
        "weights": result.weights,
        "best": result.best,
        "run": result.run,
        "step": result.step,
        "stopped": result.stopped,
        "corpus": read.digest,
        "validation": result.validation,
        "loss": [{"step": point["step"], "loss": point["loss"]} for point in result.curve],
    }
    named = {"box_dice": "box Dice", "point_dice": "point Dice", "ellipse_dice": "ellipse of the box"}
    scores = [dict(_numbers(record)) for record in result.validation]
    shown_names = [name for name in named if scores and name in scores[0]] or list(scores[0] if scores else ())
    heads: Columns = (("step", "right"), *((named.get(name, name), "right") for name in shown_names))
    rows = (
        (record["step"], *(f"{numbers[name]:.3f}" if name in numbers else None for name in shown_names))
        for record, numbers in zip(result.validation, scores, strict=True)
    )
    none = "not validated yet" if result.stopped else "no validation: no held-out images"
    shown: list[str | Table] = [Table(heads, rows) if result.validation else none]
    last = (
        f"stopped at step {result.step:,}; resume with: {_again()}"
        if result.stopped
        else f"weights in {result.weights}"
    )
    best = [f"best validation score in {result.best}; --weights {result.run.name} uses it"] if result.best else []
    session.answer(data, *shown, *best, last)
