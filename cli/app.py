"""The us43d command. Every verb is registered by importing its module; heavy packages are imported inside the verbs."""

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from us43d import __version__

from . import (  # noqa: F401  (each registers its verbs)
    about,
    audit,
    build,
    demo,
    eval,  # noqa: A004
    fetch,
    links,
    measure,
    new,
    predict,
    stats,
    train,
    view,
    weights,
)
from .errors import Interrupted, failure
from .verb import app

__all__ = ["app", "main"]

#: The verbs in the order of the main job, as `us43d --help` lists them.
_ORDER = (
    "demo", "list", "info", "taxonomy", "cite", "licences", "card", "doctor", "fetch", "verify", "open", "clean",
    "build", "check", "splits", "audit", "stats", "diff", "corpus", "view", "train", "eval", "predict", "measure",
    "weights", "new", "links",
)  # fmt: skip
app.registered_commands.sort(key=lambda command: _ORDER.index(command.name or ""))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"us43d {__version__}")
        raise typer.Exit


@app.callback()
def us43d(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def main() -> int:
    """Run the command line; returns the exit code (cli/errors.py lists them)."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        app(prog_name="us43d")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    except KeyboardInterrupt as error:  # before or after a verb
        sys.stderr.write(f"{failure(error, 'Nothing was changed on disk.')}\n")
        return 130
    return 0
