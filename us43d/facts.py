"""Facts about sources, read from recipes/facts/<slug>.toml and references.bib into the models of `us43d.contract`."""

import importlib
import json
import os
import pkgutil
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from us43d import atomic
from us43d.contract import Citation, Facts, Reader, Recipe
from us43d.errors import RecipeError, listed

__all__ = ["REFERENCES", "every", "facts", "folder", "parse_bibtex", "schema", "slugs", "source"]

REFERENCES = "references.bib"


@cache
def folder() -> Path:
    """Return the folder of the facts: recipes/facts of the checkout or the installed package."""
    return Path(importlib.import_module("us43d.recipes").__path__[0], "facts")


@cache
def slugs() -> tuple[str, ...]:
    """Return the module names of all recipes, sorted; only the empty package is imported."""
    package = importlib.import_module("us43d.recipes")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg))


@cache
def facts(slug: str) -> Facts:
    """Return the facts of one source.

    Raises RecipeError, naming file, table and key, for a file that is missing or does not fit the schema.
    """
    try:
        return Facts.model_validate_json(_cached()[1].get(slug) or _json(slug))
    except ValidationError as error:
        faults = [f"{_place(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}" for fault in error.errors()]
        raise RecipeError(f"{_file(slug)} does not fit the schema: {listed(faults, 3)}.") from error


def every(names: Iterable[str]) -> list[Facts]:
    """Return the facts of all sources, which are parsed once and then cached beside their files.

    Raises RecipeError as `facts` does, and for facts of other sources.
    """
    names = list(names)
    if lone := sorted(path.stem for path in folder().glob("*.toml") if path.stem not in set(names)):
        raise RecipeError(f"{_file(lone[0])} has no reader: recipes/{lone[0]}.py is missing.")
    known = [facts(slug) for slug in names]
    read_from, cached = _cached()
    if not cached:
        content = json.dumps({"files": read_from, "facts": {slug: _json(slug) for slug in names}})
        with suppress(OSError):  # as with bytecode: an installed package may be read-only
            _cache_file().parent.mkdir(exist_ok=True)
            atomic.write_bytes(_cache_file(), content.encode(), durable=False)
    return known


