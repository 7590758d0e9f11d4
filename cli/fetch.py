"""Verbs around getting the data: fetch, verify, open, clean."""

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from us43d import registry
from us43d.atomic import storage_errors
from us43d.contract import Recipe
from us43d.errors import (
    LicenceError,
    LoginError,
    ManualFileError,
    Us43dError,
    UsageError,
    VerifyError,
    lines_of,
    listed,
)
from us43d.licences import refuse_uncommercial

from .many import Outcome, attempt, each, failed, finish
from .options import Commercial, Every, Names
from .output import Session
from .select import chosen, sources_on_disk
from .tables import Columns, Table
from .verb import verb

if TYPE_CHECKING:
    from us43d.fetch.fetch import Plan
    from us43d.fetch.http import Web

PANEL = "Getting data"

_HELP = "Accept the licence of this source (repeatable), or of all."


# --------------------------------------------------------------------------------------------------------------- fetch


@verb(
    "fetch",
    panel=PANEL,
    kept="Downloaded data are kept; the same command resumes.",
    examples=(
        "us43d fetch BUSI",
        "us43d fetch BUSI CAMUS --accept-licence all",
        "us43d fetch BUSI --from ~/Downloads",
        "us43d fetch STU-Hospital --specimen",
        "us43d fetch --all --dry-run",
    ),
)
def fetch(
    session: Session,
    names: Names = None,
    every: Every = False,
    from_: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="Use files from this folder or archive (repeatable); other files in it are ignored.",
            metavar="PATH",
            show_default=False,
        ),
    ] = None,
    specimen: Annotated[
        bool, typer.Option("--specimen", help="Write a synthetic sample dataset in the published form; no download.")
    ] = False,
    accept: Annotated[
        list[str] | None, typer.Option("--accept-licence", help=_HELP, metavar="NAME|all", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show sizes, licences and free disk space. Contacts no host, changes nothing."),
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=32, help="Parallel downloads; at most four from one host.")
    ] = 4,
    commercial: Commercial = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Verify and unpack existing files again; accept files that changed on their host."
        ),
    ] = False,
) -> None:
    """Download, verify and unpack sources after showing their licences. Resumes an interrupted run."""
    recipes = chosen(names, registry.recipes() if every else None, "fetch", session.home)
    if private := [recipe.name for recipe in recipes if recipe.private]:
        raise UsageError(
            f"{listed(private)} {'is a private source' if len(private) == 1 else 'are private sources'}, imported and "
            "not fetched.",
            next=f"us43d import FOLDER --name {private[0]} --force",
        )
    if specimen and from_:
        raise UsageError("--specimen and --from cannot be combined.", next="us43d fetch --help")
    if commercial:
        refuse_uncommercial({recipe.name: recipe.licence.terms for recipe in recipes}, "us43d fetch {} --commercial")
    if dry_run:
        _show_plan(session, recipes)
        return
    if specimen:
        outcomes = each(session, recipes, lambda recipe: _specimen(session, recipe, force))
    else:
        outcomes = _fetch_all(session, recipes, list(from_ or ()), _named(session, accept or []), jobs, force)
    finish(session, "fetch", outcomes, options=_repeated(from_ or (), force))


def _repeated(from_: Iterable[Path], force: bool) -> list[object]:
    """Return the options to repeat in a next step."""
    return [*(word for folder in from_ for word in ("--from", folder)), *(["--force"] if force else [])]


def _specimen(session: Session, recipe: Recipe, force: bool) -> Outcome:
    from us43d.fetch.fetch import fetch_specimen

    result = fetch_specimen(recipe, registry.specimen(recipe.slug), session.home, force=force, bars=session.progress)
    return Outcome(recipe.name, result.state, result.said, f"us43d build {recipe.name}", result)


def _named(session: Session, accept: list[str]) -> set[str]:
    """Return slugs of the sources whose licence is accepted by option; {"all"} for every one."""
    return {"all" if name.lower() == "all" else registry.find(name, session.home).slug for name in accept}


def _fetch_all(
    session: Session, recipes: list[Recipe], from_: list[Path], accept: set[str], jobs: int, force: bool
) -> list[Outcome]:
    """Ask for licences one after the other, then fetch the sources in parallel."""
    from us43d.fetch.fetch import fetch, here
    from us43d.fetch.http import Web

    web = Web(jobs=jobs)
    refused = {}
    willing = _Asking(session, accept, _repeated(from_, force))
    for recipe in recipes:
        try:
            with storage_errors(session.home.root, "Nothing was changed on disk."):
                if force or from_ or here(session.home, recipe) is None:
                    willing.ask(recipe)
        except Us43dError as error:
            refused[recipe.slug] = failed(recipe, error, "licence not accepted")

    def one(recipe: Recipe) -> Outcome:
        if recipe.slug in refused:
            return refused[recipe.slug]
        try:
            result = fetch(recipe, session.home, web, from_=from_, jobs=jobs, force=force, bars=session.progress)
        except ManualFileError as error:
            return _brief(failed(recipe, error, _state(recipe, error)))
        except Us43dError as error:
            return _brief(failed(recipe, error))
        return Outcome(recipe.name, result.state, result.said, f"us43d build {recipe.name}", result)

    if len(recipes) == 1 or jobs == 1:
        return each(session, recipes, one)
    return _side_by_side(session, recipes, one, jobs, web)


