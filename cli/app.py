"""The us43d command. Importing a module registers its verbs: that of the verb that is run, or all; no heavy package."""

import gc
import importlib
import io
import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer

from us43d import __version__

from .errors import Interrupted, failure
from .verb import app as _app

__all__ = ["main"]

#: Verb → its module, in the order of the main job, as `us43d --help` lists them.
_MODULES = {
    "demo": "demo", "list": "about", "info": "about", "facts": "about", "taxonomy": "about", "cite": "about",
    "licences": "about", "card": "about", "doctor": "about", "fetch": "fetch", "import": "private", "verify": "fetch",
    "open": "fetch", "clean": "fetch", "build": "build", "check": "build", "splits": "build", "audit": "audit",
    "stats": "stats",
    "diff": "audit", "corpus": "build", "export": "export", "view": "view", "coco": "coco", "train": "train",
    "eval": "eval", "bench": "bench", "predict": "predict", "measure": "measure", "label": "label",
    "weights": "weights", "new": "new", "review": "review",
    "links": "links",
}  # fmt: skip


# Our message says what is wrong with a file; OpenCV and FFmpeg would print lines of their own before it.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# PyTorch's threads wait for each other in a loop, for a while that is long beside an operation of the small model: with
# another program on the processors, predictions took up to 9 times as long (docs/benchmarks.md). GNU OpenMP reads this.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _load(verb: str | None = None) -> typer.Typer:
    """Return the command line with one verb registered, or with all if `verb` is unknown."""
    modules = [_MODULES[verb]] if verb in _MODULES else dict.fromkeys(_MODULES.values())
    for module in modules:
        importlib.import_module(f".{module}", __package__)
    order = list(_MODULES)
    _app.registered_commands.sort(key=lambda command: order.index(command.name or ""))
    return _app


def __getattr__(name: str) -> Any:
    if name == "app":  # all verbs
        return _load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"us43d {__version__}")
        raise typer.Exit


@_app.callback()
def us43d(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def main() -> int:
    """Run the command line; returns the exit code (cli/errors.py lists them)."""
    signal.signal(signal.SIGTERM, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding != "utf-8":
        # An encoding such as Latin-1 has no lines for tables.
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8")
    try:
        app = _load(next(iter(sys.argv[1:]), None))
        gc.freeze()  # modules stay: no collection has to pass through them
        gc.enable()
        app(prog_name="us43d")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    except KeyboardInterrupt as error:  # before or after a verb
        sys.stderr.write(f"{failure(error, 'Nothing was changed on disk.')}\n")
        return 130
    return 0
