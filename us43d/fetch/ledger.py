"""The licence ledger: which licences were accepted in a home, when, and the digest of the text that was shown."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from filelock import FileLock

from us43d import atomic
from us43d.contract import Recipe
from us43d.errors import LicenceError, UnreadableFile, command
from us43d.fetch.store import now, write
from us43d.paths import Home

__all__ = ["accept", "accepted", "licence_text", "require"]

_WORDS = {True: "allowed", False: "not allowed", None: "unknown"}


def licence_text(recipe: Recipe) -> str:
    """Return the text a person accepts: the licence of a source, its permitted uses, and the evidence."""
    terms = recipe.licence.terms
    lines = [
        f"{recipe.name}: {terms.title} ({terms.id})",
        f"  {terms.url}" if terms.url else "",
        f"  commercial use: {_WORDS[terms.commercial]}; passing the data on: {_WORDS[terms.redistribute]}; "
        f"changed copies: {_WORDS[terms.derivatives]}",
        "  What you make of the data must carry the same licence." if terms.share_alike else "",
        "  The source must be credited." if terms.attribution else "",
        "  Without a licence, you may do only what copyright law permits; ask the owners about anything else."
        if terms.id == "UNSTATED"
        else "",
        f"  Evidence: {recipe.licence.evidence}",
    ]
    return "\n".join(filter(None, lines))


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(licence_text(recipe).encode()).hexdigest()


def _read(home: Home) -> dict[str, list[dict[str, Any]]]:
    path = home.licence_ledger
    try:
        entries: dict[str, list[dict[str, Any]]] = json.loads(path.read_text("utf-8"))
        if not isinstance(entries, dict):
            raise ValueError("no object")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UnreadableFile(
            f"The licence ledger {path} is damaged ({error}).", next=f"open {path} in an editor"
        ) from error
    return entries


def accepted(home: Home, recipe: Recipe) -> dict[str, Any] | None:
    """Return the ledger's entry for the current text; None if that was never accepted."""
    digest = _digest(recipe)
    return next((entry for entry in _read(home).get(recipe.name, []) if entry["sha256"] == digest), None)


def accept(home: Home, recipe: Recipe) -> dict[str, Any]:
    """Record that a person has accepted the text shown by `licence_text`, now. Raises StorageError."""
    entry = {"licence": recipe.licence.id, "accepted": now(), "sha256": _digest(recipe), "text": licence_text(recipe)}
    path = home.licence_ledger
    with atomic.storage_errors(path, "The acceptance was not recorded; nothing else changed."):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(".licences.lock"), mode=0o666):
            known = _read(home)
            known.setdefault(recipe.name, []).append(entry)
            write(path, json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False).encode())
    return entry


def require(home: Home, recipe: Recipe, options: Iterable[object] = ()) -> dict[str, Any]:
    """Return the acceptance on record. Raises LicenceError without one; its next step repeats these options."""
    entry = accepted(home, recipe)
    if entry is None:
        raise LicenceError(
            f"The licence of {recipe.name} was not accepted: {recipe.licence.terms.title} ({recipe.licence.id}).",
            next=command("fetch", recipe.name, *options, "--accept-licence", recipe.name)
            + f"   (us43d info {recipe.name} shows it)",
        )
    return entry