def _side_by_side(
    session: Session, recipes: list[Recipe], one: Callable[[Recipe], Outcome], jobs: int, web: "Web"
) -> list[Outcome]:
    """Run `one` on several sources in parallel; outcomes are in the order of `recipes`."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="source") as pool:
        futures = [pool.submit(attempt, session, recipe, one) for recipe in recipes]
        try:
            return [future.result() for future in futures]
        except BaseException:
            web.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _state(recipe: Recipe, error: ManualFileError) -> str:
    if isinstance(error, LoginError) or recipe.access == "login":
        return "needs login"
    return {"agreement": "needs agreement", "request": "needs agreement", "unavailable": "unavailable"}.get(
        recipe.access, "manual"
    )


def _brief(outcome: Outcome) -> Outcome:
    """Shorten an outcome for a table of several: the failure without the steps, which the next command prints."""
    lines = [line.strip() for line in outcome.said.split("\n")]
    ways = [line for line in lines if line.startswith("- ")]
    reason = lines[0].removeprefix(f"{outcome.name}: ").removeprefix(f"{outcome.name} is ")
    return outcome._replace(said="\n".join([reason, *ways]))


class _Asking:
    """Shows each licence once and takes the answer: from the ledger, the option, or a person."""

    def __init__(self, session: Session, accept: set[str], options: list[object]) -> None:
        self._session, self._accept, self._options, self._rest = session, accept, options, False

    def ask(self, recipe: Recipe) -> None:
        """Ask for a licence unless it is accepted already.

        Raises:
            LicenceError: If the licence is not accepted.
        """
        from us43d.fetch import ledger

        home = self._session.home
        if ledger.accepted(home, recipe) is not None:
            return
        text = ledger.licence_text(recipe)
        if self._accept & {"all", recipe.slug} or self._rest:
            self._session.say(f"{text}\n  Accepted.")
        elif self._session.asks:
            self._session.warn(text)
            sys.stderr.write("Accept the licence?  [y]es, [N]o, [a]ll following, too: ")
            sys.stderr.flush()
            answer = sys.stdin.readline().strip().lower()
            self._rest = answer in {"a", "all"}
            if answer not in {"y", "yes", "a", "all"}:
                raise LicenceError(f"The licence of {recipe.name} was not accepted.", next=f"us43d info {recipe.name}")
        else:
            self._session.say(text)
            ledger.require(home, recipe, self._options)  # raises, with the command to run
        ledger.accept(home, recipe)


def _show_plan(session: Session, recipes: list[Recipe]) -> None:
    """Print published sizes, licences and free disk space; contacts no host."""
    import shutil

    from us43d.fetch import ledger
    from us43d.fetch.fetch import plan

    plans: list[tuple[Recipe, Plan]] = [(recipe, plan(recipe, session.home)) for recipe in recipes]
    todo = [planned for _, planned in plans if not planned.here]
    known = sum(planned.least for planned in todo)
    unknown = [planned.name for planned in todo if planned.size is None]
    root = session.home.root
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    data = {
        "sources": [
            {
                "name": recipe.name,
                "access": recipe.access,
                "licence": recipe.licence.id,
                "accepted": ledger.accepted(session.home, recipe) is not None,
                "way": planned.way,
                "files": planned.files,
                "bytes": planned.size,
                "estimate": planned.estimate,
                "here": planned.here,
            }
            for recipe, planned in plans
        ],
        "bytes": known,
        "unknown": unknown,
        "free": free,
        "fits": False if 2 * known >= free else None if unknown else True,
    }
    heads: Columns = (
        ("source", "left"), ("size", "right"), ("access", "left"), ("licence", "left"), ("accepted", "left"),
        ("from", "fold"),
    )  # fmt: skip
    rows = (
        (
            recipe.name,
            "on disk" if planned.here else ("≈ " if planned.estimate else "") + _size(planned.size),
            recipe.access,
            recipe.licence.id,
            "yes" if ledger.accepted(session.home, recipe) else "not yet",
            planned.way,
        )
        for recipe, planned in plans
    )
    session.answer(data, Table(heads, rows))
    few = f"{len(unknown)} of {len(todo)} sources" if len(todo) > 1 else unknown[0] if unknown else ""
    about = "≈ " * any(planned.estimate for planned in todo)
    parts = [f"{'at least ' * bool(unknown)}{about}{_size(known)}"] if known or not unknown else []
    parts += [f"size unknown for {few}"] if unknown else []
    session.say(f"To download: {', '.join(parts)}. Free: {_size(free)} at {existing}.")
    if 2 * known >= free:
        session.warn(f"Archives and unpacked files need at least {about}{_size(2 * known)}, more than is free.")
    elif unknown:
        session.warn("An unknown size is checked when its download starts: a file that does not fit is refused.")


def _size(number: int | None) -> str:
    if number is None:
        return "size unknown"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} B"


# -------------------------------------------------------------------------------------------------------------- verify


@verb("verify", panel=PANEL, examples=("us43d verify BUSI", "us43d verify --all --json"))
def verify(
    session: Session,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every source on this disk.")] = False,
) -> None:
    """Hash downloads and raw files and compare them with the receipts: ok, missing, changed, extra.

    A file that was damaged before its digest was recorded cannot be detected, unless it carries a checksum of its own.
    """
    present = sources_on_disk(session.home, lambda status: status.fetched) if every else None
    recipes = chosen(names, present, "verify", session.home)

    def one(recipe: Recipe) -> Outcome:
        from us43d.fetch.http import escaped
        from us43d.fetch.store import receipt
        from us43d.fetch.verify import verify as findings

        counts: dict[str, int] = {}
        wrong: list[dict[str, str]] = []
        with session.progress(recipe.name, "B") as progress:
            for result in findings(session.home, recipe, progress):
                counts[result.state] = counts.get(result.state, 0) + 1
                if result.state not in {"ok", "removed"}:
                    wrong.append(result._asdict())
        summary = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
        if wrong:
            shown = lines_of([f"{entry['state']:8} {escaped(entry['path'])}" for entry in wrong])
            how = recipe.again_as(receipt(session.home, recipe.name).get("kind", ""))
            error = VerifyError(f"{recipe.name} differs from its receipt ({summary}):{shown}", next=how)
            return failed(recipe, error, "differs")
        return Outcome(recipe.name, "ok", summary, data=counts)

    finish(session, "verify", each(session, recipes, one))


# ---------------------------------------------------------------------------------------------------------------- open


@verb("open", panel=PANEL, examples=("us43d open BUSI",))
def open_(
    session: Session, name: Annotated[str, typer.Argument(help="A source, in any spelling.", metavar="NAME")]
) -> None:
    """Open the web page of a source and print its address."""
    import webbrowser

    recipe = registry.find(name, session.home)
    if recipe.homepage is None:
        raise UsageError(f"{recipe.name} is a private source without a web page.", next=f"us43d info {recipe.name}")
    shown = webbrowser.open(recipe.homepage)
    session.answer({"name": recipe.name, "url": recipe.homepage, "opened": shown}, recipe.homepage)
    if not shown:
        session.say("No browser found. Open the address yourself.")


# --------------------------------------------------------------------------------------------------------------- clean


@verb(
    "clean",
    panel=PANEL,
    kept="Some files may have been removed.",
    examples=("us43d clean", "us43d clean BUSI --yes", "us43d clean BUSI --builds"),
)
def clean(
    session: Session,
    names: Names = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Also remove raw files; they can be unpacked or fetched again.")
    ] = False,
    builds: Annotated[bool, typer.Option("--builds", help="Also remove builds; they can be built again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Show disk use by source, and remove unpacked archives and leftovers after asking.

    Files that you obtained yourself are never removed.
    """
    from us43d.fetch import clean as cleaning

    recipes = (
        chosen(names, None, "clean", session.home)
        if names
        else sorted(registry.recipes(session.home), key=lambda recipe: recipe.name.lower())
    )
    items = list[cleaning.Taken]()
    for recipe in recipes:
        try:
            with storage_errors(session.home.downloads(recipe.name), "Nothing was changed on disk."):
                items += cleaning.look(session.home, recipe)
        except Us43dError as error:
            if names:
                raise
            session.say(f"{recipe.name} is passed over: {error.what}")
    wanted = {"archives", "leftovers"} | ({"raw tree"} if raw else set()) | ({"builds"} if builds else set())
    going = [item for item in items if item.kind in wanted]
    total = sum(item.bytes for item in going)
    heads: Columns = (("source", "left"), ("what", "left"), ("size", "right"), ("", "left"), ("where", "fold"))
    rows = [
        (item.name, item.kind, _size(item.bytes), "remove" if item in going else "keep", str(item.path))
        for item in items
    ]
    agreed = bool(going) and (yes or (session.asks and _agreed(Table(heads, rows), total)))
    if agreed:
        cleaning.remove(session.home, going)
    data = {"found": [item._asdict() for item in items], "removed": [item.path for item in going] if agreed else []}
    if not agreed or yes:
        session.answer(data, Table(heads, rows))
    else:
        session.answer(data)
    if agreed:
        session.say(f"Removed {_size(total)}.")
    elif going:
        session.say(f"Nothing was removed; {_size(total)} would be. Next: us43d clean --yes")
    else:
        session.say("Nothing to remove.")


def _agreed(table: Table, total: int) -> bool:
    from .tables import draw

    sys.stderr.write(f"{draw(table, 120)}\nRemove {_size(total)}?  [y/N]: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