def source(module: str, read: Reader, paper: Reader | None = None) -> Recipe:
    """Return the recipe of a module of recipes/: the facts in the TOML file of its name, and how to read the raw tree.

    Args:
        module: The module's `__name__`.
        read: Generator of the samples of a raw tree.
        paper: Generator for the paper profile, where that needs another reader.

    Raises:
        RecipeError: The facts are missing or do not fit the schema.
    """
    known = facts(module.rpartition(".")[2])
    return Recipe(**dict(known), read=read, read_paper=paper)


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of what `us43d facts --json` prints: an array with one object per source."""
    from pydantic import TypeAdapter

    made = TypeAdapter(tuple[Facts, ...]).json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Facts of us43d"} | made


def _cache_file() -> Path:
    return folder() / "__pycache__" / "facts.json"


@cache
def _cached() -> tuple[list[list[str | int]], dict[str, str]]:
    """Return the fingerprint of the files and slug → facts as JSON, from an earlier run; empty if a file has changed.

    The fingerprint is taken before this run reads a file: one that changes later does not pass for what was read.
    """
    files = _fingerprint()
    try:
        content = json.loads(_cache_file().read_bytes())
        return files, dict(content["facts"]) if content["files"] == files else {}
    except (OSError, ValueError, KeyError, TypeError):  # absent, or not what was written
        return files, {}


def _fingerprint() -> list[list[str | int]]:
    """Return name, modification time in ns and size of every file of the folder, and of this module."""
    with os.scandir(folder()) as entries:
        files = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    files.append(("", Path(__file__).stat()))
    return sorted([name, stat.st_mtime_ns, stat.st_size] for name, stat in files)


@cache
def _json(slug: str) -> str:
    return json.dumps(_values(slug), default=_iso)


def _file(slug: str) -> str:
    return f"recipes/facts/{slug}.toml"


@cache
def _values(slug: str) -> dict[str, Any]:
    """Return the content of a facts file, with those of `same_as` below it and its citations looked up."""
    import tomllib

    text = _text(f"{slug}.toml")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{_file(slug)} is not valid TOML: {error}.") from error
    if "slug" in values:
        raise RecipeError(f"{_file(slug)}: the key slug is not allowed; the file name gives it.")
    if isinstance(keys := values.get("citations"), list):
        if unknown := [key for key in keys if key not in _references()]:
            raise RecipeError(f"{_file(slug)}, citations: {listed(unknown)} not in recipes/facts/{REFERENCES}.")
        values["citations"] = [_references()[key] for key in keys]
    below = _values(values["same_as"]) if "same_as" in values else {}
    return {**below, **values, "slug": slug}


@cache
def _references() -> dict[str, dict[str, Any]]:
    try:
        return {key: entry.model_dump() for key, entry in parse_bibtex(_text(REFERENCES)).items()}
    except ValueError as error:
        raise RecipeError(f"recipes/facts/{REFERENCES} is not valid BibTeX: {error}.") from error


def _text(name: str) -> str:
    path = folder() / name
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        reader = f"; recipes/{path.stem}.py needs it" if path.suffix == ".toml" else ""
        raise RecipeError(f"recipes/facts/{name} is missing{reader}.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"recipes/facts/{name} is not valid UTF-8: byte {error.object[error.start]:#x} at position {error.start}."
        ) from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error}.") from error


def _iso(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _place(path: tuple[int | str, ...]) -> str:
    """Return the place of a fault as in TOML: ("routes", 1, "files", 0, "md5") is `[[routes]] 2, files 1, md5`."""
    if len(path) < 2:
        return str(path[0]) if path else "whole file"
    table, *rest = path
    head = f"[[{table}]]" if isinstance(rest[0], int) else f"[{table}]"
    return f"{head} {', '.join(str(key + 1) if isinstance(key, int) else key for key in rest)}"


# -------------------------------------------------------------------------------------------------------- citations


def parse_bibtex(text: str) -> dict[str, Citation]:
    """Return key → citation of every entry; text outside of entries is a comment, as in BibTeX.

    Title, year and DOI are the entry's fields; the venue is its journal, book title, publisher or how it was
    published, with volume, number and pages.

    Raises:
        ValueError: An entry is not closed, has no key or title, or two have one key.
    """
    entries: dict[str, Citation] = {}
    for entry in _entries(text):
        match = re.match(r"@\w+\s*\{\s*([^,\s{}]+)\s*,", entry)
        if match is None:
            raise ValueError(f"no key in {entry[:40]!r}")
        key, fields = match[1], dict(_fields(entry[match.end() : -1]))
        if key in entries:
            raise ValueError(f"two entries have the key {key!r}")
        if "title" not in fields:
            raise ValueError(f"entry {key!r} has no title")
        year = fields.get("year")
        if year is not None and not year.isdigit():
            raise ValueError(f"entry {key!r} has the year {year!r}")
        entries[key] = Citation(
            title=fields["title"], bibtex=entry, venue=_venue(fields), year=int(year) if year else None,
            doi=fields.get("doi"),
        )  # fmt: skip
    return entries


def _entries(text: str) -> Iterator[str]:
    for start in re.finditer(r"^@\w+\s*\{", text, re.MULTILINE):
        yield text[start.start() : _closing(text, start.end())]


def _closing(text: str, start: int) -> int:
    """Return the position behind the brace that closes the one before `start`."""
    depth = 1
    for brace in re.compile(r"(?<!\\)[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    raise ValueError(f"a brace is not closed in {text[max(0, start - 30) : start + 30]!r}")


def _fields(body: str) -> Iterator[tuple[str, str]]:
    """Yield (name, value without braces and line breaks) of `name = {value}`, `name = "value"` and `name = 2020`."""
    at = 0
    while match := re.compile(r"\s*,?\s*(\w+)\s*=\s*").match(body, at):
        opening = body[match.end() : match.end() + 1]
        if opening == "{":
            at = _closing(body, match.end() + 1)
            value = body[match.end() + 1 : at - 1]
        else:
            bare = re.compile(r'"([^"]*)"|(\d+)').match(body, match.end())
            if bare is None:
                raise ValueError(f"the value of {match[1]} is not in braces")
            at, value = bare.end(), bare[1] or bare[2]
        yield match[1].lower(), " ".join(re.sub(r"(?<!\\)[{}]", "", value).split())
    if body[at:].strip(" \t\r\n,"):
        raise ValueError(f"not a field: {body[at:].strip()[:40]!r}")


def _venue(fields: dict[str, str]) -> str | None:
    names = (fields[name] for name in ("journal", "booktitle", "howpublished", "publisher") if name in fields)
    venue = next(names, None)
    if venue is None:
        return None
    if volume := fields.get("volume"):
        venue += f" {volume}" + (f"({fields['number']})" if "number" in fields else "")
    return f"{venue}: {fields['pages'].replace('--', '-')}" if "pages" in fields else venue
