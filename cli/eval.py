"""The verb that evaluates."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from us43d import atomic
from us43d.errors import UsageError, listed

from .models import (
    CorpusName,
    Device,
    Dtype,
    OwnData,
    OwnImages,
    device_of,
    predictor,
    release,
    weights_of,
    weights_on_disk,
)
from .options import Commercial
from .output import Session
from .tables import Columns, Table
from .tasks import TaskName, evaluated, new_folder, segmenter, task_in
from .verb import verb

if TYPE_CHECKING:
    from us43d.evaluate.results import Evaluation
    from us43d.harmonize.corpus import Corpus
    from us43d.model.predictor import Predictor

#: Names of the results, of every kind of evaluation.
_FILES = (
    "clips.csv", "ejection_fractions.csv", "instances.parquet", "measurements.parquet", "metrics.json", "page.html",
    "structures.csv", "table.md",
)  # fmt: skip

PANEL = "Model"


@verb(
    "eval",
    panel=PANEL,
    kept="Evaluations written so far are complete.",
    examples=(
        "us43d eval --all",
        "us43d eval --weights ultrasam --protocol paper --on BUS-BRA MMOTU-2D",
        "us43d eval --weights first --all --protocol both --split val",
        "us43d eval --weights mine --data my_coco.json --images scans/",
        "us43d eval --weights diagnosis --all --task classify",
        "us43d eval --compare first second --all",
        "us43d eval --compare evaluations/first evaluations/second",
    ),
)
def eval_(
    session: Session,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            help="A run, a file, a folder or a name; several go into one table. Default: us43d-small.",
            metavar="RUN|FILE|NAME",
        ),
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="Sources, in any spelling: --on A B, or --on A --on B.", metavar="NAME…"),
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(help="More sources after --on.", metavar="NAME…", show_default=False)
    ] = None,
    structures: Annotated[
        bool,
        typer.Option("--structures", help="Evaluate structures found by name, and their presence, without prompts."),
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="All sources of the corpus.")] = False,
    corpus: CorpusName = None,
    data: OwnData = None,
    images: OwnImages = None,
    split: Annotated[
        Literal["train", "val", "test", "all"] | None,
        typer.Option(
            help="Split to evaluate. Default: test; with --data: val (images held out during fine-tuning).",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        Literal["paper", "ours", "both"],
        typer.Option(
            help="paper: one refinement, COCO mAP, as published. ours: Dice, IoU, HD95, NSD and corrective clicks."
        ),
    ] = "ours",
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt", help="Protocol ours: first prompts, of box, centre, random. Default: all.", show_default=False
        ),
    ] = None,
    clicks: Annotated[
        str, typer.Option(help="Protocol ours: numbers of corrective clicks.", metavar="N,N…")
    ] = "0,1,3,5,7",
    refine: Annotated[
        int, typer.Option(min=0, max=1, help="Protocol ours: refinements before the first click; paper has one.")
    ] = 1,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare",
            help="Paired differences of two weights (or ellipse), or of two folders of evaluations.",
            metavar="A B",
            show_default=False,
        ),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Also evaluate the public weights on this disk.")
    ] = True,
    largest: Annotated[
        bool, typer.Option("--largest", help="Only instances of at least 95 % of their image's largest.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Largest number of images, chosen by their ids.", metavar="N")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random points, --limit and the bootstrap.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Output folder. Default: one in the folder evaluations of the home.")
    ] = None,
    clips: Annotated[
        bool, typer.Option("--clips", help="One box per clip, followed through its frames: Dice over time, EF.")
    ] = False,
    task: TaskName = None,
    device: Device = None,
    dtype: Dtype = "float32",
    commercial: Commercial = False,
) -> None:
    """Evaluate weights on held-out data: prints a table; writes metrics, instances and a page with images."""
    from us43d.evaluate.results import BASELINE, Evaluation

    if more and not on:
        raise UsageError(f"Sources are given with --on: {listed(more)}.", next=f"us43d eval --on {' '.join(more)}")
    on = [*(on or ()), *(more or ())]
    if compare and all((Path(name) / "instances.parquet").is_file() for name in compare):
        if weights or on or every:
            raise UsageError("--compare of two evaluation folders cannot be combined with --weights, --on or --all.")
        one, two = (Evaluation.read(Path(name)) for name in compare)
        _compared(session, one, two, one.facts["weights"][0], two.facts["weights"][0])
        return
    names = [*(weights or ()), *(name for name in compare or () if name != BASELINE)]
    if not names:
        from us43d.model.weights import SHIPPED

        weights_of(session, None)
        names = [SHIPPED]
    if data and (on or corpus):
        raise UsageError("--data cannot be combined with --on or --corpus.")
    if not data and bool(on) == every:
        raise UsageError("Give either --on with source names, or --all.", next=f"us43d eval --weights {names[0]} --all")
    if out:
        atomic.require_free(out, _FILES)
    places = [weights_of(session, name) for name in names]
    kinds = {task_in(place, task) for place in places}
    with _opened(session, corpus, data, images) as read:
        split = split or ("val" if data else "test")
        if "box-unet" in kinds and (structures or clips):
            raise UsageError("A box-unet knows boxes alone: neither --structures nor --clips.")
        sources = _sources(read, on, commercial)
        chosen: dict[str, Any] = {"split": split, "sources": sources, "limit": limit, "seed": seed}
        if kinds - {"promptable", "box-unet"}:
            if len(names) > 1:
                raise UsageError("Weights of a task other than promptable are evaluated one at a time.")
            evaluated(session, places[0], read, chosen | {"device": device_of(device)}, out)
            return
        if structures:
            _by_name(session, names, read, chosen, device_of(device), dtype, out)
            return
        if clips:
            if len(names) > 1 or split == "all" or limit:
                raise UsageError("--clips takes one set of weights and one split, without --limit.")
            model = predictor(places[0], device_of(device), dtype)
            _clips(session, model, read, sources, split, out)
            return
        evaluation = _evaluated(session, dict(zip(names, places, strict=True)), read, {
            **chosen, "protocol": protocol, "prompt": prompt, "clicks": clicks, "refine": refine,
            "baselines": baselines and not compare, "largest": largest, "device": device, "dtype": dtype,
        })  # fmt: skip
        _written(session, evaluation, names, compare, out)


@contextlib.contextmanager
def _opened(session: Session, corpus: str | None, data: Path | None, images: Path | None) -> Iterator["Corpus"]:
    """Yield the selected corpus, or a temporary one made from a COCO file."""
    from us43d.coco import own as coco
    from us43d.harmonize.corpus import Corpus

    if data is None:
        yield Corpus.open(release(session, corpus), session.home.root)
        return
    with tempfile.TemporaryDirectory(prefix="us43d-", ignore_cleanup_errors=True) as scratch:
        own = coco.read(data, Path(scratch) / "data", images)
        for line in coco.told(own):
            session.warn(line)
        yield own


def _written(
    session: Session, evaluation: "Evaluation", names: list[str], compare: tuple[str, str] | None, out: Path | None
) -> None:
    """Write the results and tell them; with `compare`, the differences alone."""
    folder = evaluation.write(out or new_folder(session, evaluation.facts["weights"][0].replace("/", "-")))
    if compare:
        first, second = (_labels(names).get(name, name) for name in compare)
        _compared(session, evaluation, evaluation, first, second, folder)
        return
    heads, rows = evaluation.table()
    shown: list[str | Table] = ["\n".join(evaluation.described()), "", _table(heads, rows)]
    if evaluation.coco:
        shown += ["", "COCO average precision, class-agnostic", _table(*evaluation.coco_table())]
    session.answer(evaluation.data() | {"folder": folder}, *shown)
    session.say(f"{folder}: page.html with images, table.md, metrics.json, instances.parquet")


def _clips(
    session: Session, model: "Predictor", read: "Corpus", sources: list[str], split: str, out: Path | None
) -> None:
    """Follow the clips of a split, write clips.csv and ejection_fractions.csv, and tell the means."""
    from us43d.evaluate.clips import over_time, tables

    with session.progress("following", "clips") as move:
        rows, fractions = over_time(model, read, split=split, sources=sources, progress=move)
    folder = out or new_folder(session, "clips")
    files = {"clips.csv": rows.to_csv(index=False), "ejection_fractions.csv": fractions.to_csv(index=False)}
    atomic.write_results(folder, files, "Files of the evaluation that are there are complete.")
    shown: list[str | Table] = []
    for head, heads, cells in tables(rows, fractions):
        columns: Columns = [(name, "left" if n < 2 else "right") for n, name in enumerate(heads)]
        shown += [head, Table(columns, cells), ""]
    session.answer({"clips": rows.to_dict("records"), "ejection_fractions": fractions.to_dict("records"),
                    "folder": folder}, *shown[:-1])  # fmt: skip
    session.say(f"{folder}: clips.csv, ejection_fractions.csv")


def _sources(opened: "Corpus", names: Sequence[str], commercial: bool) -> list[str]:
    """Return the names of the selected sources; empty for all of the corpus."""
    from us43d.train.journal import by_licence

    sources = [opened.sources[index]["name"] for index in opened.select(names)] if names else []
    by_licence(opened, sources, commercial)
    return sources


def _evaluated(session: Session, chosen: dict[str, Path], opened: "Corpus", wanted: dict[str, Any]) -> "Evaluation":
    from us43d.evaluate.protocols import evaluate

    places = {label: chosen[name] for name, label in _labels(list(chosen)).items()}
    if wanted["baselines"]:
        places |= {name: place for name, place in weights_on_disk(session).items() if place not in places.values()}
    kind = device_of(wanted["device"])
    models = {name: segmenter(place, kind, wanted["dtype"]) for name, place in places.items()}
    if all(task_in(place, None) == "box-unet" for place in places.values()):  # a point or a click means nothing to it
        wanted = wanted | {"prompt": wanted["prompt"] or ["box"]}
    with session.progress(f"evaluating {', '.join(models)}") as move:
        return evaluate(
            models,
            opened,
            split=wanted["split"],
            sources=wanted["sources"],
            protocol=wanted["protocol"],
            prompts=wanted["prompt"] or ("box", "centre", "random"),
            clicks=_numbers(wanted["clicks"]),
            refine=wanted["refine"],
            largest=wanted["largest"],
            limit=wanted["limit"],
            seed=wanted["seed"],
            progress=move,
        )


def _by_name(
    session: Session,
    names: list[str],
    opened: "Corpus",
    wanted: dict[str, Any],
    device: str,
    dtype: str,
    out: Path | None,
) -> None:
    """Evaluate structures by name: a table per weights, and structures.csv in a folder."""
    from us43d.evaluate import structures as by_name

    answer: list[dict[str, Any]] = []
    shown: list[str | Table] = []
    folders: dict[str, Path] = {}
    for label in _labels(names).values():
        kept = f"{label.replace('/', '-')}-structures"
        folders[label] = (
            session.home.root / "evaluations" / kept if out is None else out if len(names) == 1 else out / kept
        )
        atomic.require_free(folders[label], ["structures.csv"])
    for name, label in _labels(names).items():
        model = predictor(weights_of(session, name), device, dtype)
        with session.progress(f"evaluating {label}", "images") as move:
            table = by_name.evaluate(model, opened, progress=move, **wanted)
        rows = by_name.summary(table, wanted["seed"])
        folder = folders[label]
        atomic.write_results(folder, {"structures.csv": table.to_csv(index=False)}, "Nothing was changed on disk.")
        answer += [{"weights": label, "folder": folder} | row for row in rows]
        heads: Columns = (("source", "left"), ("structure", "left"), ("present", "right"), ("absent", "right"),
                          ("Dice", "right"), ("95 % interval", "right"), ("presence AUROC", "right"))  # fmt: skip
        cells = [
            (row["source"], row["structure"], row["present"], row["absent"], f"{row['dice']:.4f}",
             f"{row['low']:.4f} to {row['high']:.4f}", "" if row["auroc"] != row["auroc"] else f"{row['auroc']:.3f}")
            for row in rows
        ]  # fmt: skip
        shown += [label, Table(heads, cells)]
        session.say(f"{folder}: structures.csv, one row per image and structure")
    session.answer(answer, *shown)


def _labels(names: list[str]) -> dict[str, str]:
    """Return the names of weights for tables: short unless that is ambiguous."""
    short = {name: Path(name).name.removesuffix(".pth").removesuffix(".safetensors") for name in names}
    return {name: label if list(short.values()).count(label) == 1 else name for name, label in short.items()}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise UsageError(f"Invalid --clicks {text!r}. Use numbers such as 0,1,3,5,7.") from error


def _table(heads: list[str], rows: list[list[Any]]) -> Table:
    columns: Columns = [(head, "left" if head in ("protocol", "prompt", "weights", "source", "") else "right")
                        for head in heads]  # fmt: skip
    return Table(columns, rows)


def _compared(
    session: Session, one: "Evaluation", two: "Evaluation", first: str, second: str, folder: Path | None = None
) -> None:
    from us43d.evaluate.results import compare, compared, plain

    entries = compare(one, two, first, second)
    data = {"first": first, "second": second, "differences": [plain(entry) for entry in entries], "folder": folder}
    head = f"{first} minus {second}, paired by instance, with 95 % intervals by the bootstrap over groups"
    session.answer(data, head, "", _table(*compared(entries)))
