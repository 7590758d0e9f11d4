"""What the verbs around the model share: which weights, which corpus, which device."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from us43d.errors import UnknownName, UsageError, WeightsError, listed

from . import select
from .options import by_default
from .output import Session

if TYPE_CHECKING:
    from us43d.model.predictor import Predictor

__all__ = [
    "CorpusName",
    "Device",
    "Dtype",
    "OwnData",
    "OwnImages",
    "corpora_on_disk",
    "device_of",
    "makes_corpus",
    "weights_on_disk",
    "predictor",
    "release",
    "weights_of",
]

Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:N or mps. Default: a CUDA GPU if available.", show_default=False)
]
Dtype: TypeAlias = Annotated[
    Literal["float32", "bf16", "fp16"],
    typer.Option(help="Precision of the model: float32, bf16 or fp16; half precision is for GPUs.", metavar="TYPE"),
]
CorpusName = Annotated[
    str | None,
    typer.Option(help="Release of the corpus, or its URL. Default: the only corpus.", metavar="RELEASE|URL"),
]
OwnData = Annotated[Path | None, typer.Option(help="A COCO file of your own in place of a corpus.", metavar="FILE")]
OwnImages = Annotated[
    Path | None, typer.Option(help="Folder of the images of --data. Default: folder of the file.", metavar="FOLDER")
]
_ENDS = ("", ".pth", ".safetensors")


def weights_of(session: Session, name: str | None, option: str = "--weights") -> Path:
    """Return a file or folder as given, else one of that name among the home's weights, else the result of a run.

    A folder with config.json and model.safetensors is weights, even with a log beside them. Of a run, the weights with
    the best validation score; without a validation those of its last step, or of its newest checkpoint. Without a name,
    the weights that come with us43d. Prints which are used. Raises WeightsError.
    """
    from us43d.model.published import PUBLISHED
    from us43d.model.weights import CONFIG, SHIPPED, TENSORS, shipped
    from us43d.train import checkpoint

    if name is None:
        session.say(f"weights: {SHIPPED}, included with us43d; choose others with {option}")
        return shipped()
    if name == SHIPPED:
        return shipped()
    direct = Path(name).expanduser()
    other: Path | None = None  # a folder without weights, such as that of the data for which a run is named
    for place in (direct, *(session.home.weights / f"{name}{end}" for end in _ENDS), session.home.runs / name):
        is_weights = (place / CONFIG).is_file() and (place / TENSORS).is_file()
        if not is_weights and (place / "log.jsonl").is_file():
            result = next((path for path in (place / checkpoint.BEST, place / "weights") if path.is_dir()), None)
            result = result or checkpoint.latest(place / "checkpoints")
            if result is None:
                raise WeightsError(
                    f"No weights found in the run {place}: it has not saved a checkpoint yet.",
                    next="us43d weights show",
                )
            session.say(f"weights: {_of_run(place, result)}")
            return result
        if (place / CONFIG).is_file() or (place.exists() and not place.is_dir()):
            return place
        other = other or (place if place.exists() else None)
    if other:
        return other
    raise WeightsError(
        f"Unknown weights {name!r}: not a file, and not in {session.home.weights} or {session.home.runs}.",
        next=f"us43d weights get {name}" if name in PUBLISHED else "us43d weights show",
    )


def _of_run(run: Path, chosen: Path) -> str:
    """Return which weights of a run were chosen, for a message."""
    import json

    from us43d.train.checkpoint import BEST

    try:
        meta = json.loads((chosen / "config.json").read_text("utf-8"))["meta"]
        step = f"step {meta['step']:,} of the run {run.name}"
        score = f"{meta['validation']['score']:.3f}" if chosen.name == BEST else ""
    except (OSError, ValueError, KeyError, TypeError):  # reading the weights says what is wrong with them
        return str(chosen)
    if not score:
        return step
    last = f"; for the last step: --weights {run / 'weights'}" if (run / "weights").is_dir() else ""
    return f"{step}, with the best validation score ({score}){last}"


def weights_on_disk(session: Session) -> dict[str, Path]:
    """Return name → path of the public weights in the home that segment."""
    from us43d.model.published import PUBLISHED

    segmenting = [name for name, public in PUBLISHED.items() if not public.encoder]
    places = ((name, session.home.weights / f"{name}{end}") for name in segmenting for end in reversed(_ENDS))
    return {name: place for name, place in places if place.exists()}


def corpora_on_disk(session: Session) -> list[str]:
    """Return the names of the corpora in the home, sorted."""
    return [path.name for path in session.home.corpora()]


def release(session: Session, name: str | None, option: str | None = "--corpus") -> str | Path:
    """Return the folder of the selected corpus, or its URL as given.

    option: the one that names the corpus; None if an argument does. Raises UnknownName, and UsageError if several are
    there and none is named.
    """
    if name is not None and "://" in name:
        return name
    names = corpora_on_disk(session)
    if not names or (name is not None and name not in names):
        which = f"No corpus {name!r}" if name else "No corpus"
        known = f"; corpora: {listed(names)}" if names else ""
        raise UnknownName(f"{which} found in {session.home.root}{known}.", next=makes_corpus(session))
    if name is None and len(names) > 1:
        flag, how = (f"{option} ", f"with {option}") if option else ("", "by its name")
        raise UsageError(
            f"Several corpora found: {listed(names)}. Choose one {how}.", next=f"the same with {flag}{names[0]}"
        )
    return session.home.corpus(name or names[0])


def makes_corpus(session: Session) -> str:
    """Return the command that makes a corpus: `build --all` does unless all builds are excluded by default."""
    kept, left = by_default(select.sources_on_disk(session.home, lambda state: state.builds), ())
    names = [name for group in left.values() for name in group]
    return "us43d build --all" if kept or not names else f"us43d corpus {' '.join(names)} --release mine"


def device_of(name: str | None) -> str:
    """Return the selected device.

    Raises:
        UsageError: If the device is invalid or not available.
    """
    import torch

    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        kind = torch.device(chosen)
    except RuntimeError as error:
        raise UsageError(f"Invalid device {chosen!r}. Use cpu, cuda, cuda:N or mps.") from error
    available = (
        kind.type == "cpu"
        or (kind.type == "mps" and torch.backends.mps.is_available())
        or (kind.type == "cuda" and torch.cuda.is_available() and (kind.index or 0) < torch.cuda.device_count())
    )
    if not available:
        raise UsageError(f"Device {chosen!r} not found.", next="us43d doctor")
    return chosen


def predictor(path: Path, device: str, dtype: str) -> "Predictor":
    """Load weights for prediction.

    Raises:
        WeightsError: If they cannot be loaded.
    """
    import torch

    from us43d.model.predictor import Predictor

    kinds = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return Predictor.from_weights(path, device=device, dtype=kinds[dtype])
