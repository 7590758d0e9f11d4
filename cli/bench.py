"""The verb that runs a benchmark and merges its results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from us43d import atomic
from us43d.errors import UsageError, WeightsError

from .models import CorpusName, Device, device_of, release, weights_of, weights_on_disk
from .output import Session
from .tables import Columns, Table
from .verb import verb

if TYPE_CHECKING:
    from us43d.bench.leaderboard import Board
    from us43d.bench.models import Entry


@verb(
    "bench",
    panel="Model",
    kept="Results written so far are complete.",
    examples=(
        "us43d bench us43d-1 --weights ultrasam --weights first",
        "us43d bench specimens-1 --weights tiny --corpus specimens",
        "us43d bench --merge bench --merge other-lab/sonobase.json --out leaderboard",
    ),
)
def bench(
    session: Session,
    definition: Annotated[
        str | None, typer.Argument(help="us43d-1, specimens-1, or a JSON file.", show_default=False)
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", help="A run, a file, a folder or a name (repeatable).", metavar="RUN|FILE|NAME"),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines", help="Include us43d-small, the ellipse and public weights on this disk."
        ),
    ] = True,
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            "--merge",
            help="Results to put in one table: files, or folders of them (repeatable).",
            metavar="FILE|FOLDER",
        ),
    ] = None,
    corpus: CorpusName = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.", metavar="FOLDER")] = Path("bench"),
    device: Device = None,
) -> None:
    """Run models on a versioned benchmark, or merge results of several labs after checking that they are comparable.

    Writes one JSON file per model, which carries its digest, leaderboard.json, table.md and a page with images.
    """
    from us43d.bench import leaderboard, run

    if merge:
        if definition or weights:
            raise UsageError("--merge combines existing results. Omit the benchmark and --weights.")
        atomic.require_free(out, leaderboard.FILES)
        board = leaderboard.merge([run.verified(file) for place in merge for file in run.results_in(place)])
        _tell(session, board, board.write(out), [], "")
        return
    if not definition:
        raise UsageError("Missing benchmark.", next="us43d bench us43d-1 --weights NAME")
    from us43d.bench.definition import read
    from us43d.harmonize.corpus import Corpus

    chosen = read(definition)
    opened = Corpus.open(release(session, corpus), session.home.root)
    models, missing = _models(session, weights or [], baselines, device_of(device))
    if not models:
        raise UsageError("Missing --weights.", next=f"us43d bench {definition} --weights NAME")
    atomic.require_free(out, (*leaderboard.FILES, *map(run.file_of, models)))
    with session.progress(f"benchmark {chosen.label}") as move:
        results, evaluations = run.run(chosen, opened, models, lambda what, done, of: move(done, of))
    for result in results:
        run.write(result, out)
    board = leaderboard.merge(results)
    _tell(session, board, board.write(out, evaluations), missing, ", and a JSON file per model")


def _models(session: Session, names: list[str], baselines: bool, device: str) -> tuple[dict[str, "Entry"], list[str]]:
    """Return (name → model, public weights that are missing on this disk)."""
    from us43d.bench.models import ellipse, of_weights
    from us43d.model.published import PUBLISHED
    from us43d.model.weights import SHIPPED, shipped

    places = {Path(name).name.removesuffix(".pth").removesuffix(".safetensors"): weights_of(session, name)
              for name in names}  # fmt: skip
    if len(places) < len(names):
        raise UsageError(f"Several of {', '.join(names)} would have one name in the table.")
    here = weights_on_disk(session)
    if baselines:
        here |= {SHIPPED: shipped()}
        places |= {name: place for name, place in here.items() if place not in places.values()}
    models = {}
    for name, place in places.items():
        try:
            models[name] = of_weights(place, device)
        except WeightsError as error:
            again = f"us43d weights get {name} --force   (or the same with --no-baselines)"
            raise WeightsError(
                error.what, next=error.next or (again if name in here else "us43d weights show")
            ) from error
    if baselines:
        models["ellipse-disc"] = ellipse()
    missing = [name for name, public in PUBLISHED.items() if name not in here and not public.encoder]
    return models, missing if baselines else []


def _tell(session: Session, board: "Board", folder: Path, missing: list[str], more: str) -> None:
    from us43d.bench.leaderboard import LEGEND

    def table(heads: list[str], rows: list[list[Any]]) -> Table:
        columns: Columns = [(head, "left" if head in ("model", "minus") else "right") for head in heads]
        return Table(columns, rows)

    shown: list[str | Table] = [table(*board.table()), LEGEND, "", table(*board.protocols())]
    if missing:
        shown += ["", f"public weights that are not on this disk: {', '.join(missing)}"]
    session.answer(board.data() | {"folder": folder, "missing_weights": missing}, *shown)
    session.say(f"{folder}: page.html, table.md, leaderboard.json{more}")
