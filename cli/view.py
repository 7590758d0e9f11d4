"""The verb that opens a local page to look at a corpus."""

import webbrowser
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from us43d import registry
from us43d.errors import UnknownName, UsageError, command, counted, listed

from .build import PANEL, merging
from .builds import is_built, of_newest, sources
from .many import Outcome
from .models import CorpusName, Device, corpora_on_disk, device_of, predictor, release, weights_of
from .options import Names
from .output import Session
from .select import sources_on_disk
from .verb import verb

if TYPE_CHECKING:
    from us43d.harmonize.corpus import Corpus
    from us43d.view.assistant import Assistant
    from us43d.view.labels import Inputs
    from us43d.view.server import Site

Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port. Default: 5043, or any free one.", show_default=False)
]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Print the address and open nothing.")]
Host = Annotated[
    str | None,
    typer.Option(
        "--host", help="Serve others: everyone who can reach this address and has the token.", metavar="ADDRESS"
    ),
]


@verb(
    "view",
    panel=PANEL,
    kept="Verdicts and corrections made on the page are on disk.",
    examples=(
        "us43d view",
        "us43d view BUSI CAMUS",
        "us43d view --corpus us43d --eval runs/first/eval",
        "us43d view BUSI --against 1-us43d-unfixed",
    ),
)
def view(
    session: Session,
    names: Names = None,
    corpus: CorpusName = None,
    evaluation: Annotated[
        Path | None, typer.Option("--eval", help="Show the predictions of this evaluation.", metavar="FOLDER")
    ] = None,
    other: Annotated[
        str | None,
        typer.Option(
            "--against", help="Compare masks with another build (version or folder) or release.", metavar="OTHER"
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", help="The model that answers clicks while you correct masks.", metavar="RUN|FILE|NAME"
        ),
    ] = None,
    device: Device = None,
    port: Port = None,
    no_browser: NoBrowser = False,
    host: Host = None,
) -> None:
    """Browse a corpus: filter images, show and correct masks, review near-duplicates; on this machine only."""
    from us43d.view import opening
    from us43d.view.browse import Browse
    from us43d.view.correct import Correct
    from us43d.view.review import Review
    from us43d.view.server import Site
    from us43d.view.thumbs import Thumbs

    opened = _opened(session, names or [], corpus)
    if evaluation and other:
        raise UsageError("Give --eval or --against, not both.", next=command("view", "--eval", evaluation))
    predicted = opening.predictions(evaluation) if evaluation else {}
    against = opening.compared(opened, _other(session, names or [], other)) if other else None
    merge = "" if names else merging(session, opened)
    catalogue = opening.catalogue(opened, session.home.root, predicted, against, merge)
    title = f"corpus {opened.path.name}" if not names else ", ".join(source["name"] for source in opened.sources)
    root = session.home.root
    review = Review(catalogue, opening.findings(root), root, title)
    browse = Browse(catalogue, Thumbs(session.home.root / "cache" / "view" / "thumbs"), title, predicted, against)
    correct = Correct(catalogue, root, title, _assistant(session, weights, device))
    routes = [*browse.routes(), *review.routes(), *correct.routes()]
    run(session, Site(routes, "/", correct.close), counted(len(catalogue), "image"), port, no_browser, host)


def _assistant(session: Session, weights: str | None, device: str | None) -> "Callable[[Inputs], Assistant] | None":
    """Return a function that makes the assistant when the first image is corrected, or None without torch."""
    from us43d.view.assistant import Assistant

    if weights is None and find_spec("torch") is None:
        session.say("PyTorch is not installed: masks are corrected by brush and polygon, without a model.")
        return None
    named = weights_of(session, weights) if weights else None  # an unknown name is an error at once

    def made(inputs: "Inputs") -> "Assistant":
        path = named or weights_of(session, None)  # imports torch, which the view of a corpus does not need
        return Assistant(lambda: predictor(path, device_of(device), "float32"), inputs.read)

    return made


def _opened(session: Session, names: list[str], corpus: str | None) -> "Corpus":
    """Open the corpus: of the named builds, of the release, the only one, or of all builds."""
    from us43d.harmonize.corpus import Corpus
    from us43d.view import opening

    if names and corpus:
        raise UsageError("Give sources or --corpus, not both.", next=f"us43d view --corpus {corpus}")
    if corpus and "://" in corpus:
        raise UsageError(
            f"us43d view opens corpora of this machine, not {corpus}.",
            next="us43d view --corpus RELEASE   (after copying the folders corpora and build to US43D_HOME)",
        )
    if names:
        try:
            chosen = sources(session, names, False, is_built, "view")
        except UnknownName as error:
            if len(names) == 1 and names[0] in corpora_on_disk(session):
                error.what, error.next = f"{names[0]} is a corpus, not a source.", command("view", "--corpus", names[0])
            raise
    elif corpus or session.home.corpora():
        return Corpus.open(release(session, corpus), session.home.root)
    else:
        chosen = sources_on_disk(session.home, is_built)
        if not chosen:
            raise UsageError(f"Nothing is built in {session.home.root}.", next="us43d demo")
    bad = None if names else list[Outcome]()
    return of_newest(session, chosen, lambda builds: opening.indexed(builds, session.home.root), bad)


def _other(session: Session, names: list[str], other: str) -> "Corpus":
    """Open the corpus to compare with: a folder, a version of the named source, or a release."""
    from us43d.harmonize.corpus import Corpus
    from us43d.view import opening

    places = [Path(other), *(session.home.build(registry.find(name).name, other) for name in names)]
    for place in (*places, session.home.corpus(other)):
        if (place / "corpus.json").is_file():
            return Corpus.open(place, session.home.root)
        if (place / "dataset.json").is_file():
            return opening.indexed([place.resolve()], session.home.root.resolve())
    folders = [session.home.builds(registry.find(name).name) for name in names]
    known = sorted(file.parent.name for folder in folders for file in folder.glob("[!.]*/dataset.json"))
    raise UsageError(
        f"--against {other!r} is neither a build nor a release.{f' Versions: {listed(known)}.' if known else ''}",
        next="us43d view --help",
    )


def run(session: Session, site: "Site", what: str, port: int | None, no_browser: bool, host: str | None) -> None:
    """Serve a site until the user ends it."""
    from us43d.view.server import serve

    running = serve(site, host=host or "127.0.0.1", port=port)
    try:
        session.answer({"url": running.url, "port": running.port}, running.url)
        if host:
            session.warn(
                f"--host {host}: everyone who can reach this address and knows the token sees the images, and traffic "
                "is not encrypted. Use it inside a network you trust."
            )
        session.say(f"{what}; Ctrl-C ends the server")
        if not no_browser:
            webbrowser.open(running.url)
        while not running.ended.wait(1):
            pass
    except KeyboardInterrupt:  # the usual way to end it
        session.say("the server has ended")
    finally:
        running.stop()
