"""What every verb has in common: --json, --quiet, --home, examples in its help, and one way to fail."""

import functools
import inspect
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from us43d.errors import UsageError, command, counted, listed

from .errors import debugging, failure
from .output import Session, plain

__all__ = ["app", "verb"]

#: What Typer raises for a command line it does not understand.
_NotUnderstood: Any = typer.BadParameter.__bases__[0]
#: A group of verbs without a verb, whose help is shown.
_NoVerb: Any = sys.modules[_NotUnderstood.__module__].NoArgsIsHelpError


#: Columns of a terminal below which the tables of the help would cut names of options.
_NARROW = 80


class _Verb(TyperCommand):
    """Shows its help as plain lines in a narrow terminal."""

    examples: tuple[str, ...] = ()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        if shutil.get_terminal_size().columns >= _NARROW:
            return super().format_help(ctx, formatter)
        self.rich_markup_mode = None
        # Examples are not wrapped, so that they can be copied.
        self.epilog = "\n".join(["Examples:", "", "\b", *self.examples])
        return super().format_help(ctx, formatter)


class _Group(TyperGroup):
    """Reports a command line that was not understood as any other failure, as JSON where --json is given."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        how = {
            "prog_name": prog_name,
            "complete_var": complete_var,
            "windows_expand_args": windows_expand_args,
            **extra,
        }
        if not standalone_mode:
            return super().main(args=words, standalone_mode=False, **how)
        try:
            code = super().main(args=words, standalone_mode=False, **how)
        except _NoVerb as error:
            error.show()
            sys.exit(error.exit_code)
        except typer.Abort as error:  # Ctrl-C before the verb
            raise KeyboardInterrupt from error
        except _NotUnderstood as error:
            session = Session(None, as_json="--json" in words, quiet=False)
            verb = [word for word in words[:1] if not word.startswith("-")]  # a missing argument has no context
            called = error.ctx.command_path if error.ctx else " ".join(["us43d", *verb])
            wrong = _expanded(error, words) or UsageError(_said(error), next=f"{called} --help")
            sys.exit(report(wrong, session, "Nothing was changed on disk."))
        sys.exit(code if isinstance(code, int) else 0)


def _expanded(error: Any, words: list[str]) -> UsageError | None:
    """Return what to say of files that a shell made of a pattern such as *.png; None for other errors.

    The command to run next is that with the folder of the files in their place.
    """
    files = [word for word in words[1:] if Path(word).is_file()]
    known = [one for one in error.ctx.command.params if one.param_type_name == "argument"] if error.ctx else []
    extra = "unexpected extra argument" in str(error.format_message())
    if not extra or len(files) < 2 or len(known) != 1:  # of several arguments, nothing tells which are meant
        return None
    places = [Path(file).parent for file in files]
    if any(place.is_absolute() for place in places):
        places = [place.absolute() for place in places]
    folder = os.path.commonpath(places) or "."
    rest = [word for word in words if word not in files[1:]]
    rest[rest.index(files[0])] = folder
    return UsageError(
        f"us43d {words[0]} takes a single file or folder, not {counted(len(files), 'file')}: {listed(files, 3)}.",
        next=f"{command(*rest)}   # all files of the folder",
    )


def _said(error: Any) -> str:
    """Return what is wrong with a command line, with the value; Typer omits it in some messages."""
    message = str(error.format_message()).replace("Value error, ", "")
    faults: list[Any] = getattr(error.__cause__, "errors", list)()  # of pydantic
    value = repr(faults[0]["input"]) if faults else ""
    return message if value in message else f"{message}: {value}"


app = typer.Typer(
    name="us43d",
    cls=_Group,
    help="Download and harmonize public ultrasound segmentation datasets; train, evaluate and run promptable models.",
    epilog="Start with [bold]us43d list[/bold], or see everything at once, offline: [bold]us43d demo[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMON = {
    "home": (
        Annotated[
            Path | None,
            typer.Option("--home", help="Folder of all data. Default: $US43D_HOME, else ~/.us43d.", metavar="FOLDER"),
        ],
        None,
    ),
    "as_json": (
        Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")],
        False,
    ),
    "quiet": (
        Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")],
        False,
    ),
}


def verb(
    name: str,
    *,
    examples: tuple[str, ...],
    panel: str,
    kept: str = "Nothing was changed on disk.",
    of: typer.Typer = app,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a verb of the CLI. Its first parameter is the Session; the rest are its own options.

    examples: command lines shown in its help. panel: heading it stands under. kept: what a run that was interrupted
    leaves on disk.
    """
    command = " ".join(["us43d", *([] if of is app else [str(of.info.name)]), name])
    escaped = "\n\n".join(f"  [green]{line.replace('[', chr(92) + '[')}[/green]" for line in examples)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function)
        own = list(signature.parameters.values())[1:]
        common = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (annotation, default) in _COMMON.items()
        ]
        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

        @functools.wraps(function)
        def run(**options: Any) -> None:
            home, as_json, quiet = (options.pop(key) for key in _COMMON)
            session = Session(home, as_json=as_json, quiet=quiet)
            code = _guarded(functools.partial(function, session, **options), session, kept, command)
            raise typer.Exit(code)

        run.__signature__ = signature.replace(parameters=[*keyword, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*keyword, *common)}
        kind = type("_Verb", (_Verb,), {"examples": examples})
        of.command(name, cls=kind, epilog=f"[bold]Examples[/bold]\n\n{escaped}", rich_help_panel=panel)(run)
        return function

    return decorate


def _guarded(work: Callable[[], None], session: Session, kept: str, command: str) -> int:
    """Run the work; report what it raises. Returns the exit code."""
    try:
        work()
    except typer.Exit as done:
        return done.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (every failure ends in one message and one code)
        return report(error, session, kept, command)
    return 0


def report(error: BaseException, session: Session, kept: str, command: str = "") -> int:
    """Tell the user what failed, on stderr and, where no result was printed, as JSON on stdout with --json.

    command: whose help is the next step where the failure knows no better one.
    """
    problem = failure(error, kept)
    if not problem.next and command:
        problem = problem._replace(next=f"{command} --help")
    if debugging():
        traceback.print_exception(error, file=sys.stderr)
    if session.as_json and not session.answered:
        session.answer({"error": plain(problem)})
    session.fail(str(problem))
    return problem.code
